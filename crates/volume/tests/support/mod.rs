//! What the integration tests share: a store in memory and mounts on it.
#![allow(dead_code, reason = "each test crate uses a part of it")]

pub mod aio;
pub mod harness;
pub mod memory_store;
pub mod raw;
