//! libvirt's own definition files, unmodified, where `$VIRTWIRE_LIBVIRT` names a tree of its sources (9.0 or later).

use std::collections::HashMap;
use std::env;
use std::path::Path;

use virtwire_codegen::model::{TypeKind, UnionArm};
use virtwire_codegen::{Facts, Model, Source, emit, model};

use crate::shared::{root, text};
use crate::tables::{our_model, shape};

const FILES: &[&str] = &[
    "rpc/virnetprotocol.x",
    "remote/remote_protocol.x",
    "remote/qemu_protocol.x",
    "remote/lxc_protocol.x",
    "admin/admin_protocol.x",
    "rpc/virkeepaliveprotocol.x",
    "locking/lock_protocol.x",
    "logging/log_protocol.x",
];

/// The generator reads them, and what they define is in our files with the same bytes on the wire.
#[test]
fn ours_hold_all_that_theirs_do() {
    let Some(tree) = env::var_os("VIRTWIRE_LIBVIRT") else {
        return virtwire_skip::without_data("no $VIRTWIRE_LIBVIRT");
    };
    let facts = text(&root().join("protocol/x/facts.txt"));
    let facts = Facts::parse("facts.txt", &facts).unwrap_or_else(|e| panic!("{e}"));
    let src = Path::new(&tree).join("src");
    let files: Vec<_> = FILES.iter().map(|file| (*file, text(&src.join(file)))).collect();
    let sources: Vec<_> = files.iter().map(|(file, text)| Source { file, text }).collect();
    let theirs = model(&sources, &facts).unwrap_or_else(|e| panic!("{e}"));
    let ours = our_model();
    for module in &theirs.modules {
        for def in &module.types {
            let Some((_, own)) = ours.get(&def.xdr) else { panic!("{} is not in our files", def.xdr) };
            assert_eq!(wire(&own.kind), wire(&def.kind), "{}: ours (left), theirs (right)", def.xdr);
        }
        let types = emit::format(emit::types::render(&theirs, module));
        assert!(!types.contains("compile_error!"), "{}", module.naming.module);
    }
    let numbered = |model: &Model| {
        let rows = model.procedures().map(|(_, p)| {
            (p.constant.clone(), (p.number, p.args.clone(), p.ret.clone(), p.msg.clone(), p.direction))
        });
        rows.collect::<HashMap<_, _>>()
    };
    let own = numbered(&ours);
    for (name, row) in numbered(&theirs) {
        assert_eq!(own.get(&name), Some(&row), "{name}: ours (left), theirs (right)");
    }
}

/// What a type is on the wire, one line per part.
fn wire(kind: &TypeKind) -> Vec<String> {
    match kind {
        TypeKind::Alias(ty) => vec![shape(ty)],
        TypeKind::Enum(members) => members.iter().map(|(name, value)| format!("{name} = {value}")).collect(),
        TypeKind::Struct(fields) => fields.iter().map(|f| format!("{} {}", f.xdr, shape(&f.ty))).collect(),
        TypeKind::Union(union) => {
            let arm = |arm: &UnionArm| {
                format!("{}: {:?}", arm.case, arm.field.as_ref().map(|f| (&f.xdr, shape(&f.ty))))
            };
            union.arms.iter().map(arm).collect()
        }
    }
}
