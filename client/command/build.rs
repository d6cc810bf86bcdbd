//! The support table, from the sources of the daemon and its drivers.

fn main() {
    virtwire_codegen::build::support("../..");
}
