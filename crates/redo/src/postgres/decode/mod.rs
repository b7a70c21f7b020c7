//! From bytes of PostgreSQL's WAL to records: the formats of `access/xlog_internal.h` and `access/xlogrecord.h`.
//!
//! * [`stream`] finds the records in the log's pages, as the bytes arrive;
//! * [`record`] takes one apart into its block references and data;
//! * [`image`] restores the page images in it;
//! * [`pglz`] undoes PostgreSQL's own compression;
//! * [`write`] does what the server does: records into pages.

pub mod image;
pub mod pglz;
pub mod record;
pub mod stream;
pub mod write;

#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;
