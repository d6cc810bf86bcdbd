//! Everything that is tested from outside.

mod boards;
mod change;
mod corpus;
mod filters;
mod firmware;
mod hostile;
mod kept;
mod observed;
mod q35;
mod refused;
mod schemas;
mod xml;
