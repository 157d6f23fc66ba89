//! The verdict on a schedule, by the requests that the sandbox saw.

use std::collections::HashSet;
use std::time::Duration;

use ecr_push::sandbox::{LogEntry, Sandbox, Trouble};
use ecr_push::{Digest, Kind, Outcome, TargetOutcome};

use super::ecr::HOST;
use super::fault_schedule::{Schedule, Shape, Struck};
use super::schedule_archives::Sample;
use super::traffic::Traffic;

/// How long a push may run after Ctrl-C: requests in flight are awaited, then sessions are closed.
const CTRL_C: Duration = Duration::from_secs(2);

/// The repositories, in the order of the targets.
const REPOSITORIES: [&str; 2] = ["team/app", "team/two"];

/// The outcome of one pusher.
pub(crate) struct Ended<'a> {
    pub(crate) sample: &'a Sample,
    pub(crate) outcome: Outcome,
    /// When it ended, if it was interrupted.
    pub(crate) ctrl_c: Option<SinceCtrlC>,
}

/// How long after Ctrl-C something happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SinceCtrlC {
    pub(crate) took: Duration,
    /// Without the time in which a busy machine did not run this process.
    pub(crate) without_pauses: Duration,
}

/// What is known of a schedule that was run.
pub(crate) struct Case<'a> {
    pub(crate) schedule: &'a Schedule,
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) struck: Struck,
    pub(crate) log: Vec<LogEntry>,
    pub(crate) pushers: Vec<Ended<'a>>,
    /// How many sessions the journal keeps for the next push.
    pub(crate) journalled: usize,
}

impl Case<'_> {
    /// A repository of the sandbox, with the host of its registry if that is another one.
    fn stored(&self, repository: &str) -> String {
        if self.schedule.shape == (Shape::Two { elsewhere: true }) && repository == REPOSITORIES[1] {
            return format!("{}/{repository}", HOST.replace("us-east-1", "eu-west-1"));
        }
        repository.to_owned()
    }

    /// Judges all of it, and returns what was sent.
    pub(crate) fn judge(&self) -> Result<Traffic, String> {
        self.errors_fit()?;
        for (n, repository) in REPOSITORIES.into_iter().enumerate() {
            self.repository_fits(repository, n)?;
        }
        let traffic = Traffic::of(&self.log, self.pushers[0].sample.large);
        let largest = self.pushers.iter().map(|pusher| pusher.sample.size()).max().unwrap_or_default();
        self.schedule.judge_traffic(&self.struck, &traffic, largest)?;
        let (open, allowed) = (self.sandbox.open_uploads(), self.schedule.sessions_lost(&self.struck, &self.log));
        if open > allowed + self.journalled {
            let resumable = self.journalled;
            return Err(format!(
                "{open} sessions are left open, where {allowed} could not be closed and {resumable} can be resumed"
            ));
        }
        if self.sandbox.leaked_credentials() > 0 {
            return Err("the bucket was shown credentials".into());
        }
        Ok(traffic)
    }

    /// Every error is excused by what struck, and the gravest one decides the exit code.
    fn errors_fit(&self) -> Result<(), String> {
        let excused = self.schedule.errors_that_fit(&self.struck);
        let mut failures = 0;
        for Ended { outcome, ctrl_c, .. } in &self.pushers {
            for error in outcome.targets.iter().filter_map(|target| target.error.as_ref()) {
                let is_ctrl_c = ctrl_c.is_some() && error.kind() == Kind::Interrupted;
                if !is_ctrl_c && !excused.contains(&error.kind()) {
                    return Err(format!("an error of kind {:?}, where {excused:?} would fit: {error}", error.kind()));
                }
                failures += u32::from(!is_ctrl_c);
            }
            let codes = outcome.targets.iter().filter_map(|target| Some(target.error.as_ref()?.kind().exit_code()));
            let codes: Vec<_> = codes.collect();
            // A rerun helps only where it helps against each of them.
            let gravest = [1, 2, 3, 130, 4].into_iter().find(|code| codes.contains(code));
            if outcome.error().map(|error| error.kind().exit_code()) != gravest {
                return Err(format!("the targets say {codes:?}, and all in all it is {:?}", outcome.error()));
            }
            if let Some(took) = ctrl_c.map(|it| it.without_pauses).filter(|took| *took > CTRL_C) {
                return Err(format!("it ended {took:?} after Ctrl-C"));
            }
        }
        let most = self.schedule.most_failures(&self.struck);
        if failures > most {
            return Err(format!("{failures} images did not arrive, where what struck explains {most}"));
        }
        Ok(())
    }

    /// The image is in a repository, or an error says why not.
    fn repository_fits(&self, repository: &str, n: usize) -> Result<(), String> {
        let there = self.sandbox.image(&self.stored(repository), "1");
        let parties = || self.pushers.iter().filter_map(|it| Some((it, it.outcome.targets.get(n)?)));
        let path = format!("/v2/{repository}/manifests/1");
        let puts = || self.log.iter().filter(|entry| entry.path == path && entry.method == "PUT");
        let mut tagged: HashSet<Digest> = HashSet::new();
        for (Ended { sample, ctrl_c, .. }, target) in parties() {
            let arrived = target.error.is_none();
            if arrived != is_reported(target, repository, sample) {
                return Err(format!("the outcome for {repository} does not fit: {target:?}"));
            }
            // A tag whose answer was lost, on the way or to Ctrl-C, may exist nevertheless.
            let is_lost = puts().any(|entry| entry.status == 0);
            if arrived || is_lost || ctrl_c.is_some() || self.struck.line + self.struck.slow > 0 {
                tagged.insert(sample.digest);
            }
        }
        let arrived = parties().filter(|(_, target)| target.error.is_none()).count();
        let failed = parties().count() - arrived;
        let put = puts().filter(|entry| matches!(entry.status, 0 | 201)).count();
        // Who finds there what he pushes need not put it.
        if put == 0 && arrived > 0 {
            return Err(format!("{arrived} say that they tagged {repository}, and {put} put a manifest"));
        }
        let Some((digest, manifest, _)) = there else {
            let why = || Err(format!("it says that it pushed, and nothing is tagged in {repository}"));
            return if arrived > 0 { why() } else { Ok(()) };
        };
        let named = parties().find(|(it, _)| it.sample.digest == digest && it.sample.manifest == manifest);
        let Some((Ended { sample, .. }, _)) = named.filter(|_| tagged.contains(&digest)) else {
            return Err(format!("{repository} has {digest}, which no pusher can have tagged; {arrived} arrived"));
        };
        // A pusher that cannot send a lost layer again leaves the tag of another pusher, or of an earlier attempt, incomplete.
        let lost = self.struck.faults.iter().zip(&self.schedule.rules.faults);
        let lost = lost.map(|(times, fault)| (*times, &fault.what)).any(|it| it.0 > 0 && *it.1 == Trouble::LoseLayer);
        if lost && failed > 0 {
            return Ok(());
        }
        match sample.blobs.keys().find(|digest| !sample.is_there(self.sandbox, &self.stored(repository), digest)) {
            Some(digest) => Err(format!("{repository} has the tag, and {digest} is not there as it should be")),
            None => Ok(()),
        }
    }

    /// Who is to try again now that all is well: the first who failed.
    pub(crate) fn who_failed(&self) -> Option<&Ended<'_>> {
        self.pushers.iter().find(|pusher| self.schedule.again && pusher.outcome.error().is_some())
    }

    /// The blobs that a second push has no reason to send: they exist, and the pusher knows it.
    pub(crate) fn complete(&self, ended: &Ended<'_>) -> Vec<(&'static str, Digest)> {
        let mut complete = Vec::new();
        for (repository, target) in REPOSITORIES.into_iter().zip(&ended.outcome.targets) {
            let known = |digest: &&Digest| {
                ended.sample.states_digests || target.layers.iter().any(|layer| layer.digest.as_ref() == Some(digest))
            };
            let there = |digest: &&Digest| ended.sample.is_there(self.sandbox, &self.stored(repository), digest);
            complete.extend(ended.sample.blobs.keys().filter(known).filter(there).map(|digest| (repository, *digest)));
        }
        complete
    }

    /// Judges a second push of who failed, with nothing in its way. `complete` was there before.
    pub(crate) fn judge_again(
        &self,
        ended: &Ended<'_>,
        complete: &[(&str, Digest)],
        outcome: &Outcome,
        open_before: usize,
    ) -> Result<(), String> {
        if let Some(error) = outcome.error() {
            return Err(format!("with nothing in its way it fails nevertheless: {error:?}"));
        }
        let log = self.sandbox.log().split_off(self.log.len());
        for (repository, target) in REPOSITORIES.into_iter().zip(&outcome.targets) {
            let sample = ended.sample;
            let digest = self.sandbox.image(&self.stored(repository), "1").map(|(digest, ..)| digest);
            if digest != Some(sample.digest) || !is_reported(target, repository, sample) {
                return Err(format!("with nothing in its way {repository} gets {digest:?}"));
            }
            if let Some(digest) =
                sample.blobs.keys().find(|digest| !sample.is_there(self.sandbox, &self.stored(repository), digest))
            {
                return Err(format!("pushed again, and {digest} is not in {repository} as it should be"));
            }
            let here: Vec<_> =
                log.iter().filter(|it| it.path.starts_with(&format!("/v2/{repository}/"))).cloned().collect();
            let traffic = Traffic::of(&here, sample.large);
            let known = complete.iter().filter(|(there, _)| *there == repository);
            for digest in known.map(|(_, digest)| digest.to_string()) {
                if let Some(sent) = traffic.blobs.get(&digest) {
                    return Err(format!("{digest} was complete in {repository}, and {sent} bytes of it went again"));
                }
            }
            if traffic.twice > 0 {
                return Err(format!("{} bytes went twice with nothing in their way", traffic.twice));
            }
        }
        // Requests over a bad connection, and those that were given up, may arrive only now.
        match self.sandbox.open_uploads() {
            open if open > open_before + self.struck.line as usize + self.schedule.sessions_cut_short(&self.struck) => {
                Err(format!("{open} sessions are open where {open_before} were"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a target is reported as pushed: the repository, the tag and the digest.
fn is_reported(target: &TargetOutcome, repository: &str, sample: &Sample) -> bool {
    let tags: Vec<_> = target.pushed().iter().map(|tag| tag.as_str()).collect();
    target.name.ends_with(&format!("/{repository}")) && tags == ["1"] && target.digest == Some(sample.digest)
}
