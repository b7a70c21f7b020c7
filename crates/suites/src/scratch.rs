//! Where servers and suites have their files for the time of a run.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use zorya_compute::engine::Installed;

/// A directory that engines' users can get through, and that goes away.
pub fn directory(parent: &Path) -> Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix("zorya-suites-").tempdir_in(parent);
    let directory = made.with_context(|| format!("cannot make a directory in {}", parent.display()))?;
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755))?;
    Ok(directory)
}

/// Makes a directory of the engine's user.
pub fn owned_directory(path: &Path, installed: &Installed) -> Result<()> {
    fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
    chown(path, Some(installed.uid.as_raw()), Some(installed.gid.as_raw()))?;
    Ok(())
}

/// A program as the engine's user. With the pid of a mount daemon it sees what is mounted there.
pub fn as_engine(installed: &Installed, mount: Option<u32>, program: &str) -> Command {
    let mut command = match mount {
        Some(pid) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--mount=/proc/{pid}/ns/mnt")).args(["--", "setpriv"]);
            command
        }
        None => Command::new("setpriv"),
    };
    command.arg(format!("--reuid={}", installed.uid)).arg(format!("--regid={}", installed.gid));
    command.args(["--clear-groups", program]);
    command
}

/// What a server says of its version.
pub fn version(server: &Path) -> Result<String> {
    let output = Command::new(server).arg("--version").output();
    let output = output.with_context(|| format!("cannot run {}", server.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    // MariaDB begins with its own path.
    Ok(text.split_once("  Ver ").map_or(text.clone(), |(_, version)| version.to_owned()))
}
