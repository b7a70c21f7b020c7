//! Running other programs and telling what they said when they fail.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// A program that could not be run or failed.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// It could not be started.
    #[error("cannot run `{command}`: is it installed?")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// It failed.
    #[error("`{command}` failed ({status}): {said}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it printed.
        said: String,
    },
}

/// Runs a program to its end and returns what it printed.
pub fn run<S: AsRef<OsStr>>(program: S, arguments: &[&str]) -> Result<String, ShellError> {
    let mut command = Command::new(program);
    command.args(arguments);
    output(&mut command)
}

/// Where a program of PostgreSQL is: the distribution keeps most of them off the path.
#[must_use]
pub fn postgres_program(name: &str) -> std::path::PathBuf {
    let packaged = std::path::Path::new("/usr/lib/postgresql/15/bin").join(name);
    if packaged.exists() { packaged } else { name.into() }
}

/// Runs a prepared command to its end and returns what it printed to stdout.
pub fn output(command: &mut Command) -> Result<String, ShellError> {
    let result = command.stdin(Stdio::null()).output();
    let result = result.map_err(|source| ShellError::Start { command: line(command), source })?;
    if result.status.success() {
        return Ok(String::from_utf8_lossy(&result.stdout).into_owned());
    }
    Err(ShellError::Failed { command: line(command), status: result.status, said: tail(&result) })
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn tail(output: &Output) -> String {
    const LONGEST: usize = 1500;
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let text = text.trim();
    let start = text.char_indices().rev().nth(LONGEST).map_or(0, |(at, _)| at);
    text[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_the_command_and_what_it_said() {
        assert_eq!(run("echo", &["a", "b"]).unwrap(), "a b\n");
        let error = run("sh", &["-c", "echo broken >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains("sh -c"), "{error}");
        assert!(run("no-such-program-here", &[]).unwrap_err().to_string().contains("installed"));
    }
}
