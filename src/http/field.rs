//! What names and values may be made of.

/// A table with true for each byte of `these`.
const fn table(these: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut i = 0;
    while i < these.len() {
        table[these[i] as usize] = true;
        i += 1;
    }
    table
}

const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

/// What a host's name may have, and what its literal addresses have besides.
const HOST: [bool; 256] = table(b"!$%&'()*+,;=-._~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

pub fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&b| TOKEN[b as usize])
}

/// Neither a control character nor DEL, but for the tab.
pub fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 127)
}

pub fn is_value(text: &[u8]) -> bool {
    text.iter().all(|&b| is_value_byte(b))
}

/// "host", "host:80", "[::1]:80". Nobody's name and password.
pub fn is_authority(text: &[u8]) -> bool {
    let rest = match text.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|&b| b == b']') else { return false };
            let is_literal = |&b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'v' | b'V' | b'%');
            if end == 0 || !rest[..end].iter().all(is_literal) {
                return false;
            }
            &rest[end + 1..]
        }
        None => &text[text.iter().take_while(|&&b| HOST[b as usize]).count()..],
    };
    rest.is_empty()
        || rest.strip_prefix(b":").is_some_and(|port| port.len() <= 5 && port.iter().all(u8::is_ascii_digit))
}

/// The parts of a list, without the space around them.
pub fn parts(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty())
}

/// A number in plain digits. `None` when it is none, or too large.
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0u64, |all, &b| b.is_ascii_digit().then(|| all * 10 + u64::from(b - b'0')))
}

/// A target's path, without its query, decoded. `None` for a bad escape, a NUL, or when there is no path.
pub fn decode_path(target: &[u8], into: &mut Vec<u8>) -> Option<()> {
    let mut path = target.split(|&b| b == b'?').next()?;
    if !path.starts_with(b"/") && path != b"*" {
        let authority = path.windows(3).position(|w| w == b"://")? + 3;
        let rest = &path[authority..];
        path = rest.iter().position(|&b| b == b'/').map_or(b"/", |at| &rest[at..]);
    }
    let mut i = 0;
    while let Some(&byte) = path.get(i) {
        let digit = |at: usize| path.get(at).and_then(|&b| (b as char).to_digit(16));
        let decoded = match byte {
            b'%' => (digit(i + 1)? * 16 + digit(i + 2)?) as u8,
            byte => byte,
        };
        if decoded == 0 {
            return None;
        }
        into.push(decoded);
        i += if byte == b'%' { 3 } else { 1 };
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for good in
            ["", "oak", "oak:80", "oak:", "a_b.example", "127.0.0.1:8080", "[::1]", "[::1]:80", "[fe80::1%2]:80"]
        {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b",
            "oak:80:80",
            "oak:x",
            "oak:123456",
            "user@oak",
            "[::1",
            "[]",
            "[::1]x",
            "::1",
            "oak/",
            "a\tb",
            "a\u{fc}",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_number_is_digits_alone() {
        assert_eq!(
            (number(b"0"), number(b"0042"), number(b"999999999999999999")),
            (Some(0), Some(42), Some(999999999999999999))
        );
        for bad in [&b""[..], b"+1", b"-1", b" 1", b"1 ", b"0x1", b"1,1", b"1_0", b"1234567890123456789", b"\xd9\xa1"] {
            assert_eq!(number(bad), None);
        }
    }
}
