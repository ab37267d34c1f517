//! What the faces need from the floors above: small traits that those implement.

use tokio::sync::watch;
use weighbridge_verifier::Hash;

/// What the ledger shows of itself to the outside.
pub trait LedgerPort: Send + Sync + 'static {
    /// Height of the newest durable block; 0 when there is none.
    fn height(&self) -> u64;

    /// Its hash; [`Hash::ZERO`] when there is none.
    fn last_block_hash(&self) -> Hash;

    /// Records in all durable blocks.
    fn records(&self) -> u64;

    /// Wakes whenever a block has become durable.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Who uses a face: told of every request, so that each session has an actor of its own.
pub trait SessionPort: Send + Sync + 'static {
    /// Something was asked in `session` (unique among all faces) by `user`.
    fn asked(&self, session: &str, user: &str);

    /// The session is over.
    fn ended(&self, session: &str);

    /// How many sessions there are.
    fn open(&self) -> usize;
}
