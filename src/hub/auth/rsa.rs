//! How large RSA keys are: one of less than 2048 bits is refused at the start (RFC 7518 section 3.3).

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{DecodingKey, DecodingKeyKind, EncodingKey, jwk::RSAKeyParameters};

/// The least bits of a modulus.
const BITS_MIN: usize = 2048;

/// Refuses a public key that is too small.
pub(super) fn check_public(key: &DecodingKey) -> Result<(), String> {
    let bits = match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => bits_of(n),
        // RSAPublicKey begins with the modulus (RFC 8017 appendix A.1.1).
        DecodingKeyKind::SecretOrDer(der) => integers(der).next().map_or(0, bits_of),
    };
    check(bits, "the key")
}

/// The same for a private key: RSAPrivateKey has a version ahead of the modulus (RFC 8017 appendix A.1.2).
pub(super) fn check_private(key: &EncodingKey) -> Result<(), String> {
    check(integers(key.as_bytes()).nth(1).map_or(0, bits_of), "the key")
}

/// The same for a key of a set.
pub(super) fn check_member(key: &RSAKeyParameters, id: Option<&str>) -> Result<(), String> {
    let modulus = BASE64URL_NOPAD.decode(key.n.as_bytes()).unwrap_or_default();
    let name = id.map_or_else(|| "a key without `kid`".to_owned(), |id| format!("the key `{id}`"));
    check(bits_of(&modulus), &name)
}

fn check(bits: usize, name: &str) -> Result<(), String> {
    if BITS_MIN <= bits {
        return Ok(());
    }
    Err(format!("{name} has {bits} bits, and RS256 needs at least {BITS_MIN} (RFC 7518 section 3.3): use a larger one"))
}

/// The bits of a whole number whose bytes are these, the most significant first.
fn bits_of(number: &[u8]) -> usize {
    let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
    number.first().map_or(0, |first| 8 * number.len() - first.leading_zeros() as usize)
}

/// The whole numbers at the start of the sequence that `der` is.
fn integers(der: &[u8]) -> impl Iterator<Item = &[u8]> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    let mut rest = element(der).filter(|(tag, ..)| *tag == SEQUENCE).map_or(&[][..], |(_, content, _)| content);
    std::iter::from_fn(move || {
        let (_, number, behind) = element(rest).filter(|(tag, ..)| *tag == INTEGER)?;
        rest = behind;
        Some(number)
    })
}

/// Tag and content of the first element of `der` (X.690 section 8.1), and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first.checked_sub(0x80) {
        None => (usize::from(first), rest),
        // More than four bytes of length are no key.
        Some(bytes @ 1..=4) => {
            let (length, rest) = rest.split_at_checked(usize::from(bytes))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        Some(_) => return None,
    };
    let (content, behind) = rest.split_at_checked(length)?;
    Some((tag, content, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_numbers() {
        let check = |number: &[u8], bits: usize| assert_eq!(bits_of(number), bits, "{number:?}");
        check(&[], 0);
        check(&[0, 0], 0);
        check(&[1], 1);
        check(&[0, 0x80, 0], 16);
        check(&[0x7f, 0], 15);
    }

    #[test]
    fn numbers_of_a_sequence() {
        let check = |der: &[u8], expected: &[&[u8]]| {
            assert_eq!(integers(der).collect::<Vec<_>>(), expected, "{der:?}");
        };
        check(&[0x30, 7, 2, 1, 0, 2, 2, 5, 6], &[&[0], &[5, 6]]);
        check(&[0x30, 0x81, 4, 2, 0x82, 0, 0], &[&[]]);
        check(&[0x30, 5, 2, 1, 9, 3, 0], &[&[9]]);
        let long = [&[2, 0x82, 1, 4][..], &[7; 260]].concat();
        check(&[&[0x30, 0x82, 1, 8][..], &long].concat(), &[&[7; 260]]);
        check(&[0x31, 3, 2, 1, 9], &[]);
        check(&[0x30, 9, 2, 1, 9], &[]);
        check(&[0x30, 4, 2, 9, 9, 9], &[]);
        check(&[0x30, 0x85, 0, 0, 0, 0, 3, 2, 1, 9], &[]);
        check(&[0x30], &[]);
        check(&[], &[]);
    }
}
