//! The second factor of a login: six digits from an app, by time (TOTP, RFC 6238, as all apps have it: SHA-1, 30 s).

use ring::hmac;

/// The bytes of a secret: as many as SHA-1 gives.
pub const SECRET: usize = 20;

/// How long a code is good, in milliseconds.
const STEP: i64 = 30_000;

const DIGITS: u32 = 6;

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The step whose code this is: the one of now, the one before or the one behind it, as clocks differ.
pub fn step_of(secret: &[u8], code: &str, now_millis: i64) -> Option<u64> {
    let code: String = code.chars().filter(|character| !character.is_whitespace()).collect();
    let now = u64::try_from(now_millis / STEP).ok()?;
    let steps = now.saturating_sub(1)..=now.saturating_add(1);
    if code.len() != DIGITS as usize || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    steps.into_iter().find(|step| self::code(secret, *step) == code)
}

/// The code of a step.
pub fn code(secret: &[u8], step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let offset = usize::from(tag.as_ref().last().copied().unwrap_or(0) & 0xf);
    let number =
        tag.as_ref().iter().skip(offset).take(4).fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
    format!("{:0width$}", (number & 0x7fff_ffff) % 10_u32.pow(DIGITS), width = DIGITS as usize)
}

/// A secret as people type it.
pub fn base32(secret: &[u8]) -> String {
    let mut text = String::new();
    for chunk in secret.chunks(5) {
        let bits =
            chunk.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) << (8 * (5 - chunk.len()));
        let characters = (chunk.len() * 8).div_ceil(5);
        let character =
            |at: usize| ALPHABET.get((bits >> (35 - 5 * at)) as usize & 31).map_or('A', |byte| *byte as char);
        text.extend((0..characters).map(character));
    }
    text
}

/// What an app reads from a QR code. Server and operator are names of ours, without anything that would need escaping.
pub fn uri(secret: &[u8], server: &str, operator: &str) -> String {
    format!(
        "otpauth://totp/Holdfast%20{server}:{operator}?secret={}&issuer=Holdfast%20{server}",
        base32(secret)
    )
}

#[cfg(test)]
mod tests {
    use super::{base32, step_of, uri};

    const SECRET: &[u8] = b"12345678901234567890";

    /// RFC 6238, appendix B, cut to six digits.
    #[test]
    fn codes_are_those_of_the_standard() {
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(step_of(SECRET, code, seconds * 1000), Some(seconds as u64 / 30), "{code}");
        }
    }

    #[test]
    fn a_code_is_good_for_a_step_before_and_behind() {
        let at = 1_111_111_109_000;
        assert!(step_of(SECRET, "081 804", at + 30_000).is_some());
        assert!(step_of(SECRET, "081804", at - 30_000).is_some());
        assert!(step_of(SECRET, "081804", at + 90_000).is_none());
        for wrong in ["", "81804", "0818045", "08180x", "٠٨١٨٠٤"] {
            assert!(step_of(SECRET, wrong, at).is_none(), "{wrong}");
        }
    }

    /// RFC 4648, chapter 10, without padding.
    #[test]
    fn secrets_are_written_as_apps_read_them() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        assert_eq!(
            uri(b"fooba", "home", "anna"),
            "otpauth://totp/Holdfast%20home:anna?secret=MZXW6YTB&issuer=Holdfast%20home"
        );
    }
}
