use super::*;
use crate::model::{AclCondition, ReadOnly};

fn resolved(text: &str, facts: &str) -> Result<Model> {
    let model = model(&[Source { file: "lock.x", text }], &Facts::parse("facts.txt", facts)?)?;
    Facts::parse("facts.txt", facts)?.all_known(&model)?;
    Ok(model)
}

/// The types of the fields of a file's last struct.
fn fields(text: &str) -> Vec<Type> {
    let model = resolved(text, "").unwrap_or_else(|e| panic!("{e}"));
    match model.modules[0].types.last().map(|def| &def.kind) {
        Some(TypeKind::Struct(fields)) => fields.iter().map(|field| field.ty.clone()).collect(),
        _ => panic!("no struct"),
    }
}

/// Each of these stands in a definition file of some libvirt release.
#[test]
fn forms_that_libvirt_writes() {
    let text = r#"%#include "internal.h"
        const VIR_LOCK_SPACE_PROTOCOL_PROGRAM = 0xEA7BEEF;
        struct virLockSpaceProtocolOwner {
            unsigned pid;              /* not 'unsigned int' */
            opaque uuid[VIR_UUID_BUFLEN];
        };
        typedef struct virLockSpaceProtocolOwner virLockSpaceProtocolOwner;
        struct virLockSpaceProtocolNewArgs { /* insert@1 */
            virLockSpaceProtocolOwner *owner;
        };
        enum virLockSpaceProtocolProcedure {
            /* How to annotate:
             * - @generate: none|client|server|both
             * @acl: <object>:<permission>
             */

            /**
             * @generate: none
             * @acl: domain:save:!A|B
             * @acl: domain:write::source:B
             */
            VIR_LOCK_SPACE_PROTOCOL_PROC_NEW = 3 /* skipgen skipgen */
        };
    "#;
    let model = resolved(text, "flag A 2\nflag B 1\nlock NEW since=1.0.1").unwrap();
    let module = model.module("lock").unwrap();
    let TypeKind::Struct(fields) = &module.types[0].kind else { panic!("not a struct") };
    assert_eq!(fields[0].ty, Type::Scalar(Scalar::Int { signed: false }));
    assert_eq!(fields[1].ty, Type::FixedOpaque { len: 16 });
    let program = module.program.as_ref().unwrap();
    assert_eq!(program.number, Some(0x0ea7_beef));
    let procedure = &program.procedures[0];
    assert_eq!(procedure.args.as_deref(), Some("virLockSpaceProtocolNewArgs"));
    let conditions: Vec<_> = procedure.acl.iter().flatten().map(|acl| acl.condition.clone()).collect();
    let none_set = AclCondition::NoneSet(vec![("A".into(), 2), ("B".into(), 1)]);
    assert_eq!(conditions, [none_set, AclCondition::Param("source".into(), "B".into(), 1)]);
    assert_eq!(procedure.readonly, ReadOnly::Served);
}

#[test]
fn limits_keep_the_name_they_were_given_by() {
    let found = fields(
        "const MAX = 0x20; const UUID = VIR_UUID_BUFLEN; typedef string s<MAX>; typedef s *os; struct x {
            s a; os b; opaque c[UUID]; s d<4>; int e<>; unsigned hyper f[3]; os g<MAX>; };",
    );
    let limit = |value, name: Option<&str>| Limit { value, name: name.map(str::to_owned) };
    let text = || Box::new(Type::String { limit: limit(32, Some("MAX")) });
    let array = |of, limit| Type::Array { of, limit };
    assert_eq!(
        found,
        [
            *text(),
            Type::Optional(text()),
            Type::FixedOpaque { len: 16 },
            array(text(), limit(4, None)),
            array(Box::new(Type::Scalar(Scalar::Int { signed: true })), limit(u32::MAX, None)),
            Type::FixedArray { of: Box::new(Type::Scalar(Scalar::Hyper { signed: false })), len: 3 },
            array(Box::new(Type::Optional(text())), limit(32, Some("MAX"))),
        ]
    );
}

#[test]
fn arms_are_named_by_macro_or_field() {
    let text =
        "union u switch (int t) { case VIR_TYPED_PARAM_ULLONG: hyper x; case 1: int size; case 9: void; };";
    let model = resolved(text, "").unwrap();
    let TypeKind::Union(union) = &model.modules[0].types[0].kind else { panic!("no union") };
    let arms: Vec<_> = union.arms.iter().map(|arm| (arm.case, arm.rust.as_str())).collect();
    assert_eq!(arms, [(4, "Ullong"), (1, "Size"), (9, "Case9")]);
}

/// Nobody has said that it changes nothing.
#[test]
fn a_procedure_without_facts_is_refused_on_read_only_connections() {
    let text = "enum procedure { VIR_LOCK_SPACE_PROTOCOL_PROC_NEW = 3 };";
    let model = resolved(text, "").unwrap();
    assert_eq!(model.procedures().next().unwrap().1.readonly, ReadOnly::Refused);
}

/// What is wrong in a file, and the diagnostic word for word.
const WRONG: &[(&str, &str)] = &[
    // Characters and tokens.
    ("const A = 1;\n  ?", "lock.x:2:3: expected a definition, found the character '?'"),
    ("const A = 08;", "lock.x:1:11: expected a number, found '08'"),
    ("const A = 1 / 2;", "lock.x:1:13: expected a comment, found the character '/'"),
    ("int a; /* b", "lock.x:1:8: expected '*/' to end this comment, found the end of the file"),
    // The grammar.
    (
        "program A { };",
        "lock.x:1:1: expected 'const', 'typedef', 'enum', 'struct' or 'union', found 'program'",
    ),
    ("const A = 1\nconst B = 2;", "lock.x:2:1: expected ';', found 'const'"),
    ("const = 1;", "lock.x:1:7: expected the name of a constant, found '='"),
    ("const A = ;", "lock.x:1:11: expected a number or the name of a constant, found ';'"),
    ("struct s {\n  int a\n  int b;\n};", "lock.x:3:3: in s: expected ';', found 'int'"),
    ("struct s { int a; }", "lock.x:1:20: in s: expected ';', found the end of the file"),
    ("struct s { int 1; };", "lock.x:1:16: in s: expected the declared name, found '1'"),
    ("struct s { string a<5; };", "lock.x:1:22: in s: expected '>', found ';'"),
    ("struct s { int *a<5>; };", "lock.x:1:18: in s: expected ';', found '<'"),
    ("struct s { };", "lock.x:1:12: in s: expected a type, found '}'"),
    ("enum e { };", "lock.x:1:10: in e: expected the name of a member, found '}'"),
    ("union u switch (int t) { };", "lock.x:1:26: in u: expected 'case', found '}'"),
    ("enum e { A, B };", "lock.x:1:11: in e: expected '=', found ','"),
    ("enum e { A = 1 B = 2 };", "lock.x:1:16: in e: expected '}', found 'B'"),
    ("union u { };", "lock.x:1:9: in u: expected 'switch', found '{'"),
    (
        "union u switch (int t) { case 1: int a; default: void; };",
        "lock.x:1:41: in u: expected 'case', found 'default'",
    ),
    // Names and numbers.
    (
        "const A = B;",
        "lock.x:1:11: in A: expected the name of a constant, found 'B', which nothing above defines",
    ),
    (
        "struct s { string a<LIMIT>; };",
        "lock.x:1:21: in s: expected the name of a constant, found 'LIMIT', which nothing above defines",
    ),
    ("typedef nothing a;", "lock.x:1:9: in a: expected a type, found 'nothing', which nothing above defines"),
    ("struct s { s *next; };", "lock.x:1:12: in s: expected a type, found 's', which nothing above defines"),
    ("const A = 1;\nconst A = 1;", "lock.x:2:7: expected a new name, found a second 'A'"),
    ("struct a { int b; };\nstruct a { int b; };", "lock.x:2:8: expected a new name, found a second 'a'"),
    ("struct a {\n  int b;\n  int b;\n};", "lock.x:3:7: in a: expected a new name, found a second 'b'"),
    (
        "struct aB { int b; };\nstruct a_b { int b; };",
        "lock.x:2:8: expected a new name, found 'a_b', which is 'AB' in Rust as 'aB' is",
    ),
    ("enum a { B = 1, C = 1 };", "lock.x:1:17: in C: expected a new number, found 1, which is already 'B'"),
    ("enum a { B = 0x80000000 };", "lock.x:1:10: in a: expected a 32-bit number, found 2147483648"),
    ("struct s { int a[0]; };", "lock.x:1:16: in s: expected a length of 1 to 4294967295, found 0"),
    ("struct s { opaque a[-1]; };", "lock.x:1:19: in s: expected a length of 0 to 4294967295, found -1"),
    ("struct s { string a[4]; };", "lock.x:1:19: in s: expected 'string name<limit>', found a length"),
    ("struct s { string *a; };", "lock.x:1:20: in s: expected 'string name<limit>', found a pointer"),
    ("struct s { string a; };", "lock.x:1:19: in s: expected 'string name<limit>', found no limit"),
    (
        "struct s { opaque a; };",
        "lock.x:1:19: in s: expected 'opaque name<limit>' or 'opaque name[length]', found neither",
    ),
    (
        "union u switch (int t) { case 1: int a; case 1: int b; };",
        "lock.x:1:41: in u: expected a new case, found a second 1",
    ),
    (
        "union u switch (double t) { case 1: int a; };",
        "lock.x:1:24: in u: expected 'int' or 'unsigned int' to switch on, found another type",
    ),
    // Procedures.
    (
        "enum procedure { VIR_LOCK_SPACE_PROTOCOL_PROC_A = 0 };",
        "lock.x:1:18: in VIR_LOCK_SPACE_PROTOCOL_PROC_A: expected a number of 1 to 9999, found 0",
    ),
    (
        "enum procedure { OTHER_NEW = 1 };",
        "lock.x:1:18: in OTHER_NEW: expected a name that begins with 'VIR_LOCK_SPACE_PROTOCOL_PROC_', found 'OTHER_NEW'",
    ),
    (
        "enum procedure {\nVIR_LOCK_SPACE_PROTOCOL_PROC_A = 3,\nVIR_LOCK_SPACE_PROTOCOL_PROC_B = 3 };",
        "lock.x:3:1: in VIR_LOCK_SPACE_PROTOCOL_PROC_B: \
         expected a new number, found 3, which is already 'VIR_LOCK_SPACE_PROTOCOL_PROC_A'",
    ),
    (
        "struct virLockSpaceProtocolNweArgs { int a; };\nenum procedure { VIR_LOCK_SPACE_PROTOCOL_PROC_NEW = 3 };",
        "lock.x:1:8: in virLockSpaceProtocolNweArgs: expected a procedure that uses it, found none",
    ),
    // Annotations.
    (
        "enum procedure {\n/**\n * @colour: red\n */\nVIR_LOCK_SPACE_PROTOCOL_PROC_NEW = 3 };",
        "lock.x:3:4: in VIR_LOCK_SPACE_PROTOCOL_PROC_NEW: expected '@generate', '@priority', '@readstream', \
         '@writestream', '@sparseflag', '@acl' or '@aclfilter', found '@colour: red'",
    ),
    (
        "enum procedure { /* @acl: domain */ VIR_LOCK_SPACE_PROTOCOL_PROC_NEW = 3 };",
        "lock.x:1:21: in VIR_LOCK_SPACE_PROTOCOL_PROC_NEW: expected 'object:permission', found 'domain'",
    ),
    (
        "enum procedure {\n/* @acl: domain:save:NEW_FLAG */\nVIR_LOCK_SPACE_PROTOCOL_PROC_NEW = 3 };",
        "lock.x:2:4: in VIR_LOCK_SPACE_PROTOCOL_PROC_NEW: \
         expected a flag that the table of facts knows, found 'NEW_FLAG'",
    ),
    (
        "enum procedure { /* @priority: medium */ VIR_LOCK_SPACE_PROTOCOL_PROC_NEW = 3 };",
        "lock.x:1:21: in VIR_LOCK_SPACE_PROTOCOL_PROC_NEW: \
         expected '@priority: high' or '@priority: low', found '@priority: medium'",
    ),
    (
        "enum procedure { /* @sparseflag: X */ VIR_LOCK_SPACE_PROTOCOL_PROC_NEW = 3 };",
        "lock.x:1:21: in VIR_LOCK_SPACE_PROTOCOL_PROC_NEW: \
         expected '@readstream' or '@writestream' before '@sparseflag', found '@sparseflag: X'",
    ),
];

#[test]
fn what_is_wrong_has_a_place() {
    for (text, wrong) in WRONG {
        assert_eq!(resolved(text, "").err().map(|e| e.to_string()).as_deref(), Some(*wrong), "{text}");
    }
}

#[test]
fn a_fact_that_fits_nothing_has_a_place() {
    let text = "struct virLockSpaceProtocolNewArgs { int flags; };
        enum procedure { VIR_LOCK_SPACE_PROTOCOL_PROC_NEW = 3 };";
    for (facts, wrong) in [
        ("flag A 1\nlock OLD", "facts.txt:2:6: expected a procedure of the program 'lock', found 'OLD'"),
        ("remote NEW", "facts.txt:1:8: expected a procedure of the program 'remote', found 'NEW'"),
        (
            "lock NEW readonly=kind:2",
            "facts.txt:1:6: in VIR_LOCK_SPACE_PROTOCOL_PROC_NEW: \
             expected arguments with a field 'kind' to look at, found a procedure without",
        ),
    ] {
        assert_eq!(resolved(text, facts).err().map(|e| e.to_string()).as_deref(), Some(wrong), "{facts}");
    }
    assert!(resolved(text, "lock NEW readonly=flags:2").is_ok());
}

#[test]
fn a_file_of_another_name_is_refused() {
    let error = model(&[Source { file: "x/mine.x", text: "" }], &Facts::default()).err().unwrap().to_string();
    assert!(
        error.starts_with("x/mine.x:1:1: expected a file of a known name (remote, remote_protocol, "),
        "{error}"
    );
    assert!(error.ends_with(", found 'mine'"), "{error}");
}
