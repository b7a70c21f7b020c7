//! A local file that gets a shipped name: its content enters the log before the name does.

use std::fs::File;
use std::os::unix::fs::FileExt;

use zorya_types::Key;

use super::state::{State, Stop};
use crate::errno::FsError;
use crate::namespace::{Change, Edit, Inode, Kind, Placement};

/// Bytes of content in one record.
const PIECE: usize = 1 << 20;

impl State {
    /// Logs a local inode and its content, as an orphan: a crash now leaves nothing that the next opening does not
    /// reap. Afterwards it is a shipped inode in memory, and the caller's record gives it its name. Run again after
    /// having to wait, it logs only what is missing.
    pub(super) fn ship(&mut self, ino: u64) -> Result<(), Stop> {
        let local = self.namespace.inode(ino)?.clone();
        assert!(local.local, "inode {ino} is shipped already");
        // Whatever is not a regular file has no content: a symbolic link's target is in its inode.
        let content = (local.kind == Kind::Regular).then(|| self.local_files.content(ino)).transpose()?;
        let size = match &content {
            Some(content) => content.metadata().map_err(FsError::from)?.len(),
            None => local.size,
        };
        let shipped = Inode { local: false, size, placement: Placement::of_inode(ino), ..local };
        self.begin_record();
        self.touch_entries();
        self.encoder.put(Key::inode(ino), &Inode { nlink: 0, ..shipped.clone() }.encode());
        self.append()?;
        if let Some(content) = &content {
            self.log_content(&shipped, content)?;
        }
        let edits = vec![Edit::TouchInode(ino, shipped)];
        self.namespace.apply(&Change { edits, ..Change::default() });
        self.recount(&[ino], 0);
        if let Some(file) = self.open.get_mut(&ino) {
            file.local = None;
        }
        self.local_files.remove(ino);
        Ok(())
    }

    fn log_content(&mut self, inode: &Inode, content: &File) -> Result<(), Stop> {
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < inode.size {
            let len = PIECE.min((inode.size - at) as usize);
            content.read_exact_at(&mut piece[..len], at).map_err(FsError::from)?;
            self.log_blocks(inode, at, &piece[..len])?;
            at += len as u64;
        }
        Ok(())
    }

    fn log_blocks(&mut self, inode: &Inode, offset: u64, data: &[u8]) -> Result<(), Stop> {
        let bases = self.bases_of_write(inode, offset, data.len())?;
        self.begin_record();
        let staged = self.stage_blocks(inode, offset, data, bases);
        let lsn = self.append()?;
        self.keep(staged, lsn);
        Ok(())
    }
}
