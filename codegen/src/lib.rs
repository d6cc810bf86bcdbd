//! Reads libvirt's protocol definitions (.x) and writes Rust.
