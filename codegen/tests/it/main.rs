//! What the generator writes, compared with files that only change on purpose.

mod command;
mod demo;
mod golden;
mod protocol;
