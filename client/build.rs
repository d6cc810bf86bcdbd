//! A typed method per procedure, from the definition files.

fn main() {
    virtwire_codegen::build::script("../protocol/x", virtwire_codegen::build::client);
}
