//! Where the distribution keeps the PostgreSQL that is verified.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use zorya_redo::postgres::major::Major;
use zorya_redo::postgres::release::Release;

/// The server's programs.
pub fn programs(major: Major) -> PathBuf {
    format!("/usr/lib/postgresql/{}/bin", major.number()).into()
}

/// The programs that run suites.
pub fn suite_programs(major: Major) -> PathBuf {
    format!("/usr/lib/postgresql/{}/lib/pgxs/src/test", major.number()).into()
}

/// Which minor release is installed.
pub fn release(major: Major) -> Result<Release> {
    let output = Command::new(programs(major).join("postgres")).arg("--version").output();
    let output = output.with_context(|| format!("{major} is not installed"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let prefix = format!("{}.", major.number());
    let minor = text.split_whitespace().find_map(|word| word.strip_prefix(&prefix));
    let minor = minor.with_context(|| format!("not {major}: {text}"))?;
    Ok(Release { major, minor: minor.parse().context("a strange version")? })
}
