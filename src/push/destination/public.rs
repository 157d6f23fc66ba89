//! Repositories that the private API does not see to: those of ECR Public, and those behind a docker login.

use super::Destination;
use crate::ecr::EcrPublic;
use crate::error::{Error, Kind, Result};
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
            Some(false) if request.create_repository && request.dry_run => {
                events(Event::Note(format!("the repository {name} does not exist and would be created")));
                self.only_planned = true;
            }
            Some(false) | None if request.create_repository && !request.dry_run => {
                if let Some(place) = public.create_repository(&self.repository).await? {
                    events(Event::Note(format!("created the repository {name}")));
                    // A registry may have several aliases; one that is not the caller's names somebody else's.
                    if !place.is_empty() && place != name {
                        events(Event::Warning(format!("ECR Public calls it {place}: is that alias yours?")));
                    }
                    self.state().created = true;
                }
            }
            Some(false) => {
                let own = self.repository.as_str().split_once('/').map_or("", |(_, own)| own);
                let create = format!("aws ecr-public create-repository --repository-name {own} --region us-east-1");
                return Err(Error::new(Kind::Refused, format!("the repository {name} does not exist"))
                    .hint(format!("Add --create-repository, or create it first: {create}")));
            }
            Some(true) | None => {}
        }
        Ok(())
    }

    /// Without the API nothing can be created.
    pub(in crate::push) fn ensure_by_looks(&self, exists: Option<bool>) -> Result<()> {
        let Some(place) = self.place.as_ref().filter(|_| exists == Some(false)) else { return Ok(()) };
        let (name, region) = (&self.repository, &place.host.region);
        let what =
            format!("the repository {name} does not exist in {}, and a docker login cannot create it", self.host);
        let create = format!("aws ecr create-repository --repository-name {name} --region {region}");
        Err(Error::new(Kind::Refused, what).hint(format!("Give AWS credentials, or create it first: {create}")))
    }
}
