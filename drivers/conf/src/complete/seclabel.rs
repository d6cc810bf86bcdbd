//! Labels of security drivers.

use std::collections::BTreeSet;

use virtwire_protocol::error::{ErrorDomain, VirtError};

use crate::YesNo;
use crate::domain::{Domain, Seclabel, SeclabelType, VirtType};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

/// What labels leave open is filled in as they are read: who relabels, and the model of those that name none.
///
/// # Errors
/// A label that contradicts itself, or a second one of a driver's.
pub(super) fn read(domain: &mut Domain) -> Result<(), VirtError> {
    let labels = &domain.seclabel;
    refuse! {
        labels.iter().any(|label| label.model.is_none() && label.type_.is_none()) =>
            DOMAIN.xml_error("missing security model in domain seclabel");
        labels.iter().any(|l| l.type_ == Some(SeclabelType::None) && l.relabel == Some(YesNo::Yes)) =>
            DOMAIN.config_unsupported("resource relabeling is not compatible with 'none' label type");
    }
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
    // The test hypervisor's host has none.
    let models = domain.type_ != VirtType::Test;
    domain.seclabel.iter_mut().try_for_each(|label| complete(label, models))?;
    let mut models = BTreeSet::new();
    let again =
        domain.seclabel.iter().filter_map(|label| label.model.as_ref()).find(|it| !models.insert(*it));
    refuse! {
        again.is_some() => DOMAIN.xml_detail(
            "seclabel for model {} is already provided", again.map(String::as_str).unwrap_or_default());
    }
    Ok(())
}

/// Files have labels of their own only where the guest's files are relabelled.
pub(super) fn check_overrides(domain: &Domain) -> Result<(), VirtError> {
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

/// Fills in one of them; where the host has security drivers (`models`), a label is one of theirs or none.
fn complete(label: &mut Seclabel, models: bool) -> Result<(), VirtError> {
    let nobody = label.model.as_deref().map_or(models, |model| model == "none");
    let missing = models && label.model.is_none();
    match label.type_ {
        // Nobody makes labels, or looks at them.
        Some(SeclabelType::None) => {
            let model = label.model.take().or_else(|| models.then(|| "none".to_owned()));
            *label = Seclabel { type_: Some(SeclabelType::None), model, ..Seclabel::default() };
        }
        None | Some(SeclabelType::Static) if nobody && label.model.is_some() => *label = none(),
        Some(SeclabelType::Dynamic) if missing && label.baselabel.is_some() => {
            return Err(DOMAIN.xml_error("missing security model in domain seclabel"));
        }
        Some(SeclabelType::Static) if label.label.is_none() => {
            return Err(DOMAIN.xml_error("security label is missing"));
        }
        Some(SeclabelType::Static) if missing => {
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
        Some(SeclabelType::Dynamic) if nobody => *label = none(),
        Some(SeclabelType::Dynamic) => {
            label.relabel = Some(YesNo::Yes);
            label.label = None;
        }
        None => {}
    }
    Ok(())
}

/// A label that says that there is none.
fn none() -> Seclabel {
    let model = Some("none".to_owned());
    Seclabel { type_: Some(SeclabelType::None), model, ..Seclabel::default() }
}
