//! The in-memory hypervisor behind test:///default.
