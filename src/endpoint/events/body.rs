//! What a request to broadcast says.

use serde_json::{Map, Value};

use super::envelope::Fault;

/// A request to broadcast.
#[derive(Debug, PartialEq)]
pub(super) struct Broadcast {
    /// `None`: all of them.
    pub(super) stream: Option<String>,
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) data: Value,
}

impl Broadcast {
    /// Reads a request's body, and says what is wrong with it if it is not one.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Fault> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Fault::new(400, "bad_json", format!("the body is not JSON: {error}"), None))?;
        let Value::Object(mut fields) = value else {
            return Err(Fault::new(400, "bad_json", "the body must be a JSON object", None));
        };
        let mut text = |name| take_text(&mut fields, name);
        let (stream, kind, message) = (text("stream_id")?, required(text("type")?, "type")?, text("message")?);
        let message = required(message, "message")?;
        match fields.remove("data").unwrap_or_default() {
            data @ (Value::Object(_) | Value::Null) => Ok(Self { stream, kind, message, data }),
            _ => Err(Fault::new(400, "bad_data", "data must be a JSON object", Some("data"))),
        }
    }
}

/// The text in `name`, if there is one that is not empty.
fn take_text(fields: &mut Map<String, Value>, name: &'static str) -> Result<Option<String>, Fault> {
    match fields.remove(name) {
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        None | Some(Value::Null) => Ok(None),
        Some(_) => Err(Fault::new(400, "bad_field", format!("{name} must be a string"), Some(name))),
    }
}

fn required(text: Option<String>, name: &'static str) -> Result<String, Fault> {
    text.ok_or_else(|| Fault::new(400, "missing_field", format!("{name} is required"), Some(name)))
}
