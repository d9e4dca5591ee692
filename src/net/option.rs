//! Options of sockets by names of ours.
