//! Opening a volume: Paxos with the epoch as ballot, as a pure state machine.
//!
//! ```text
//! Promising --(a write quorum promised, enough vouch)--> Accepting --(a write quorum accepted)--> CatchingUp
//!     |                                                      |                                        |
//!     +---------------- a newer epoch was promised ----------+---------------> Failed      a write quorum has
//!                                                                                          the cut: Opened
//! ```
//!
//! A lost request or answer is made good by the next tick. An opener that dies leaves a promise and perhaps an
//! accepted truncation behind, which a later one honours. [`decide`](self) holds the arithmetic.

mod decide;
#[cfg(test)]
mod tests;

use zorya_types::{Epoch, Lsn, Membership, Slot, Truncation, VolumeId};
use zorya_wire::message::log::{
    Accept, CatchUp, LogRequest, LogResponse, Promise, Promised, Refusal, ResponseBody, Told,
};

use crate::Now;

use decide::{Decision, Verdict, decide};

/// A request without an answer is sent again after so long, in milliseconds.
const RETRY_MS: u64 = 300;
/// A catch-up that makes no progress for so long has lost its source: the cut has to be decided anew.
const STALLED_MS: u64 = 10_000;

/// Something happened to an opening.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "made once per answer and consumed at once")]
pub enum OpenInput {
    /// A replica answered.
    Response {
        /// Which.
        slot: Slot,
        /// Its answer.
        response: LogResponse,
    },
    /// A replica cannot be reached now; requests to it are lost.
    Unreachable {
        /// Which.
        slot: Slot,
    },
    /// Time passed: about every 100 ms.
    Tick,
}

/// Something to do for an opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenEffect {
    /// Send this; it may be lost.
    Send {
        /// To which replica.
        slot: Slot,
        /// The request.
        request: LogRequest,
    },
    /// The volume is open.
    Opened(Opened),
    /// This ballot is over.
    Failed(OpenFailed),
    /// What it waits for, for status; said when it changes.
    Waiting(String),
}

/// Why a ballot is over. Nothing is lost: open again with a higher epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenFailed {
    /// A replica promised a newer epoch, or the same one to another opener.
    #[error("a replica promised epoch {promised}: open again with a higher one")]
    StaleEpoch {
        /// The epoch that it promised.
        promised: Epoch,
    },
    /// No replica that has the log up to the cut can be reached any more.
    #[error("no write quorum could get the log up to {cut}: open again with a higher epoch than {epoch}")]
    Stalled {
        /// This ballot.
        epoch: Epoch,
        /// The cut.
        cut: Lsn,
    },
}

/// An open volume: what its writer starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The volume.
    pub volume: VolumeId,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// The newest membership that a replica knows.
    pub membership: Membership,
    /// Where the log ends: VDL now.
    pub cut: Lsn,
    /// Where the epoch's first record starts.
    pub first: Lsn,
    /// The highest stamp in the log, microseconds since 1970.
    pub stamp_us: u64,
    /// The highest positions that any replica was told.
    pub told: Told,
    /// What the replicas accepted.
    pub truncation: Truncation,
    /// Who has the log up to the cut.
    pub scls: Vec<(Slot, Lsn)>,
    /// The replicas' lease runs from here, in monotonic milliseconds: the moment before the truncation was sent.
    pub lease_from_ms: u64,
}

/// Where an opening is with one replica.
#[derive(Clone, Debug, Default)]
struct Contact {
    promised: Option<Promised>,
    accepted: bool,
    /// Its SCL when it had caught up to the cut.
    caught_up: Option<Lsn>,
    /// When to send the current phase's request again, in monotonic milliseconds.
    retry_at_ms: u64,
    /// Why it has not answered, in words.
    trouble: Option<String>,
    /// Its disk is not the one that was admitted: it is never asked again.
    excluded: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    Promising,
    Accepting { decision: Decision, since_ms: u64 },
    CatchingUp { decision: Decision, lease_from_ms: u64, since_ms: u64 },
    Over,
}

/// One attempt to open a volume, with one ballot.
#[derive(Debug)]
pub struct Opening {
    volume: VolumeId,
    membership: Membership,
    epoch: Epoch,
    reaped: bool,
    allocation_limit: u64,
    contacts: Vec<Contact>,
    phase: Phase,
    /// The last status that was said.
    said: String,
}

impl Opening {
    /// Starts to open a volume with this ballot. `reaped` says that the writer before is known to be dead.
    #[must_use]
    pub fn new(
        volume: VolumeId,
        membership: Membership,
        epoch: Epoch,
        reaped: bool,
        allocation_limit: u64,
        now: Now,
    ) -> (Opening, Vec<OpenEffect>) {
        let contacts = vec![Contact::default(); membership.members.len()];
        let mut opening = Opening {
            volume,
            membership,
            epoch,
            reaped,
            allocation_limit,
            contacts,
            phase: Phase::Promising,
            said: String::new(),
        };
        let mut out = Vec::new();
        opening.send_due(now, &mut out);
        (opening, out)
    }

    /// Takes in what happened and says what to do.
    pub fn step(&mut self, now: Now, input: OpenInput) -> Vec<OpenEffect> {
        let mut out = Vec::new();
        match input {
            OpenInput::Response { slot, response } => self.answered(now, slot, response, &mut out),
            OpenInput::Unreachable { slot } => self.in_trouble(slot, "cannot be reached".to_owned()),
            OpenInput::Tick => self.send_due(now, &mut out),
        }
        self.move_on(now, &mut out);
        self.say_what_for(&mut out);
        out
    }

    fn contact(&mut self, slot: Slot) -> Option<&mut Contact> {
        self.contacts.get_mut(usize::from(slot.0))
    }

    fn in_trouble(&mut self, slot: Slot, trouble: String) {
        if let Some(contact) = self.contact(slot) {
            contact.trouble = Some(trouble);
        }
    }

    fn answered(&mut self, now: Now, slot: Slot, response: LogResponse, out: &mut Vec<OpenEffect>) {
        let (epoch, cut) = (self.epoch, self.cut());
        let Some(contact) = self.contact(slot) else { return };
        match response.body {
            ResponseBody::Promised(promised) if promised.epoch == epoch && contact.promised.is_none() => {
                contact.trouble = None;
                contact.promised = Some(promised);
            }
            ResponseBody::Accepted(accepted) if accepted.epoch == epoch && cut.is_some() => {
                contact.trouble = None;
                if !std::mem::replace(&mut contact.accepted, true) {
                    contact.retry_at_ms = 0;
                    self.send_due(now, out);
                }
            }
            ResponseBody::CaughtUp(done) if done.epoch == epoch && cut.is_some_and(|cut| done.scl >= cut) => {
                contact.trouble = None;
                contact.caught_up = Some(done.scl);
            }
            ResponseBody::Refused(refusal) => self.refused(now, slot, refusal, out),
            _ => {}
        }
    }

    fn refused(&mut self, now: Now, slot: Slot, refusal: Refusal, out: &mut Vec<OpenEffect>) {
        let own = self.epoch;
        let Some(contact) = self.contact(slot) else { return };
        match refusal {
            Refusal::StaleEpoch(stale) if stale.promised >= own => {
                if !matches!(self.phase, Phase::Over) {
                    self.phase = Phase::Over;
                    out.push(OpenEffect::Failed(OpenFailed::StaleEpoch { promised: stale.promised }));
                }
            }
            Refusal::LeaseHeld(held) => {
                contact.trouble = Some("still grants the old writer's lease".to_owned());
                contact.retry_at_ms = now.monotonic_ms + held.remaining_ms + 1;
            }
            Refusal::OtherIncarnation(_) => {
                contact.trouble = Some("has a disk that was not admitted (wiped or replaced)".to_owned());
                contact.excluded = true;
            }
            Refusal::NoVolume(_) => contact.trouble = Some("does not keep the volume".to_owned()),
            Refusal::Invalid(reason) => contact.trouble = Some(format!("refused: {}", reason.text)),
            Refusal::Stopped(stopped) => contact.trouble = Some(stopped.reason.text),
            Refusal::StaleEpoch(_) | Refusal::ClockAhead(_) => {}
        }
    }

    fn cut(&self) -> Option<Lsn> {
        match &self.phase {
            Phase::Accepting { decision, .. } | Phase::CatchingUp { decision, .. } => {
                Some(decision.truncation.own().cut)
            }
            Phase::Promising | Phase::Over => None,
        }
    }

    /// Sends every replica the request that it has not answered yet, when it is time to.
    fn send_due(&mut self, now: Now, out: &mut Vec<OpenEffect>) {
        for index in 0..self.contacts.len() {
            let slot = Slot(index as u8);
            let contact = &self.contacts[index];
            if contact.excluded || now.monotonic_ms < contact.retry_at_ms {
                continue;
            }
            if let Some(request) = self.request_for(slot) {
                self.contacts[index].retry_at_ms = now.monotonic_ms + RETRY_MS;
                out.push(OpenEffect::Send { slot, request });
            }
        }
    }

    fn request_for(&self, slot: Slot) -> Option<LogRequest> {
        let epoch = self.epoch;
        let contact = self.contacts.get(usize::from(slot.0))?;
        let incarnation = self.membership.member(slot)?.incarnation;
        let decision = match &self.phase {
            Phase::Over => return None,
            Phase::Promising => None,
            Phase::Accepting { decision, .. } | Phase::CatchingUp { decision, .. } => Some(decision),
        };
        match decision {
            None if contact.promised.is_none() => {
                Some(Promise { epoch, incarnation, reaped: self.reaped }.into())
            }
            Some(decision) if !contact.accepted && contact.promised.is_some() => {
                Some(Accept { epoch, incarnation, truncation: decision.truncation.clone() }.into())
            }
            Some(decision) if contact.accepted && contact.caught_up.is_none() => {
                Some(CatchUp { epoch, incarnation, upto: decision.truncation.own().cut }.into())
            }
            _ => None,
        }
    }

    fn quorum(&self) -> usize {
        usize::from(self.membership.profile.write_quorum)
    }

    fn move_on(&mut self, now: Now, out: &mut Vec<OpenEffect>) {
        match self.phase.clone() {
            Phase::Promising => self.decide_if_able(now, out),
            Phase::Accepting { decision, since_ms } => {
                if self.contacts.iter().filter(|contact| contact.accepted).count() >= self.quorum() {
                    let since = now.monotonic_ms;
                    self.phase = Phase::CatchingUp { decision, lease_from_ms: since_ms, since_ms: since };
                    self.open_if_caught_up(now, out);
                }
            }
            Phase::CatchingUp { .. } => self.open_if_caught_up(now, out),
            Phase::Over => {}
        }
    }

    fn replies(&self) -> Vec<(Slot, &Promised)> {
        let contacts = self.contacts.iter().enumerate();
        contacts.filter_map(|(slot, contact)| Some((Slot(slot as u8), contact.promised.as_ref()?))).collect()
    }

    fn decide_if_able(&mut self, now: Now, out: &mut Vec<OpenEffect>) {
        let profile = &self.membership.profile;
        if let Verdict::Decided(decision) =
            decide(&self.replies(), profile, self.epoch, self.allocation_limit)
        {
            self.phase = Phase::Accepting { decision, since_ms: now.monotonic_ms };
            for contact in self.contacts.iter_mut().filter(|contact| contact.promised.is_some()) {
                contact.retry_at_ms = 0;
            }
            self.send_due(now, out);
        }
    }

    fn open_if_caught_up(&mut self, now: Now, out: &mut Vec<OpenEffect>) {
        let Phase::CatchingUp { decision, lease_from_ms, since_ms } = &self.phase else { return };
        let own = decision.truncation.own();
        let contacts = self.contacts.iter().enumerate();
        let scls: Vec<_> =
            contacts.filter_map(|(slot, contact)| Some((Slot(slot as u8), contact.caught_up?))).collect();
        if scls.len() >= self.quorum() {
            let opened = Opened {
                volume: self.volume,
                epoch: self.epoch,
                membership: decision.membership.clone(),
                cut: own.cut,
                first: own.first,
                stamp_us: decision.stamp_us,
                told: decision.told,
                truncation: decision.truncation.clone(),
                scls,
                lease_from_ms: *lease_from_ms,
            };
            self.phase = Phase::Over;
            out.push(OpenEffect::Opened(opened));
        } else if now.monotonic_ms >= since_ms + STALLED_MS {
            let failed = OpenFailed::Stalled { epoch: self.epoch, cut: own.cut };
            self.phase = Phase::Over;
            out.push(OpenEffect::Failed(failed));
        }
    }

    fn say_what_for(&mut self, out: &mut Vec<OpenEffect>) {
        let text = match &self.phase {
            Phase::Over => return,
            Phase::Promising => {
                match decide(&self.replies(), &self.membership.profile, self.epoch, self.allocation_limit) {
                    Verdict::Waiting(what) => what,
                    Verdict::Decided(_) => return,
                }
            }
            Phase::Accepting { .. } => "a write quorum to accept where the log ends".to_owned(),
            Phase::CatchingUp { .. } => "a write quorum to have the log up to its end".to_owned(),
        };
        let text = text + &self.troubles();
        if text != self.said {
            self.said.clone_from(&text);
            out.push(OpenEffect::Waiting(text));
        }
    }

    fn troubles(&self) -> String {
        let contacts = self.contacts.iter().zip(&self.membership.members);
        let troubles = contacts.filter_map(|(contact, member)| {
            contact.trouble.as_ref().map(|trouble| format!("{} {trouble}", member.node))
        });
        let list = troubles.collect::<Vec<_>>().join("; ");
        if list.is_empty() { list } else { format!(" ({list})") }
    }
}
