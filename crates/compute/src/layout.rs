//! The layout file: which storage nodes there are, on which disks, addresses and network namespaces.
//!
//! ```toml
//! [[node]]
//! id = "az1-a"            # required
//! zone = "az1"            # required
//! data = "/mnt/az1-a"     # default: HOME/nodes/ID/data
//! listen = "10.77.1.2:7101" # default: 127.0.0.1 and a free port
//! netns = "zaz1"          # default: the agent's own network namespace
//!
//! [compute]
//! netns = "zcompute"
//! listen = "10.77.0.2"    # where engines listen; default 127.0.0.1
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::home::Home;
use crate::ports::{self, NoFreePort};
use crate::region::{ComputeSpec, Desired, NodeSpec, check_name};

/// A layout as it stands in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// The storage nodes.
    #[serde(default, rename = "node")]
    pub nodes: Vec<LayoutNode>,
    /// Where mounts and engines run.
    #[serde(default)]
    pub compute: ComputeSpec,
}

/// One storage node of the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutNode {
    /// Its name.
    pub id: String,
    /// Its zone.
    pub zone: String,
    /// Its data directory.
    pub data: Option<PathBuf>,
    /// `host:port`.
    pub listen: Option<String>,
    /// A network namespace under `/var/run/netns`.
    pub netns: Option<String>,
}

/// A layout that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The file could not be read.
    #[error("cannot read the layout {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not a layout.
    #[error("the layout {path} is malformed")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: toml::de::Error,
    },
    /// A name appears twice.
    #[error("the layout names node {0:?} twice: give every node its own id")]
    Twice(String),
    /// A name that does not fit a path.
    #[error("the layout's node id {0:?} is not usable: {1}")]
    BadName(String, String),
    /// An address that is none.
    #[error("node {node}: {listen:?} is not host:port")]
    BadAddress {
        /// The node.
        node: String,
        /// What was given.
        listen: String,
    },
    /// There is no port for a node.
    #[error(transparent)]
    NoFreePort(#[from] NoFreePort),
}

impl Layout {
    /// Reads a layout file.
    pub fn read(path: &Path) -> Result<Layout, LayoutError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| LayoutError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| LayoutError::Parse { path: path.to_owned(), source })
    }

    /// The layout of a region on one host: `zones` zones `az1`, `az2`, … of `per_zone` nodes `az1-a`, `az1-b`, ….
    #[must_use]
    pub fn local(zones: u8, per_zone: u8) -> Layout {
        let node = |zone: u8, place: u8| LayoutNode {
            id: format!("az{}-{}", zone + 1, letters(place)),
            zone: format!("az{}", zone + 1),
            data: None,
            listen: None,
            netns: None,
        };
        let nodes = (0..zones).flat_map(|zone| (0..per_zone).map(move |place| node(zone, place))).collect();
        Layout { nodes, compute: ComputeSpec::default() }
    }

    /// Fills in what the file left open: data directories and free ports.
    pub fn resolve(&self, home: &Home) -> Result<Vec<NodeSpec>, LayoutError> {
        let first = ports::first_node_port(home.root());
        let mut names = BTreeSet::new();
        let mut reserved = BTreeSet::new();
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            check_name(&node.id).map_err(|why| LayoutError::BadName(node.id.clone(), why.to_string()))?;
            if !names.insert(&node.id) {
                return Err(LayoutError::Twice(node.id.clone()));
            }
            let listen = match &node.listen {
                Some(listen) => checked_address(&node.id, listen)?,
                None => {
                    let port = ports::pick("127.0.0.1", first, &reserved)?;
                    reserved.insert(port);
                    format!("127.0.0.1:{port}")
                }
            };
            nodes.push(NodeSpec {
                id: zorya_types::NodeId(node.id.clone()),
                zone: node.zone.clone(),
                data: node.data.clone().unwrap_or_else(|| home.node(&node.id).join("data")),
                listen,
                netns: node.netns.clone(),
                desired: Desired::Running,
            });
        }
        Ok(nodes)
    }
}

fn checked_address(node: &str, listen: &str) -> Result<String, LayoutError> {
    let good = listen
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    if good {
        Ok(listen.to_owned())
    } else {
        Err(LayoutError::BadAddress { node: node.to_owned(), listen: listen.to_owned() })
    }
}

/// `a` … `z`, `aa` …
fn letters(mut place: u8) -> String {
    let mut text = String::new();
    loop {
        text.insert(0, char::from(b'a' + place % 26));
        if place < 26 {
            return text;
        }
        place = place / 26 - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Vec<NodeSpec>, LayoutError> {
        let home = Home::at(PathBuf::from("/h")).unwrap();
        toml::from_str::<Layout>(text).unwrap().resolve(&home)
    }

    #[test]
    fn a_local_region_is_three_zones_of_two() {
        let layout = Layout::local(3, 2);
        let ids: Vec<_> = layout.nodes.iter().map(|node| node.id.as_str()).collect();
        assert_eq!(ids, ["az1-a", "az1-b", "az2-a", "az2-b", "az3-a", "az3-b"]);
        let nodes = layout.resolve(&Home::at(PathBuf::from("/h")).unwrap()).unwrap();
        let addresses: BTreeSet<_> = nodes.iter().map(|node| &node.listen).collect();
        assert_eq!(addresses.len(), 6, "every node has its own port");
        assert_eq!(nodes[0].data, Path::new("/h/nodes/az1-a/data"));
    }

    #[test]
    fn a_file_places_nodes() {
        let nodes = resolve(
            "[[node]]\nid='a'\nzone='z'\ndata='/mnt/a'\nlisten='10.0.0.1:9'\nnetns='n'\n[compute]\nnetns='c'\nlisten='10.0.0.2'",
        )
        .unwrap();
        assert_eq!(nodes[0].listen, "10.0.0.1:9");
        assert_eq!(nodes[0].netns.as_deref(), Some("n"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let message = |text| resolve(text).unwrap_err().to_string();
        assert!(message("[[node]]\nid='a'\nzone='z'\n[[node]]\nid='a'\nzone='z'").contains("twice"));
        assert!(message("[[node]]\nid='../a'\nzone='z'").contains("not usable"));
        assert!(message("[[node]]\nid='a'\nzone='z'\nlisten='nowhere'").contains("host:port"));
        assert!(toml::from_str::<Layout>("[[node]]\nid='a'\nzone='z'\ncolour='red'").is_err());
    }

    #[test]
    fn letters_go_on_after_z() {
        assert_eq!([letters(0), letters(25), letters(26)], ["a", "z", "aa"]);
    }
}
