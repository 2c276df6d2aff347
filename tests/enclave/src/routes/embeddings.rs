//! `POST /v1/embeddings`: vectors made from the texts' hashes, so that equal texts have equal
//! vectors.

use aws_lc_rs::digest;
use serde_json::{Value, json};

const DIMENSION: usize = 64;
const MAX_TEXTS: usize = 64;

pub(crate) fn answer(body: &str) -> Result<String, &'static str> {
    let Ok(Value::Object(request)) = serde_json::from_str(body) else {
        return Err("body is not a JSON object");
    };
    let is_query = match request.get("isQuery") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(is_query)) => *is_query,
        Some(_) => return Err("isQuery must be true or false"),
    };
    let texts = request
        .get("texts")
        .and_then(Value::as_array)
        .ok_or("texts must be a list")?;
    if texts.is_empty() || texts.len() > MAX_TEXTS {
        return Err("texts must hold 1 to 64 strings");
    }
    let texts: Option<Vec<_>> = texts.iter().map(Value::as_str).collect();
    let texts = texts.ok_or("texts must hold strings")?;
    let vectors: Vec<_> = texts
        .into_iter()
        .map(|text| vector(text, is_query))
        .collect();
    Ok(json!({ "embeddings": vectors, "dimension": DIMENSION }).to_string())
}

/// Returns a vector of length 1. Queries and passages get different ones, as from real models.
fn vector(text: &str, is_query: bool) -> Vec<f64> {
    let purpose = if is_query { "query: " } else { "passage: " };
    let digest = digest::digest(&digest::SHA512, [purpose, text].concat().as_bytes());
    let raw: Vec<_> = digest
        .as_ref()
        .iter()
        .map(|byte| f64::from(*byte) - 127.5)
        .collect();
    let norm = raw.iter().map(|number| number * number).sum::<f64>().sqrt();
    raw.into_iter().map(|number| number / norm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_equal_vectors_of_length_one() {
        let answer = answer(r#"{"texts":["a","b","a"],"isQuery":true}"#).expect("good");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let vectors = &answer["embeddings"];
        assert_eq!(vectors[0], vectors[2]);
        assert_ne!(vectors[0], vectors[1]);
        assert_eq!(vectors[0].as_array().map(Vec::len), Some(DIMENSION));
        let norm: f64 = vectors[1]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(Value::as_f64)
            .map(|x| x * x)
            .sum();
        assert!((norm - 1.0).abs() < 1e-9);
    }

    #[test]
    fn texts_are_1_to_64_strings() {
        let many = json!({ "texts": vec![""; 65], "isQuery": false }).to_string();
        for bad in [
            "[]",
            "{}",
            r#"{"texts":[]}"#,
            r#"{"texts":[1]}"#,
            r#"{"texts":[""],"isQuery":1}"#,
            &many,
        ] {
            assert!(answer(bad).is_err(), "{bad}");
        }
    }
}
