//! The storage node process and the client that everything above links.
pub mod store;
