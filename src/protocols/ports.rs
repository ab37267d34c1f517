//! What the faces need from the floors above: small traits that those implement.

use super::control::{MethodCall, WriteFault, Written};
use crate::access::{Caller, Change, Gate, Right};
pub use crate::alarms::{Alarm, AlarmAction, AlarmError, Severity};
pub use crate::ledger::history::gone::{Gone, Why};
pub use crate::ledger::history::reader::{Cursor, Direction, PastPage, PastSample};
use crate::model::{Nanos, Value};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
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

/// Something could not be made durable in the record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it could not be recorded: {0}")]
pub struct NotRecorded(pub String);

/// Who uses a face: told of every request, so that each session has an actor of its own.
#[async_trait]
pub trait SessionPort: Send + Sync + 'static {
    /// As [`asked`](Self::asked), before something is shown: that the session began is durable in the
    /// record when this returns. From then on it costs nothing to ask again.
    async fn enter(&self, caller: &Caller) -> Result<(), NotRecorded> {
        self.asked(&caller.session, &caller.user);
        Ok(())
    }

    /// A user proved to `face` who they are, and has no session with a name yet; durable in the record
    /// when this returns.
    async fn logged_in(&self, face: &str, user: &str) -> Result<(), NotRecorded> {
        let _ = (face, user);
        Ok(())
    }

    /// `face` refused somebody before it knew who they are, because of `why`. Counted: such refusals are
    /// recorded in sums, for whoever causes them is bounded by nothing.
    fn turned_away(&self, face: &'static str, why: &'static str) {
        let _ = (face, why);
    }

    /// `face` was asked for something that is no request, of this `kind`; in this session, where there is one. Counted in
    /// the sums of those who were turned away, and in those of the session.
    fn malformed(&self, face: &'static str, kind: &'static str, session: Option<&str>) {
        let _ = session;
        self.turned_away(face, kind);
    }

    /// Something was asked in `session` (unique among all faces) by `user`.
    fn asked(&self, session: &str, user: &str);

    /// As [`asked`](Self::asked), for several requests since the last time.
    fn asked_times(&self, session: &str, user: &str, times: u64) {
        let _ = times;
        self.asked(session, user);
    }

    /// The session is over.
    fn ended(&self, session: &str);

    /// How many sessions there are.
    fn open(&self) -> usize;

    /// Whether `user` may begin one more, with those at all faces.
    fn admits(&self, user: &str) -> bool {
        let _ = user;
        true
    }

    /// `user`, who logged in, asks for something; an error is how long they have to wait, because they asked too
    /// often at all faces together.
    fn spend(&self, user: &str) -> Result<(), Duration> {
        let _ = user;
        Ok(())
    }
}

/// Why somebody was not let in, or a change of access was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// They may not; recorded. By which rule is in the log and the record alone.
    #[error("{0}")]
    Denied(String),
    /// It cannot be.
    #[error("{0}")]
    Impossible(String),
    /// It could not be made durable, so it is not in force.
    #[error("nothing was changed, because it could not be recorded: {0}")]
    NotRecorded(String),
    /// Too many refusals of late.
    #[error("too many requests were refused of late; ask again later")]
    Busy,
}

/// Says what users may, and lets them in.
#[async_trait]
pub trait AccessPort: Send + Sync + 'static {
    /// Where decisions are asked for.
    fn gate(&self) -> &Gate;

    /// Lets a user in who proved to `face` who they are (Wan et al. 2019, Algorithm 2): on the whitelist
    /// they get permits for what their roles let them do, durable in the record when this returns, and
    /// so is a refusal. Within the life of their permits it costs nothing to ask again.
    async fn admit(&self, user: &str, face: &str) -> Result<(), AccessError>;

    /// Makes all of the changes that a caller asks for, or none; durable when it returns, and so is a
    /// refusal.
    async fn change(&self, caller: &Caller, changes: Vec<Change>) -> Result<(), AccessError>;

    /// A face refused to show `object` to somebody who lacks `right`: durable in the record when this
    /// returns, or, when there were too many refusals of late, counted for the next record of one.
    async fn refused(
        &self,
        caller: &Caller,
        right: Right,
        object: &str,
    ) -> Result<(), AccessError> {
        let _ = (caller, right, object);
        Ok(())
    }
}

/// Why a user's request on a machine was not done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ControlError {
    /// The caller lacks the right; recorded.
    #[error("{0}")]
    Denied(String),
    /// No such device or tag, or one that cannot be written at all.
    #[error("{0}")]
    Unknown(String),
    /// The device cannot be reached, or stopped answering: what it has done is not known.
    #[error("{0}")]
    Unreachable(String),
    /// The request could not be made durable, so the machine was not touched.
    #[error("nothing was done, because the request could not be recorded: {0}")]
    NotRecorded(String),
    /// Too many requests wait for this device.
    #[error("too many requests wait for the device already")]
    Busy,
}

/// Acts upon machines for users. Every request is durable in the record before a machine is touched; every
/// refusal, and what came of a request, before its answer.
#[async_trait]
pub trait ControlPort: Send + Sync + 'static {
    /// Writes tags of `device`, by name, and reads them back; answers in the order of `writes`.
    async fn write(
        &self,
        caller: &Caller,
        device: &str,
        writes: Vec<(String, Value)>,
    ) -> Result<Written, ControlError>;

    /// Calls a method of `device`.
    async fn call(
        &self,
        caller: &Caller,
        device: &str,
        call: MethodCall,
    ) -> Result<Result<Vec<Value>, WriteFault>, ControlError>;

    /// A face could not make of a request what [`write`](Self::write) or [`call`](Self::call) takes: there
    /// is no such device or tag, or a value is of another kind. Records that it is refused because of
    /// `why`, and returns what to answer: `why`, unless the caller lacks the right anyway.
    async fn refuse(
        &self,
        caller: &Caller,
        device: &str,
        tags: &[String],
        why: ControlError,
    ) -> ControlError {
        let _ = (caller, device, tags);
        why
    }
}

/// The alarms of the hub. What users do with them is durable in the record before it is answered.
#[async_trait]
pub trait AlarmPort: Send + Sync + 'static {
    /// All alarms that are active, not acknowledged, not confirmed or shelved, by id.
    fn alarms(&self) -> Vec<Alarm>;

    /// Alarms that were raised and found no room.
    fn beyond(&self) -> u64;

    /// For how long an alarm may be shelved.
    fn max_shelved(&self) -> Duration;

    /// Every change of state from now on.
    fn changes(&self) -> broadcast::Receiver<Alarm>;

    /// Does something with alarm `id`; `event` is the occurrence the caller saw, `None` for whatever
    /// is newest.
    async fn act(
        &self,
        caller: &Caller,
        id: &str,
        event: Option<u64>,
        action: AlarmAction,
        comment: &str,
    ) -> Result<Alarm, AlarmError>;
}

/// What is asked of the history of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct PastRequest {
    /// The device.
    pub device: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// From this source time on.
    pub from: Nanos,
    /// Up to this source time, not included.
    pub to: Nanos,
    /// What for, for the record: `raw`, `processed`, `at-time`.
    pub purpose: &'static str,
}

/// Why history was not given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HistoryError {
    /// The caller lacks the right; recorded.
    #[error("{0}")]
    Denied(String),
    /// No such device or tag.
    #[error("{0}")]
    Unknown(String),
    /// The ledger or its keys cannot be read, or not yet.
    #[error("the record cannot be read: {0}")]
    Unreadable(String),
    /// It could not be made durable, so nothing was read.
    #[error("nothing was read, because it could not be recorded: {0}")]
    NotRecorded(String),
}

/// What was recorded of one tag, open for one read that is on record.
#[async_trait]
pub trait PastTag: Send + Sync + 'static {
    /// A page of the range that was asked for, or the first page when `after` is `None`. At most
    /// `limit` samples, and never more than [`MAX_PAGE`](crate::ledger::history::reader::MAX_PAGE).
    async fn page(
        &self,
        direction: Direction,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<PastPage, HistoryError>;

    /// The samples around a time within the range, which may lie beside the range: up to `limit` before
    /// it, newest first, when `direction` is backward; up to `limit` from it on, oldest first, when it
    /// is forward. Bounding values are made of them.
    async fn near(
        &self,
        time: Nanos,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<PastSample>, HistoryError>;

    /// What was taken away of the range that was asked for.
    fn gone(&self) -> &[Gone];
}

/// What was recorded, decrypted for who may see it.
#[async_trait]
pub trait HistoryPort: Send + Sync + 'static {
    /// Opens tags of a device for reading, in the order asked for. That it was asked, by whom and for
    /// which range, is durable in the record before this returns, and so is a refusal.
    async fn open(
        &self,
        caller: &Caller,
        request: PastRequest,
    ) -> Result<Vec<Arc<dyn PastTag>>, HistoryError>;

    /// The evidence of the newest sample of a tag at or before `time`: a file that is checked
    /// offline. Recorded like a read.
    async fn evidence(
        &self,
        caller: &Caller,
        device: &str,
        tag: &str,
        time: Nanos,
    ) -> Result<Vec<u8>, HistoryError>;
}
