//! The storage node process and the client that everything above links.
//!
//! [`node`] runs one storage node: the log replicas and page segments of every volume that has a replica there.
//! [`client`] opens a volume with a new epoch, appends to its log, reads its blocks, and implements
//! [`store::VolumeStore`], the seam to the layer `volume`. Decisions are the pure cores' of `zorya-log`; what is here
//! waits on sockets, disks and clocks and feeds them.

pub mod client;
mod clock;
pub mod net;
pub mod node;
pub mod store;
