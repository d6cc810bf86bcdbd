//! Types, codecs and procedure tables from the definition files.

fn main() {
    virtwire_codegen::build::script("x", virtwire_codegen::build::protocol);
}
