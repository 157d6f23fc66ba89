//! Challenges of a registry: `WWW-Authenticate` (RFC 9110, 11.6.1), in one header or several.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One authentication scheme that a registry accepts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Challenge {
    /// The scheme in lower case: `basic`, `bearer`, or an unsupported one.
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Parses all challenges of a response. Ignores invalid ones.
    pub(super) fn all(headers: &HeaderMap) -> Vec<Self> {
        let lines = headers.get_all(WWW_AUTHENTICATE);
        let texts = lines.iter().map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned());
        texts.flat_map(|text| Self::parse(&text)).collect()
    }

    /// Parses a list of challenges. Commas separate both challenges and parameters: a word followed by `=` is a parameter, any
    /// other one starts a challenge.
    pub(crate) fn parse(text: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        let mut rest = text.trim_start_matches(is_separator);
        while !rest.is_empty() {
            let end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let Some(value) = after.trim_start().strip_prefix('=').filter(|_| !word.is_empty()) else {
                if !word.is_empty() {
                    challenges.push(Self { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                }
                // An unexpected character.
                let mut skipped = after.chars();
                if word.is_empty() {
                    skipped.next();
                }
                rest = skipped.as_str().trim_start_matches(is_separator);
                continue;
            };
            let (value, after) = read_value(value.trim_start());
            if let Some(challenge) = challenges.last_mut() {
                challenge.parameters.push((word.to_ascii_lowercase(), value));
            }
            rest = after.trim_start_matches(is_separator);
        }
        challenges
    }

    /// Returns a parameter that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// Parses a value, quoted or not, and returns it with the rest of the text.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(is_separator).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    (value, chars.as_str())
}

fn is_separator(c: char) -> bool {
    c == ',' || c.is_ascii_whitespace()
}

/// Returns whether a character may be part of a token (RFC 9110, 5.6.2).
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn parsed(lines: &[&str]) -> Vec<(String, Vec<(String, String)>)> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        Challenge::all(&headers).into_iter().map(|it| (it.scheme, it.parameters)).collect()
    }

    fn one(scheme: &str, parameters: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
        (scheme.into(), parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn challenges_of_registries_are_parsed() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let of_hub = one(
            "bearer",
            &[
                ("realm", "https://auth.docker.io/token"),
                ("service", "registry.docker.io"),
                ("scope", "repository:a/b:pull,push"),
            ],
        );
        assert_eq!(parsed(&[hub])[0], of_hub);
        assert_eq!(parsed(&["Negotiate", hub]), [one("negotiate", &[]), of_hub.clone()]);
        assert_eq!(parsed(&[&format!("Basic realm=x, {hub}")]), [one("basic", &[("realm", "x")]), of_hub]);
        let several = r#"Digest realm="a, b", qop="auth", Basic realm="c \"d\"" , , NTLM abc==, bearer Realm = "e""#;
        let expected = [
            one("digest", &[("realm", "a, b"), ("qop", "auth")]),
            one("basic", &[("realm", "c \"d\"")]),
            // A token68, not a parameter; no scheme that is supported uses it.
            one("ntlm", &[("abc", "=")]),
        ];
        let all = parsed(&[several]);
        assert_eq!(all[..3], expected);
        assert_eq!(all.last(), Some(&one("bearer", &[("realm", "e")])));
    }

    #[test]
    fn invalid_challenges_are_ignored() {
        for text in [
            "", ",", "=", "\"", "Bearer", "Bearer realm", "Bearer realm=", "Bearer realm=\"", "Bearer =\"x\"", "\\",
            "ä=ö",
        ] {
            let _any_result = parsed(&[text]);
        }
        assert_eq!(parsed(&["Bearer realm=\"open"]), [one("bearer", &[("realm", "open")])]);
        assert_eq!(parsed(&["realm=\"of no scheme\""]), []);
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"\""));
        assert_eq!(Challenge::all(&headers)[0].get("realm"), None);
    }
}
