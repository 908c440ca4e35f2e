//! The event of the event streaming service: the JSON object that its streams carry, one to an event.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `{"id","type","message","data"?,"timestamp","stream_id"?}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventData {
    /// Its own name, `evt_` and a number; no two events have the same.
    pub id: String,
    /// What kind of event it is, such as `user_action`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The event for people.
    pub message: String,
    /// The event for programs: an object, left out if there is nothing in it.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub data: Value,
    /// When it happened, in Unix seconds.
    pub timestamp: i64,
    /// The stream it was sent to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stream_id: String,
}

impl EventData {
    /// The event as JSON text.
    pub fn to_json(&self) -> String {
        // A value of strings, numbers and JSON has a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The id of the event that `number` stands for.
    pub fn id_of(number: u64) -> String {
        format!("evt_{number}")
    }
}

fn is_empty(data: &Value) -> bool {
    data.is_null() || data.as_object().is_some_and(serde_json::Map::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_documented_form() {
        let check = |data: Value, stream_id: &str, expected: &str| {
            let event = EventData {
                id: EventData::id_of(123_456_789),
                kind: "user_action".into(),
                message: "User logged in".into(),
                data,
                timestamp: 1_642_598_400,
                stream_id: stream_id.into(),
            };
            assert_eq!(event.to_json(), expected);
            let back: EventData = serde_json::from_str(expected).expect("its own form");
            assert_eq!(back.to_json(), expected);
        };
        check(
            json!({ "user_id": "12345", "action": "login" }),
            "default",
            r#"{"id":"evt_123456789","type":"user_action","message":"User logged in","data":{"action":"login","user_id":"12345"},"timestamp":1642598400,"stream_id":"default"}"#,
        );
        let bare = r#"{"id":"evt_123456789","type":"user_action","message":"User logged in","timestamp":1642598400}"#;
        check(Value::Null, "", bare);
        check(json!({}), "", bare);
    }
}
