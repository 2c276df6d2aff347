//! Reads strict JSON: every document of this module, from the policy to the peer's evidence.
//!
//! Two readers of a signed text must not see two meanings, so a duplicate key is an error. A
//! document has a limit of bytes and of nesting, checked before it takes memory. serde_json reads
//! the grammar.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::report::shown;

/// The deepest nesting of a document (`evidence.format`).
pub(super) const MAX_LEVELS: usize = 64;

/// The error for an invalid text: one sentence with the position. Safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError(String);

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for JsonError {}

/// Reads one document without duplicate keys, of at most `max_bytes` bytes and [`MAX_LEVELS`]
/// levels.
pub(super) fn parse(text: &[u8], max_bytes: usize) -> Result<Value, JsonError> {
    if text.len() > max_bytes {
        return Err(JsonError(format!(
            "too long: {} bytes (at most {max_bytes})",
            text.len()
        )));
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    Strict { levels: MAX_LEVELS }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| JsonError(error.to_string()))
}

/// Reads one value with at most this many levels of nesting.
#[derive(Clone, Copy)]
struct Strict {
    levels: usize,
}

impl Strict {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Strict { levels }),
            None => Err(E::custom(format_args!(
                "nested more than {MAX_LEVELS} levels deep"
            ))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(below)? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "the key \"{}\" appears twice",
                    shown(&key)
                )));
            }
            let value = entries.next_value_seed(below)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// An invalid value, with its path in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeError {
    path: String,
    problem: String,
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.problem)
    }
}

impl std::error::Error for ShapeError {}

/// A value with its path, for documents without unknown keys.
#[derive(Clone)]
pub(super) struct Node<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Node<'a> {
    /// Makes a node of the whole document. Errors call it `name`.
    pub(super) fn root(name: &str, value: &'a Value) -> Self {
        Node {
            path: name.to_owned(),
            value,
        }
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> ShapeError {
        ShapeError {
            path: self.path.clone(),
            problem: problem.into(),
        }
    }

    fn child(&self, key: &str, value: &'a Value) -> Node<'a> {
        Node {
            path: format!("{}.{key}", self.path),
            value,
        }
    }

    fn object(&self) -> Result<&'a Map<String, Value>, ShapeError> {
        self.value
            .as_object()
            .ok_or_else(|| self.error("must be an object"))
    }

    /// Checks that it is an object with every key of `required`, and no key outside `required` and
    /// `optional`.
    pub(super) fn exactly(self, required: &[&str], optional: &[&str]) -> Result<Self, ShapeError> {
        let object = self.object()?;
        if let Some(unknown) = object
            .keys()
            .find(|key| !required.contains(&key.as_str()) && !optional.contains(&key.as_str()))
        {
            return Err(self.error(format!("has an unknown key \"{}\"", shown(unknown))));
        }
        for key in required {
            self.get(key)?;
        }
        Ok(self)
    }

    pub(super) fn get(&self, key: &str) -> Result<Node<'a>, ShapeError> {
        match self.object()?.get(key) {
            Some(value) => Ok(self.child(key, value)),
            None => Err(self.error(format!("lacks the key \"{key}\""))),
        }
    }

    /// Returns `None` if the key is missing or null.
    pub(super) fn optional(&self, key: &str) -> Result<Option<Node<'a>>, ShapeError> {
        let value = self.object()?.get(key).filter(|value| !value.is_null());
        Ok(value.map(|value| self.child(key, value)))
    }

    pub(super) fn string(&self) -> Result<&'a str, ShapeError> {
        self.value
            .as_str()
            .ok_or_else(|| self.error("must be a string"))
    }

    pub(super) fn integer(&self) -> Result<u64, ShapeError> {
        self.value
            .as_u64()
            .ok_or_else(|| self.error("must be a whole number, 0 or more"))
    }

    pub(super) fn list(&self) -> Result<Vec<Node<'a>>, ShapeError> {
        let list = self
            .value
            .as_array()
            .ok_or_else(|| self.error("must be a list"))?;
        let node = |(index, value)| Node {
            path: format!("{}[{index}]", self.path),
            value,
        };
        Ok(list.iter().enumerate().map(node).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes(), 1 << 20).expect_err(text).to_string()
    }

    #[test]
    fn duplicate_key_is_an_error_at_any_level_in_any_spelling() {
        assert!(error(r#"{"a":1,"a":1}"#).starts_with("the key \"a\" appears twice at line 1"));
        assert!(error(r#"[{"b":{"a":1,"\u0061":2}}]"#).contains("\"a\" appears twice"));
        assert!(parse(br#"{"a":{"a":1},"b":{"a":1}}"#, 100).is_ok());
    }

    #[test]
    fn reads_64_levels_and_refuses_65() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(nested(64).as_bytes(), 1000).is_ok());
        assert!(error(&nested(65)).contains("more than 64 levels"));
        assert!(error(&"[".repeat(1 << 20)).contains("more than 64 levels"));
    }

    #[test]
    fn document_is_one_value_and_errors_name_the_position() {
        assert!(error("{} {}").contains("line 1 column 4"));
        assert!(error("{\n \"a\": }").contains("line 2"));
        assert!(error("\u{feff}{}").contains("line 1"));
        assert!(error(r#""\ud800""#).contains("line 1"));
        assert!(parse(b"\"\xff\"", 10).is_err());
        assert!(
            parse(b"[1,2]", 4)
                .unwrap_err()
                .to_string()
                .contains("at most 4")
        );
    }

    #[test]
    fn errors_contain_no_control_characters() {
        let text = error("{\"\\u001b[31m\":1,\"\\u001b[31m\":1}");
        assert!(
            text.chars().all(|character| !character.is_control()),
            "{text:?}"
        );
    }

    #[test]
    fn shape_error_names_the_path() {
        let value = parse(br#"{"a":{"b":[1,"x"]}}"#, 100).unwrap();
        let root = Node::root("policy", &value);
        let list = root.get("a").unwrap().get("b").unwrap().list().unwrap();
        assert_eq!(
            list[1].integer().unwrap_err().to_string(),
            "policy.a.b[1] must be a whole number, 0 or more"
        );
        let missing = root.clone().exactly(&["a", "c"], &[]).err().unwrap();
        assert_eq!(missing.to_string(), "policy lacks the key \"c\"");
        let unknown = root.get("a").unwrap().exactly(&[], &["c"]).err().unwrap();
        assert_eq!(unknown.to_string(), "policy.a has an unknown key \"b\"");
    }
}
