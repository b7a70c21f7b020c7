//! Files beside relations: compared with those of the stopped server, and written into a data directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use zorya_redo::postgres::BLOCK_LEN;
use zorya_redo::postgres::control::ControlFile;
use zorya_redo::postgres::origins::Origins;
use zorya_redo::postgres::page::Block;
use zorya_redo::postgres::slru::{PAGES_PER_SEGMENT, Slru};

use super::{ALL, Metadata, names};

impl Metadata {
    /// Compares all of it with the files of the stopped server.
    pub fn compare_files(&mut self, data: &Path) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        for slru in ALL {
            self.compare_slru(data, slru, &mut findings)?;
        }
        for (directory, map) in &self.maps {
            let path = match directory.database {
                0 => "global/pg_filenode.map".to_owned(),
                database => format!("base/{database}/pg_filenode.map"),
            };
            self.compared.files += 1;
            if fs::read(data.join(&path)).context("reading a relation map")? != *map {
                findings.push(format!("{path} differs"));
            }
        }
        let mut files = names(&data.join("pg_twophase"))?;
        files.sort();
        let mut expected: Vec<_> = self.prepared.values().map(|(name, _)| name.clone()).collect();
        expected.sort();
        if files != expected {
            findings.push(format!("prepared transactions: files {files:?}, derived {expected:?}"));
        }
        for (name, state) in self.prepared.values() {
            self.compared.files += 1;
            if fs::read(data.join("pg_twophase").join(name)).ok().as_ref() != Some(state) {
                findings.push(format!("pg_twophase/{name} differs"));
            }
        }
        self.compared.files += 2;
        let origins = fs::read(data.join("pg_logical/replorigin_checkpoint")).unwrap_or_default();
        if Origins::read(&origins) != self.origins || self.origins.file().len() != origins.len() {
            findings.push(format!("origins differ: derived {:?}", self.origins));
        }
        let control = ControlFile::read(self.major, &fs::read(data.join("global/pg_control"))?)?;
        let start = control.checkpoint_position();
        let theirs = control.checkpoint()?;
        // The derived file, started at the server's own last checkpoint, differs from it in its state only.
        let ours = ControlFile::read(self.major, &self.control.clone().starting_at(start, &theirs))?;
        let same = ControlFile::read(self.major, &control.starting_at(start, &theirs))?;
        if ours != same {
            findings.push("global/pg_control differs".to_owned());
        }
        Ok(findings)
    }

    fn compare_slru(&mut self, data: &Path, slru: Slru, findings: &mut Vec<String>) -> Result<()> {
        let directory = data.join(slru.directory());
        for name in names(&directory)? {
            let segment =
                u32::from_str_radix(&name, 16).context("a file of transactions has a strange name")?;
            let file = fs::read(directory.join(&name))?;
            for (index, theirs) in (0..).zip(file.chunks_exact(BLOCK_LEN)) {
                let number = segment * PAGES_PER_SEGMENT + index;
                self.compared.pages += 1;
                let page = self.page(slru, number);
                // A page that was never written to has no record either.
                let zeroes = [0; BLOCK_LEN];
                let ours = page.as_deref().map_or(&zeroes[..], |page| &page[..]);
                if let Some(at) = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs) {
                    let name = slru.directory();
                    findings.push(format!(
                        "{name} page {number}: byte {at}: derived {:02x}, file {:02x}",
                        ours[at], theirs[at]
                    ));
                }
            }
        }
        for (_, segment) in self.base_segments.iter().filter(|(kind, _)| *kind == slru) {
            if !directory.join(format!("{segment:04X}")).exists() {
                findings
                    .push(format!("{} {segment:04X} was not removed, but is not there", slru.directory()));
            }
        }
        for ((_, number), page) in self.pages.iter().filter(|((kind, _), _)| *kind == slru) {
            let path = directory.join(format!("{:04X}", number / PAGES_PER_SEGMENT));
            let len = path.metadata().map_or(0, |file| file.len() / BLOCK_LEN as u64);
            let exists = u64::from(number % PAGES_PER_SEGMENT) < len;
            let empty = page.as_ref().is_none_or(|page| page.iter().all(|&byte| byte == 0));
            if !exists && !empty {
                findings.push(format!("{} page {number} was derived, but is not there", slru.directory()));
            }
        }
        Ok(())
    }
}

impl Metadata {
    /// Makes the files beside relations in `target`, which is a copy of the base, what redo derived.
    pub fn write_files(&self, target: &Path) -> Result<()> {
        for slru in ALL {
            self.write_slru(&target.join(slru.directory()), slru)?;
        }
        for (directory, map) in &self.maps {
            let path = match directory.database {
                0 => target.join("global/pg_filenode.map"),
                database => target.join(format!("base/{database}/pg_filenode.map")),
            };
            fs::write(path, map)?;
        }
        for (name, state) in self.prepared.values() {
            fs::write(target.join("pg_twophase").join(name), state)?;
        }
        fs::write(target.join("pg_logical/replorigin_checkpoint"), self.origins.file())?;
        Ok(())
    }

    fn write_slru(&self, directory: &Path, slru: Slru) -> Result<()> {
        for name in names(directory)? {
            let segment = u32::from_str_radix(&name, 16).context("a strange name")?;
            if !self.base_segments.contains(&(slru, segment)) {
                fs::remove_file(directory.join(name))?;
            }
        }
        let mut segments: BTreeMap<u32, BTreeMap<u32, &Option<Box<Block>>>> = BTreeMap::new();
        for ((_, number), page) in self.pages.iter().filter(|((kind, _), _)| *kind == slru) {
            segments.entry(number / PAGES_PER_SEGMENT).or_default().insert(number % PAGES_PER_SEGMENT, page);
        }
        for (segment, pages) in segments {
            let path = directory.join(format!("{segment:04X}"));
            if pages.values().all(|page| page.is_none()) {
                let _ = fs::remove_file(path);
                continue;
            }
            let mut file = fs::read(&path).unwrap_or_default();
            for (index, page) in pages {
                let at = index as usize * BLOCK_LEN;
                file.resize(file.len().max(at + BLOCK_LEN), 0);
                if let Some(page) = page {
                    file[at..at + BLOCK_LEN].copy_from_slice(&page[..]);
                }
            }
            fs::write(path, file)?;
        }
        Ok(())
    }
}
