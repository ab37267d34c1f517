//! Suite `guomi`: SM2 (GB/T 32918), SM3 (GB/T 32905) and SM4-GCM (RFC 8998), and certificateless keys
//! after GM/T 0130 with several key generation centres.
//!
//! SM4 of the crate used is table-based: on a machine shared with strangers its cache timing may tell
//! of the key.

pub mod centre;
pub mod certificateless;
pub mod making;
mod point;
pub mod recorded;
pub(super) mod wrap;

pub use point::{Point, PointError};

#[cfg(test)]
mod vectors;
