//! What a node says about itself.

use std::path::Path;

use serde_json::{Value, json};
use zorya_types::{Incarnation, NodeId};

use super::core::Core;
use super::volume::VolumeHost;

/// Says that the node listens. Without it a supervisor would wait, so failing to write it is only worth a warning.
pub fn write_ready(path: Option<&Path>, id: &NodeId, address: &str, incarnation: Incarnation) {
    let Some(path) = path else { return };
    let ready = json!({
        "pid": std::process::id(),
        "id": id,
        "address": address,
        "incarnation": incarnation,
        "state": "serving",
    });
    let temporary = path.with_extension("tmp");
    let written =
        std::fs::write(&temporary, ready.to_string()).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "cannot write the status file");
    }
}

/// The node's state as JSON.
pub fn describe(core: &Core) -> Value {
    let usage = core.log.usage();
    json!({
        "node": core.disk.id(),
        "zone": core.disk.zone(),
        "incarnation": core.disk.incarnation(),
        "state": core.stopped.as_deref().unwrap_or("serving"),
        "log": { "files": usage.files, "file_bytes": usage.file_bytes, "spare_files": usage.spare_files, "written_bytes": usage.written_bytes, "syncs": usage.fsyncs, "sync_us": usage.sync_time.as_micros() as u64 },
        "volumes": core.volumes.values().map(describe_volume).collect::<Vec<_>>(),
    })
}

fn describe_volume(host: &VolumeHost) -> Value {
    let replica = &host.replica;
    let told = replica.told();
    json!({
        "volume": host.file.volume,
        "slot": host.slot,
        "promised": replica.promised(),
        "scl": replica.scl(),
        "highest": replica.highest(),
        "told_vdl": told.vdl,
        "gc": told.gc,
        "trim": told.trim,
        "applied": host.shared.pages.applied(),
        "persisted": host.shared.pages.persisted(),
        "tail": format!("{:?}", replica.tail()).to_lowercase(),
        "needs_layers": replica.needs_layers(),
    })
}
