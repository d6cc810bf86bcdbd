//! The access checks of a procedure, from its `@acl` and `@aclfilter`: on what the arguments name, before the driver is
//! asked; on what a lookup has found, before it is shown; and object by object on what a list holds.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use crate::families::Family;
use crate::model::{Acl, AclCondition, Field, Model, Procedure, Type, TypeKind};
use crate::names::{ident, snake};

/// What stands for an object of a kind on the wire: the kind, the type of a field, and the part of it that is meant.
/// The first row that fits decides.
const OBJECTS: &[(&str, &str, Option<&str>)] = &[
    ("domain", "remote_nonnull_domain", None),
    ("domain", "remote_nonnull_domain_snapshot", Some("dom")),
    ("domain", "remote_nonnull_domain_checkpoint", Some("dom")),
    ("domain", "remote_domain_stats_record", Some("dom")),
    ("network", "remote_nonnull_network", None),
    ("network_port", "remote_nonnull_network_port", None),
    ("network_port", "remote_nonnull_network", None),
    ("storage_pool", "remote_nonnull_storage_pool", None),
    ("storage_pool", "remote_nonnull_storage_vol", None),
    ("storage_vol", "remote_nonnull_storage_vol", None),
    ("storage_vol", "remote_nonnull_storage_pool", None),
    ("interface", "remote_nonnull_interface", None),
    ("node_device", "remote_nonnull_node_device", None),
    ("secret", "remote_nonnull_secret", None),
    ("nwfilter", "remote_nonnull_nwfilter", None),
    ("nwfilter_binding", "remote_nonnull_nwfilter_binding", None),
];

/// The checks of one procedure.
pub(super) struct Access {
    /// Before the driver is asked, where anything can be refused at all. What the arguments name is looked up first and
    /// put in its place: a client's own word for the name of what it means by UUID decides nothing.
    pub(super) before: TokenStream,
    /// Behind the driver's answer, on `ret`; `None` where there is nothing to check.
    pub(super) after: Option<TokenStream>,
    /// Whether `args` is changed.
    pub(super) changes_args: bool,
    /// Whether `ret` is changed.
    pub(super) changes_ret: bool,
}

/// The checks that the annotations ask for.
pub(super) fn checks(model: &Model, procedure: &Procedure) -> Access {
    let mut access =
        Access { before: TokenStream::new(), after: None, changes_args: false, changes_ret: false };
    let mut resolved = Vec::new();
    for rule in procedure.acl.iter().flatten() {
        let (kind, permission) = (rule.object.as_str(), rule.permission.as_str());
        let found = object(model, procedure.args.as_deref(), kind);
        let shown = object(model, procedure.ret.as_deref(), kind);
        match (found, shown) {
            (None, Some(path)) if procedure.name.contains("_LOOKUP_") => {
                access.after.get_or_insert_default().extend(quote! {
                    if call.is_guarded() { call.permit(#kind, #permission, &ret.#path).await?; }
                });
            }
            (Some(path), _) => {
                let resolve = quote!(call.resolve(&mut args.#path).await?;);
                if !resolved.contains(&resolve.to_string()) {
                    resolved.push(resolve.to_string());
                    access.before.extend(resolve);
                    access.changes_args = true;
                }
                access
                    .before
                    .extend(under(rule, quote!(call.permit(#kind, #permission, &args.#path).await?;)));
            }
            // Opening has asked for this; what the daemon answers itself asks no driver, as in libvirt, and so not again.
            (None, _)
                if procedure.family == Family::Session && (kind, permission) == ("connect", "getattr") => {}
            (None, _) => {
                access.before.extend(under(rule, quote!(call.permit(#kind, #permission, &()).await?;)))
            }
        }
    }
    for rule in &procedure.aclfilter {
        access.filter(model, procedure, rule);
    }
    access
}

impl Access {
    fn filter(&mut self, model: &Model, procedure: &Procedure, rule: &Acl) {
        let (kind, permission) = (&rule.object, &rule.permission);
        let fields = fields(model, procedure.ret.as_deref());
        let list = fields.iter().find_map(|field| match &field.ty {
            Type::Array { of, .. } => Some((ident(&field.rust), part(of, kind))),
            _ => None,
        });
        let has = |fields: &[Field], name: &str| fields.iter().any(|field| field.rust == name);
        let filter = match list {
            Some((list, part)) => {
                let part = match part.flatten() {
                    Some(part) => quote!(&item.#part),
                    None => quote!(item),
                };
                let mut filter = quote!(call.retain(&mut ret.#list, #kind, #permission, |item| #part).await;);
                if has(fields, "ret") {
                    filter.extend(quote!(ret.ret = ret.#list.len() as u32;));
                }
                if has(self::fields(model, procedure.args.as_deref()), "need_results") {
                    self.changes_args = true;
                    // Only a list can be filtered; who wants its length alone gets that of the filtered one.
                    self.before
                        .extend(quote!(only_count = std::mem::replace(&mut args.need_results, 1) == 0;));
                    filter.extend(quote!(if only_count { ret.#list.clear(); }));
                }
                quote!(if call.is_guarded() { #filter })
            }
            None if has(fields, "num") => {
                quote!(if call.is_guarded() && !call.permits(#kind, #permission, &()).await { ret.num = 0; })
            }
            // Of registrations the events are filtered, one by one as they come.
            None => return,
        };
        self.changes_ret = true;
        self.after.get_or_insert_default().extend(filter);
    }
}

/// A check that is made only under the rule's condition.
fn under(rule: &Acl, check: TokenStream) -> TokenStream {
    let bits =
        |flags: &[(String, i64)]| Literal::i64_unsuffixed(flags.iter().fold(0, |all, (_, bit)| all | bit));
    match &rule.condition {
        AclCondition::Always => check,
        AclCondition::AllSet(flags) => {
            let bits = bits(flags);
            quote!(if args.flags & #bits == #bits { #check })
        }
        AclCondition::NoneSet(flags) => {
            let bits = bits(flags);
            quote!(if args.flags & #bits == 0 { #check })
        }
        AclCondition::Param(field, _, value) => {
            let (field, value) = (ident(&snake(field)), Literal::i64_unsuffixed(*value));
            quote!(if args.#field == #value { #check })
        }
    }
}

fn fields<'a>(model: &'a Model, xdr: Option<&str>) -> &'a [Field] {
    match xdr.and_then(|xdr| model.get(xdr)).map(|(_, def)| &def.kind) {
        Some(TypeKind::Struct(fields)) => fields,
        _ => &[],
    }
}

/// Whether a type is a row of [`OBJECTS`] for this kind, and which part of it is the object.
fn part(ty: &Type, kind: &str) -> Option<Option<proc_macro2::Ident>> {
    let Type::Named(name) = ty else { return None };
    let row = OBJECTS.iter().find(|(object, xdr, _)| *object == kind && xdr == name)?;
    Some(row.2.map(ident))
}

/// The path of an object of this kind within a struct.
fn object(model: &Model, xdr: Option<&str>, kind: &str) -> Option<TokenStream> {
    let fields = fields(model, xdr);
    let rows = OBJECTS.iter().filter(|(object, ..)| *object == kind);
    let found = rows.clone().find_map(|(_, xdr, part)| {
        let field = fields.iter().find(|field| field.ty == Type::Named((*xdr).to_owned()))?;
        let (field, part) = (ident(&field.rust), part.map(ident).map(|part| quote!(.#part)));
        Some(quote!(#field #part))
    });
    // Node devices are named in the arguments of their procedures, and what is to be opened by its URI.
    let by_name = || {
        let named = ["node_device", "connect"].contains(&kind);
        let field = fields.iter().find(|field| named && field.rust == "name")?;
        let field = ident(&field.rust);
        Some(quote!(#field))
    };
    found.or_else(by_name)
}
