//! Who decides whether an edge node may be there: the hub's access, which the door asks.

use async_trait::async_trait;

/// Says which edge nodes may be there.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// Why an edge node may not come in; `None` when it may.
    fn bar(&self, edge: &str) -> Option<String>;

    /// Returns when an edge node that was let in may be there no more, and why.
    async fn put_out(&self, edge: &str) -> String;

    /// How many words besides batches an edge node with so many devices may say in how many seconds;
    /// `None` when it does not matter.
    fn most_words(&self, devices: usize) -> Option<(u64, u32)>;

    /// Somebody was sent away at `face`, because of `why`; counted for the record.
    fn turned_away(&self, face: &'static str, why: &'static str) {
        let _ = (face, why);
    }

    /// An edge node floods: it is cut off.
    async fn flooded(&self, edge: &str, why: &str);
}
