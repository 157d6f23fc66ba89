//! The operations of both services and the constraints of their members, from botocore's service model. `.ci/ecr-model` writes
//! `model.json`.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use regex_lite::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::exception::Exception;

/// A service: its operations and the shapes of their members, by name.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Service {
    pub(super) operations: BTreeMap<String, Operation>,
    pub(super) shapes: BTreeMap<String, Shape>,
}

/// An operation: the shapes of its request and its response, and its exceptions.
#[derive(Debug, Deserialize)]
pub(super) struct Operation {
    pub(super) input: String,
    #[cfg(test)]
    pub(super) output: String,
    #[cfg(test)]
    pub(super) errors: Vec<String>,
}

/// A type with its constraints.
#[derive(Debug, Deserialize)]
pub(super) struct Shape {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    members: BTreeMap<String, String>,
    member: Option<String>,
    #[serde(default, rename = "enum")]
    allowed: Vec<String>,
    min: Option<u64>,
    max: Option<u64>,
    pattern: Option<String>,
    #[serde(skip)]
    regex: OnceLock<Option<Regex>>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Structure,
    List,
    Map,
    String,
    Blob,
    Integer,
    Long,
    Double,
    Timestamp,
    Boolean,
}

/// Returns the model of a service: `ecr` or `ecr-public`.
pub(super) fn service(name: &str) -> &'static Service {
    static SERVICES: LazyLock<BTreeMap<String, Service>> =
        LazyLock::new(|| serde_json::from_str(include_str!("model.json")).expect("a test reads the same text"));
    &SERVICES[name]
}

impl Service {
    /// Checks a value, which `at` names, against a shape. As the service does, ignores unknown members and takes `null` for a
    /// member that is not set.
    pub(super) fn check(&self, shape: &str, at: &str, value: &Value) -> Result<(), Exception> {
        let shape = &self.shapes[shape];
        shape.check_type(value)?;
        shape.check_constraints(at, value)?;
        let below = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
        if let Some(missing) = shape.required.iter().find(|name| value[name.as_str()].is_null()) {
            return Err(Exception::parameter(&below(missing), "Member must not be null"));
        }
        for (name, member) in shape.members.iter().filter(|(name, _)| !value[name.as_str()].is_null()) {
            self.check(member, &below(name), &value[name.as_str()])?;
        }
        let Some(member) = &shape.member else { return Ok(()) };
        // `tags.2.member.key`: the second one, as the service counts.
        let mut items = value.as_array().into_iter().flatten().zip(1..);
        items.try_for_each(|(item, count)| self.check(member, &below(&format!("{count}.member")), item))?;
        let mut entries = value.as_object().into_iter().flatten().filter(|_| shape.kind == Kind::Map);
        entries.try_for_each(|(key, entry)| self.check(member, &below(&format!("{key}.value")), entry))
    }
}

#[cfg(test)]
impl Service {
    /// Asserts that a response has the types, the values and only the members that the model has.
    pub(super) fn assert_modelled(&self, shape: &str, value: &Value) {
        let Shape { kind, members, member, allowed, .. } = &self.shapes[shape];
        assert_eq!(self.shapes[shape].check_type(value), Ok(()), "{shape}: {value}");
        assert!(allowed.is_empty() || allowed.iter().any(|it| *value == **it), "{shape}: {value}");
        for (name, value) in value.as_object().into_iter().flatten() {
            let member = members.get(name).or_else(|| member.as_ref().filter(|_| *kind == Kind::Map));
            self.assert_modelled(member.unwrap_or_else(|| panic!("{shape} has no {name}")), value);
        }
        for (item, member) in value.as_array().into_iter().flatten().zip(member.iter().cycle()) {
            self.assert_modelled(member, item);
        }
    }
}

impl Shape {
    /// <https://github.com/aws/aws-cdk/pull/27087>, <https://github.com/aarondfrancis/sidecar/issues/148>
    fn check_type(&self, value: &Value) -> Result<(), Exception> {
        let is_right = match self.kind {
            Kind::Structure | Kind::Map => value.is_object(),
            Kind::List => value.is_array(),
            Kind::String | Kind::Blob => value.is_string(),
            Kind::Integer | Kind::Long => value.is_i64() || value.is_u64(),
            Kind::Double | Kind::Timestamp => value.is_number(),
            Kind::Boolean => value.is_boolean(),
        };
        if is_right {
            return Ok(());
        }
        let found = match value {
            Value::Object(_) => "Start of structure or map found where not expected.".to_owned(),
            Value::Array(_) => "Start of list found where not expected".to_owned(),
            Value::Null => "Unexpected null".to_owned(),
            Value::String(_) => format!("STRING_VALUE can not be converted to {}", self.kind.name()),
            Value::Number(_) => format!("NUMBER_VALUE can not be converted to {}", self.kind.name()),
            Value::Bool(bool) => format!("{bool}_VALUE can not be converted to {}", self.kind.name()).to_uppercase(),
        };
        Err(Exception::new("SerializationException", found))
    }

    /// The messages are those that were seen for a length, a set of values and a pattern
    /// (<https://github.com/google/go-containerregistry/issues/681>, <https://github.com/aws/aws-cdk/issues/3550>).
    fn check_constraints(&self, at: &str, value: &Value) -> Result<(), Exception> {
        let (what, size) = match value {
            // The limits of bytes are those of the decoded ones, which the handler that decodes them counts.
            Value::String(text) if self.kind == Kind::String => ("length", text.chars().count() as u64),
            Value::Array(items) => ("length", items.len() as u64),
            // Below zero is below every least value.
            Value::Number(number) => ("value", number.as_u64().unwrap_or_default()),
            _ => return Ok(()),
        };
        let is_negative = value.as_i64().is_some_and(|number| number < 0);
        if let Some(max) = self.max.filter(|max| size > *max) {
            return Err(Exception::parameter(at, &format!("Member must have {what} less than or equal to {max}")));
        }
        if let Some(min) = self.min.filter(|min| size < *min || is_negative) {
            return Err(Exception::parameter(at, &format!("Member must have {what} greater than or equal to {min}")));
        }
        let Some(text) = value.as_str() else { return Ok(()) };
        if !self.allowed.is_empty() && !self.allowed.iter().any(|allowed| allowed == text) {
            let allowed = self.allowed.join(", ");
            return Err(Exception::parameter(at, &format!("Member must satisfy enum value set: [{allowed}]")));
        }
        let Some(pattern) = &self.pattern else { return Ok(()) };
        // ECR's own messages have it without the backslash.
        let pattern = pattern.replace(r"\/", "/");
        let regex = self.regex.get_or_init(|| Regex::new(&format!("^(?:{pattern})$")).ok());
        if regex.as_ref().is_some_and(|regex| !regex.is_match(text)) {
            return Err(Exception::parameter(at, &format!("must satisfy regular expression '{pattern}'")));
        }
        Ok(())
    }
}

impl Kind {
    /// Returns the name of the Java type with its article.
    fn name(self) -> String {
        match self {
            Self::Structure => "a Map".to_owned(),
            Self::Integer => "an Integer".to_owned(),
            other => format!("a {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_whole() {
        for name in ["ecr", "ecr-public"] {
            let service = service(name);
            assert!(service.operations.len() > 20, "{name}");
            for operation in service.operations.values() {
                assert!(
                    service.shapes.contains_key(&operation.input) && service.shapes.contains_key(&operation.output)
                );
            }
            for (name, shape) in &service.shapes {
                let mut used = shape.members.values().chain(&shape.member);
                assert!(used.all(|used| service.shapes.contains_key(used)), "{name}");
                let regex = shape.pattern.as_ref().map(|pattern| Regex::new(&pattern.replace(r"\/", "/")));
                assert!(regex.is_none_or(|regex| regex.is_ok()), "{name}");
            }
        }
    }
}
