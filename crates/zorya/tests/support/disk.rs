//! Small disks that can be full alone.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

/// A small file system at `at`, in a mount namespace of this test's thread and of what it starts, gone with them.
pub fn small(at: &Path, size: &str) {
    zorya_volume::mount::enter_private_namespace().unwrap();
    fs::create_dir(at).unwrap();
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(format!("size={size}").as_str())).unwrap();
}

/// Mounts a small file system anew, read-only or not. Nobody may have a file of it open for writing.
pub fn make_read_only(at: &Path, read_only: bool) {
    let how = if read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    mount(None::<&str>, at, None::<&str>, MsFlags::MS_REMOUNT | how, None::<&str>).unwrap();
}

/// Takes every byte of the disk below `directory`, until the returned file is removed.
pub fn fill(directory: &Path) -> PathBuf {
    let path = directory.join("filler");
    let mut file = File::create(&path).unwrap();
    for piece in [1 << 20, 4096, 1] {
        loop {
            match file.write_all(&vec![1; piece]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    path
}

/// A layout of six nodes with their data in `directory`.
pub fn layout(directory: &Path) -> PathBuf {
    let node = |id: &str| {
        let data = directory.join(id);
        format!("[[node]]\nid = \"{id}\"\nzone = \"{}\"\ndata = \"{}\"\n", &id[..3], data.display())
    };
    let text: String = ["az1-a", "az1-b", "az2-a", "az2-b", "az3-a", "az3-b"].map(node).concat();
    let path = directory.join("layout.toml");
    fs::write(&path, text).unwrap();
    path
}
