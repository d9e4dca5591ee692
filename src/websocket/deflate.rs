//! permessage-deflate: what is agreed, and messages compressed and inflated by it.

use crate::error::{Error, Result};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What every message ends with, and none carries.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Shorter messages are sent as they are.
pub const LEAST: usize = 64;
/// As zlib has them: more memory for little more.
const LEVEL: u32 = 4;
const WINDOW: u8 = 15;
/// So many final blocks a message may have: each costs us its window anew.
const FINALS: usize = 256;

/// What both sides have agreed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// Each message by itself: of those that the server sends, and the client.
    pub server_forgets: bool,
    pub client_forgets: bool,
    pub server_bits: u8,
    pub client_bits: u8,
}

impl Default for Agreed {
    fn default() -> Agreed {
        Agreed { server_forgets: false, client_forgets: false, server_bits: WINDOW, client_bits: WINDOW }
    }
}

fn bits(value: Option<&str>) -> Option<u8> {
    let value = value?.trim_matches('"');
    let n: u8 = value.parse().ok().filter(|n| (8..=15).contains(n))?;
    (!value.starts_with('0')).then_some(n)
}

/// One extension with its parameters; `None` when one of them is unknown, twice, or has no sense.
/// `is_offer`: of a client, where client_max_window_bits may have no value.
fn read(extension: &str, is_offer: bool) -> Option<(Agreed, bool)> {
    let mut parts = extension.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return None;
    }
    let (mut agreed, mut seen, mut client_may) = (Agreed::default(), Vec::new(), false);
    for part in parts {
        let (name, value) =
            part.split_once('=').map_or((part, None), |(name, value)| (name.trim(), Some(value.trim())));
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        match (name, value) {
            ("server_no_context_takeover", None) => agreed.server_forgets = true,
            ("client_no_context_takeover", None) => agreed.client_forgets = true,
            ("server_max_window_bits", value) => agreed.server_bits = bits(value)?,
            ("client_max_window_bits", None) if is_offer => client_may = true,
            ("client_max_window_bits", value) => {
                agreed.client_bits = bits(value)?;
                client_may = true;
            }
            _ => return None,
        }
    }
    Some((agreed, client_may))
}

impl Agreed {
    /// What a server takes of a client's offers, the first that it can; and how it answers.
    /// `forgets`: it wants every message by itself, both ways.
    pub fn choose(offers: &str, forgets: bool) -> Option<(Agreed, String)> {
        for offer in offers.split(',') {
            let Some((mut agreed, _)) = read(offer.trim(), true) else { continue };
            // zlib can not write so small a window.
            if agreed.server_bits < 9 {
                continue;
            }
            agreed.server_forgets |= forgets;
            agreed.client_forgets |= forgets;
            agreed.client_bits = WINDOW;
            let mut answer = String::from("permessage-deflate");
            if agreed.server_forgets {
                answer += "; server_no_context_takeover";
            }
            if agreed.client_forgets {
                answer += "; client_no_context_takeover";
            }
            if agreed.server_bits < WINDOW {
                answer += &format!("; server_max_window_bits={}", agreed.server_bits);
            }
            return Some((agreed, answer));
        }
        None
    }

    /// What a client offers.
    pub fn offer(forgets: bool) -> &'static str {
        match forgets {
            false => "permessage-deflate; client_max_window_bits",
            true => {
                "permessage-deflate; client_max_window_bits; server_no_context_takeover; client_no_context_takeover"
            }
        }
    }

    /// What a server has answered to that; `None`: that is no answer to it.
    pub fn answered(answer: &str, forgets: bool) -> Option<Agreed> {
        let (mut agreed, _) = read(answer.trim(), false)?;
        if forgets && !agreed.server_forgets {
            return None;
        }
        agreed.client_forgets |= forgets;
        (agreed.client_bits >= 9).then_some(agreed)
    }
}

/// The two directions of a connection.
pub struct Deflate {
    /// Made when they are needed: they are large.
    compress: Option<Compress>,
    inflate: Option<Decompress>,
    bits: u8,
    /// Each message that we send, and that we get, is by itself.
    forgets: bool,
    they_forget: bool,
    /// What is kept for a sender of final blocks, see `begin_anew`.
    past: Option<Vec<u8>>,
    /// The last thing that came was such a block; how many of them the message has.
    ended: bool,
    finals: usize,
}

/// The last bytes of `past` and of `now` behind it, as many as a message can refer to. ENOMEM.
fn window(past: &[u8], now: &[u8]) -> Result<Vec<u8>> {
    const SIZE: usize = 1 << WINDOW;
    let of_now = &now[now.len().saturating_sub(SIZE)..];
    let of_past = &past[past.len().saturating_sub(SIZE - of_now.len())..];
    let mut all = Vec::new();
    all.try_reserve_exact(of_past.len() + of_now.len()).map_err(|_| Error::NOMEM)?;
    all.extend_from_slice(of_past);
    all.extend_from_slice(of_now);
    Ok(all)
}

impl Deflate {
    pub fn new(agreed: Agreed, is_server: bool) -> Deflate {
        let (bits, forgets, they_forget) = match is_server {
            true => (agreed.server_bits, agreed.server_forgets, agreed.client_forgets),
            false => (agreed.client_bits, agreed.client_forgets, agreed.server_forgets),
        };
        Deflate { compress: None, inflate: None, bits, forgets, they_forget, past: None, ended: false, finals: 0 }
    }

    /// A whole message, or a part of one; `is_last`: it ends with that. ENOMEM.
    pub fn compress(&mut self, data: &[u8], is_last: bool) -> Result<Vec<u8>> {
        let new = || Compress::new_with_window_bits(Compression::new(LEVEL), false, self.bits);
        let compress = self.compress.get_or_insert_with(new);
        let mut out = Vec::new();
        out.try_reserve(data.len() / 2 + 64).map_err(|_| Error::NOMEM)?;
        let mut rest = data;
        loop {
            let before = compress.total_in();
            let done = compress.compress_vec(rest, &mut out, FlushCompress::Sync);
            done.map_err(|_| Error::NOMEM)?;
            rest = &rest[(compress.total_in() - before) as usize..];
            if rest.is_empty() && out.len() < out.capacity() {
                break;
            }
            out.try_reserve(out.len().max(64)).map_err(|_| Error::NOMEM)?;
        }
        if !is_last {
            return Ok(out);
        }
        if out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        // zlib has nothing to flush behind a flush, but the end of a message is a byte.
        if out.is_empty() {
            out.push(0);
        }
        if self.forgets {
            compress.reset();
        }
        Ok(out)
    }

    /// A piece of a message, behind what there is of it in `out`. EMSGSIZE above `most`, EPROTO when
    /// it can not be inflated, ENOMEM.
    pub fn inflate(&mut self, piece: &[u8], out: &mut Vec<u8>, most: usize) -> Result<()> {
        let mut rest = piece;
        while !rest.is_empty() || !self.ended {
            if std::mem::take(&mut self.ended) {
                self.begin_anew(out)?;
            }
            let inflate = self.inflate.get_or_insert_with(|| Decompress::new_with_window_bits(false, WINDOW));
            // A byte more than is good, so that too much is noticed.
            let room = (most + 1 - out.len()).min((rest.len() * 4).max(1024));
            if room == 0 {
                return Err(Error::MSGSIZE);
            }
            out.try_reserve(room).map_err(|_| Error::NOMEM)?;
            let before = (inflate.total_in(), out.len());
            let status = inflate.decompress_vec(rest, out, FlushDecompress::Sync).map_err(|_| Error::PROTO)?;
            rest = &rest[(inflate.total_in() - before.0) as usize..];
            if out.len() > most {
                return Err(Error::MSGSIZE);
            }
            let is_full = out.len() == out.capacity();
            match status {
                Status::StreamEnd => self.ended = true,
                _ if rest.is_empty() && !is_full => return Ok(()),
                Status::BufError if !is_full && out.len() == before.1 => return Err(Error::PROTO),
                _ => {}
            }
        }
        Ok(())
    }

    /// A block has come that said it was the last one, as from a sender that can not flush otherwise (RFC
    /// 7692, 7.2.3.4). For zlib that is the end, but what follows may still refer to what was before: it is
    /// given that anew. A sender that does so does it from the first message on, and only then all of it is
    /// here: nothing is kept for the others.
    fn begin_anew(&mut self, out: &[u8]) -> Result<()> {
        self.finals += 1;
        if self.finals > FINALS {
            return Err(Error::PROTO);
        }
        let before = window(self.past.get_or_insert_default(), out)?;
        if let Some(inflate) = &mut self.inflate {
            inflate.reset(false);
            inflate.set_dictionary(&before).map_err(|_| Error::PROTO)?;
        }
        Ok(())
    }

    /// What has been inflated of a message is given away: `out` begins anew with the next piece.
    pub fn passed(&mut self, out: &[u8]) -> Result<()> {
        self.past = Some(window(self.past.as_deref().unwrap_or_default(), out)?);
        Ok(())
    }

    /// The message ends here.
    pub fn finish(&mut self, out: &mut Vec<u8>, most: usize) -> Result<()> {
        // Behind a final block there may be nothing to make the tail a block's.
        if !self.ended {
            self.inflate(&TAIL, out, most)?;
        }
        self.finals = 0;
        if self.they_forget {
            (self.past, self.ended) = (None, false);
            self.inflate.iter_mut().for_each(|inflate| inflate.reset(false));
        } else if self.ended || self.past.is_some() {
            self.passed(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(agreed: Agreed) -> (Deflate, Deflate) {
        (Deflate::new(agreed, true), Deflate::new(agreed, false))
    }

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut() {
        for forgets in [false, true] {
            let agreed = Agreed { server_forgets: forgets, client_forgets: forgets, ..Agreed::default() };
            let (mut server, mut client) = pair(agreed);
            let all: [Vec<u8>; 7] = [
                b"".to_vec(),
                b"".to_vec(),
                b"a".to_vec(),
                b"leaves of grass ".repeat(1000),
                (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
                b"leaves".to_vec(),
                b"".to_vec(),
            ];
            for (i, message) in all.iter().enumerate() {
                let sent = server.compress(message, true).unwrap();
                let mut got = Vec::new();
                for piece in sent.chunks([1, 1, 7, 1000, 65536, 3, 1][i]) {
                    client.inflate(piece, &mut got, 1 << 20).unwrap();
                }
                client.finish(&mut got, 1 << 20).unwrap();
                assert!(got == *message, "message {i}: {} bytes for {}", got.len(), message.len());
            }
        }
    }

    #[test]
    fn what_inflates_to_more_than_is_allowed_stops_there() {
        let (mut server, mut client) = pair(Agreed::default());
        let bomb = server.compress(&vec![0; 50_000_000], true).unwrap();
        assert!(bomb.len() < 100_000);
        let mut got = Vec::new();
        assert_eq!(client.inflate(&bomb, &mut got, 1000), Err(Error::MSGSIZE));
        assert!(got.capacity() < 10_000);
        for most in [4999, 5000] {
            let (mut server, mut client) = pair(Agreed::default());
            let sent = server.compress(&[7; 5000], true).unwrap();
            let mut got = Vec::new();
            let done = client.inflate(&sent, &mut got, most).and_then(|()| client.finish(&mut got, most));
            assert_eq!(done.is_ok(), most == 5000);
        }
    }

    /// A message whose last block is final, with what RFC 7692 puts behind it or without; it may refer to
    /// what was before.
    fn with_a_final_block(text: &[u8], before: &[u8], how: FlushCompress, padded: bool) -> Vec<u8> {
        let mut compress = Compress::new_with_window_bits(Compression::new(LEVEL), false, WINDOW);
        if !before.is_empty() {
            compress.set_dictionary(before).unwrap();
        }
        let mut out = Vec::with_capacity(text.len() + 100);
        compress.compress_vec(text, &mut out, how).unwrap();
        if padded {
            out.push(0);
        }
        out
    }

    #[test]
    fn messages_that_end_with_a_final_block_are_taken_and_what_follows_may_refer_to_them() {
        let first: Vec<u8> = (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let second = [&first[100..4000], b" and leaves of grass"].concat();
        for (padded, piece, forget) in [(true, 1, false), (true, 9999, false), (false, 7, false), (true, 5, true)] {
            let agreed = Agreed { server_forgets: forget, ..Agreed::default() };
            let (_, mut client) = pair(agreed);
            let mut gets = |sent: &[u8]| {
                let mut got = Vec::new();
                sent.chunks(piece).try_for_each(|part| client.inflate(part, &mut got, 1 << 20))?;
                client.finish(&mut got, 1 << 20).map(|()| got)
            };
            let sent = with_a_final_block(&first, b"", FlushCompress::Finish, padded);
            assert_eq!(gets(&sent), Ok(first.clone()));
            if forget {
                assert_eq!(gets(&sent), Ok(first.clone()));
                assert_eq!(gets(&with_a_final_block(&second, &first, FlushCompress::Finish, true)), Err(Error::PROTO));
                continue;
            }
            let sent = with_a_final_block(&second, &first, FlushCompress::Finish, padded);
            assert!(sent.len() < 200, "{} refers to what was before", sent.len());
            assert_eq!(gets(&sent), Ok(second.clone()));
            // One of the usual kind, which refers to the last but one.
            let both = [&first[..], &second].concat();
            let mut sent = with_a_final_block(&first, &both, FlushCompress::Sync, false);
            sent.truncate(sent.len() - TAIL.len());
            assert!(sent.len() < 200);
            assert_eq!(gets(&sent), Ok(first.clone()));
            // Two in one message.
            let parts = [
                with_a_final_block(&second, b"", FlushCompress::Finish, false),
                with_a_final_block(&second, &second, FlushCompress::Finish, padded),
            ];
            assert!(parts[1].len() < 200);
            assert_eq!(gets(&parts.concat()), Ok([&second[..], &second].concat()));
        }
    }

    #[test]
    fn a_message_of_nothing_but_final_blocks_is_refused() {
        let (_, mut client) = pair(Agreed::default());
        assert_eq!(client.inflate(&[3, 0].repeat(FINALS), &mut Vec::new(), 1000), Ok(()));
        assert_eq!(client.finish(&mut Vec::new(), 1000), Ok(()));
        assert_eq!(client.inflate(&[3, 0].repeat(FINALS + 2), &mut Vec::new(), 1000), Err(Error::PROTO));
    }

    #[test]
    fn what_is_no_deflate_is_refused() {
        let (_, mut client) = pair(Agreed::default());
        assert_eq!(client.inflate(&[0xff; 100], &mut Vec::new(), 1000), Err(Error::PROTO));
    }

    #[test]
    fn offers_are_taken_or_passed_over() {
        let chosen = |offers: &str| Agreed::choose(offers, false).map(|(_, answer)| answer);
        let plain = Some("permessage-deflate".to_string());
        assert_eq!(chosen("permessage-deflate"), plain);
        assert_eq!(chosen("permessage-deflate; client_max_window_bits"), plain);
        assert_eq!(chosen("permessage-deflate;client_max_window_bits=10"), plain);
        assert_eq!(chosen("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits"), plain);
        assert_eq!(
            chosen("permessage-deflate; server_no_context_takeover; server_max_window_bits=\"9\""),
            Some("permessage-deflate; server_no_context_takeover; server_max_window_bits=9".into())
        );
        for bad in [
            "",
            "permessage-bzip2",
            "permessage-deflate; more",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        ] {
            assert_eq!(chosen(bad), None, "{bad}");
        }
        assert_eq!(chosen("permessage-deflate; server_max_window_bits=8, permessage-deflate"), plain);
        assert!(
            Agreed::answered("permessage-deflate; client_max_window_bits=12", false)
                .is_some_and(|a| a.client_bits == 12)
        );
        assert_eq!(Agreed::answered("permessage-deflate; client_max_window_bits", false), None);
        assert_eq!(Agreed::answered("permessage-deflate", true), None);
    }
}
