//! Sockets: addresses, the calls, the options; connecting and listening by text.

pub mod address;
pub mod dial;
pub mod listener;
pub mod option;
pub mod socket;
