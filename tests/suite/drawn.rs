//! Schedules of faults, drawn from seeds, and what may come of each.

use ecr_push::error::Kind;
use ecr_push::registry::CHUNK;
use ecr_push::sandbox::{ClosedTwice, Fault, Interrupted, Locations, LogEntry, Rules, Trouble, UploadStatus};
use std::time::Duration;

use super::ecr::status;
use super::traffic::Traffic;

const LOGIN: &str = "ecr:GetAuthorizationToken";
const DESCRIBE: &str = "ecr:DescribeRepositories";
const CHECK: &str = "ecr:BatchCheckLayerAvailability";
const BEGIN: &str = "ecr:InitiateLayerUpload";
const PART: &str = "ecr:UploadLayerPart";
const CLOSE: &str = "ecr:CompleteLayerUpload";
const STATUS: &str = "v2:UploadStatus";
const CANCEL: &str = "v2:CancelUpload";
const TAG: &str = "ecr:PutImage";
const ANY: &str = "*";

/// What is harmed, the more often the more often it stands here.
const OPERATIONS: [&str; 22] = [
    LOGIN, DESCRIBE, CHECK, BEGIN, BEGIN, BEGIN, PART, PART, PART, PART, PART, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE,
    STATUS, CANCEL, TAG, TAG, TAG, ANY,
];

/// The SDK's calls are tried three times, whatever is asked of us.
const SDK_TRIES: u32 = 3;

/// Numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    fn of<T: Clone>(&mut self, some: &[T]) -> T {
        some[self.roll(some.len() as u64) as usize].clone()
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.roll(chances) == 0
    }
}

/// What goes wrong during a push, and how that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) sample: usize,
    pub(crate) rules: Rules,
    pub(crate) retries: usize,
    pub(crate) concurrency: usize,
    /// There are fewer retries than it may take.
    hopeless: bool,
}

impl Schedule {
    /// Nothing goes wrong.
    pub(crate) fn harmless() -> Self {
        Self { sample: 0, rules: Rules::default(), retries: 0, concurrency: 4, hopeless: false }
    }

    pub(crate) fn of(seed: u64) -> Self {
        let dice = &mut Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        // The large layer costs the most and is drawn the least.
        let sample = if dice.one_in(6) { 2 } else { usize::from(dice.one_in(3)) };
        let mut faults: Vec<Fault> = Vec::new();
        for _ in 0..dice.of(&[1, 1, 2, 2, 3, 4]) {
            // Only the large layer goes in parts.
            let on = Some(dice.of(&OPERATIONS)).filter(|on| *on != PART || sample == 2).unwrap_or(CLOSE);
            let what = trouble(dice, on);
            let skip = dice.of(&[0, 0, 0, 1, 1, 2, 3, 4]);
            faults.push(Fault { on: on.into(), skip, times: if dice.one_in(6) { 2 } else { 1 }, what });
        }
        let hopeless = dice.one_in(10);
        // A break can take three tries: the one that broke, the one that asks where to go on, the one that finds out
        // that it does not go on.
        let enough = 3 * faults.iter().map(|fault| fault.times as usize).sum::<usize>();
        let retries = if hopeless { dice.roll(2) as usize } else { enough };
        let interrupted = dice.of(&[Interrupted::Spoiled, Interrupted::Resumable]);
        let upload_status = dice.of(&[UploadStatus::Unknown, UploadStatus::Told, UploadStatus::Stuck]);
        let closed_twice = dice.of(&[ClosedTwice::Unknown, ClosedTwice::Created]);
        let locations = dice.of(&[Locations::Absolute, Locations::Path, Locations::Query, Locations::Relative]);
        let rules = Rules { interrupted, upload_status, closed_twice, locations, faults, ..Rules::default() };
        Self { sample, rules, retries, concurrency: 1 + dice.roll(4) as usize, hopeless }
    }

    /// How often each fault struck, given what is left of them.
    pub(crate) fn fired(&self, left: &[Fault]) -> Vec<u32> {
        self.rules.faults.iter().zip(left).map(|(before, after)| before.times - after.times).collect()
    }

    fn count(&self, fired: &[u32], which: impl Fn(&Fault) -> bool) -> u32 {
        self.rules.faults.iter().zip(fired).filter(|(fault, _)| which(fault)).map(|(_, times)| times).sum()
    }

    /// The kinds of errors that what struck excuses. Where there are none the push has to succeed.
    pub(crate) fn errors_that_fit(&self, fired: &[u32]) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for fault in self.rules.faults.iter().zip(fired).filter(|(_, times)| **times > 0).map(|(fault, _)| fault) {
            kinds.extend(end(fault));
        }
        let passing = self.count(fired, |fault| end(fault).is_none());
        let calls = self.count(fired, |fault| [LOGIN, DESCRIBE, CHECK, ANY].contains(&fault.on.as_str()));
        if self.hopeless && passing > 0 || calls >= SDK_TRIES {
            kinds.push(Kind::Unavailable);
        }
        // Twice in one request: a login that is refused as soon as it is made.
        if self.count(fired, |fault| fault.what == Trouble::ExpireTokens) > 1 {
            kinds.push(Kind::Permission);
        }
        // What is missing is sent again once.
        if self.count(fired, |fault| fault.what == Trouble::LoseLayer) > 1 {
            kinds.push(Kind::Refused);
        }
        kinds
    }

    /// The bound on what is sent, and whether it was kept.
    ///
    /// Where a session outlives a break, a break costs one chunk: the one that it cut is sent up to the cut, then to ask
    /// where to go on, and then from there. So each byte arrives once more for each break, and no more than a chunk
    /// arrives again. Where the session is lost, each byte may arrive twice more: in the request that finds out that
    /// the session is lost, and in the next session.
    pub(crate) fn judge_traffic(&self, fired: &[u32], traffic: &Traffic) -> Result<(), String> {
        let lanes = self.concurrency as u32;
        let mut breaks = 0;
        for (fault, times) in self.rules.faults.iter().zip(fired) {
            breaks += times
                * match (&fault.what, fault.on.as_str()) {
                    (Trouble::Delay(_) | Trouble::TellStatus(_) | Trouble::TellLocation(_), _) => 0,
                    // It strikes every lane.
                    (Trouble::ExpireTokens, _) => lanes,
                    (Trouble::LoseLayer, _) | (_, PART | CLOSE | CHECK | STATUS | ANY) => 1,
                    _ => 0,
                };
        }
        let forgets = |fault: &Fault| matches!(fault.what, Trouble::ForgetUpload | Trouble::LoseLayer);
        let kept = self.rules.interrupted == Interrupted::Resumable && self.count(fired, forgets) == 0;
        let most = 1 + u64::from(breaks) * if kept { 1 } else { 2 };
        if traffic.most > most {
            return Err(format!("a byte arrived {} times, where {most} would do: {breaks} breaks", traffic.most));
        }
        let twice = u64::from(breaks) * CHUNK;
        if kept && traffic.twice > twice {
            let sent = traffic.twice;
            return Err(format!("{sent} bytes were sent again, where {twice} would do: {breaks} breaks"));
        }
        Ok(())
    }

    /// How many sessions nobody could close: those that nobody was told of, and those whose closing was harmed.
    pub(crate) fn sessions_lost(&self, fired: &[u32], log: &[LogEntry]) -> usize {
        let untold =
            |fault: &Fault| fault.on == BEGIN && matches!(fault.what, Trouble::CutAnswer(_) | Trouble::TellLocation(_));
        let harmed =
            |entry: &&LogEntry| entry.operation == CANCEL && matches!(entry.status, 0 | 408 | 425 | 429 | 500..);
        self.count(fired, untold) as usize + log.iter().filter(harmed).count()
    }
}

/// The end that a fault is by itself; `None` if it passes.
fn end(fault: &Fault) -> Option<Kind> {
    match &fault.what {
        Trouble::Status { status: 403, .. } => Some(Kind::Permission),
        Trouble::Status { status: 400..=405, .. } => Some(Kind::Refused),
        Trouble::TellLocation(_) if fault.on == BEGIN => Some(Kind::Refused),
        _ => None,
    }
}

/// Something that can happen to an operation.
fn trouble(dice: &mut Dice, on: &str) -> Trouble {
    let busy = |dice: &mut Dice| status(dice.of(&[500, 502, 503, 504]), "UNKNOWN", "we are sorry");
    let wait = Duration::from_secs(1);
    let few = dice.roll(60);
    let mut some = vec![
        busy(dice),
        Trouble::Throttle { retry_after: None },
        Trouble::Delay(Duration::from_millis(10 + dice.roll(300))),
        Trouble::HangUp,
        Trouble::Reset,
        Trouble::HalfClose,
    ];
    if on != ANY {
        some.push(Trouble::CutAnswer(0));
        some.push(Trouble::CutAnswer(few));
    }
    if [BEGIN, PART, CLOSE, STATUS, CANCEL, TAG].contains(&on) {
        some.push(status(dice.of(&[408, 425]), "UNKNOWN", "too early or too late"));
        some.push(Trouble::Throttle { retry_after: Some(wait) });
        some.push(Trouble::ThrottleUntil(wait));
        some.push(Trouble::ExpireTokens);
    }
    if [PART, CLOSE, TAG].contains(&on) {
        let at = dice.of(&[0, 1, 1_000, 70_000, 300_000, 1 << 20, 6 << 20, 8 << 20, u64::MAX]);
        some.extend(std::iter::repeat_n(Trouble::CutAfter(at), 4));
    }
    if [PART, CLOSE].contains(&on) {
        some.extend([Trouble::ForgetUpload, Trouble::ForgetUpload, Trouble::Stall]);
    }
    if [BEGIN, PART, CLOSE, TAG].contains(&on) && dice.one_in(8) {
        some = vec![
            status(403, "DENIED", "User: x is not authorized to perform: ecr:PutImage on resource: y"),
            status(400, "BLOB_UPLOAD_INVALID", "no"),
            status(404, "NAME_UNKNOWN", "no such repository"),
            status(405, "UNSUPPORTED", "no"),
        ];
    }
    match on {
        PART => some.extend([200, 202, 204].map(Trouble::TellStatus).into_iter().chain([Trouble::TellLocation(None)])),
        CLOSE => some.extend([200, 204].map(Trouble::TellStatus)),
        BEGIN => some.extend([None, Some("http://169.254.169.254/latest".into())].map(Trouble::TellLocation)),
        TAG => some.extend([Trouble::LoseLayer, Trouble::LoseLayer]),
        _ => {}
    }
    dice.of(&some)
}
