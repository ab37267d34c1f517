//! The words everything else is made of: tags, samples, batches. Below all other floors.

mod about;
mod batch;
mod column;
mod peer;
mod tag;
mod time;

pub use about::{About, CertificateInUse, EXPIRES_SOON, Nameplate, Side};
pub use batch::{Batch, BatchBuilder};
pub use column::{Column, QualityColumn, Values};
pub use peer::{Mac, MacError, Peer, network};
pub use tag::{DeviceId, TagSpec, ValueKind};
pub use time::{Nanos, now, parse_time, rfc3339};
pub use weighbridge_verifier::{Quality, Value, VerdictClass};
