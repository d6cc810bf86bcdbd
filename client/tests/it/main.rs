//! The client against a peer that says what the test tells it to.

mod calls;
mod daemon;
mod descriptors;
mod events;
mod hostile;
mod login;
mod objects;
mod opening;
mod peer;
mod real;
mod reconnect;
mod streams;
mod stubs;
mod transports;
