//! Labels of security drivers.

use virtwire_protocol::error::{ErrorDomain, VirtError};

use crate::YesNo;
use crate::domain::{Domain, Seclabel, SeclabelType};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

/// What labels leave open is filled in: who relabels, and the model of those that name none.
///
/// # Errors
/// A label that contradicts itself, or one of a file where the guest's files are not to be relabelled.
pub(super) fn seclabels(domain: &mut Domain) -> Result<(), VirtError> {
    // One that says no more than its driver's name says nothing.
    domain.seclabel.retain(|label| {
        label.type_.is_some() || label.model.as_deref() == Some("none") && label.baselabel.is_some()
    });
    let several = domain.seclabel.len() > 1;
    let unnamed = |label: &Seclabel| label.model.is_none() && label.type_ != Some(SeclabelType::None);
    refuse! {
        several && domain.seclabel.iter().any(unnamed) =>
            DOMAIN.xml_error("missing security model when using multiple labels");
    }
    domain.seclabel.iter_mut().try_for_each(complete)?;
    let fixed = |model: Option<&str>| {
        let mut labels = domain.seclabel.iter();
        labels.any(|label| label.model.as_deref() == model && label.relabel != Some(YesNo::Yes))
    };
    let sources = domain.devices.disks.iter().filter_map(|disk| disk.source.as_ref());
    let mut overrides = sources.flat_map(|source| &source.seclabel);
    if overrides
        .any(|own| own.label.is_some() && own.relabel != Some(YesNo::No) && fixed(own.model.as_deref()))
    {
        let text = "label overrides require relabeling to be enabled at the domain level";
        return Err(DOMAIN.config_unsupported(text));
    }
    Ok(())
}

fn complete(label: &mut Seclabel) -> Result<(), VirtError> {
    let nobody = label.model.as_deref().is_none_or(|model| model == "none");
    match label.type_ {
        // Nobody makes labels, or looks at them.
        Some(SeclabelType::None) => *label = none(label.model.take()),
        None | Some(SeclabelType::Static) if nobody && label.model.is_some() => *label = none(None),
        Some(SeclabelType::Dynamic) if label.model.is_none() && label.baselabel.is_some() => {
            return Err(DOMAIN.xml_error("missing security model in domain seclabel"));
        }
        Some(SeclabelType::Static) if label.label.is_none() => {
            return Err(DOMAIN.xml_error("security label is missing"));
        }
        Some(SeclabelType::Static) if label.model.is_none() => {
            return Err(DOMAIN.xml_error("missing security model in domain seclabel"));
        }
        Some(SeclabelType::Static) => {
            label.relabel.get_or_insert(YesNo::No);
            label.baselabel = None;
        }
        Some(SeclabelType::Dynamic) if label.relabel == Some(YesNo::No) => {
            let text = "dynamic label type must use resource relabeling";
            return Err(DOMAIN.config_unsupported(text));
        }
        Some(SeclabelType::Dynamic) if nobody => *label = none(None),
        Some(SeclabelType::Dynamic) => {
            label.relabel = Some(YesNo::Yes);
            label.label = None;
        }
        None => {}
    }
    Ok(())
}

/// A label that says that there is none.
fn none(model: Option<String>) -> Seclabel {
    let model = model.or_else(|| Some("none".to_owned()));
    Seclabel { type_: Some(SeclabelType::None), model, ..Seclabel::default() }
}
