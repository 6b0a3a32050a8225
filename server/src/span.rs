//! Spans of time as people write them: `30s`, `1h30m`, `500ms`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};

/// Text that is no span of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a span of time such as 30s, 15m, 1h30m or 7d, found {0:?}")]
pub struct InvalidSpan(pub String);

/// The units, the largest first, and their length in milliseconds.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads numbers with units: `ms`, `s`, `m`, `h`, `d` (24 hours), `w`. `0` needs no unit.
///
/// # Errors
/// [`InvalidSpan`] if the text is anything else, or longer than can be told in milliseconds.
pub fn parse(text: &str) -> Result<Duration, InvalidSpan> {
    let invalid = || InvalidSpan(text.to_owned());
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let (number, tail) = split_while(rest, |letter| letter.is_ascii_digit());
        let (unit, tail) = split_while(tail, |letter| letter.is_ascii_alphabetic());
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let (_, length) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        let part = number.checked_mul(*length).ok_or_else(invalid)?;
        millis = millis.checked_add(part).ok_or_else(invalid)?;
        rest = tail;
    }
    match text.trim().is_empty() {
        true => Err(invalid()),
        false => Ok(Duration::from_millis(millis)),
    }
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|letter| !belongs(letter)).unwrap_or(text.len());
    text.split_at(end)
}

/// The span in its largest fitting unit, and the next one where it is not none: `3m`, `1h5m`, `2d4h`.
pub fn shortened(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    // Weeks are for input only: `9d` is read at once, `1w2d` is not. Below a second nothing is added.
    let units = &UNITS[1..5];
    for (index, (name, length)) in units.iter().enumerate() {
        if millis >= *length {
            let next = units.get(index + 1).filter(|_| millis < 10 * length);
            let rest =
                next.map(|(name, next)| (millis % length / next, name)).filter(|(count, _)| *count > 0);
            let count = millis / length;
            return match rest {
                Some((rest, next)) => format!("{count}{name}{rest}{next}"),
                None => format!("{count}{name}"),
            };
        }
    }
    String::new()
}

/// The same of a span that is counted in seconds: `0s`, `3m20s`.
pub fn of_seconds(seconds: u64) -> String {
    match seconds {
        0 => "0s".to_owned(),
        seconds => shortened(Duration::from_secs(seconds)),
    }
}

/// Reads a span from a configuration file, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// The value is no text that [`parse`] reads.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let expected =
        |_| D::Error::custom("expected a span of time in quotes, such as \"30s\", \"15m\" or \"7d\"");
    parse(&String::deserialize(deserializer).map_err(expected)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{of_seconds, parse, shortened};

    #[test]
    fn spans_as_people_write_them() {
        for (text, millis) in [
            ("0", 0),
            ("2ms", 2),
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("1w", 604_800_000),
            (" 5m ", 300_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in
            ["", " ", "5", "s", "5 m", "-5m", "1.5h", "5x", "99999999999999999999s", "9999999999999999w"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn two_units_at_most() {
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (59_999, "59s"),
            (90_000, "1m30s"),
            (600_000, "10m"),
            (3_900_000, "1h5m"),
            (86_400_000, "1d"),
            (40 * 86_400_000, "40d"),
        ] {
            assert_eq!(shortened(Duration::from_millis(millis)), text);
        }
        assert_eq!([of_seconds(0), of_seconds(90)], ["0s", "1m30s"]);
    }
}
