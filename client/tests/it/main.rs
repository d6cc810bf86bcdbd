//! The client against a peer that says what the test tells it to.

mod calls;
mod daemon;
mod descriptors;
mod events;
mod examples;
mod far;
mod hostile;
mod libvirtd;
mod login;
mod migrate;
mod objects;
mod opening;
mod peer;
mod readme;
mod real;
mod reconnect;
mod streams;
mod stubs;
mod transports;
