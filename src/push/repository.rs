//! The repository of a target: looked for, and created where that is wanted.

use super::destination::Destination;
use super::held::{in_time, said};
use super::policies::{Policies, Policy};
use super::{Event, Events, Request};
use crate::ecr::{Ecr, NewRepository, RepositoryLocation, RepositoryState, Template};
use crate::error::{Code, Error, Kind, Result};

impl Destination {
    /// Sees to it that the repository is there, which the look at the tags may have told.
    ///
    /// A repository that was created, but not set up as was wanted, is no target any more: that is not an error of this, but
    /// the target's failure.
    pub(super) async fn ensure_repository(
        &mut self,
        exists: Option<bool>,
        request: &Request,
        policies: &Policies,
        events: &Events,
    ) -> Result<()> {
        let is_told_how = request.new_repository != NewRepository::default() || !policies.is_empty();
        if let Some(public) = self.public.clone() {
            if is_told_how {
                let text =
                    "ECR Public's repositories have no such settings: what was said of a new one is for private ones";
                events(Event::Note(text.into()));
            }
            return self.ensure_public(&public, exists, request, events).await;
        }
        let Some((ecr, place)) = self.ecr.clone() else {
            return self.ensure_by_login(exists, request, events).await;
        };
        let (account, name) = (&place.host.account, &place.repository);
        let exists = match exists {
            Some(exists) => Some(exists),
            None => self.find_repository().await?,
        };
        let stays = |since: &str| {
            if is_told_how {
                let name = self.name();
                let text = format!("the repository {name} exists{since}: what was said of a new one changes nothing");
                events(Event::Note(text));
            }
        };
        match exists {
            Some(true) => stays(""),
            Some(false) if request.create_repository && request.dry_run => {
                events(Event::Note(format!("the repository {} does not exist and would be created", self.name())));
                self.only_planned = true;
            }
            // Where we may not look we try, and that it is there already is as good.
            looked @ (Some(false) | None) if request.create_repository && !request.dry_run => {
                match ecr.create_repository(account, name, &request.new_repository).await {
                    Ok(true) => {
                        events(Event::Note(format!("created the repository {}", self.name())));
                        self.was_created();
                        self.put_policies(&ecr, &place, policies).await.unwrap_or_else(|error| self.fail(error));
                    }
                    Ok(false) if looked.is_none() => stays(""),
                    // Or it was us, and the answer to the first try got lost.
                    Ok(false) => stays(" since somebody created it meanwhile"),
                    Err(error) if looked.is_none() && error.kind() == Kind::Permission => {
                        events(Event::Note(format!(
                            "whether the repository {name} exists was not checked, and it cannot be created: \
                             neither ecr:DescribeRepositories nor ecr:CreateRepository is allowed"
                        )));
                        self.creation_denied = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            Some(false) => {
                let (name, host, hint) = (name.clone(), self.host.clone(), self.creation());
                let absent = || {
                    Error::new(Kind::Refused, format!("the repository {name} does not exist in {host}"))
                        .code(Code::RepositoryNotFound)
                        .hint(format!("Add --create-repository, or create it first:\n  {hint}"))
                };
                let template = in_time(ecr.template(account, &name)).await.map_err(|error| said(&error));
                self.have_it_created(template, &absent, request, events).await?;
            }
            None => events(Event::Note(format!(
                "whether the repository {name} exists was not checked: ecr:DescribeRepositories is not allowed"
            ))),
        }
        Ok(())
    }

    /// Whether the repository exists. `None` if we may not know.
    async fn find_repository(&mut self) -> Result<Option<bool>> {
        let Some((ecr, place)) = &self.ecr else { return Ok(None) };
        Ok(match ecr.find_repository(&place.host.account, &place.repository).await? {
            RepositoryState::Exists(mutability) => {
                self.mutability = Some(Some(mutability));
                Some(true)
            }
            RepositoryState::Missing => Some(false),
            RepositoryState::AccessDenied => {
                self.mutability = Some(None);
                None
            }
        })
    }

    /// Has a registry create the repository that creates those that are pushed to, by a template.
    ///
    /// One request does it before all others: what becomes of several at once is not documented.
    pub(super) async fn have_it_created(
        &mut self,
        template: Result<Template, String>,
        absent: &(dyn Fn() -> Error + Sync),
        request: &Request,
        events: &Events,
    ) -> Result<()> {
        let unknown = match template {
            Ok(Template::None) => return Err(absent()),
            Ok(Template::Of(prefix)) => {
                let text = format!(
                    "the repository {} does not exist: the registry's template {prefix} creates it",
                    self.name()
                );
                events(Event::Note(text));
                None
            }
            Ok(Template::Unknown(why)) => Some(why.to_owned()),
            Err(why) => Some(why),
        };
        if let Some(why) = &unknown {
            events(Event::Note(format!("whether a creation template is for {} was not checked: {why}", self.name())));
        }
        if request.dry_run {
            self.only_planned = true;
            return Ok(());
        }
        match unknown {
            None => self.client.check_upload().await?,
            Some(_) => in_time(self.client.check_upload()).await.map_err(|error| match error.kind() {
                Kind::Permission | Kind::Interrupted => error,
                _ => absent().because(said(&error)),
            })?,
        }
        events(Event::Note(format!("the registry created the repository {}", self.name())));
        self.was_created();
        Ok(())
    }

    /// Gives the repository that was just created its policies.
    async fn put_policies(&self, ecr: &Ecr, place: &RepositoryLocation, policies: &Policies) -> Result<()> {
        let (account, name) = (&place.host.account, &place.repository);
        let mut failed: Option<(&str, Error)> = None;
        let mut commands = Vec::new();
        if let Some(policy @ Policy { text, .. }) = &policies.lifecycle
            && let Err(error) = ecr.put_lifecycle_policy(account, name, text).await
        {
            failed.get_or_insert(("lifecycle policy", error));
            commands.push(command(ecr, place, policy, "put-lifecycle-policy", "--lifecycle-policy-text"));
        }
        if let Some(policy @ Policy { text, .. }) = &policies.repository
            && let Err(error) = ecr.set_repository_policy(account, name, text).await
        {
            failed.get_or_insert(("repository policy", error));
            commands.push(command(ecr, place, policy, "set-repository-policy", "--policy-text"));
        }
        let Some((which, error)) = failed else { return Ok(()) };
        let what =
            format!("the repository {} was created, and stands without its {which}; nothing was pushed", self.name());
        let error = self.advise(error);
        let finish = format!("Finish with this, then push again:\n  {}", commands.join(" && "));
        let hint = error.advice().map_or_else(|| finish.clone(), |advice| format!("{advice}\n  {finish}"));
        let about = Error::new(error.kind(), what);
        Err(match error.service_error() {
            Some(answer) => about.with_service_error(answer.clone()),
            None => about.because(error),
        }
        .hint(hint))
    }
}

/// What a person types to do it.
fn command(ecr: &Ecr, place: &RepositoryLocation, policy: &Policy, verb: &str, option: &str) -> String {
    let (account, name, region) = (&place.host.account, &place.repository, ecr.region());
    let file = format!("file://{}", policy.path.display());
    let file = if file.contains(char::is_whitespace) { format!("{file:?}") } else { file };
    format!("aws ecr {verb} --registry-id {account} --repository-name {name} --region {region} {option} {file}")
}
