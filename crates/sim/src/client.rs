//! A simulated host that may run the writer: opens the volume, writes, is fenced or killed.

use zorya_log::opening::{OpenEffect, OpenFailed, OpenInput, Opening};
use zorya_log::replica::Origin;
use zorya_types::{Epoch, Slot};
use zorya_wire::message::log::{LogResponse, Refusal, ResponseBody};

use crate::network::{Address, Message};
use crate::session::Session;
use crate::world::{Event, Simulation, VOLUME};

/// How often a host ticks, in microseconds.
const TICK_US: u64 = 20_000;

/// What a host does.
#[derive(Debug)]
pub enum Role {
    /// Nothing.
    Idle,
    /// It opens the volume; whether the writer before is known to be dead.
    Opening(Box<Opening>, bool),
    /// It writes.
    Writing(Box<Session>),
}

/// A host.
#[derive(Debug)]
pub struct Client {
    /// What it does.
    pub role: Role,
    /// Counts its attempts to open: each has its own connections.
    pub session: u64,
    /// How far its clock is off, in microseconds.
    pub skew_us: i64,
    /// The highest epoch that it knows of.
    pub epoch: Epoch,
    /// The next request's id.
    pub next_id: u64,
}

impl Client {
    /// An idle host.
    pub fn new(skew_us: i64) -> Client {
        Client { role: Role::Idle, session: 0, skew_us, epoch: Epoch(0), next_id: 1 }
    }
}

impl Simulation {
    /// Starts to open the volume from a host.
    pub(crate) fn open(&mut self, index: usize, reaped: bool) {
        let now = self.now_at(self.clients[index].skew_us);
        let (membership, limit) = (self.membership.clone(), self.config.allocation_limit);
        let client = &mut self.clients[index];
        client.session += 1;
        client.epoch = client.epoch.next();
        let (opening, effects) = Opening::new(VOLUME, membership, client.epoch, reaped, limit, now);
        client.role = Role::Opening(Box::new(opening), reaped);
        let (epoch, session) = (client.epoch, client.session);
        self.trace(format_args!("host {index} opens with epoch {epoch}, reaped {reaped}"));
        self.at(TICK_US, Event::ClientTick { index, session });
        self.opening_effects(index, effects);
    }

    /// Kills what a host runs.
    pub(crate) fn kill(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.session += 1;
        client.role = Role::Idle;
        self.trace(format_args!("host {index} is killed"));
    }

    pub(crate) fn client_tick(&mut self, index: usize, session: u64) {
        if self.clients[index].session != session {
            return;
        }
        self.at(TICK_US, Event::ClientTick { index, session });
        match self.clients[index].role {
            Role::Idle => {}
            Role::Opening(..) => self.step_opening(index, OpenInput::Tick),
            Role::Writing(_) => self.session_tick(index),
        }
    }

    fn step_opening(&mut self, index: usize, input: OpenInput) {
        let now = self.now_at(self.clients[index].skew_us);
        if let Role::Opening(opening, _) = &mut self.clients[index].role {
            let effects = opening.step(now, input);
            self.opening_effects(index, effects);
        }
    }

    fn opening_effects(&mut self, index: usize, effects: Vec<OpenEffect>) {
        for effect in effects {
            match effect {
                OpenEffect::Send { slot, request } => {
                    self.client_sends(index, slot, request);
                }
                OpenEffect::Opened(opened) => self.opened(index, &opened),
                OpenEffect::Failed(failed) => self.opening_failed(index, failed),
                OpenEffect::Waiting(what) => self.trace(format_args!("host {index} waits for {what}")),
            }
        }
    }

    fn opening_failed(&mut self, index: usize, failed: OpenFailed) {
        self.trace(format_args!("host {index}: {failed}"));
        let client = &mut self.clients[index];
        let reaped = matches!(client.role, Role::Opening(_, true));
        if let OpenFailed::StaleEpoch { promised } = failed {
            client.epoch = client.epoch.max(promised);
        }
        client.role = Role::Idle;
        client.session += 1;
        let (session, after) = (client.session, 30_000 * (1 + index as u64));
        self.at(after, Event::Reopen { index, session, reaped });
    }

    pub(crate) fn client_sends(
        &mut self,
        index: usize,
        to: Slot,
        request: zorya_wire::message::log::LogRequest,
    ) -> u64 {
        let client = &mut self.clients[index];
        let (id, life) = (client.next_id, client.session);
        client.next_id += 1;
        let boot = self.node(to).boot;
        self.send(Message::Request { from: Address::Client(index), life, to, boot, id, request });
        id
    }

    /// An answer arrives at a host.
    pub(crate) fn client_receives(
        &mut self,
        index: usize,
        life: u64,
        slot: Slot,
        id: Origin,
        response: LogResponse,
    ) {
        if self.clients[index].session != life {
            return;
        }
        match (&self.clients[index].role, response.body) {
            (Role::Idle, _) => {}
            (Role::Opening(..), ResponseBody::Refused(Refusal::NoVolume(_))) => {
                self.step_opening(index, OpenInput::Unreachable { slot });
            }
            (Role::Opening(..), body) => {
                let response = LogResponse { body, records: response.records };
                self.step_opening(index, OpenInput::Response { slot, response });
            }
            (Role::Writing(_), ResponseBody::Acked(acked)) => self.session_acked(index, slot, id, &acked),
            (Role::Writing(_), ResponseBody::Refused(refusal)) => self.session_refused(index, slot, &refusal),
            (Role::Writing(_), _) => {}
        }
    }
}
