//! Every generated type by its samples: round trips, cut-short bytes, limits, and xdr-codec as the judge.

use virtwire_protocol::codec::{self, DecodeError, EncodeError};
use virtwire_protocol::remote;
use virtwire_protocol::sample::{self, Pick, Row, Sample};

/// Seed 0 fills every list and optional; the others reach the rest.
const SEEDS: std::ops::Range<u64> = 0..40;

/// Calls `check` with the bytes of every type and seed.
fn each(check: impl Fn(&Row, u64, Vec<u8>)) {
    let rows = sample::all();
    assert!(rows.len() > 700, "only {} types", rows.len());
    for row in &rows {
        for seed in SEEDS {
            let bytes = (row.encode)(&mut Pick::new(seed));
            check(row, seed, bytes.unwrap_or_else(|error| panic!("{} of seed {seed}: {error}", row.name)));
        }
    }
}

#[test]
fn samples_come_back_as_they_were() {
    each(|row, seed, bytes| {
        let recoded = (row.recode)(&bytes);
        assert_eq!(recoded.as_ref(), Ok(&bytes), "{} of seed {seed}", row.name);
        let len = (row.encoded_len)(&mut Pick::new(seed));
        assert_eq!(len, bytes.len(), "{} of seed {seed}", row.name);
    });
}

#[test]
fn bytes_are_those_of_xdr_codec() {
    each(|row, seed, bytes| {
        let packed = (row.pack)(&mut Pick::new(seed)).unwrap_or_else(|error| panic!("{}: {error}", row.name));
        assert_eq!(packed, bytes, "{} of seed {seed}: xdr-codec (left), ours (right)", row.name);
        let unpacked = (row.unpack)(&bytes).unwrap_or_else(|error| panic!("{}: {error}", row.name));
        assert_eq!(unpacked, (bytes.len(), bytes), "{} of seed {seed}", row.name);
    });
}

#[test]
fn every_cut_is_noticed() {
    each(|row, seed, bytes| {
        // All cuts of the full sample, and of the others enough to meet each kind of field.
        let step = if seed == 0 { 1 } else { 7 };
        for len in (0..bytes.len()).step_by(step) {
            let got = (row.recode)(&bytes[..len]);
            assert!(matches!(got, Err(DecodeError::Truncated { .. })), "{} cut to {len}: {got:?}", row.name);
        }
        let longer = [bytes.as_slice(), &[0; 4]].concat();
        assert_eq!((row.recode)(&longer), Err(DecodeError::Trailing(4)), "{}", row.name);
    });
}

/// One more than a limit is refused, before anything is allocated; the limit itself only lacks its bytes.
#[test]
fn every_limit_holds() {
    let mut limits = 0;
    for row in sample::all() {
        for field in row.limits {
            limits += 1;
            let mut start = Vec::new();
            (field.before)(&mut Pick::new(0), &mut start)
                .unwrap_or_else(|error| panic!("{}: {error}", row.name));
            let with = |count: u32| (row.recode)(&[start.as_slice(), &count.to_be_bytes()].concat());
            let (limit, what) = (field.limit, format!("{}.{}", row.name, field.field));
            for got in [limit + 1, u32::MAX] {
                assert_eq!(with(got), Err(DecodeError::TooLong { limit, got }), "{what}");
            }
            let got = with(limit);
            assert!(matches!(got, Err(DecodeError::Truncated { .. })), "{what}: {got:?}");
            let sent = (field.over)(&mut Pick::new(0));
            assert_eq!(sent, Err(EncodeError { limit, got: limit as usize + 1 }), "{what}");
        }
    }
    // All that the fact tables have; a test beside compares the numbers themselves.
    assert!(limits >= 505, "only {limits} limits");
}

/// A borrowed form reads what the owned one reads.
#[test]
fn borrowed_forms_are_the_owned_ones() {
    macro_rules! same {
        ($($owned:ident $borrowed:ident)*) => {
            for seed in SEEDS {
                $(
                    let value = remote::$owned::sample(&mut Pick::new(seed));
                    let bytes = codec::encode(&value).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                    let view = codec::decode::<remote::$borrowed<'_>>(&bytes);
                    let view = format!("{:?}", view.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
                    assert_eq!(view.replace("Ref", ""), format!("{value:?}"), "seed {seed}");
                    for len in 0..bytes.len() {
                        let cut = codec::decode::<remote::$borrowed<'_>>(&bytes[..len]);
                        assert!(matches!(cut, Err(DecodeError::Truncated { .. })), "seed {seed} cut to {len}");
                    }
                )*
            }
        };
    }
    same! {
        ConnectGetAllDomainStatsRet ConnectGetAllDomainStatsRetRef
        ConnectListAllDomainsRet ConnectListAllDomainsRetRef
        DomainGetXmlDescRet DomainGetXmlDescRetRef
    }
}
