//! Definitions of domain, network, pool, volume and the rest: XML in, XML out.
