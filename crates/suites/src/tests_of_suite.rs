//! Which tests a suite of MariaDB has, and in which order they run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// A part of a suite: the `number`th of `of`, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which one.
    pub number: usize,
    /// Of how many.
    pub of: usize,
}

impl Part {
    /// Reads `number/of`.
    pub fn parse(text: &str) -> Result<Part, String> {
        let parsed = text
            .split_once('/')
            .and_then(|(number, of)| Some(Part { number: number.parse().ok()?, of: of.parse().ok()? }));
        let is_one = |part: &Part| (1..=part.of).contains(&part.number);
        parsed.filter(is_one).ok_or_else(|| format!("{text:?} is not like 1/8"))
    }

    /// This part of a list: neighbours stay together, and every element is in one part.
    pub fn of<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        let bound = |number: usize| all.len() * number / self.of;
        &all[bound(self.number - 1)..bound(self.number)]
    }
}

/// What the names of tests have in common that reach a file system in more ways than others: these run first.
const FILES: &[&str] = &[
    "import",
    "export",
    "encrypt",
    "truncate",
    "discard",
    "tablespace",
    "temporary",
    "tmp",
    "file",
    "punch",
    "compress",
    "trim",
    "sparse",
    "crash",
    "recover",
    "undo",
    "redo",
    "log_",
    "doublewrite",
    "alter",
    "rename",
    "drop",
    "crop",
    "isl",
    "symlink",
    "load",
    "dump",
    "outfile",
    "partition",
    "create",
    "aria",
    "maria",
    "myisam",
    "repair",
    "binlog",
    "kill",
    "restart",
    "lock",
    "case",
    "db",
    "large",
    "page_size",
    "16k",
    "32k",
    "64k",
    "archive",
    "csv",
    "merge",
    "foreign",
    "backup",
    "flush",
    "shutdown",
    "bootstrap",
    "read_only",
    "disk",
    "full",
    "space",
];

/// The tests of a suite as `mtr` names them, those about files first.
pub fn tests(mtr: &Path, suite: &str) -> Result<Vec<String>> {
    let places = [mtr.join(suite), mtr.join("suite").join(suite).join("t"), mtr.join("suite").join(suite)];
    let mut names = Vec::new();
    for place in places.iter().filter(|place| place.is_dir()) {
        names.extend(names_in(place)?);
    }
    ensure!(!names.is_empty(), "{} has no suite {suite}", mtr.display());
    names.sort();
    // False sorts before true; the sort is stable.
    names.sort_by_key(|name| !FILES.iter().any(|word| name.contains(word)));
    Ok(names.into_iter().map(|name| format!("{suite}.{name}")).collect())
}

fn names_in(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".test").map(str::to_owned));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        let all: Vec<u32> = (0..23).collect();
        for of in 1..30 {
            let parts = (1..=of).flat_map(|number| Part { number, of }.of(&all).to_vec());
            assert_eq!(parts.collect::<Vec<_>>(), all);
        }
    }

    #[test]
    fn what_is_no_part_is_refused() {
        assert_eq!(Part::parse("2/8"), Ok(Part { number: 2, of: 8 }));
        for text in ["", "2", "0/8", "9/8", "1/0", "a/b"] {
            assert!(Part::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tests_about_files_come_first() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("suite/x/t");
        fs::create_dir_all(&place).unwrap();
        for name in ["a.test", "b_import.test", "b_import.opt", "c.result", "z_alter.test"] {
            fs::write(place.join(name), "").unwrap();
        }
        assert_eq!(tests(directory.path(), "x").unwrap(), ["x.b_import", "x.z_alter", "x.a"]);
        assert!(tests(directory.path(), "y").is_err());
    }
}
