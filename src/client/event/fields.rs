//! Reads the known properties of an event's JSON (protocol section 5).

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// The known properties of an event. A property of another type counts as absent. Of repeated
/// properties the last counts. The application has the JSON.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) kind: Option<Cow<'a, str>>,
    pub(super) content: Option<Cow<'a, str>>,
    pub(super) tool_call_id: Option<Cow<'a, str>>,
    pub(super) tool_name: Option<Cow<'a, str>>,
    pub(super) tool_arguments: Option<Cow<'a, str>>,
    pub(super) full_content: Option<Cow<'a, str>>,
    pub(super) pending_tool_calls: Option<bool>,
    pub(super) context_tokens: Option<i64>,
    pub(super) max_context_tokens: Option<i64>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(Scalar::Text(name)) = map.next_key()? {
                    match &*name {
                        "type" => fields.kind = map.next_value::<Scalar<'de>>()?.text(),
                        "content" => fields.content = map.next_value::<Scalar<'de>>()?.text(),
                        "tool_call_id" => {
                            fields.tool_call_id = map.next_value::<Scalar<'de>>()?.text()
                        }
                        "tool_name" => fields.tool_name = map.next_value::<Scalar<'de>>()?.text(),
                        "tool_arguments" => {
                            fields.tool_arguments = map.next_value::<Scalar<'de>>()?.text()
                        }
                        "full_content" => {
                            fields.full_content = map.next_value::<Scalar<'de>>()?.text()
                        }
                        "pending_tool_calls" => {
                            fields.pending_tool_calls = map.next_value::<Scalar<'de>>()?.flag()
                        }
                        "context_tokens" => {
                            fields.context_tokens = map.next_value::<Scalar<'de>>()?.count()
                        }
                        "max_context_tokens" => {
                            fields.max_context_tokens = map.next_value::<Scalar<'de>>()?.count()
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A value of any type. Keeps texts, flags and whole numbers.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Flag(bool),
    Number(i64),
    Other,
}

impl<'a> Scalar<'a> {
    fn text(self) -> Option<Cow<'a, str>> {
        if let Scalar::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }
    fn flag(self) -> Option<bool> {
        if let Scalar::Flag(flag) = self {
            Some(flag)
        } else {
            None
        }
    }
    /// Returns a number of tokens. 0 means not known (protocol.md section 5).
    fn count(self) -> Option<i64> {
        match self {
            Scalar::Number(number) if number > 0 => Some(number),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> std::result::Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> std::result::Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Owned(text.into())))
            }
            fn visit_bool<E>(self, flag: bool) -> std::result::Result<Scalar<'de>, E> {
                Ok(Scalar::Flag(flag))
            }
            fn visit_i64<E>(self, number: i64) -> std::result::Result<Scalar<'de>, E> {
                Ok(Scalar::Number(number))
            }
            fn visit_u64<E>(self, number: u64) -> std::result::Result<Scalar<'de>, E> {
                Ok(i64::try_from(number).map_or(Scalar::Other, Scalar::Number))
            }
            fn visit_f64<E>(self, _: f64) -> std::result::Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }
            fn visit_unit<E>(self) -> std::result::Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Scalar<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> std::result::Result<Scalar<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}
