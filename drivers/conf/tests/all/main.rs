//! Everything that is tested from outside.

mod change;
mod corpus;
mod observed;
mod refused;
mod xml;
