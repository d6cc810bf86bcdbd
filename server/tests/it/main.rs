//! The daemon as its peers see it: frames in, frames out, over a socket pair.

mod calls;
mod events;
mod hostile;
mod peer;
mod streams;
mod toy;
