//! One key's value: how it is parsed, from TOML or from plain text, and how it is formatted.

use std::{borrow::Cow, ops::Range, time::Duration};

use toml::{
    Spanned, Value,
    de::{DeArray, DeTable, DeValue},
};

use super::{
    address::Pin,
    lookup,
    raw::{RawApiKey, RawClass},
    scalar::{ScalarField, ScalarListField},
    table_keys::{API_KEY_KEYS, CLAIM_RULE_KEYS, CLASS_KEYS, QUOTA_KEYS},
    topic_sources::TopicSource,
    topics::ClassMatch,
    units,
};
use crate::{
    auth::{ClaimRule, QuotaRule},
    bus::Class,
};

/// A reference to the field of a key, by the form of its value.
#[derive(Debug)]
pub(super) enum Field<'a> {
    /// A whole number, at least `min`.
    Count { value: &'a mut usize, min: usize },
    /// A whole number of 32 bits, at least `min`.
    Small { value: &'a mut u32, min: u32 },
    /// A size in bytes, such as `"64KiB"` or a bare number, at least `min`.
    Size { value: &'a mut usize, min: usize },
    /// A duration, such as `"25s"`, at least `min`.
    Duration { value: &'a mut Duration, min: Duration },
    /// A whole number that may be negative.
    Signed(&'a mut i8),
    /// `true` or `false`.
    Flag(&'a mut bool),
    /// `true`, `false`, or a list of cores.
    Pin(&'a mut Pin),
    /// A string of some form.
    Scalar(&'a mut dyn ScalarField),
    /// A list of such strings.
    ScalarList(&'a mut dyn ScalarListField),
    /// The `[[topics.class]]` tables. Keys that a table omits are as in `base`.
    Classes { classes: &'a mut Vec<RawClass>, base: &'a Class },
    /// The `[[auth.rule]]` tables.
    ClaimRules(&'a mut Vec<ClaimRule>),
    /// The `[[api_keys]]` tables.
    ApiKeys(&'a mut Vec<RawApiKey>),
    /// The `[[quota]]` tables.
    Quotas(&'a mut Vec<QuotaRule>),
}

/// What is wrong, and where in the file (a range of byte offsets).
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    pub(super) message: String,
}

impl Field<'_> {
    /// Sets the field to a TOML value. Appends to `faults` what is wrong with it.
    pub(super) fn assign(self, value: &Spanned<DeValue<'_>>, faults: &mut Vec<Fault>) {
        let done = match (self, value.get_ref()) {
            (Field::ScalarList(slot), DeValue::Array(items)) => return assign_scalar_list(slot, items, faults),
            (Field::Classes { classes, base }, DeValue::Array(items)) => {
                return assign_classes(classes, base, items, faults);
            }
            (Field::ClaimRules(rules), DeValue::Array(items)) => return assign_claim_rules(rules, items, faults),
            (Field::ApiKeys(keys), DeValue::Array(items)) => return assign_api_keys(keys, items, faults),
            (Field::Quotas(rules), DeValue::Array(items)) => return assign_quotas(rules, items, faults),
            (field, DeValue::Boolean(flag)) => field.assign_flag(*flag),
            (field, DeValue::String(text)) => field.assign_scalar(text),
            (field, DeValue::Integer(number)) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => field.assign_number(number),
                Err(_) => Err(format!("{number} is too large")),
            },
            (field, other) => Err(field.wrong_form(other.type_str())),
        };
        if let Err(message) = done {
            faults.push(Fault { span: value.span(), message });
        }
    }

    /// Sets the field to the value of a variable or a flag: as in TOML, but strings need no quotes and lists no brackets.
    pub(super) fn assign_text(self, text: &str) -> Result<(), String> {
        let value = self.quote(text)?;
        let mut faults = Vec::new();
        self.assign(&value, &mut faults);
        faults.into_iter().next().map_or(Ok(()), |fault| Err(fault.message))
    }

    fn quote<'i>(&self, text: &'i str) -> Result<Spanned<DeValue<'i>>, String> {
        let toml = DeValue::parse(text.trim());
        match self {
            Field::ScalarList(_) => match toml {
                Ok(value) if value.get_ref().is_array() => Ok(value),
                // Not only what has no brackets: `[::1]:8080` begins like a list, too.
                _ => Ok(split_list(text)),
            },
            Field::Classes { .. } | Field::ClaimRules(_) | Field::ApiKeys(_) | Field::Quotas(_) => {
                toml.map_err(|error| format!("not a TOML list: {}", error.message()))
            }
            Field::Count { .. } | Field::Small { .. } | Field::Signed(_) | Field::Flag(_) => {
                Ok(toml.unwrap_or_else(|_| string(text)))
            }
            Field::Size { .. } | Field::Duration { .. } | Field::Pin(_) | Field::Scalar(_) => Ok(string(text)),
        }
    }

    fn assign_flag(self, flag: bool) -> Result<(), String> {
        match self {
            Field::Flag(slot) => *slot = flag,
            Field::Pin(slot) => *slot = if flag { Pin::Automatic } else { Pin::Off },
            field => return Err(field.wrong_form("boolean")),
        }
        Ok(())
    }

    fn assign_scalar(self, text: &str) -> Result<(), String> {
        match self {
            Field::Size { value, min } => set_at_least(value, units::parse_size(text)?, min, units::write_size),
            Field::Duration { value, min } => {
                set_at_least(value, units::parse_duration(text)?, min, units::write_duration)
            }
            Field::Pin(slot) => text.parse().map(|pin| *slot = pin),
            Field::Scalar(slot) => slot.read(text),
            field => Err(field.wrong_form("string")),
        }
    }

    fn assign_number(self, number: i64) -> Result<(), String> {
        match self {
            Field::Count { value, min } => set_at_least(value, unsigned(number)?, min, |count| count.to_string()),
            Field::Small { value, min } => set_at_least(value, unsigned(number)?, min, |count| count.to_string()),
            Field::Signed(value) => {
                *value = number.try_into().map_err(|_| format!("{number} is not from -128 to 127"))?;
                Ok(())
            }
            Field::Size { value, min } => set_at_least(value, unsigned(number)?, min, units::write_size),
            field => Err(field.wrong_form("integer")),
        }
    }

    fn wrong_form(&self, found: &str) -> String {
        let wanted = match self {
            Field::Count { .. } | Field::Small { .. } | Field::Signed(_) => "a whole number",
            Field::Size { .. } => "a size such as \"64KiB\"",
            Field::Duration { .. } => "a duration such as \"25s\"",
            Field::Flag(_) => "true or false",
            Field::Pin(_) => "true, false, or cores such as \"0,2-4\"",
            Field::Scalar(_) => "a text in quotes",
            Field::ScalarList(_) => "a list of texts, such as [\"a\", \"b\"]",
            Field::Classes { .. } => "a list of tables, each headed [[topics.class]]",
            Field::Quotas(_) => "a list of tables, each headed [[quota]]",
            Field::ClaimRules(_) => "a list of tables, each headed [[auth.rule]]",
            Field::ApiKeys(_) => "a list of tables, each headed [[api_keys]]",
        };
        format!("expected {wanted}, found {}", article(found))
    }

    /// The value as TOML. Tables (classes, API keys, quotas) are formatted elsewhere and yield an empty array.
    pub(super) fn write(self) -> Value {
        match self {
            Field::Count { value, .. } => Value::Integer(i64::try_from(*value).unwrap_or(i64::MAX)),
            Field::Signed(value) => Value::Integer((*value).into()),
            Field::Small { value, .. } => Value::Integer((*value).into()),
            Field::Size { value, .. } => Value::String(units::write_size(*value)),
            Field::Duration { value, .. } => Value::String(units::write_duration(*value)),
            Field::Flag(value) => Value::Boolean(*value),
            Field::Pin(Pin::Cores(cores)) => Value::String(Pin::Cores(std::mem::take(cores)).to_string()),
            Field::Pin(pin) => Value::Boolean(*pin == Pin::Automatic),
            Field::Scalar(slot) => Value::String(slot.write()),
            Field::ScalarList(slot) => Value::Array(slot.write().into_iter().map(Value::String).collect()),
            Field::Classes { .. } | Field::ClaimRules(_) | Field::ApiKeys(_) | Field::Quotas(_) => {
                Value::Array(Vec::new())
            }
        }
    }
}

fn string(text: &str) -> Spanned<DeValue<'_>> {
    Spanned::new(0..text.len(), DeValue::String(Cow::Borrowed(text)))
}

fn split_list(text: &str) -> Spanned<DeValue<'_>> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    Spanned::new(0..text.len(), DeValue::Array(items.map(string).collect()))
}

fn unsigned<T: TryFrom<i64>>(number: i64) -> Result<T, String> {
    T::try_from(number).map_err(|_| format!("{number} is {}", if number < 0 { "below 0" } else { "too large" }))
}

fn article(noun: &str) -> String {
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if vowel { "an" } else { "a" })
}

fn set_at_least<T: PartialOrd>(slot: &mut T, value: T, min: T, write: impl Fn(T) -> String) -> Result<(), String> {
    if value < min {
        return Err(format!("{} is below the least, {}", write(value), write(min)));
    }
    *slot = value;
    Ok(())
}

fn assign_scalar_list(slot: &mut dyn ScalarListField, items: &DeArray<'_>, faults: &mut Vec<Fault>) {
    slot.clear();
    for item in items {
        let done = match item.get_ref() {
            DeValue::String(text) => slot.push(text),
            other => Err(format!("expected a text in quotes, found {}", article(other.type_str()))),
        };
        if let Err(message) = done {
            faults.push(Fault { span: item.span(), message });
        }
    }
}

fn assign_classes(classes: &mut Vec<RawClass>, base: &Class, items: &DeArray<'_>, faults: &mut Vec<Fault>) {
    classes.clear();
    for item in items {
        match item.get_ref() {
            DeValue::Table(table) => classes.push(read_class(base, table, item.span(), faults)),
            _ => faults.push(Fault { span: item.span(), message: "expected a table headed [[topics.class]]".into() }),
        }
    }
}

fn read_class(base: &Class, table: &DeTable<'_>, span: Range<usize>, faults: &mut Vec<Fault>) -> RawClass {
    let mut raw = RawClass { matching: ClassMatch::default(), class: base.clone(), source: TopicSource::default() };
    let set = lookup::gather(CLASS_KEYS, table, faults);
    if !set.iter().any(|set| set.key.path == "match") {
        faults.push(Fault { span, message: "the class lacks `match`, the pattern of its topics' names".into() });
    }
    for set in set {
        (set.key.field)(&mut raw).assign(set.value, faults);
    }
    raw
}

fn assign_claim_rules(rules: &mut Vec<ClaimRule>, items: &DeArray<'_>, faults: &mut Vec<Fault>) {
    rules.clear();
    for item in items {
        let mut refuse = |message: &str| faults.push(Fault { span: item.span(), message: message.into() });
        let DeValue::Table(table) = item.get_ref() else {
            refuse("expected a table headed [[auth.rule]]");
            continue;
        };
        let mut rule = ClaimRule::default();
        for set in lookup::gather(CLAIM_RULE_KEYS, table, faults) {
            (set.key.field)(&mut rule).assign(set.value, faults);
        }
        let mut refuse = |message: &str| faults.push(Fault { span: item.span(), message: message.into() });
        if rule.claim.is_empty() {
            refuse("the rule lacks `claim`, the claim that decides; \"sub\" is in each token of a client");
        }
        if rule.role.is_empty() && rule.subscribe.is_empty() && rule.publish.is_empty() {
            refuse("the rule gives nothing: set role, subscribe or publish");
        }
        rules.push(rule);
    }
}

fn assign_api_keys(keys: &mut Vec<RawApiKey>, items: &DeArray<'_>, faults: &mut Vec<Fault>) {
    keys.clear();
    for item in items {
        let DeValue::Table(table) = item.get_ref() else {
            faults.push(Fault { span: item.span(), message: "expected a table headed [[api_keys]]".into() });
            continue;
        };
        let mut raw = RawApiKey::default();
        let set = lookup::gather(API_KEY_KEYS, table, faults);
        if set.iter().filter(|set| matches!(set.key.path, "key" | "key_file")).count() != 1 {
            let message = "an API key is set by `key` or by `key_file`, one of the two".into();
            faults.push(Fault { span: item.span(), message });
        }
        for set in set {
            (set.key.field)(&mut raw).assign(set.value, faults);
        }
        keys.push(raw);
    }
}

fn assign_quotas(rules: &mut Vec<QuotaRule>, items: &DeArray<'_>, faults: &mut Vec<Fault>) {
    rules.clear();
    for item in items {
        let DeValue::Table(table) = item.get_ref() else {
            faults.push(Fault { span: item.span(), message: "expected a table headed [[quota]]".into() });
            continue;
        };
        let mut rule = QuotaRule::default();
        let set = lookup::gather(QUOTA_KEYS, table, faults);
        let mut refuse = |message: &str| faults.push(Fault { span: item.span(), message: message.into() });
        if !set.iter().any(|set| set.key.path == "who") {
            refuse("the quota lacks `who`, whom it concerns: \"*\" is everybody");
        }
        for set in set {
            (set.key.field)(&mut rule).assign(set.value, faults);
        }
        let mut refuse = |message: String| faults.push(Fault { span: item.span(), message });
        if rule.name.is_empty() || rule.name == "default" {
            refuse(
                "the quota needs a `name` of its own, which refusals and metrics show; `default` is the hub's".into(),
            );
        } else if rules.iter().any(|other| other.name == rule.name) {
            refuse(format!("there are two quotas named `{}`", rule.name));
        }
        if rule.limits.iter().all(|most| *most == 0) {
            refuse("the quota bounds nothing: set publish_per_second, bytes_per_second, bytes_held, topics_held or connections".into());
        }
        if rules.len() == QuotaRule::COUNT_MAX {
            return refuse(format!("there are more than {} quotas", QuotaRule::COUNT_MAX));
        }
        rules.push(rule);
    }
}
