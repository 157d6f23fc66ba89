//! One call of an operation, and one page of its results.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::exception::{Exception, Outcome};
use crate::oci::Repository;
use crate::sandbox::exchange::Exchange;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::repository::Repo;
use crate::sandbox::server::Registry;

/// A call: its members are of the types and within the limits of the model.
pub(super) struct Call<'a> {
    pub(super) registry: &'a Registry,
    pub(super) exchange: &'a Exchange,
    pub(super) input: Value,
}

/// What an operation does.
pub(super) type Handler = fn(&Call<'_>) -> Outcome;

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
        let known = name.parse().ok().filter(|_| account == self.registry.account);
        Ok(known.ok_or_else(|| Refusal::absent(name, account))?)
    }

    /// Returns the repository of the registry whose ARN the call has.
    pub(super) fn resource(&self) -> Result<Repository, Exception> {
        let arn = self.required("resourceArn");
        let name: Option<Repository> = arn.split_once(":repository/").and_then(|(_, name)| name.parse().ok());
        let own = name.filter(|name| self.registry.arn(name) == arn);
        own.ok_or_else(|| Exception::parameter("resourceArn", "Invalid ARN"))
    }

    /// Reads a repository.
    pub(super) fn look<T>(&self, name: &Repository, look: impl FnOnce(&Repo) -> T) -> Result<T, Exception> {
        Ok(self.registry.look(name, look)?)
    }

    /// Changes a repository.
    pub(super) fn change<T>(&self, name: &Repository, change: impl FnOnce(&mut Repo) -> T) -> Result<T, Exception> {
        Ok(self.registry.change(name, change)?)
    }

    /// Returns the repository with its registry as messages name it.
    pub(super) fn place(&self, name: &Repository) -> String {
        format!("the repository with name '{name}' in the registry with id '{}'", self.registry.account)
    }

    /// Returns the members that most responses begin with, and others.
    pub(super) fn about(&self, name: &Repository, others: Value) -> Value {
        with(json!({"registryId": self.registry.account, "repositoryName": name}), others)
    }

    /// Returns one page of results, in the order of their keys if there are several pages.
    ///
    /// A token names the last result of its page, not a position: clients delete what they list, page by page.
    pub(super) fn page(&self, member: &str, key: fn(&Value) -> String, mut results: Vec<Value>) -> Outcome {
        let default = if member == "referrers" { 20 } else { 100 };
        let wanted =
            self.input["maxResults"].as_u64().map_or(default, |wanted| usize::try_from(wanted).unwrap_or(default));
        let length = self.registry.rules(|rules| rules.page).map_or(wanted, |most| wanted.min(most)).max(1);
        if results.len() > length || self.text("nextToken").is_some() {
            results.sort_by_cached_key(key);
        }
        if let Some(token) = self.text("nextToken") {
            let refuse = || Exception::parameter("nextToken", "must be a token from an earlier answer");
            let last = token.split_once('.').and_then(|(_, last)| URL_SAFE_NO_PAD.decode(last).ok());
            let last = last.and_then(|last| String::from_utf8(last).ok()).unwrap_or_default();
            if token != self.token(&last) {
                return Err(refuse());
            }
            results.retain(|result| key(result) > last);
        }
        let last = results.get(length - 1).filter(|_| results.len() > length);
        let next = last.map(|last| self.token(&key(last)));
        results.truncate(length);
        Ok(present(json!({member: results, "nextToken": next})))
    }

    /// Returns the token for what follows a result. No other request accepts it.
    fn token(&self, last: &str) -> String {
        let mut input = self.input.clone();
        for varies in ["maxResults", "nextToken"] {
            input.as_object_mut().and_then(|input| input.remove(varies));
        }
        let request = format!("{} {input} {last}", self.exchange.header("x-amz-target").unwrap_or_default());
        format!("{}.{}", self.registry.server.logins.sign(&request), URL_SAFE_NO_PAD.encode(last))
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
