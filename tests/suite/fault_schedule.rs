//! Schedules of faults, drawn from seeds, and the results that each allows.

use std::collections::HashMap;
use std::time::Duration;

use ecr_push::Kind;
use ecr_push::sandbox::{ClosedTwice, Fault, Interrupted, Locations, LogEntry, Rules, Trouble, UploadStatus};

use super::ecr::{HOST, status};
use super::faulty_proxy::{Break, How};
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

/// Bytes to a chunk: as few as ECR takes, since every byte is hashed three times.
pub(crate) const CHUNK: u64 = 5 << 20;

/// The same on a long line, where the program decides about chunks, and the largest that ECR takes.
const LARGEST_CHUNK: u64 = 10 << 20;

/// How late responses come on a long line: late enough that the large layer is streamed first.
const LATENCY: Duration = Duration::from_millis(60);

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

/// Who pushes what where to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// One pusher, one target.
    Alone,
    /// One pusher, two repositories. One sandbox replaces all of ECR, so the second one may be in another region,
    /// which is another registry to the pusher, with a login and connections of its own.
    Two { elsewhere: bool },
    /// Two pushers at once, one tag: the same archive, or another one that shares layers with it.
    Race { other: bool },
}

/// The moment of a Ctrl-C, as the sandbox sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) after: After,
    /// So much later.
    pub(crate) then: Duration,
}

/// What the sandbox has seen at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum After {
    /// So many requests.
    Requests(usize),
    /// So many bytes of bodies.
    Bytes(u64),
    /// A request for this operation.
    Asked(&'static str),
}

impl Moment {
    fn drawn(dice: &mut Dice, sample: usize) -> Self {
        let bytes = if sample == 2 { 11 << 20 } else { 800_000 };
        let after = match dice.roll(3) {
            0 => After::Requests(dice.roll(20) as usize),
            1 => After::Bytes(dice.roll(bytes)),
            _ => After::Asked(dice.of(&[LOGIN, DESCRIBE, CHECK, BEGIN, CLOSE, CLOSE, STATUS, CANCEL, TAG])),
        };
        Self { after, then: Duration::from_millis(dice.of(&[0, 0, 0, 5, 30, 100])) }
    }

    pub(crate) fn has_come(&self, log: &[LogEntry]) -> bool {
        match self.after {
            After::Requests(count) => log.len() >= count,
            After::Bytes(bytes) => log.iter().map(|entry| entry.body_bytes).sum::<u64>() >= bytes,
            After::Asked(operation) => log.iter().any(|entry| entry.operation == operation),
        }
    }
}

/// What goes wrong during a push, and how that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) sample: usize,
    pub(crate) rules: Rules,
    pub(crate) retries: usize,
    pub(crate) concurrency: usize,
    pub(crate) shape: Shape,
    /// When the first pusher is interrupted.
    pub(crate) interruption: Option<Moment>,
    /// What goes wrong with connections to the registry; AWS's API is asked directly.
    pub(crate) line: Vec<Break>,
    /// Who fails tries again when all is well.
    pub(crate) again: bool,
    /// There are fewer retries than it may take.
    hopeless: bool,
}

/// What went wrong in the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Struck {
    /// How often each fault struck.
    pub(crate) faults: Vec<u32>,
    /// How many connections came to harm on the line.
    pub(crate) line: u32,
    /// How many requests a time limit ended although nothing stalled.
    pub(crate) slow: u32,
    /// Whether a push that failed or was interrupted did not wait longer for its last responses: sessions may be left open.
    pub(crate) is_cut_short: bool,
}

impl Schedule {
    /// Nothing goes wrong.
    pub(crate) fn harmless() -> Self {
        Self {
            sample: 0,
            rules: Rules::default(),
            retries: 0,
            concurrency: 4,
            shape: Shape::Alone,
            interruption: None,
            line: Vec::new(),
            again: false,
            hopeless: false,
        }
    }

    /// The same push with nothing in its way.
    pub(crate) fn without_faults(&self) -> Self {
        Self { concurrency: self.concurrency, shape: self.shape, ..Self::harmless() }
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
        // A break can take three tries: the one that broke, the one that asks where to continue, the one that finds out
        // that it cannot continue.
        let mut enough = 3 * faults.iter().map(|fault| fault.times as usize).sum::<usize>();
        let few = dice.roll(2) as usize;
        let interrupted = dice.of(&[Interrupted::Spoiled, Interrupted::Resumable]);
        let upload_status = dice.of(&[UploadStatus::Unknown, UploadStatus::Reported, UploadStatus::Stuck]);
        let closed_twice = dice.of(&[ClosedTwice::Unknown, ClosedTwice::Created]);
        let locations = dice.of(&[Locations::Absolute, Locations::Path, Locations::Query, Locations::Relative]);
        let mut rules = Rules { interrupted, upload_status, closed_twice, locations, faults, ..Rules::default() };
        // Only large layers are streamed.
        if sample == 2 && seed.is_multiple_of(2) {
            rules.delay = LATENCY;
        }
        let concurrency = 1 + dice.roll(4) as usize;
        let shape = match dice.roll(10) {
            0 | 1 => Shape::Two { elsewhere: dice.one_in(2) },
            2 | 3 => Shape::Race { other: dice.one_in(2) },
            _ => Shape::Alone,
        };
        let interruption = dice.one_in(4).then(|| Moment::drawn(dice, sample));
        if let Some(Moment { after: After::Asked(on), .. }) = interruption
            && shape == Shape::Alone
            && dice.one_in(2)
        {
            // Ctrl-C while a request stalls. First of all, since the first that is due wins.
            rules.faults.insert(0, Fault::once(on, Trouble::Stall));
        }
        let mut line = Vec::new();
        if dice.one_in(4) {
            for _ in 0..dice.of(&[1, 1, 2, 3]) {
                line.push(Break { connection: dice.of(&[0, 0, 0, 1, 1, 2, 3, 5]), how: how(dice) });
            }
            // A client that is refused a connection tries five times in as long as that may last: pauses are doubled.
            enough += line.iter().map(|it| if matches!(it.how, How::Gone(_)) { 8 } else { 3 }).sum::<usize>();
        }
        let again = dice.one_in(2);
        let retries = if hopeless { few } else { enough };
        Self { sample, rules, retries, concurrency, shape, interruption, line, again, hopeless }
    }

    /// Whether the large layer is streamed first.
    fn streams(&self) -> bool {
        !self.rules.delay.is_zero()
    }

    /// The bytes to a chunk, if the program does not decide about them.
    pub(crate) fn chunk_size(&self) -> Option<u64> {
        (!self.streams()).then_some(CHUNK)
    }

    /// The targets of each pusher, as they are asked for.
    pub(crate) fn targets(&self) -> Vec<String> {
        let mut targets = vec!["team/app:1".to_owned()];
        match self.shape {
            Shape::Two { elsewhere: true } => {
                targets.push(format!("{}/team/two:1", HOST.replace("us-east-1", "eu-west-1")));
            }
            Shape::Two { elsewhere: false } => targets.push("team/two:1".into()),
            Shape::Alone | Shape::Race { .. } => {}
        }
        targets
    }

    /// How many pushers there are.
    pub(crate) fn pushers(&self) -> usize {
        if matches!(self.shape, Shape::Race { .. }) { 2 } else { 1 }
    }

    /// The second pusher has an archive of its own.
    pub(crate) fn races_another(&self) -> bool {
        self.shape == Shape::Race { other: true }
    }

    /// How many images are pushed, counted by pusher and target.
    fn parties(&self) -> u32 {
        (self.pushers() * self.targets().len()) as u32
    }

    /// How often each fault struck, given what is left of them.
    pub(crate) fn fired(&self, left: &[Fault]) -> Vec<u32> {
        self.rules.faults.iter().zip(left).map(|(before, after)| before.times - after.times).collect()
    }

    /// Everything strikes that can.
    pub(crate) fn worst(&self) -> Struck {
        Struck {
            faults: self.rules.faults.iter().map(|fault| fault.times).collect(),
            line: self.line.len() as u32,
            slow: 0,
            is_cut_short: false,
        }
    }

    /// Returns whether a request may get no response and no end of its connection, so that only a time limit ends it.
    pub(crate) fn can_stall(&self) -> bool {
        !self.line.is_empty() || self.rules.faults.iter().any(|fault| fault.what == Trouble::Stall)
    }

    /// How many requests a time limit ended because they were made to stall.
    pub(crate) fn stalls(&self, fired: &[u32]) -> u32 {
        let stalls = self.rules.faults.iter().zip(fired).filter(|(fault, _)| fault.what == Trouble::Stall);
        stalls.map(|(_, times)| times).sum()
    }

    fn count(&self, struck: &Struck, which: impl Fn(&Fault) -> bool) -> u32 {
        let faults = self.rules.faults.iter().zip(&struck.faults);
        faults.filter(|(fault, _)| which(fault)).map(|(_, times)| times).sum()
    }

    /// The kinds of errors that what struck excuses. Where none the push has to succeed.
    pub(crate) fn errors_that_fit(&self, struck: &Struck) -> Vec<Kind> {
        let mut kinds = Vec::new();
        let faults = self.rules.faults.iter().zip(&struck.faults);
        for fault in faults.filter(|(_, times)| **times > 0).map(|(fault, _)| fault) {
            kinds.extend(end(fault));
        }
        let passing = self.count(struck, |fault| end(fault).is_none()) + struck.line + struck.slow;
        let calls = self.count(struck, |fault| [LOGIN, DESCRIBE, CHECK, ANY].contains(&fault.on.as_str()));
        // The retries suffice for the faults, not for requests that a busy machine answers too late.
        if self.hopeless && passing > 0 || struck.slow > 0 || calls >= SDK_TRIES {
            kinds.push(Kind::Unavailable);
        }
        // Twice in one request: a login that is refused as soon as it is made.
        if self.count(struck, |fault| fault.what == Trouble::ExpireTokens) > 1 {
            kinds.push(Kind::Permission);
        }
        // What is missing is sent again once.
        if self.count(struck, |fault| fault.what == Trouble::LoseLayer) > 1 {
            kinds.push(Kind::Refused);
        }
        kinds
    }

    /// How many images the faults can have prevented, apart from Ctrl-C: each fault one, except for those that strike
    /// everybody.
    pub(crate) fn most_failures(&self, struck: &Struck) -> u32 {
        let all =
            self.count(struck, |fault| fault.what == Trouble::ExpireTokens || [LOGIN, ANY].contains(&&fault.on[..]));
        let one = self.count(struck, |_| true) - all;
        let all = all + u32::from(self.goes_away(struck));
        (one + struck.line + struck.slow + all * self.parties()).min(self.parties())
    }

    /// Checks the bound on what is sent. `image` is the size of what is pushed.
    ///
    /// Where a session outlives a break, a break costs one chunk: the one that it cut is sent up to the cut, then to ask
    /// where to continue, and then from there. So each byte arrives once more for each break, and no more than a chunk
    /// arrives again. Where the session is lost, each byte may arrive twice more: in the request that finds out that
    /// the session is lost, and in the next session. A registry need not have noticed that a line broke, and keeps the
    /// session for the request that came over it: two requests go to find that out, so each byte may arrive three times
    /// more. And pushers know nothing of each other.
    pub(crate) fn judge_traffic(&self, struck: &Struck, traffic: &Traffic, image: u64) -> Result<(), String> {
        let lanes = self.concurrency as u32 * self.parties();
        let mut breaks = 0;
        for (fault, times) in self.rules.faults.iter().zip(&struck.faults) {
            breaks += times
                * match (&fault.what, fault.on.as_str()) {
                    (Trouble::Delay(_) | Trouble::TellStatus(_) | Trouble::TellLocation(_), _) => 0,
                    // It strikes every lane.
                    (Trouble::ExpireTokens, _) => lanes,
                    // It strikes every pusher that has put no manifest yet.
                    (Trouble::LoseLayer, _) => self.pushers() as u32,
                    (_, PART | CLOSE | CHECK | STATUS | ANY) => 1,
                    _ => 0,
                };
        }
        let forgets = |fault: &Fault| matches!(fault.what, Trouble::ForgetUpload | Trouble::LoseLayer);
        let survives = self.rules.interrupted == Interrupted::Resumable
            && self.count(struck, forgets) == 0
            && struck.line + struck.slow == 0;
        // A stream is lost as a whole, be it that a busy machine is taken for a slow line. Each layer is streamed once.
        let streams = if self.streams() { u64::from(self.parties()) } else { 0 };
        let (once, breaks) = (self.pushers() as u64, u64::from(breaks));
        let most =
            once + streams.min(once) + breaks * if survives { 1 } else { 2 } + u64::from(struck.line + struck.slow) * 3;
        if traffic.most > most {
            return Err(format!("a byte arrived {} times, where {most} would do: {breaks} breaks", traffic.most));
        }
        let chunk = self.chunk_size().unwrap_or(LARGEST_CHUNK);
        let twice = breaks * chunk + (once - 1 + streams) * image;
        if survives && traffic.twice > twice {
            let sent = traffic.twice;
            return Err(format!("{sent} bytes were sent again, where {twice} would do: {breaks} breaks"));
        }
        Ok(())
    }

    /// The registry may have been gone for everybody.
    fn goes_away(&self, struck: &Struck) -> bool {
        struck.line > 0 && self.line.iter().any(|it| matches!(it.how, How::Gone(_)))
    }

    /// How many sessions could not be closed: those that the pusher does not know of, and those whose closing was harmed.
    pub(crate) fn sessions_lost(&self, struck: &Struck, log: &[LogEntry]) -> usize {
        let untold =
            |fault: &Fault| fault.on == BEGIN && matches!(fault.what, Trouble::CutAnswer(_) | Trouble::TellLocation(_));
        let expired = self.count(struck, |fault| fault.what == Trouble::ExpireTokens);
        // The second login expires as well, or does not arrive in time.
        let is_late = self.count(struck, |fault| [LOGIN, ANY].contains(&&fault.on[..])) > 0;
        let no_login = expired > 1 || expired > 0 && is_late;
        let harmed = |status| matches!(status, 0 | 408 | 425 | 429 | 500..) || no_login && matches!(status, 401 | 403);
        let closings = log.iter().filter(|entry| entry.operation == CANCEL);
        let last: HashMap<&str, u16> = closings.map(|entry| (&entry.path[..], entry.status)).collect();
        let harmed = last.values().filter(|status| harmed(**status)).count();
        // While the registry is gone a client tries to close a session once, and without a login not even that.
        let is_gone = self.goes_away(struck) || no_login;
        let gone = if is_gone { 2 * self.sessions() } else { 0 } + self.sessions_cut_short(struck);
        self.count(struck, untold) as usize + (struck.line + struck.slow) as usize + gone + harmed
    }

    /// How many sessions may be left open, or are opened only later, because a push did not wait longer for its last responses.
    pub(crate) fn sessions_cut_short(&self, struck: &Struck) -> usize {
        if struck.is_cut_short { self.sessions() } else { 0 }
    }

    /// How many sessions may be open at a time.
    fn sessions(&self) -> usize {
        // The config of an image has one beside those of the layers.
        (self.concurrency + 1) * self.parties() as usize
    }
}

/// Something that can happen to a connection. The head of a request has some 3,000 bytes, most of them the token.
fn how(dice: &mut Dice) -> How {
    let there = dice.of(&[1, 300, 2_900, 3_300, 6_500, 20_000, 60_000, 400_000, 1 << 20, 7 << 20]);
    let back = dice.of(&[0, 1, 15, 60, 250, 300, 500, 900]);
    let time = Duration::from_millis(20 + dice.roll(280));
    let (cut, answer) = (How::CutAfter(there), How::CutAnswer(back));
    dice.of(&[
        How::Close,
        How::Reset,
        cut,
        cut,
        cut,
        answer,
        answer,
        How::Deaf(there),
        How::Mute(there),
        How::Gone(time),
    ])
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
        let at = dice.of(&[0, 1, 1_000, 70_000, 300_000, 1 << 20, CHUNK, 8 << 20, u64::MAX]);
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
