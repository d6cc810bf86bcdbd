//! How fast the codec is, on three real messages: `cargo run --release -p virtwire-protocol --example codec_speed`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use virtwire_protocol::codec::{self, Decode, Encode};
use virtwire_protocol::frame::{self, FrameBuffer};
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::remote::{
    ConnectGetAllDomainStatsRet, ConnectGetAllDomainStatsRetRef, DomainGetXmlDescRet, DomainGetXmlDescRetRef,
    DomainStatsRecord, NonnullDomain, TypedParam,
};

fn main() {
    println!("{:<16}{:>10}{:>14}{:>14}{:>16}", "message", "bytes", "encode", "decode", "decode in place");
    let header = MessageHeader {
        prog: 0x2000_8086,
        vers: 1,
        proc: 34,
        r#type: MessageType::CALL,
        serial: 7,
        status: MessageStatus::OK,
    };
    frames(&header);
    row::<_, MessageHeader>("header", &header);
    row::<_, DomainGetXmlDescRetRef<'_>>(
        "8 KiB of XML",
        &DomainGetXmlDescRet { xml: "x".repeat(8192).into() },
    );
    row::<_, ConnectGetAllDomainStatsRetRef<'_>>("stats of 100", &stats(100, 60));
}

/// A whole call without arguments: 28 bytes.
fn frames(header: &MessageHeader) {
    let bytes = frame::encode(header, 0, &()).expect("a header always fits");
    let encode = time(|| frame::encode(black_box(header), 0, &()));
    let mut buffer = FrameBuffer::default();
    let decode = time(|| {
        buffer.feed(black_box(&bytes));
        buffer.next_frame().map(|frame| frame.map(|frame| frame.header.serial))
    });
    println!("{:<16}{:>10}{:>14}{:>14}", "frame", bytes.len(), shown(encode), shown(decode));
}

/// Times a message; `View` is its form inside of its bytes.
fn row<T, View>(name: &str, value: &T)
where
    T: Encode + for<'a> Decode<'a>,
    View: Decode<'static>,
{
    let bytes: &'static [u8] = codec::encode(value).expect("within its limits").leak();
    let mut out = Vec::with_capacity(bytes.len());
    let encode = time(|| {
        out.clear();
        black_box(value).encode(black_box(&mut out))
    });
    let decode = time(|| codec::decode::<T>(black_box(bytes)));
    let view = time(|| codec::decode::<View>(black_box(bytes)));
    println!("{name:<16}{:>10}{:>14}{:>14}{:>16}", bytes.len(), shown(encode), shown(decode), shown(view));
}

/// What `virsh domstats` gets for that many guests.
fn stats(guests: i32, params: usize) -> ConnectGetAllDomainStatsRet {
    let param = |index: usize| {
        let field = format!("block.{}.rd.bytes.total", index % 10);
        match index % 3 {
            0 => TypedParam::new(field, index as u64),
            1 => TypedParam::new(field, index as i32),
            _ => TypedParam::new(field, "running"),
        }
    };
    let record = |id| DomainStatsRecord {
        dom: NonnullDomain { name: format!("guest-{id}").into(), uuid: [7; 16], id },
        params: (0..params).map(param).collect(),
    };
    ConnectGetAllDomainStatsRet { ret_stats: (0..guests).map(record).collect() }
}

/// The seconds of one run: the best of many rounds of about a millisecond.
fn time<T>(mut run: impl FnMut() -> T) -> f64 {
    let mut round = |times: u32| {
        let start = Instant::now();
        for _ in 0..times {
            black_box(run());
        }
        start.elapsed()
    };
    let mut times = 1;
    while round(times) < Duration::from_millis(1) {
        times *= 2;
    }
    let best = (0..300).map(|_| round(times)).min().unwrap_or_default();
    best.as_secs_f64() / f64::from(times)
}

fn shown(seconds: f64) -> String {
    let nanos = seconds * 1e9;
    if nanos < 10_000.0 { format!("{nanos:.1} ns") } else { format!("{:.1} µs", nanos / 1e3) }
}
