//! Everything that is tested from outside.

mod corpus;
mod observed;
mod refused;
mod xml;
