//! Repositories that the private API does not see to: those of ECR Public, and those behind a docker login.

use super::Destination;
use crate::ecr::EcrPublic;
use crate::error::{Code, Error, Kind, Result};
use crate::push::{Event, Events, Request};

impl Destination {
    /// The same as for private repositories, by ECR Public's API. What it has is asked only where it is to create one:
    /// it sees the caller's own registry alone.
    pub(in crate::push) async fn ensure_public(
        &mut self,
        public: &EcrPublic,
        exists: Option<bool>,
        request: &Request,
        events: &Events,
    ) -> Result<()> {
        let name = self.name();
        let exists = match exists {
            None if request.create_repository => public.has_repository(&self.repository).await?,
            exists => exists,
        };
        match exists {
            Some(false) | None if request.create_repository => {
                let created = match public.check_alias(&self.repository).await {
                    Ok(()) if request.dry_run => Ok(false),
                    Ok(()) => public.create_repository(&self.repository).await,
                    Err(error) => Err(error),
                };
                match created {
                    Ok(true) => {
                        events(Event::Note(format!("created the repository {name}")));
                        self.was_created();
                    }
                    Ok(false) if request.dry_run && exists.is_some() => {
                        events(Event::Note(format!("the repository {name} does not exist and would be created")));
                        self.only_planned = true;
                    }
                    Ok(false) => {}
                    Err(error) if exists.is_none() && error.kind() == Kind::Permission => {
                        events(Event::Note(format!(
                            "whether the repository {name} exists was not checked, and it cannot be created: \
                             ecr-public:DescribeRepositories is not allowed, nor is what a creation takes"
                        )));
                        self.creation_denied = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            Some(false) => {
                return Err(Error::new(Kind::Refused, format!("the repository {name} does not exist"))
                    .code(Code::RepositoryNotFound)
                    .hint(format!("Add --create-repository, or create it first:\n  {}", self.creation())));
            }
            Some(true) | None => {}
        }
        Ok(())
    }

    /// The same with a docker login, which has no API: nothing can be created by that, but a template may do it.
    pub(in crate::push) async fn ensure_by_login(
        &mut self,
        exists: Option<bool>,
        request: &Request,
        events: &Events,
    ) -> Result<()> {
        if !self.host.is_amazon() {
            return Ok(());
        }
        let (name, host) = (self.repository.clone(), self.host.clone());
        let hint = format!("Give AWS credentials, or create it first:\n  {}", self.creation());
        let absent = || {
            let what = format!("the repository {name} does not exist in {host}, and a docker login cannot create it");
            Error::new(Kind::Refused, what).code(Code::RepositoryNotFound).hint(hint.clone())
        };
        match exists {
            Some(false) if request.create_repository || host.is_ecr_public() => Err(absent()),
            Some(false) => {
                let unknown = Err("a docker login may not ask".to_owned());
                self.have_it_created(unknown, &absent, request, events).await
            }
            None if request.create_repository => {
                let name = self.name();
                let text = format!(
                    "whether the repository {name} exists was not checked, and a docker login cannot create it"
                );
                events(Event::Note(text));
                Ok(())
            }
            Some(true) | None => Ok(()),
        }
    }

    /// What a person types to create the repository.
    pub(in crate::push) fn creation(&self) -> String {
        let (service, name, region) = match &self.place {
            Some(place) => ("ecr", self.repository.as_str(), place.host.region.as_str()),
            // The first part is the registry's alias.
            None => ("ecr-public", self.repository.as_str().split_once('/').map_or("", |(_, own)| own), "us-east-1"),
        };
        format!("aws {service} create-repository --repository-name {name} --region {region}")
    }
}
