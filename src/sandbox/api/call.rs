//! One call of an operation, and one page of its results.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::exception::{Exception, Outcome};
use crate::oci::Repository;
use crate::sandbox::exchange::Exchange;
use crate::sandbox::refusal::absent_message;
use crate::sandbox::repository::Repo;
use crate::sandbox::server::Registry;

/// A call: its members are of the types and within the limits of the model.
pub(super) struct Call<'a> {
    pub(super) registry: &'a Registry,
    pub(super) exchange: &'a Exchange,
    pub(super) input: Value,
}

impl Call<'_> {
    /// Returns a member that is text.
    pub(super) fn text(&self, member: &str) -> Option<&str> {
        self.input[member].as_str()
    }

    /// Returns a member that is required.
    pub(super) fn required(&self, member: &str) -> &str {
        self.text(member).unwrap_or_default()
    }

    pub(super) fn member<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, Exception> {
        member(&self.input, name)
    }

    /// Returns the repository that the call is about, in the registry that is the caller's.
    pub(super) fn name(&self) -> Result<Repository, Exception> {
        self.parse(self.required("repositoryName"))
    }

    pub(super) fn parse(&self, name: &str) -> Result<Repository, Exception> {
        let account = self.text("registryId").unwrap_or(&self.registry.account);
        let absent = || Exception::new("RepositoryNotFoundException", absent_message(name, account));
        name.parse().ok().filter(|_| account == self.registry.account).ok_or_else(absent)
    }

    /// Returns the repository whose ARN the call has.
    pub(super) fn resource(&self) -> Result<Repository, Exception> {
        let arn = self.required("resourceArn");
        let name = arn.split_once(":repository/").filter(|_| arn.starts_with("arn:")).map(|(_, name)| name);
        let name = name.and_then(|name| name.parse().ok());
        name.ok_or_else(|| Exception::parameter("resourceArn", "Invalid ARN"))
    }

    /// Reads a repository.
    pub(super) fn look<T>(&self, name: &Repository, look: impl FnOnce(&Repo) -> T) -> Result<T, Exception> {
        self.registry.store.look(name, look).ok_or_else(|| Exception::absent(name.as_str(), self.registry))
    }

    /// Changes a repository.
    pub(super) fn change<T>(&self, name: &Repository, change: impl FnOnce(&mut Repo) -> T) -> Result<T, Exception> {
        let changed = self.registry.store.change(name, change);
        Ok(changed.ok_or_else(|| Exception::absent(name.as_str(), self.registry))??)
    }

    /// Returns the members that most responses begin with, and others.
    pub(super) fn about(&self, name: &Repository, others: Value) -> Value {
        with(json!({"registryId": self.registry.account, "repositoryName": name}), others)
    }

    /// Returns one page of results.
    pub(super) fn page(&self, member: &str, results: Vec<Value>) -> Outcome {
        let wanted = self.input["maxResults"].as_u64().map_or(100, |wanted| usize::try_from(wanted).unwrap_or(100));
        let length = self.registry.rules(|rules| rules.page).map_or(wanted, |most| wanted.min(most));
        let start = match self.text("nextToken") {
            None => 0,
            Some(token) => token
                .strip_prefix("page-")
                .and_then(|start| start.parse::<usize>().ok())
                .ok_or_else(|| Exception::parameter("nextToken", "must be a token from an earlier answer"))?,
        };
        let end = start.saturating_add(length);
        let more = results.len() > end;
        let mut answer = json!({});
        answer[member] = results.into_iter().skip(start).take(length).collect();
        if more {
            answer["nextToken"] = json!(format!("page-{end}"));
        }
        Ok(answer)
    }
}

/// Reads a member of a request, or takes its default.
pub(super) fn member<T: DeserializeOwned + Default>(input: &Value, name: &str) -> Result<T, Exception> {
    let value = input.get(name).filter(|value| !value.is_null());
    let read = value.map(T::deserialize).transpose();
    Ok(read.map_err(|error| Exception::new("SerializationException", error.to_string()))?.unwrap_or_default())
}

/// Adds the members of the second object to the first.
pub(super) fn with(mut object: Value, others: Value) -> Value {
    if let (Value::Object(object), Value::Object(others)) = (&mut object, others) {
        object.extend(others);
    }
    object
}

/// Removes members without a value, which a response does not have.
pub(super) fn present(mut object: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.retain(|_, value| !value.is_null());
    }
    object
}
