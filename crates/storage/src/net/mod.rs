//! Connections between Zorya's processes: TCP (a Unix socket within a host), a handshake that proves the region's key, then frames.
//!
//! A connection carries requests one way and responses the other. Nothing is retried here: a broken connection is an
//! error, and whoever owns it connects again.

mod framed;
mod local;
mod meet;
mod peer;
mod stream;

pub use framed::{FrameReader, write_outgoing};
pub use meet::{ConnectError, accept, connect};
pub(crate) use peer::send_all;
pub use peer::{Peer, PeerGone};
pub use stream::{Listener, ReadHalf, Stream, WriteHalf, split};
