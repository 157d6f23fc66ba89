//! The proxy of an Azure Pipelines agent, which its tasks use and scripts do not
//! (<https://learn.microsoft.com/azure/devops/pipelines/agents/proxy>).

use std::sync::Arc;

use regex_lite::{Regex, RegexBuilder};
use reqwest::Url;

use super::{Setting, proxy_url};

/// The variable with the URL of the proxy.
const URL: &str = "AGENT_PROXYURL";

/// Regular expressions for URLs that are reached without a proxy.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns(Arc<[Regex]>);

impl Patterns {
    /// Returns whether one of them matches scheme, host and port of the URL.
    pub(super) fn matches(&self, url: &Url) -> bool {
        let origin = format!("{}/", url.origin().ascii_serialization());
        self.0.iter().any(|pattern| pattern.is_match(&origin))
    }
}

/// Returns the agent's proxy. Its login is in separate variables. The password is a secret: a step has to map it, and a task
/// gets it under another name.
pub(super) fn setting(environment: &dyn Fn(&str) -> Option<String>) -> Option<Setting> {
    // The agent leaves `$(NAME)` in the step's environment if the variable NAME is not defined.
    let text = |name| environment(name).filter(|value| !value.trim().is_empty() && !value.starts_with("$("));
    let mut url = proxy_url(text(URL)?.trim());
    if let (Some(url), Some(user)) = (&mut url, text("AGENT_PROXYUSERNAME")) {
        // Neither fails for the URL of a host.
        let _has_user = url.set_username(&user);
        let password = text("AGENT_PROXYPASSWORD").or_else(|| text("SECRET_AGENT_PROXYPASSWORD"));
        let _has_password = url.set_password(password.as_deref());
    }
    Some(Setting { variable: URL, url, except: Patterns(patterns(environment).0.into()) })
}

/// Returns the expressions in the list of exceptions that are invalid, for messages.
pub(crate) fn invalid_bypass_patterns(environment: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    patterns(environment).1
}

/// Parses the list of exceptions into valid and invalid expressions. It is a JSON array; the agent ignores case.
fn patterns(environment: &dyn Fn(&str) -> Option<String>) -> (Vec<Regex>, Vec<String>) {
    let list = environment("AGENT_PROXYBYPASSLIST").filter(|list| !list.trim().is_empty() && !list.starts_with("$("));
    let Some(list) = list else { return Default::default() };
    let Ok(expressions) = serde_json::from_str::<Vec<String>>(&list) else { return (Vec::new(), vec![list]) };
    let (mut valid, mut invalid) = (Vec::new(), Vec::new());
    for expression in expressions {
        match RegexBuilder::new(&expression).case_insensitive(true).build() {
            Ok(pattern) => valid.push(pattern),
            Err(_) => invalid.push(expression),
        }
    }
    (valid, invalid)
}

#[cfg(test)]
mod tests {
    use super::super::Proxies;
    use super::*;

    fn to(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let environment =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Proxies::of(&environment).to(&Url::parse(url).unwrap()).unwrap().map(Url::to_string)
    }

    #[test]
    fn the_agent_s_proxy_is_used_unless_another_is_set() {
        let agent = ("AGENT_PROXYURL", "http://agent.example:3128");
        let url = "https://api.ecr.eu-west-1.amazonaws.com/";
        assert_eq!(to(&[agent], url).as_deref(), Some("http://agent.example:3128/"));
        assert_eq!(
            to(&[agent, ("HTTPS_PROXY", "http://own.example:1")], url).as_deref(),
            Some("http://own.example:1/")
        );
        // The task AWSShellScript sets HTTP_PROXY alone for a proxy with an http URL.
        assert!(to(&[agent, ("HTTP_PROXY", "http://agent.example:3128")], url).is_some());
        assert_eq!(to(&[agent, ("NO_PROXY", "amazonaws.com")], url), None);
        assert_eq!(to(&[("AGENT_PROXYURL", "$(Agent.ProxyUrl)")], url), None);
    }

    #[test]
    fn the_login_of_the_agent_s_proxy_is_in_separate_variables() {
        let agent = ("AGENT_PROXYURL", "http://agent.example:3128");
        let (user, password) = (("AGENT_PROXYUSERNAME", r"corp\me"), ("AGENT_PROXYPASSWORD", "p@ss:word"));
        let url = "https://a.example/";
        let with_login = to(&[agent, user, password], url);
        assert_eq!(with_login.as_deref(), Some("http://corp%5Cme:p%40ss%3Aword@agent.example:3128/"));
        let of_a_task = [agent, user, ("SECRET_AGENT_PROXYPASSWORD", "p@ss:word")];
        assert_eq!(to(&of_a_task, url), with_login);
        let unmapped = ("AGENT_PROXYPASSWORD", "$(Agent.ProxyPassword)");
        assert_eq!(to(&[agent, user, unmapped], url).as_deref(), Some("http://corp%5Cme@agent.example:3128/"));
    }

    #[test]
    fn the_agent_s_exceptions_are_regular_expressions() {
        let agent = ("AGENT_PROXYURL", "http://agent.example:3128");
        let list = ("AGENT_PROXYBYPASSLIST", r#"["registry\\.corp\\.example", "^http://10\\.", "("]"#);
        for (url, is_direct) in [
            ("https://Registry.corp.example:5000/v2/", true),
            ("https://a.example/registry.corp.example", false),
            ("http://10.0.0.1/", true),
            ("https://10.0.0.1/", false),
        ] {
            assert_eq!(to(&[agent, list], url).is_none(), is_direct, "{url}");
            // They apply to the agent's proxy only.
            assert!(to(&[("HTTPS_PROXY", "http://p:1"), ("HTTP_PROXY", "http://p:1"), list], url).is_some());
        }
        assert_eq!(invalid_bypass_patterns(&|_| Some(list.1.to_owned())), ["("]);
        assert_eq!(invalid_bypass_patterns(&|_| Some("a.example".to_owned())), ["a.example"]);
        assert_eq!(invalid_bypass_patterns(&|_| None), [""; 0]);
    }
}
