//! The definition files against the fact tables, the generated types against recorded frames and xdr-codec.

mod captures;
mod procedures;
mod samples;
mod shared;
mod tables;
mod upstream;
