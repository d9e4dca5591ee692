//! Sockets: addresses, the calls, the options.

pub mod address;
pub mod option;
pub mod socket;
