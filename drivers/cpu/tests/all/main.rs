//! The crate against recorded answers of the real daemon.

mod corpus;
