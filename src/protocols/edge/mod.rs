//! The wire between edge nodes and hubs: TLS 1.3 with pinned keys, batches one way, what is durable and
//! what users ask of machines the other (ADR 13, ADR 17).

use crate::model::{TagSpec, ValueKind};

mod acting;
mod asking;
mod gate;
mod hub_side;
mod introduction;
mod keeper;
mod node;
pub mod order;
mod sealing_word;
mod strangers;
mod talk;
mod upload;
pub mod wire;

pub use acting::EdgeControl;
pub use gate::{Asks, Backlog, Contact, Entrance, Gate, Said};
pub use hub_side::{EdgeListener, HubCard, ListenError, NodeStatus};
pub use introduction::{Introduction, IntroductionError};
pub use keeper::Keeper;
pub use sealing_word::SealingWord;
pub use upload::{Content, EdgeKeys, Packer, Unpacker, Upload, UploadError, UploadFault};

/// Name and kind of a tag, as both sides compare them.
pub fn tag_card(tag: &TagSpec) -> (String, String) {
    let kind = match tag.kind {
        ValueKind::Bool => "bool",
        ValueKind::I64 => "i64",
        ValueKind::U64 => "u64",
        ValueKind::F64 => "f64",
        ValueKind::Text => "text",
        ValueKind::Bytes => "bytes",
    };
    (tag.name.to_string(), kind.to_owned())
}
