//! The repository of a target: looked up, and created where that is wanted.

use super::lookup::{TagLookup, is_needed, look_up_tags};
use super::options::Reuse;
use super::policies::{Policies, Policy};
use super::record::Record;
use super::session::{TargetSession, creation_advice};
use super::tags::TagRule;
use super::time_limit::{described, in_time};
use crate::ecr::{Ecr, EcrPublic, NewRepository, RepositoryLocation, RepositoryState, Template};
use crate::error::{Code, Error, Kind, Result};

/// What is known of a target's repository.
#[derive(Debug, Default)]
struct TargetRepository {
    /// It does not exist yet, and this is only a plan.
    is_only_planned: bool,
    /// Whether its tags may move, if that was learned on the way.
    rule: TagRule,
}

/// Looks up the tags and the repository of a target, and creates the repository where that is wanted.
///
/// The lookup of the tags shows whether the repository exists. Without layer reuse the repository is looked up first.
///
/// # Errors
/// If the repository is missing and is not created, or if the tags have to be known and are not.
pub(super) async fn look_up(session: &TargetSession, record: &mut Record) -> Result<TagLookup> {
    let explain = |error| session.explain(error);
    let options = session.options();
    // A plan has to find out whether the registry answers, as the push would.
    let looks_first = options.layers.reuse == Reuse::Tag
        || session.ecr.is_none() && (options.dry_run || is_needed(session, &TagRule::NotAsked));
    let mut lookup = TagLookup::default();
    if looks_first {
        lookup = look_up_tags(session, TagRule::NotAsked).await.map_err(explain)?;
    }
    let mut state = ensure(session, lookup.repository_exists, record).await?;
    lookup.rule = std::mem::take(&mut state.rule);
    if !looks_first && is_needed(session, &lookup.rule) && !state.is_only_planned {
        lookup = look_up_tags(session, lookup.rule).await.map_err(explain)?;
    }
    lookup.is_only_planned = state.is_only_planned;
    record.would_create_repository = state.is_only_planned;
    Ok(lookup)
}

/// Makes sure that the repository exists, which the lookup of the tags may have shown.
async fn ensure(session: &TargetSession, exists: Option<bool>, record: &mut Record) -> Result<TargetRepository> {
    let (options, policies) = (session.options(), &session.run.policies);
    let has_settings = options.repositories.settings != NewRepository::default() || !policies.is_empty();
    let explain = |error| session.explain(error);
    if let Some(public) = &session.public {
        if has_settings {
            let text = "settings for new repositories are ignored: ECR Public has none";
            session.note(text.into());
        }
        return ensure_public(session, public, exists, record).await.map_err(explain);
    }
    match &session.ecr {
        Some((ecr, place)) => {
            let mut state = TargetRepository::default();
            let is_created = ensure_private(session, ecr, place, exists, has_settings, &mut state, record);
            if is_created.await.map_err(explain)? {
                put_policies(session, ecr, place, policies).await?;
            }
            Ok(state)
        }
        None => ensure_by_login(session, exists, record).await.map_err(explain),
    }
}

/// Makes sure that a private repository is there, and returns whether it was created by a call.
async fn ensure_private(
    session: &TargetSession,
    ecr: &Ecr,
    place: &RepositoryLocation,
    exists: Option<bool>,
    has_settings: bool,
    state: &mut TargetRepository,
    record: &mut Record,
) -> Result<bool> {
    let (options, name) = (session.options(), &place.repository);
    let exists = match exists {
        Some(exists) => Some(exists),
        None => match ecr.find_repository(place).await? {
            RepositoryState::Exists(mutability) => {
                state.rule = TagRule::Known(mutability);
                Some(true)
            }
            RepositoryState::Missing => Some(false),
            RepositoryState::AccessDenied => {
                state.rule = TagRule::Unknown;
                None
            }
        },
    };
    let unchanged = |since: &str| {
        if has_settings {
            let name = session.name();
            session.note(format!("the repository {name} exists{since}: settings for new repositories are ignored"));
        }
    };
    match exists {
        Some(true) => unchanged(""),
        Some(false) if options.repositories.create && options.dry_run => {
            session.note(format!("the repository {} does not exist and would be created", session.name()));
            state.is_only_planned = true;
        }
        // Where we may not look we try, and that it is there already is as good.
        looked @ (Some(false) | None) if options.repositories.create && !options.dry_run => {
            match ecr.create_repository(place, &options.repositories.settings).await {
                Ok(true) => {
                    was_created(session, record, "created the repository");
                    return Ok(true);
                }
                Ok(false) if looked.is_none() => unchanged(""),
                // Or it was us, and the answer to the first try got lost.
                Ok(false) => unchanged(": another client created it first"),
                Err(error) if looked.is_none() && error.kind() == Kind::Permission => {
                    session.note(format!(
                        "whether the repository {name} exists was not checked, and it cannot be created: neither \
                         ecr:DescribeRepositories nor ecr:CreateRepository is allowed"
                    ));
                    session.creation_denied.set(error).unwrap_or_default();
                }
                Err(error) => return Err(error),
            }
        }
        Some(false) => {
            let (host, command) = (&session.host, session.creation_command());
            let absent = || {
                Error::new(Kind::Refused, format!("the repository {name} does not exist in {host}"))
                    .code(Code::RepositoryNotFound)
                    .hint(creation_advice(command.clone()))
            };
            let template = in_time(ecr.template(place)).await.map_err(|error| described(&error));
            *state = create_by_template(session, template, &absent, record).await?;
        }
        None => session.note(format!(
            "whether the repository {name} exists was not checked: ecr:DescribeRepositories is not allowed"
        )),
    }
    Ok(false)
}

/// Has a registry create the repository that creates those that are pushed to, by a template.
///
/// One request does it before all others: what happens to several at once is not documented.
async fn create_by_template(
    session: &TargetSession,
    template: Result<Template, String>,
    absent: &(dyn Fn() -> Error + Sync),
    record: &mut Record,
) -> Result<TargetRepository> {
    let unknown = match template {
        Ok(Template::None) => return Err(absent()),
        Ok(Template::Of(prefix)) => {
            let name = session.name();
            session.note(format!("the repository {name} does not exist: the registry's template {prefix} creates it"));
            None
        }
        Ok(Template::Unknown(why)) => Some(why.to_owned()),
        Err(why) => Some(why),
    };
    if let Some(why) = &unknown {
        let name = session.name();
        session.note(format!("whether a creation template is for {name} was not checked: {why}"));
    }
    if session.options().dry_run {
        return Ok(TargetRepository { is_only_planned: true, ..TargetRepository::default() });
    }
    match unknown {
        None => session.client.check_upload().await?,
        Some(_) => in_time(session.client.check_upload()).await.map_err(|error| match error.kind() {
            Kind::Permission | Kind::Interrupted => error,
            _ => absent().because(described(&error)),
        })?,
    }
    was_created(session, record, "the registry created the repository");
    Ok(TargetRepository::default())
}

/// Makes sure that a repository of ECR Public is there, by its own API. What it has is asked only where it is to create one:
/// it sees the caller's own registry alone.
async fn ensure_public(
    session: &TargetSession,
    public: &EcrPublic,
    exists: Option<bool>,
    record: &mut Record,
) -> Result<TargetRepository> {
    let (options, name) = (session.options(), session.name());
    let mut state = TargetRepository::default();
    let exists = match exists {
        None if options.repositories.create => public.has_repository(&session.repository).await?,
        exists => exists,
    };
    match exists {
        Some(false) | None if options.repositories.create => {
            let created = match public.check_alias(&session.repository).await {
                Ok(()) if options.dry_run => Ok(false),
                Ok(()) => public.create_repository(&session.repository).await,
                Err(error) => Err(error),
            };
            match created {
                Ok(true) => was_created(session, record, "created the repository"),
                Ok(false) if options.dry_run && exists.is_some() => {
                    session.note(format!("the repository {name} does not exist and would be created"));
                    state.is_only_planned = true;
                }
                Ok(false) => {}
                Err(error) if exists.is_none() && error.kind() == Kind::Permission => {
                    session.note(format!(
                        "whether the repository {name} exists was not checked, and it cannot be created: \
                         ecr-public:DescribeRepositories is not allowed, nor are the permissions to create it"
                    ));
                    session.creation_denied.set(error).unwrap_or_default();
                }
                Err(error) => return Err(error),
            }
        }
        Some(false) => {
            return Err(Error::new(Kind::Refused, format!("the repository {name} does not exist"))
                .code(Code::RepositoryNotFound)
                .hint(creation_advice(session.creation_command())));
        }
        Some(true) | None => {}
    }
    Ok(state)
}

/// Makes sure that a repository behind a docker login is there. A login has no API: nothing can be created by that, but a
/// template may do it.
async fn ensure_by_login(
    session: &TargetSession,
    exists: Option<bool>,
    record: &mut Record,
) -> Result<TargetRepository> {
    let (options, host, name) = (session.options(), &session.host, &session.repository);
    if !host.is_amazon() {
        return Ok(TargetRepository::default());
    }
    let hint = format!("Use AWS credentials, or create it first:\n  {}", session.creation_command());
    let absent = || {
        let what = format!("the repository {name} does not exist in {host}, and a docker login cannot create it");
        Error::new(Kind::Refused, what).code(Code::RepositoryNotFound).hint(hint.clone())
    };
    match exists {
        Some(false) if options.repositories.create || host.is_ecr_public() => Err(absent()),
        Some(false) => {
            let unknown = Err("a docker login has no access to ECR's API".to_owned());
            create_by_template(session, unknown, &absent, record).await
        }
        None if options.repositories.create => {
            let name = session.name();
            session.note(format!(
                "whether the repository {name} exists was not checked, and a docker login cannot create it"
            ));
            Ok(TargetRepository::default())
        }
        Some(true) | None => Ok(TargetRepository::default()),
    }
}

fn was_created(session: &TargetSession, record: &mut Record, what: &str) {
    session.note(format!("{what} {}", session.name()));
    (record.created_repository, record.is_changed) = (true, true);
}

/// Gives the repository that was just created its policies.
async fn put_policies(
    session: &TargetSession,
    ecr: &Ecr,
    place: &RepositoryLocation,
    policies: &Policies,
) -> Result<()> {
    let mut failed: Option<(&str, Error)> = None;
    let mut commands = Vec::new();
    if let Some(policy @ Policy { text, .. }) = &policies.lifecycle
        && let Err(error) = ecr.put_lifecycle_policy(place, text).await
    {
        failed.get_or_insert(("lifecycle policy", error));
        commands.push(command(ecr, place, policy, "put-lifecycle-policy", "--lifecycle-policy-text"));
    }
    if let Some(policy @ Policy { text, .. }) = &policies.repository
        && let Err(error) = ecr.set_repository_policy(place, text).await
    {
        failed.get_or_insert(("repository policy", error));
        commands.push(command(ecr, place, policy, "set-repository-policy", "--policy-text"));
    }
    let Some((which, error)) = failed else { return Ok(()) };
    let what = format!("the repository {} was created without its {which}; nothing was pushed", session.name());
    let error = session.explain(error);
    let finish = format!("Finish with this, then push again:\n  {}", commands.join(" && "));
    let hint = error.advice().map_or_else(|| finish.clone(), |advice| format!("{advice}\n  {finish}"));
    let about = Error::new(error.kind(), what);
    Err(match error.service_error() {
        Some(answer) => about.with_service_error(answer.clone()),
        None => about.because(error),
    }
    .hint(hint))
}

/// Returns what a person types to do it.
fn command(ecr: &Ecr, place: &RepositoryLocation, policy: &Policy, verb: &str, option: &str) -> String {
    let (account, name, region) = (&place.host.account, &place.repository, ecr.region());
    let file = format!("file://{}", policy.path.display());
    let file = if file.contains(char::is_whitespace) { format!("{file:?}") } else { file };
    format!("aws ecr {verb} --registry-id {account} --repository-name {name} --region {region} {option} {file}")
}
