//! `[[auth.rule]]`: rights and roles from claims that other issuers put into their tokens.
//!
//! A rule names a claim by its path, such as `realm_access.roles`, and a value. If the claim has the value, the token gets the
//! rule's role and patterns. A pattern may have other claims in it, such as `users.{sub}.**`. What such a claim says fills a part of
//! one segment at most: a value that is no plain segment (that has a dot, a star or a blank, or is empty) gives no right.

use std::{borrow::Cow, fmt, str::FromStr};

use serde_json::Value;

use super::AccessDenied;
use crate::topic::{NAME_BYTES_MAX, Pattern, Topic};

/// Claims that hold several values in one text, with blanks between them (RFC 8693 section 4.2; `scp` at Entra).
const LISTS_IN_TEXT: [&str; 2] = ["scope", "scp"];

/// One `[[auth.rule]]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimRule {
    /// The path of the claim, with dots between the names of members. Names may have dots themselves.
    pub claim: String,
    /// The value that the claim must have, or must have among others. Empty: any but null, false and nothing.
    pub value: String,
    /// The role of whoever has it. Empty: none.
    pub role: String,
    /// The topics to subscribe to.
    pub subscribe: Vec<PatternTemplate>,
    /// The topics to publish to.
    pub publish: Vec<PatternTemplate>,
}

/// A pattern of topics with claims in it, such as `users.{sub}.**`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternTemplate {
    text: String,
    /// The claims in it, each once.
    claims: Vec<String>,
}

/// What the rules give a token.
#[derive(Debug, Default)]
pub(super) struct Mapped {
    /// By the first rule that gives one.
    pub(super) role: Option<Box<str>>,
    pub(super) subscribe: Vec<Pattern>,
    pub(super) publish: Vec<Pattern>,
    /// The rules that hold, by number, from 1.
    pub(super) rules: Vec<u32>,
}

/// Why a rule does not hold for a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// The token does not have the claim.
    Missing,
    /// The claim has other values. They are not shown: there may be many.
    OtherValue,
}

/// Why a pattern gives a token no right.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfilled {
    /// The token does not have this claim, or no text in it.
    Missing(String),
    /// The claim, and a value of it that is no plain segment.
    NoSegment(String, String),
    /// Two claims that each have several values: which of them belong together is not known.
    TwoLists(String, String),
    /// The name would be longer than a topic's name may be.
    TooLong,
}

/// What `rules` give a token with `claims` (a JSON object). Fails if that is more than `patterns_max` patterns.
pub(super) fn map(rules: &[ClaimRule], claims: &str, patterns_max: usize) -> Result<Mapped, AccessDenied> {
    let claims: Value = serde_json::from_str(claims).map_err(|_| AccessDenied::Invalid)?;
    let mut mapped = Mapped::default();
    for (number, rule) in (1..).zip(rules).filter(|(_, rule)| rule.check(&claims).is_ok()) {
        mapped.rules.push(number);
        if mapped.role.is_none() && !rule.role.is_empty() {
            mapped.role = Some(rule.role.as_str().into());
        }
        for (patterns, templates) in [(&mut mapped.subscribe, &rule.subscribe), (&mut mapped.publish, &rule.publish)] {
            for template in templates {
                patterns.extend(template.fill(&claims).unwrap_or_default());
                if patterns_max < patterns.len() {
                    return Err(AccessDenied::Invalid);
                }
            }
        }
    }
    match mapped.subscribe.len() + mapped.publish.len() <= patterns_max {
        true => Ok(mapped),
        false => Err(AccessDenied::Invalid),
    }
}

impl ClaimRule {
    /// Whether it holds for a token with `claims`.
    pub(super) fn check(&self, claims: &Value) -> Result<(), Mismatch> {
        let claim = find(claims, &self.claim).ok_or(Mismatch::Missing)?;
        let is_met = match self.value.as_str() {
            "" => says_something(claim),
            value => texts(claim, &self.claim).any(|text| text == value),
        };
        if is_met { Ok(()) } else { Err(Mismatch::OtherValue) }
    }
}

impl PatternTemplate {
    /// The patterns for a token with `claims`: several if a claim in it has several values.
    pub(super) fn fill(&self, claims: &Value) -> Result<Vec<Pattern>, Unfilled> {
        let mut filled = vec![self.text.clone()];
        let mut list: Option<&String> = None;
        for name in &self.claims {
            let values = segments(claims, name)?;
            if 1 < values.len()
                && let Some(other) = list.replace(name)
            {
                return Err(Unfilled::TwoLists(other.clone(), name.clone()));
            }
            let placeholder = format!("{{{name}}}");
            let fill = |text: &String| values.iter().map(|value| text.replace(&placeholder, value)).collect::<Vec<_>>();
            filled = filled.iter().flat_map(fill).collect();
        }
        // The shortest name under a pattern is a byte shorter than one that ends with `**`.
        let fits = |text: &&String| text.len() <= NAME_BYTES_MAX + 1;
        filled
            .iter()
            .map(|text| Some(text).filter(fits).and_then(|text| Pattern::parse(text).ok()).ok_or(Unfilled::TooLong))
            .collect()
    }
}

impl FromStr for PatternTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut claims: Vec<String> = Vec::new();
        let mut sample = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').unwrap_or_default();
            if name.is_empty() || name.contains('{') {
                return Err(format!("in `{text}`, write the name of a claim between {{ and }}, such as {{sub}}"));
            }
            if !claims.iter().any(|known| known == name) {
                claims.push(name.to_owned());
            }
            sample.push_str(before);
            sample.push('x');
            rest = after;
        }
        sample.push_str(rest);
        Pattern::parse(&sample).map_err(|wrong| match claims.is_empty() {
            true => wrong,
            false => format!("`{text}`: with `x` for each claim: {wrong}"),
        })?;
        Ok(Self { text: text.to_owned(), claims })
    }
}

impl fmt::Display for PatternTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The member of `claims` at `path`. Names may have dots: of the members that fit, the one with the longest name counts.
pub(super) fn find<'c>(claims: &'c Value, path: &str) -> Option<&'c Value> {
    let members = claims.as_object()?;
    let deeper = || path.rmatch_indices('.').find_map(|(at, _)| find(members.get(&path[..at])?, &path[at + 1..]));
    members.get(path).or_else(deeper)
}

fn says_something(claim: &Value) -> bool {
    match claim {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// The values of the claim at `path`: a text, number or flag, or those in a list.
fn texts<'c>(claim: &'c Value, path: &str) -> Box<dyn Iterator<Item = Cow<'c, str>> + 'c> {
    let name = path.rsplit('.').next().unwrap_or(path);
    match claim {
        // No other text is split: a name that people choose might have a role in it.
        Value::String(text) if LISTS_IN_TEXT.contains(&name) => Box::new(text.split_ascii_whitespace().map(Cow::from)),
        Value::Array(items) => Box::new(items.iter().filter_map(scalar)),
        single => Box::new(scalar(single).into_iter()),
    }
}

fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(flag) => Some(flag.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The values of the claim `name` that are plain segments of a topic's name, at least one.
fn segments<'c>(claims: &'c Value, name: &str) -> Result<Vec<Cow<'c, str>>, Unfilled> {
    let missing = || Unfilled::Missing(name.to_owned());
    let claim = find(claims, name).ok_or_else(missing)?;
    let (good, bad): (Vec<_>, Vec<_>) = texts(claim, name).partition(|text| is_segment(text));
    match bad.into_iter().next() {
        Some(bad) if good.is_empty() => Err(Unfilled::NoSegment(name.to_owned(), bad.into_owned())),
        None if good.is_empty() => Err(missing()),
        _ => Ok(good),
    }
}

fn is_segment(text: &str) -> bool {
    !text.contains('.') && Topic::parse(text).is_ok()
}
