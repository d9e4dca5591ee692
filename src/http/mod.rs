//! HTTP/1.1: messages over streams.
//!
//! ```text
//!  stream --> head --> exchange <--> handler        server: one exchange for each connection, used again
//!                 \--> body (chunk)                         for each of its requests
//!  stream <-- response <--/                         client: the same from the other side
//! ```
//!
//! What is read is strict: what another reader of the same bytes might understand otherwise is refused,
//! unless the user allows it by name (`Lenient`).

pub mod body;
pub mod chunk;
pub mod client;
pub mod config;
pub mod connection;
pub mod date;
pub mod events;
pub mod exchange;
pub mod field;
pub mod files;
pub mod head;
pub mod pool;
pub mod response;
pub mod server;
pub mod status;
pub mod url;
