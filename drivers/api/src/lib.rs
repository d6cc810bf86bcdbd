//! What a hypervisor driver implements: generated traits, call context, events, streams.
