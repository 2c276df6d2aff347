//! Turns errors of dependencies into words. webpki's contain names and fields of Rust values, such
//! as `CertExpired { time: … }`.

/// Removes such fields, and turns such names into words.
pub(super) fn plain(text: &str) -> String {
    let fields = text.match_indices(['{', '(']).map(|(at, _)| at);
    let ends = fields
        .filter(|at| name_at_end(text[..*at].trim_end()))
        .min()
        .unwrap_or(text.len());
    let words = text[..ends].split_whitespace().map(|word| {
        let bare = word.trim_end_matches([',', '.', ':', ';']);
        if name_at_end(bare) && bare.chars().all(char::is_alphanumeric) {
            spaced(word)
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns whether the last word is in camel case: it starts with a capital, and has one after a
/// small letter.
fn name_at_end(text: &str) -> bool {
    let mut words = text.rsplit(|c: char| !c.is_ascii_alphanumeric());
    let word = words.next().unwrap_or_default();
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word
            .as_bytes()
            .windows(2)
            .any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
}

fn spaced(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn names_and_fields_of_rust_values_become_words() {
        for (text, words) in [
            ("UnknownIssuer", "unknown issuer"),
            (
                "CertExpired { time: UnixTime(1), not_after: UnixTime(0) }",
                "cert expired",
            ),
            (
                "chain validation failed: RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required: KeyPurposeId(1.3) })",
                "chain validation failed: required eku not found context",
            ),
            (
                "V2 bundle requires RFC3161 timestamp (SET) but none could be verified.",
                "V2 bundle requires RFC3161 timestamp (SET) but none could be verified.",
            ),
            (
                "size 3 (not after 2026-01-01T00:00:00Z)",
                "size 3 (not after 2026-01-01T00:00:00Z)",
            ),
            ("", ""),
            ("ünïcode {", "ünïcode {"),
        ] {
            assert_eq!(plain(text), words);
        }
    }
}
