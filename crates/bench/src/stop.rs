//! Child programs that are run to their end, but not beyond a time limit or the operator's Ctrl-C.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Raised by SIGINT or SIGTERM. Children are given process groups of their own, so that a Ctrl-C reaches this process
/// alone, which then ends them in order.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    raised: Arc<AtomicBool>,
}

impl Interrupt {
    /// Starts to listen, for as long as this process lives.
    pub fn listen() -> io::Result<Interrupt> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = Interrupt::default();
        let raised = Arc::clone(&interrupt.raised);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                let (Ok(mut int), Ok(mut term)) =
                    (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
                else {
                    return;
                };
                tokio::select! { _ = int.recv() => (), _ = term.recv() => () }
                raised.store(true, Ordering::Relaxed);
            });
        })?;
        Ok(interrupt)
    }

    #[cfg(test)]
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Relaxed);
    }

    /// Whether the operator wants the run to end.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }
}

/// A program that did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("cannot run {program}")]
    Start {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{program} failed ({status}): {stderr}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it wrote to its standard error.
        stderr: String,
    },
    /// It took too long and was killed.
    #[error("{program} was not done after {} s: {stderr}", limit.as_secs())]
    TimedOut {
        /// The program.
        program: String,
        /// How long it was waited for.
        limit: Duration,
        /// The last lines that it wrote to its standard error.
        stderr: String,
    },
    /// The operator interrupted the run.
    #[error("interrupted")]
    Interrupted,
}

/// What a program wrote.
#[derive(Clone, Debug)]
pub struct Output {
    /// To its standard output.
    pub stdout: String,
    /// To its standard error.
    pub stderr: String,
}

/// Runs a program to its end.
pub fn run(command: &mut Command, limit: Duration, interrupt: &Interrupt) -> Result<Output, ChildError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let start = |source| ChildError::Start { program: program.clone(), source };
    // Files, since a full pipe would block the child.
    let mut stdout = tempfile::tempfile().map_err(start)?;
    let mut stderr = tempfile::tempfile().map_err(start)?;
    command.stdin(Stdio::null()).process_group(0);
    command.stdout(stdout.try_clone().map_err(start)?).stderr(stderr.try_clone().map_err(start)?);
    let mut child = command.spawn().map_err(start)?;
    let ended = wait(&mut child, limit, interrupt);
    let stderr = read_back(&mut stderr);
    match ended {
        Ended::Exited(status) if status.success() => Ok(Output { stdout: read_back(&mut stdout), stderr }),
        Ended::Exited(status) => Err(ChildError::Failed { program, status, stderr: last_lines(&stderr) }),
        Ended::TimedOut => Err(ChildError::TimedOut { program, limit, stderr: last_lines(&stderr) }),
        Ended::Interrupted => Err(ChildError::Interrupted),
        Ended::Lost(source) => Err(ChildError::Start { program, source }),
    }
}

/// How waiting for a child came to its end.
pub enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// Killed at the time limit.
    TimedOut,
    /// Killed at the operator's wish.
    Interrupted,
    /// It cannot be waited for.
    Lost(io::Error),
}

const POLL: Duration = Duration::from_millis(10);

/// Waits for a child and kills it at the time limit or at the operator's wish.
pub fn wait(child: &mut Child, limit: Duration, interrupt: &Interrupt) -> Ended {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ended::Exited(status),
            Ok(None) => {}
            Err(error) => return Ended::Lost(error),
        }
        let ended = if interrupt.is_raised() {
            Ended::Interrupted
        } else if started.elapsed() >= limit {
            Ended::TimedOut
        } else {
            std::thread::sleep(POLL);
            continue;
        };
        // It may have ended by itself meanwhile; then there is nobody left to kill, which is as good.
        let _ = child.kill();
        let _ = child.wait();
        return ended;
    }
}

/// Asks a child to end with `signal`; kills it if it has not after `patience`.
pub fn end(child: &mut Child, signal: Signal, patience: Duration) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
    wait(child, patience, &Interrupt::default());
}

fn read_back(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last few lines, which is where programs say what is wrong.
#[must_use]
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration, interrupt: &Interrupt) -> Result<Output, ChildError> {
        run(Command::new("sh").args(["-c", script]), limit, interrupt)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_a_program_writes_comes_back() {
        let output = shell("echo out; echo err >&2", MINUTE, &Interrupt::default()).unwrap();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn a_failure_says_the_last_lines() {
        let error = shell("seq 1 9 >&2; exit 3", MINUTE, &Interrupt::default()).unwrap_err().to_string();
        assert!(error.contains("5\n6\n7\n8\n9") && !error.contains('4'), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("/no/such"), MINUTE, &Interrupt::default()).unwrap_err();
        assert!(matches!(&error, ChildError::Start { program, .. } if program == "/no/such"), "{error}");
    }

    #[test]
    fn nobody_waits_beyond_the_limit_or_an_interrupt() {
        let error = shell("sleep 600", Duration::from_millis(50), &Interrupt::default()).unwrap_err();
        assert!(matches!(error, ChildError::TimedOut { .. }), "{error}");
        let interrupt = Interrupt::default();
        interrupt.raise();
        let error = shell("sleep 600", MINUTE, &interrupt).unwrap_err();
        assert!(matches!(error, ChildError::Interrupted), "{error}");
    }
}
