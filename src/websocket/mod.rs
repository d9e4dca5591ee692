//! WebSocket (RFC 6455) with permessage-deflate (RFC 7692), over a stream.
//!
//! ```text
//! handshake   a request of HTTP, or an answer to one, becomes a connection
//! connection  whole messages in and out; what must be answered is answered
//!    |
//! frame       heads, masks, text that comes in pieces       deflate  compressed messages
//! ```
//! A message that has come in one frame is unmasked where it lies, in the stream's input, and lent from
//! there. What is sent is taken over at once; what the socket has no room for goes by itself later on.

pub mod connection;
pub mod deflate;
pub mod frame;
pub mod handshake;

/// Close codes.
pub const NORMAL: u16 = 1000;
pub const GONE: u16 = 1001;
pub const PROTOCOL: u16 = 1002;
pub const NO_CODE: u16 = 1005;
pub const ABNORMAL: u16 = 1006;
pub const NOT_TEXT: u16 = 1007;
pub const TOO_LARGE: u16 = 1009;

/// What may stand in a close frame.
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
