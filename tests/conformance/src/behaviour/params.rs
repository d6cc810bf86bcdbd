//! Typed parameters: asked for in two steps, set by name.

use virtwire_protocol::remote::*;

use super::{OBSERVED, Row, ask, fails, with_domain};
use crate::case::{Failure, Target, expect};

pub(super) const CASES: &[Row] = &[
    ("params/count-first", "a query with count 0 brings the count and no values", OBSERVED, count_first),
    ("params/then-values", "a query with the count brings as many values", OBSERVED, then_values),
    ("params/set-unknown", "a parameter that nobody knows is refused", OBSERVED, set_unknown),
    ("params/set-mistyped", "a parameter of another type is refused", OBSERVED, set_mistyped),
];

fn memory(dom: &NonnullDomain, nparams: i32) -> DomainGetMemoryParametersArgs {
    DomainGetMemoryParametersArgs { dom: dom.clone(), nparams, flags: 0 }
}

fn count_first(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-count-first", |peer, dom| {
        let got: DomainGetMemoryParametersRet =
            ask(peer, Procedure::DOMAIN_GET_MEMORY_PARAMETERS, &memory(dom, 0))?;
        expect("count and values", (3, 0), (got.nparams, got.params.len()))
    })
}

fn then_values(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-then-values", |peer, dom| {
        let got: DomainGetMemoryParametersRet =
            ask(peer, Procedure::DOMAIN_GET_MEMORY_PARAMETERS, &memory(dom, 3))?;
        let names: Vec<_> = got.params.iter().map(|param| param.field.to_string()).collect();
        expect("names", ["hard_limit", "soft_limit", "swap_hard_limit"].map(str::to_owned).to_vec(), names)
    })
}

fn set(dom: &NonnullDomain, param: TypedParam) -> DomainSetMemoryParametersArgs {
    // To the definition: the domain does not run.
    DomainSetMemoryParametersArgs { dom: dom.clone(), params: vec![param], flags: 2 }
}

fn set_unknown(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-set-unknown", |peer, dom| {
        let args = set(dom, TypedParam::new("nonsense", 1_u64));
        fails(peer, Procedure::DOMAIN_SET_MEMORY_PARAMETERS, &args).map(drop)
    })
}

fn set_mistyped(target: &Target) -> Result<(), Failure> {
    with_domain(target, "conformance-set-mistyped", |peer, dom| {
        let args = set(dom, TypedParam::new("hard_limit", "a string"));
        expect("code", 8, fails(peer, Procedure::DOMAIN_SET_MEMORY_PARAMETERS, &args)?.0)
    })
}
