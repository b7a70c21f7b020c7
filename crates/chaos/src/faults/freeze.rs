//! SIGSTOP and later SIGCONT: a process that neither answers nor resets its connections.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::targets::Targets;
use super::{Fault, FaultError, Scene};
use crate::process::{self, Process};

/// What is frozen.
#[derive(Clone, Debug)]
enum Who {
    Nodes(Targets),
    Mount,
    /// The first process and all its children.
    Engine,
}

/// Freezes processes.
#[derive(Debug)]
pub struct Freeze {
    who: Who,
    frozen: Vec<Process>,
}

impl Freeze {
    /// Freezes these storage nodes.
    #[must_use]
    pub fn nodes(targets: Targets) -> Freeze {
        Freeze { who: Who::Nodes(targets), frozen: Vec::new() }
    }

    /// Freezes the mount daemon.
    #[must_use]
    pub fn mount() -> Freeze {
        Freeze { who: Who::Mount, frozen: Vec::new() }
    }

    /// Freezes the engine.
    #[must_use]
    pub fn engine() -> Freeze {
        Freeze { who: Who::Engine, frozen: Vec::new() }
    }

    fn find(&self, scene: Scene<'_>) -> Result<Vec<Process>, FaultError> {
        match &self.who {
            Who::Nodes(targets) => {
                let found: Result<_, _> = targets.ids.iter().map(|id| scene.region.node(id)).collect();
                Ok(found?)
            }
            Who::Mount => Ok(vec![scene.region.writer()?.1]),
            Who::Engine => {
                let engine = scene.region.writer()?.0;
                Ok(std::iter::once(engine).chain(process::children(engine.pid)).collect())
            }
        }
    }
}

impl Fault for Freeze {
    fn inject(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        self.frozen = self.find(scene)?;
        for process in &self.frozen {
            process.signal(Signal::SIGSTOP)?;
        }
        Ok(())
    }

    fn seen(&mut self, _scene: Scene<'_>) -> Option<String> {
        let stopped = self.frozen.iter().filter(|process| process.is_stopped()).count();
        // A process inside a request to a frozen mount stops when it comes back; the first one tells.
        let enough = match &self.who {
            Who::Nodes(_) | Who::Mount => stopped == self.frozen.len(),
            Who::Engine => stopped > 0,
        };
        let who = match &self.who {
            Who::Nodes(targets) => targets.names(),
            Who::Mount => "the mount daemon".to_owned(),
            Who::Engine => "the engine".to_owned(),
        };
        enough.then(|| format!("{stopped} of {} processes of {who} are in state T", self.frozen.len()))
    }

    fn heal(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        for process in &self.frozen {
            process.signal(Signal::SIGCONT)?;
        }
        for process in &self.frozen {
            crate::wait::until_true("going on after SIGCONT", Duration::from_secs(10), || {
                !process.is_stopped()
            })?;
        }
        Ok(scene.region.wait_healthy(super::targets::BACK)?)
    }
}
