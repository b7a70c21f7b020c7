//! `zorya up`: makes a region if there is none, starts its agent if none runs, waits until everything serves.
//!
//! The agent runs in a session of its own. In the foreground `up` stays, starts it again should it die, and on Ctrl-C stops
//! everything; what it has started it can always stop or go on with, since the agent can be asked either at any time.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use zorya_compute::agent::lock::{self, Lock};
use zorya_compute::agent::protocol::{NewCluster, Request};
use zorya_compute::agent::status::Document;
use zorya_compute::layout::Layout;
use zorya_compute::region::{Engine, Region, RegionStore};
use zorya_compute::{key, logs};
use zorya_types::Profile;

use super::Invocation;
use crate::agent_client;
use crate::cli::{Output, Up};
use crate::exit::Usage;

/// The cluster that a new region starts with.
const FIRST_CLUSTER: &str = "main";
/// How long an agent may take to listen.
const AGENT_START: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(10);

/// Says what a plain user lacks before anything is started.
fn check_can_mount() -> anyhow::Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let settings = ["/proc/sys/kernel/unprivileged_userns_clone", "/proc/sys/user/max_user_namespaces"];
    let forbids = |setting: &&str| std::fs::read_to_string(setting).is_ok_and(|value| value.trim() == "0");
    if let Some(setting) = settings.iter().find(|setting| forbids(setting)) {
        bail!(
            "{setting} is 0, so that only root can mount a volume: set it to another value, or run as root"
        );
    }
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    device.context("this user cannot open /dev/fuse: load the fuse module and allow it, or run as root")?;
    Ok(())
}

/// Brings the region up.
pub fn run(invocation: &Invocation, options: Up) -> anyhow::Result<ExitCode> {
    check_can_mount()?;
    let interrupted = catch_interrupts()?;
    let wants_first_cluster = ensure_region(invocation, &options)?;
    let mut agent = match agent_client::is_there(&invocation.home) {
        true => None,
        false => Some(start_agent(invocation)?),
    };
    let asking =
        Asking { invocation, wait_seconds: options.wait.seconds, first_cluster: wants_first_cluster };
    let mut outcome = asking.until_up(&interrupted);
    if outcome.is_err() && !interrupted.load(Ordering::Relaxed) && !agent_client::is_there(&invocation.home) {
        // It was dying while it was asked.
        agent = Some(start_agent(invocation)?);
        outcome = asking.until_up(&interrupted);
    }
    if interrupted.load(Ordering::Relaxed) {
        return stop(invocation);
    }
    print(invocation, &outcome?)?;
    match agent.as_mut() {
        Some(agent) if !options.detach => stay(invocation, agent, &interrupted),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Makes region and key unless they are there. Returns whether its first cluster is still to be created.
fn ensure_region(invocation: &Invocation, options: &Up) -> anyhow::Result<bool> {
    let home = &invocation.home;
    home.make()?;
    if home.region_file().exists() {
        // Read here so that a damaged or newer file is told at once, and not by an agent that does not start.
        return Ok(invocation.region()?.wants_first_cluster);
    }
    // Two `up` at once must not make two regions.
    let _lock = Lock::take(&home.lock_file())?;
    let profile = Profile::named(&options.profile).map_err(|error| Usage(error.to_string()))?;
    let layout = match &options.layout {
        Some(path) => Layout::read(path)?,
        None => Layout::local(options.zones, options.nodes_per_zone),
    };
    let nodes = layout.resolve(home)?;
    let mut region = Region::new(&profile, nodes, layout.compute);
    region.wants_first_cluster = !options.no_cluster;
    if !options.no_cluster {
        region.place(&profile).map_err(|error| Usage(error.to_string()))?;
    }
    // The key first: a region without its key could not be used, a key without a region is replaced.
    key::create(&home.key_file(), region.id)?;
    RegionStore::create(home.region_file(), region)?;
    Ok(!options.no_cluster)
}

/// Starts the agent and waits until it listens.
pub fn start_agent(invocation: &Invocation) -> anyhow::Result<Child> {
    let home = &invocation.home;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let open = || {
        logs::open(&home.agent_log()).with_context(|| format!("cannot open {}", home.agent_log().display()))
    };
    let mut command = Command::new(program);
    command.arg("agent").arg("--home").arg(home.root());
    command.stdin(Stdio::null()).stdout(open()?).stderr(open()?).process_group(0);
    let mut agent = command.spawn().context("cannot start the agent")?;
    let started = Instant::now();
    while !agent_client::is_there(home) {
        if let Some(status) = agent.try_wait().context("cannot wait for the agent")? {
            if let Some(pid) = lock::holder(&home.lock_file()) {
                bail!(
                    "another process ({pid}) is starting or stopping this region: wait for it and try again"
                );
            }
            let last = logs::tail(&home.agent_log(), 5).join("\n");
            bail!("the agent ended ({status}); its log ends with:\n{last}");
        }
        if started.elapsed() > AGENT_START {
            bail!("the agent (pid {}) does not listen: see {}", agent.id(), home.agent_log().display());
        }
        std::thread::sleep(POLL);
    }
    Ok(agent)
}

/// Asks the agent to bring everything up, on a thread of its own, so that Ctrl-C is heard meanwhile.
struct Asking<'a> {
    invocation: &'a Invocation,
    wait_seconds: u64,
    first_cluster: bool,
}

impl Asking<'_> {
    fn until_up(&self, interrupted: &Interrupted) -> anyhow::Result<Value> {
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| self.ask());
            while !asking.is_finished() {
                if interrupted.load(Ordering::Relaxed) {
                    // Everything that waits for the agent is answered once it shuts down.
                    let _ = agent_client::ask(&self.invocation.home, Request::Shutdown {}, |_| {});
                    break;
                }
                std::thread::sleep(POLL);
            }
            asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn ask(&self) -> anyhow::Result<Value> {
        let up = || self.invocation.ask(Request::Up { wait_seconds: self.wait_seconds });
        if !self.first_cluster {
            return up();
        }
        let cluster = NewCluster {
            name: FIRST_CLUSTER.to_owned(),
            engine: Engine::Postgres,
            profile: None,
            port: None,
            parameters: Default::default(),
            cache_bytes: None,
            bin_dir: None,
        };
        // The nodes start meanwhile: the cluster waits for them.
        let created =
            self.invocation.ask(Request::CreateCluster { cluster, wait_seconds: self.wait_seconds })?;
        drop(created);
        up()
    }
}

fn print(invocation: &Invocation, document: &Value) -> anyhow::Result<()> {
    let parsed: Document = serde_json::from_value(document.clone())
        .context("the agent's answer is malformed: is it another version of zorya?")?;
    if invocation.output == Output::Json {
        return crate::output::json(document);
    }
    let mut text = crate::output::document(&parsed);
    for endpoint in parsed.clusters.iter().filter_map(|cluster| cluster.endpoint.as_ref()) {
        text.push_str(&format!("\n{endpoint}\n"));
    }
    crate::output::text(&text)
}

/// Stays until interrupted, and starts the agent again if it dies.
fn stay(invocation: &Invocation, agent: &mut Child, interrupted: &Interrupted) -> anyhow::Result<ExitCode> {
    eprintln!("\nCtrl-C stops the region.");
    loop {
        if interrupted.load(Ordering::Relaxed) {
            return stop(invocation);
        }
        match agent.try_wait().context("cannot wait for the agent")? {
            None => {}
            // It was asked to end, by `zorya down`.
            Some(status) if status.success() => return Ok(ExitCode::SUCCESS),
            Some(status) => {
                let how =
                    status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
                eprintln!("zorya: the agent died ({how}); starting it again");
                *agent = start_agent(invocation)?;
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn stop(invocation: &Invocation) -> anyhow::Result<ExitCode> {
    eprintln!("\nzorya: stopping the region");
    super::down::bring_down(invocation)?;
    eprintln!("zorya: everything is stopped; `zorya up` goes on from here");
    Ok(ExitCode::from(130))
}

type Interrupted = Arc<AtomicBool>;

/// Notes SIGINT, SIGTERM and SIGHUP instead of ending by them.
fn catch_interrupts() -> anyhow::Result<Interrupted> {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupted = Interrupted::default();
    let noted = interrupted.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a thread")?;
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let listen = |kind| signal(kind);
            let (Ok(mut int), Ok(mut term), Ok(mut hup)) = (
                listen(SignalKind::interrupt()),
                listen(SignalKind::terminate()),
                listen(SignalKind::hangup()),
            ) else {
                return;
            };
            let _ = ready.send(());
            loop {
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {}, _ = hup.recv() => {} }
                if noted.swap(true, Ordering::Relaxed) {
                    eprintln!("zorya: still stopping; `zorya down` finishes it if you end this with SIGKILL");
                }
            }
        });
    });
    is_ready.recv().context("cannot listen for signals")?;
    Ok(interrupted)
}
