use super::{
    readback::parse_unix,
    validate::{parse_records, parse_time},
};
use crate::store::Kind;

/// 2025-11-20T10:30:00Z.
const TIME_US: u64 = 1_763_634_600_000_000;

#[test]
fn times_are_those_of_rfc_3339_and_without_an_offset_utc() {
    let check = |text: &str, expected: Option<u64>| assert_eq!(parse_time(text), expected, "{text}");
    check("2025-11-20T10:30:00Z", Some(TIME_US));
    check("2025-11-20T12:30:00+02:00", Some(TIME_US));
    check("2025-11-20T10:30:00.000001Z", Some(TIME_US + 1));
    check("2025-11-20T10:30:00.0000019Z", Some(TIME_US + 1));
    check("2025-11-20T10:30:00.250000", Some(TIME_US + 250_000));
    check("2025-11-20T10:30:00", Some(TIME_US));
    check("1970-01-01T00:00:00Z", Some(0));
    check("9999-12-31T23:59:59.999999Z", Some(253_402_300_799_999_999));
    check("1969-12-31T23:59:59Z", None);
    check("2025-11-20", None);
    check("2025-11-20T10:30", None);
    check("2025-11-20T25:30:00Z", None);
    check("", None);
}

#[test]
fn unix_times_have_at_most_microseconds() {
    let check = |text: &str, expected: Option<u64>| assert_eq!(parse_unix(text), expected, "{text}");
    check("0", Some(0));
    check("1763634600", Some(TIME_US));
    check("1763634600.5", Some(TIME_US + 500_000));
    check("1763634600.000001", Some(TIME_US + 1));
    check("1763634600.", Some(TIME_US));
    check("1763634600.0000001", None);
    check("99999999999999999999", None);
    check("18446744073709551615", None);
    for text in ["", ".5", "-1", "+1", "1e9", "1 ", "1.5.5", "x"] {
        check(text, None);
    }
}

#[test]
fn bodies_keep_the_documented_order_and_whatever_else_came() {
    let check = |kind: Kind, body: &str, expected: &str| {
        let parcel = parse_records(kind, body.as_bytes(), None, TIME_US, 10);
        let parcel = parcel.unwrap_or_else(|invalid| panic!("{body}: {invalid:?}"));
        assert_eq!(&*parcel.records[0].body, expected, "{body}");
    };
    check(
        Kind::Telemetry,
        r#"{"gor":1,"zone":{"a":[null]},"flow_rate":-2.50,"well_id":"W","pip":null}"#,
        r#"{"timestamp":"2025-11-20T10:30:00Z","flow_rate":-2.5,"gor":1,"zone":{"a":[null]}}"#,
    );
    check(
        Kind::Alert,
        r#"{"well_id":"W","message":"\"m\"","severity":"info","type":"t","threshold":4,"timestamp":"1970-01-01T00:00:00Z"}"#,
        r#"{"timestamp":"1970-01-01T00:00:00Z","type":"t","severity":"info","message":"\"m\"","threshold":4}"#,
    );
    check(
        Kind::Diagnostic,
        r#"{"well_id":"W","b":1,"a":"x"}"#,
        r#"{"timestamp":"2025-11-20T10:30:00Z","a":"x","b":1}"#,
    );
}

#[test]
fn keys_tell_kinds_wells_and_places_apart() {
    let keys = |kind: Kind, body: &str| -> Vec<String> {
        let parcel = parse_records(kind, body.as_bytes(), Some("k"), 0, 10).expect("a good body");
        parcel.records.into_iter().map(|record| record.key.expect("one was given").into()).collect()
    };
    let both = keys(Kind::Telemetry, r#"[{"well_id":"V","pip":1},{"well_id":"W","pip":1}]"#);
    assert_eq!(both, ["telemetry_update:V:k:0", "telemetry_update:W:k:1"]);
    assert_eq!(keys(Kind::Diagnostic, r#"{"well_id":"V","a":1}"#), ["diagnostic_update:V:k:0"]);
}
