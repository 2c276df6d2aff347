//! Reads and writes strict hexadecimal: lower case, and of the exact length. Tokens, manifests and
//! policies must use it.

/// Reads exactly `N` bytes. Refuses upper case, so that a measurement has only one spelling to
/// compare.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    Some(bytes)
}

/// Writes lower case.
pub(crate) fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_lower_case_of_the_exact_length() {
        assert_eq!(decode::<3>("00a9ff"), Some([0, 0xa9, 0xff]));
        for other in [
            "00A9ff",
            "00a9f",
            "00a9ff0",
            "00a9fg",
            "0x00a9",
            "",
            "00a9f\u{e9}",
        ] {
            assert_eq!(decode::<3>(other), None, "{other:?}");
        }
    }

    #[test]
    fn written_bytes_are_read_back() {
        let all: [u8; 256] = std::array::from_fn(|index| index as u8);
        assert_eq!(decode::<256>(&encode(&all)), Some(all));
    }
}
