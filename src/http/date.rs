//! Dates as HTTP writes them: "Sun, 06 Nov 1994 08:49:37 GMT".

use crate::sys;
use std::cell::Cell;

pub const LEN: usize = 29;
pub type Text = [u8; LEN];

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

thread_local! {
    /// The second that was asked for last, and its text.
    static LAST: Cell<(i64, Text)> = const { Cell::new((i64::MIN, [0; LEN])) };
}

/// Now, made anew once a second.
pub fn now() -> Text {
    let second = sys::wall_seconds();
    let (last, text) = LAST.get();
    if last == second {
        return text;
    }
    let text = format(second);
    LAST.set((second, text));
    text
}

/// Year, month (0..) and day (1..) of a day since 1970. The year is taken to begin in March, so that
/// the odd day is its last; 400 of them have 146,097 days.
fn civil(day: i64) -> (i64, usize, i64) {
    let from_march_of_0 = day + 719_468;
    let era = from_march_of_0.div_euclid(146_097);
    let day_of_era = from_march_of_0.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12;
    (400 * era + year_of_era + i64::from(month < 2), month as usize, day_of_month)
}

/// The other way round.
fn days(year: i64, month: usize, day: i64) -> i64 {
    let year = year - i64::from(month < 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month as i64 + 10) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The text of a second since 1970; of one beyond the year 9999 that of its end.
pub fn format(second: i64) -> Text {
    let second = second.clamp(-62_135_596_800, 253_402_300_799);
    let (day, rest) = (second.div_euclid(86_400), second.rem_euclid(86_400));
    let (year, month, day_of_month) = civil(day);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let mut put = |at: usize, n: i64| {
        text[at] = b'0' + (n / 10 % 10) as u8;
        text[at + 1] = b'0' + (n % 10) as u8;
    };
    put(5, day_of_month);
    put(12, year / 100);
    put(14, year % 100);
    put(17, rest / 3600);
    put(20, rest / 60 % 60);
    put(23, rest % 60);
    text[..3].copy_from_slice(DAYS[day.rem_euclid(7) as usize]);
    text[8..11].copy_from_slice(MONTHS[month]);
    text
}

/// The second that such a text names; the two older forms are not read.
pub fn parse(text: &[u8]) -> Option<i64> {
    let two = |at: usize| -> Option<i64> {
        let digits = text.get(at..at + 2)?;
        let ok = digits.iter().all(u8::is_ascii_digit);
        ok.then(|| i64::from(digits[0] - b'0') * 10 + i64::from(digits[1] - b'0'))
    };
    let month = MONTHS.iter().position(|&m| text.get(8..11) == Some(m))?;
    let shape =
        text.len() == LEN && &text[3..5] == b", " && text[7] == b' ' && text[11] == b' ' && &text[25..] == b" GMT";
    let (day, year) = (two(5)?, two(12)? * 100 + two(14)?);
    let (hour, minute, second) = (two(17)?, two(20)?, two(23)?);
    let second = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    // What is written back otherwise was no date: the 31st of June, an hour 25, another day of the week.
    (shape && format(second)[..] == *text).then_some(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_seconds_have_known_texts() {
        let known = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
            (i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        for (second, text) in known {
            assert_eq!(std::str::from_utf8(&format(second)).unwrap(), text);
        }
    }

    #[test]
    fn every_text_is_read_back() {
        for second in (-3_000_000_000..6_000_000_000).step_by(86_399 * 7) {
            assert_eq!(parse(&format(second)), Some(second));
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 31 Jun 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(text.as_bytes()), None);
        }
    }
}
