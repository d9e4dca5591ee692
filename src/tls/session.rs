//! One TLS connection: records in and plain bytes out, plain bytes in and records out.
//!
//! ```text
//! records --receive--> [partial: what has come of the next record] --> plain bytes, to the stream's input
//! records <-----------  sending: what has not gone  <--encrypt-- plain bytes
//! ```
//! It does no I/O and never waits, so a stream may be cut short anywhere between two of its
//! calls. An idle session has nothing in `partial` and `sending`, and so no memory there.

use super::config::{Config, Made};
use super::failure::explain;
use super::{About, Failure, Side, certificate};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::fork;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CipherSuite, CommonState, HandshakeKind, ProtocolVersion};
use std::ffi::CStr;
use std::rc::Rc;

type Tried<T> = std::result::Result<T, Problem>;

/// How much is encrypted at a time.
const MOST: usize = 64 << 10;
/// What a record may have of plain bytes, and more than it has of anything else.
const RECORD: usize = 16 << 10;
const AROUND: usize = 128;

enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// Where plain bytes go: to the caller's memory as far as it reaches, and to the input.
pub struct Plain<'a> {
    pub at: *mut u8,
    pub room: usize,
    /// So many have been written to `at`.
    pub done: usize,
    pub input: &'a mut Buffer,
}

impl Plain<'_> {
    pub fn into(input: &mut Buffer) -> Plain<'_> {
        Plain { at: std::ptr::null_mut(), room: 0, done: 0, input }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let n = bytes.len().min(self.room - self.done);
        if n > 0 {
            // SAFETY: there is so much room at `at`, by whoever made this.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.add(self.done), n) };
            self.done += n;
        }
        if n < bytes.len() {
            self.input.reserve(bytes.len() - n)?;
            self.input.push(&bytes[n..]);
        }
        Ok(())
    }
}

pub struct Session {
    connection: Connection,
    /// Of records that are not whole, what has come.
    partial: Buffer,
    sending: Buffer,
    /// The other side has said that it sends no more.
    has_ended: bool,
    /// We have.
    is_shut: bool,
    failure: Option<Rc<Failure>>,
    /// Of a server: what the client has asked for.
    asked: Option<Box<str>>,
    /// The process whose it is: a forked child has the same keys, and must not use them.
    generation: u64,
}

/// What is to go.
#[derive(Clone, Copy)]
enum Out<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

enum Step {
    /// There is more to be had.
    Again,
    /// Not before more has come.
    Wait,
    /// What was to go has been encrypted.
    Done,
}

enum Problem {
    Tls(rustls::Error),
    Own(Error),
}

impl From<Error> for Problem {
    fn from(e: Error) -> Problem {
        Problem::Own(e)
    }
}

impl Session {
    /// `name` is the server's, for a client. EINVAL, with a sentence.
    pub fn new(config: &Config, name: Option<&str>) -> std::result::Result<Session, Failure> {
        let connection = match config.made() {
            Made::Client(config) => {
                let name = name.unwrap_or_default();
                let parsed = ServerName::try_from(name.to_owned());
                let parsed =
                    parsed.map_err(|_| Failure::new(Error::INVAL, format!("not a server's name: '{name}'")))?;
                UnbufferedClientConnection::new(config, parsed).map(Connection::Client)
            }
            Made::Server(config) => UnbufferedServerConnection::new(config).map(Connection::Server),
        };
        Ok(Session {
            connection: connection.map_err(|e| explain(&e, config.side))?,
            partial: Buffer::default(),
            sending: Buffer::default(),
            has_ended: false,
            is_shut: false,
            failure: None,
            asked: None,
            generation: fork::generation(),
        })
    }

    fn common(&self) -> &CommonState {
        match &self.connection {
            Connection::Client(c) => c,
            Connection::Server(s) => s,
        }
    }

    pub fn side(&self) -> Side {
        match self.connection {
            Connection::Client(_) => Side::Client,
            Connection::Server(_) => Side::Server,
        }
    }

    pub fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// A server that has shaken hands has tickets to give away. Nobody waits for them, so they are
    /// not waited for: the client may be writing, and not read before that has been read.
    pub fn has_only_tickets(&self) -> bool {
        self.side() == Side::Server && !self.is_handshaking()
    }

    /// Why nothing more comes or goes.
    pub fn failure(&self) -> Option<Rc<Failure>> {
        self.failure.clone()
    }

    /// EPERM in a forked child.
    pub fn check(&self) -> Result<()> {
        if self.generation == fork::generation() { Ok(()) } else { Err(Error::PERM) }
    }

    /// The records that have not gone.
    pub fn sending(&self) -> &[u8] {
        self.sending.get()
    }

    pub fn has_sent(&mut self, n: usize) {
        self.sending.drop_front(n);
    }

    /// The beginning of the next record, to be received again with what comes behind it.
    pub fn partial(&self) -> &[u8] {
        self.partial.get()
    }

    fn fail(&mut self, failure: Failure) -> Error {
        let failure = Rc::new(failure);
        let error = failure.error;
        self.failure = Some(failure);
        error
    }

    /// The connection has ended without saying so.
    pub fn cut(&mut self) -> Error {
        let whose = if self.side() == Side::Client { "server" } else { "client" };
        let text = match self.is_handshaking() {
            true => format!("the {whose} has hung up in the middle of the handshake"),
            false => format!("the {whose} has hung up without a close_notify: what has come may be cut short"),
        };
        self.fail(Failure::new(Error::CONNABORTED, text))
    }

    // ---- in ----------------------------------------------------------------------------

    /// Takes in what has come: the bytes of `partial`, and those behind them.
    pub fn receive(&mut self, records: &mut [u8], plain: &mut Plain<'_>) -> Result<()> {
        let (used, done) = self.run(records, plain, None);
        if let Some(asked) = certificate::asked() {
            self.asked = Some(asked);
        }
        self.partial = Buffer::default();
        match done {
            Ok(()) if self.has_ended || used == records.len() => Ok(()),
            Ok(()) => {
                self.partial.reserve(records.len() - used)?;
                self.partial.push(&records[used..]);
                Ok(())
            }
            Err(Problem::Own(e)) => Err(self.fail(Failure::new(e, "there is no memory for what has come"))),
            Err(Problem::Tls(e)) => {
                let error = self.fail(explain(&e, self.side()));
                self.collect_alerts(&mut records[used..]);
                Err(error)
            }
        }
    }

    /// What the other side is to be told of a failure, in `sending`. The session knows places in
    /// what it has been given, so it must see the rest of that again; what that says is of no use.
    fn collect_alerts(&mut self, rest: &mut [u8]) {
        let (mut used, mut nothing) = (0, Buffer::default());
        loop {
            let (discard, step) = self.step(&mut rest[used..], &mut Plain::into(&mut nothing), None);
            used += discard;
            if !matches!(step, Ok(Step::Again)) {
                return;
            }
        }
    }

    fn step(&mut self, records: &mut [u8], plain: &mut Plain<'_>, out: Option<Out<'_>>) -> (usize, Tried<Step>) {
        match &mut self.connection {
            Connection::Client(c) => {
                let status = c.process_tls_records(records);
                (status.discard, step(status, &mut self.sending, &mut self.has_ended, plain, out))
            }
            Connection::Server(s) => {
                let status = s.process_tls_records(records);
                (status.discard, step(status, &mut self.sending, &mut self.has_ended, plain, out))
            }
        }
    }

    /// Goes on as far as it can with `records`; how many bytes of them it has used.
    fn run(&mut self, records: &mut [u8], plain: &mut Plain<'_>, out: Option<Out<'_>>) -> (usize, Tried<()>) {
        let mut used = 0;
        loop {
            let (discard, step) = self.step(&mut records[used..], plain, out);
            used += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Done) => return (used, Ok(())),
                Ok(Step::Wait) if out.is_none() => return (used, Ok(())),
                Ok(Step::Wait) => return (used, Err(Problem::Own(Error::PIPE))),
                Err(e) => return (used, Err(e)),
            }
        }
    }

    // ---- out ---------------------------------------------------------------------------

    /// Makes records of the first of `data`; of how many bytes.
    pub fn encrypt(&mut self, data: &[u8]) -> Result<usize> {
        if self.is_shut {
            return Err(Error::PIPE);
        }
        let data = &data[..data.len().min(MOST)];
        self.put(Out::Data(data))?;
        Ok(data.len())
    }

    /// Says that we send no more.
    pub fn shut(&mut self) -> Result<()> {
        if !self.is_shut {
            self.put(Out::CloseNotify)?;
            self.is_shut = true;
        }
        Ok(())
    }

    fn put(&mut self, out: Out<'_>) -> Result<()> {
        // It wants to see what has come of the next record, which tells it nothing new.
        let mut partial = std::mem::take(&mut self.partial);
        let mut nothing = Buffer::default();
        let (used, done) = self.run(partial.get_mut(), &mut Plain::into(&mut nothing), Some(out));
        debug_assert!(nothing.is_empty());
        partial.drop_front(used);
        self.partial = partial;
        match done {
            Ok(()) => Ok(()),
            Err(Problem::Own(e)) => Err(e),
            Err(Problem::Tls(e)) => Err(self.fail(explain(&e, self.side()))),
        }
    }

    // ---- what was agreed ---------------------------------------------------------------

    /// EAGAIN before the end of the handshake.
    pub fn about(&self) -> Result<About<'_>> {
        let common = self.common();
        if self.is_handshaking() {
            return Err(Error::AGAIN);
        }
        Ok(About {
            protocol: match common.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => c"TLSv1.3",
                _ => c"TLSv1.2",
            },
            cipher: common.negotiated_cipher_suite().map_or(c"", |suite| cipher(suite.suite())),
            alpn: common.alpn_protocol().unwrap_or_default(),
            server_name: self.asked.as_deref().unwrap_or_default().as_bytes(),
            certificate: common.peer_certificates().and_then(|all| all.first()).map_or(&[], |own| own.as_ref()),
            is_resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }
}

/// As the registry of IANA has it.
fn cipher(suite: CipherSuite) -> &'static CStr {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => c"TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => c"TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => c"TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => c"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => c"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => c"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => c"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => c"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => c"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        _ => c"",
    }
}

fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    sending: &mut Buffer,
    has_ended: &mut bool,
    plain: &mut Plain<'_>,
    out: Option<Out<'_>>,
) -> Tried<Step> {
    match status.state.map_err(Problem::Tls)? {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                plain.take(record.map_err(Problem::Tls)?.payload)?;
            }
        }
        ConnectionState::EncodeTlsData(mut record) => {
            let size = match record.encode(&mut []) {
                Err(EncodeError::InsufficientSize(lack)) => lack.required_size,
                _ => 0,
            };
            sending.fill(size, |room| record.encode(room).unwrap_or(0))?;
        }
        // What is in `sending` goes before anything else: as good as gone.
        ConnectionState::TransmitTlsData(data) => data.done(),
        ConnectionState::PeerClosed => *has_ended = true,
        ConnectionState::WriteTraffic(mut traffic) => {
            let Some(out) = out else { return Ok(Step::Wait) };
            let room = match out {
                Out::Data(data) => data.len() + (data.len() / RECORD + 1) * AROUND,
                Out::CloseNotify => AROUND,
            };
            let mut done = Ok(0);
            sending.fill(room, |into| {
                done = match out {
                    Out::Data(data) => traffic.encrypt(data, into),
                    Out::CloseNotify => traffic.queue_close_notify(into),
                };
                *done.as_ref().unwrap_or(&0)
            })?;
            return match done {
                Ok(_) => Ok(Step::Done),
                Err(EncryptError::EncryptExhausted) => Err(Problem::Tls(rustls::Error::EncryptError)),
                Err(EncryptError::InsufficientSize(_)) => Err(Problem::Own(Error::NOMEM)),
            };
        }
        _ => return Ok(Step::Wait),
    }
    Ok(Step::Again)
}
