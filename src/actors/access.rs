//! The desk where access changes: who is in, what they may, on which lists they are, for how long.
//!
//! Not an actor, but the way to one, as the [`Journal`] is: changes are made one at a time, each durable
//! in the record before it is in force. Decisions do not wait for it: they are made at the [`Gate`].

mod shared;

pub use shared::told;

use super::allowance::Allowance;
use super::journal::{Journal, JournalError};
use crate::access::{
    AccessConfig, AccessState, Caller, Change, ChangeError, Denied, Entry, Gate, Mode, Permit,
    Right, SharedAccess, Side,
};
use crate::ledger::act::{Act, name};
use crate::ledger::words::{ACCESS, ACCESS_OBJECT, ACCESS_OVER};
use crate::model::{Nanos, now};
use crate::protocols::ports::{AccessError, AccessPort};
use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Mutex, watch};
use weighbridge_verifier::{Action, Response, Suite};

/// A permit is renewed when less than this part of it is left: whoever is there goes on without a gap.
const RENEW_WITHIN: i64 = 4;

/// Who changes something.
#[derive(Clone, Copy)]
pub enum By<'a> {
    /// The hub itself, for this reason.
    Hub(&'a str),
    /// A user, who may or may not.
    User(&'a Caller),
    /// A user whose own credentials these are, and who has just proven that.
    Owner(&'a Caller),
}

/// Changes access, durably. Cheap to clone.
#[derive(Clone)]
pub struct AccessDesk(Arc<Inner>);

struct Inner {
    gate: Gate,
    journal: Journal,
    config: AccessConfig,
    suite: Suite,
    changes: watch::Sender<u64>,
    /// Held while something changes.
    changing: Mutex<()>,
    /// What the chain says and what this hub adds to it, where it shares the chain with others.
    shared: parking_lot::Mutex<Option<SharedAccess>>,
    refusals: Allowance,
}

impl AccessDesk {
    /// A desk that changes what `gate` decides by, and records with `journal`, in a chain of `suite`.
    pub fn new(gate: Gate, journal: Journal, config: AccessConfig, suite: Suite) -> Self {
        Self(Arc::new(Inner {
            gate,
            journal,
            config,
            suite,
            changes: watch::Sender::new(0),
            changing: Mutex::default(),
            shared: parking_lot::Mutex::default(),
            refusals: Allowance::new(Instant::now()),
        }))
    }

    /// Makes all of the changes, in this order, or none. They are durable in the record, and then in
    /// force, when this returns; a refusal is durable as well.
    ///
    /// # Errors
    /// When the changes cannot be made, or not by them, or cannot be recorded.
    pub async fn change(&self, by: By<'_>, changes: Vec<Change>) -> Result<(), AccessError> {
        let desk = &*self.0;
        let _one_at_a_time = desk.changing.lock().await;
        let before = desk.gate.state();
        let mut after = AccessState::clone(&before);
        let mut entries = Vec::with_capacity(changes.len());
        let mut all = Vec::with_capacity(changes.len());
        for wanted in changes {
            if let Change::ReaderKey(_, Some(key)) | Change::SealingKey(_, key) = &wanted
                && key.suite() != desk.suite
            {
                return Err(impossible(ChangeError::Key));
            }
            let needs = wanted.needs(&after);
            for change in after.unfold(wanted) {
                let action = action(&change);
                let made = after.apply(change.clone());
                let entry = after.entry(&change);
                if let By::Owner(caller) = by {
                    is_own(caller, &change)?;
                }
                if let By::User(caller) = by {
                    // First: what can be is not for those to know who may not change it.
                    self.check(caller, &needs, (action, &entry)).await?;
                    if let Err(error) = &made {
                        let mut details = json!({"why": error.to_string()});
                        caller.tell(&mut details);
                        let subject = name("user", &caller.user);
                        self.refuse((&subject, action), &entry.name, details)
                            .await?;
                    }
                }
                made.map_err(impossible)?;
                may_say(&before, &entry)?;
                all.push((change, entry.clone()));
                entries.push((action, entry));
            }
        }
        self.record(by, &before, &entries).await?;
        self.put_in_force(after, all);
        Ok(())
    }

    /// Puts in force what was recorded, which made `changes` and their entries.
    fn put_in_force(&self, state: AccessState, changes: Vec<(Change, Entry)>) {
        let desk = &*self.0;
        if let Some(shared) = &mut *desk.shared.lock() {
            shared.recorded(changes);
        }
        self.show(state);
    }

    fn show(&self, state: AccessState) {
        let desk = &*self.0;
        desk.gate.set(Arc::new(state));
        desk.changes.send_replace(desk.gate.version());
    }

    /// Told of every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// When somebody is cut off.
    pub fn config(&self) -> &AccessConfig {
        &self.0.config
    }

    /// Blacklists somebody by rule, for this reason.
    pub async fn cut_off(&self, side: Side, who: &str, why: &str) {
        let black = Change::Black(side, who.to_owned(), true);
        match self.change(By::Hub(why), vec![black]).await {
            Ok(()) => tracing::error!(who, why, "cut off"),
            Err(error) => tracing::error!(who, why, %error, "cannot be cut off yet"),
        }
    }

    /// Whether a device has no permit to store, or one that is near its end.
    pub fn store_ends(&self, device: &str) -> bool {
        !self.is_fresh(&self.0.gate.state(), (device, Mode::Store), now())
    }

    /// Gives a device that is admitted and whose data are good another permit to store, when the one it
    /// has is near its end. It comes into the record before whatever the device stores under it, so
    /// nobody waits for it.
    pub async fn renew_store(&self, device: &str, why: &str) {
        let fresh = |state: &AccessState, time| self.is_fresh(state, (device, Mode::Store), time);
        let given = self.note(|state| {
            let time = now();
            if fresh(state, time) || state.admits(device, time).is_err() {
                return None;
            }
            let permit = Some(self.permit(time));
            let change = Change::Permit(device.to_owned(), Mode::Store, permit);
            Some((change, why))
        });
        if let Err(error) = given.await {
            tracing::error!(device, %error, "a permit cannot be given");
        }
    }

    /// Makes the change of the hub's own that `wanted` asks for in the state as it is, and why. It comes
    /// into the record before whatever rests on it, so nobody waits until it is durable.
    ///
    /// # Errors
    /// When it cannot be made or recorded; then it is not in force.
    pub(super) async fn note<'a>(
        &self,
        wanted: impl FnOnce(&AccessState) -> Option<(Change, &'a str)>,
    ) -> Result<(), AccessError> {
        let desk = &*self.0;
        let _one_at_a_time = desk.changing.lock().await;
        let before = desk.gate.state();
        let Some((change, why)) = wanted(&before) else {
            return Ok(());
        };
        let mut after = AccessState::clone(&before);
        after.apply(change.clone()).map_err(impossible)?;
        let entry = after.entry(&change);
        may_say(&before, &entry)?;
        let words = entry_words(&entry, why);
        let act = entry_act(desk.gate.hub(), &change, &entry, &words);
        desk.journal.note(&act).await.map_err(not_recorded)?;
        self.put_in_force(after, vec![(change, entry)]);
        Ok(())
    }

    fn lifetime(&self) -> Nanos {
        Nanos::try_from(self.0.config.permits().as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// A permit that is given now.
    fn permit(&self, time: Nanos) -> Permit {
        Permit {
            from: time,
            until: time.saturating_add(self.lifetime()),
        }
    }

    /// Whether somebody has a permit that is not near its end yet.
    fn is_fresh(&self, state: &AccessState, (id, mode): (&str, Mode), time: Nanos) -> bool {
        let soon = time.saturating_add(self.lifetime() / RENEW_WITHIN);
        let permit = state.permit(id, mode);
        permit.is_some_and(|p| p.holds(time) && p.holds(soon))
    }

    /// Whether a user has all these rights; what they lack is recorded.
    async fn check(
        &self,
        caller: &Caller,
        needs: &[(Right, String)],
        (action, entry): (Action, &Entry),
    ) -> Result<(), AccessError> {
        let desk = &*self.0;
        let subject = name("user", &caller.user);
        let denied = needs.iter().find_map(|(right, object)| {
            let denied = desk.gate.own(&subject, *right, object, now()).err()?;
            Some((*right, denied))
        });
        let Some((right, denied)) = denied else {
            return Ok(());
        };
        let (user, right) = (&caller.user, right.name());
        tracing::warn!(user, right, entry = entry.name, %denied, "a change of access was refused");
        let mut details = json!({
            "wanted": entry.says,
            "rule": denied.rule(),
            "why": denied.to_string(),
        });
        caller.tell(&mut details);
        self.refuse((&subject, action), &entry.name, details)
            .await?;
        Err(AccessError::Denied(format!(
            "`{user}` may not {right} this"
        )))
    }

    /// Records that something about the entry of this name was refused.
    pub(super) async fn refuse(
        &self,
        (subject, action): (&str, Action),
        entry: &str,
        mut details: Json,
    ) -> Result<(), AccessError> {
        let desk = &*self.0;
        let Some(unrecorded) = desk.refusals.take(Instant::now()) else {
            return Err(AccessError::Busy);
        };
        if unrecorded > 0 {
            details["refusals_without_record_before"] = unrecorded.into();
        }
        let object = object(entry);
        let act = Act {
            response: Response::Refused,
            kind: "access-refused",
            ..act(subject, (action, &object), &details)
        };
        let recorded = desk.journal.record(&act).await;
        recorded.map(|_| ()).map_err(not_recorded)
    }

    async fn record(
        &self,
        by: By<'_>,
        before: &AccessState,
        entries: &[(Action, Entry)],
    ) -> Result<(), AccessError> {
        let desk = &*self.0;
        let (subject, because) = match by {
            By::Hub(why) => (desk.gate.hub().to_owned(), json!({ "why": why })),
            By::User(caller) | By::Owner(caller) => {
                let mut asked = json!({});
                caller.tell(&mut asked);
                (name("user", &caller.user), asked)
            }
        };
        let acts: Vec<_> = entries
            .iter()
            .map(|(action, entry)| (*action, object(&entry.name), details(entry, &because)))
            .collect();
        let recorded = join_all(acts.iter().zip(entries).map(
            async |((action, object, details), (_, entry))| {
                let act = Act {
                    kind: kind(entry),
                    ..act(&subject, (*action, object), details)
                };
                desk.journal.record(&act).await
            },
        ));
        let recorded = recorded.await;
        let Some(error) = recorded.iter().find_map(|r| r.as_ref().err()).cloned() else {
            return Ok(());
        };
        // What became durable in part, or may yet, is not in force: the record must end with what is.
        for (recorded, (action, entry)) in recorded.iter().zip(entries) {
            if recorded.as_ref().err().is_none_or(JournalError::may_follow) {
                let old = before.entry_named(&entry.name);
                let details = details(&old, &json!({ "why": "not in force: the change failed" }));
                let object = object(&entry.name);
                let act = Act {
                    kind: kind(&old),
                    ..act(desk.gate.hub(), (*action, &object), &details)
                };
                if let Err(error) = desk.journal.note(&act).await {
                    tracing::error!(entry = old.name, %error, "a failed change cannot be taken back in the record");
                }
            }
        }
        Err(not_recorded(error))
    }
}

#[async_trait]
impl AccessPort for AccessDesk {
    fn gate(&self) -> &Gate {
        &self.0.gate
    }

    async fn change(&self, caller: &Caller, changes: Vec<Change>) -> Result<(), AccessError> {
        AccessDesk::change(self, By::User(caller), changes).await
    }

    async fn refused(
        &self,
        caller: &Caller,
        right: Right,
        object: &str,
    ) -> Result<(), AccessError> {
        let desk = &*self.0;
        let Some(unrecorded) = desk.refusals.take(Instant::now()) else {
            return Ok(());
        };
        let time = now();
        let denied = desk.gate.passage(&caller.user, right, object, time).err();
        let mut details = json!({
            "right": right.name(),
            "rule": denied.as_ref().map(Denied::rule),
            "denied": denied.as_ref().map(Denied::to_string),
        });
        caller.tell(&mut details);
        if unrecorded > 0 {
            details["refusals_without_record_before"] = unrecorded.into();
        }
        let (prefix, rest) = object.split_once(':').unwrap_or(("object", object));
        let act = Act {
            time,
            subject: &name("user", &caller.user),
            action: Action::Read,
            object: &name(prefix, rest),
            kind: "not-shown",
            details: &details,
            response: Response::Refused,
        };
        let recorded = desk.journal.record(&act).await;
        recorded.map(|_| ()).map_err(not_recorded)
    }

    async fn admit(&self, user: &str, face: &str) -> Result<(), AccessError> {
        let desk = &*self.0;
        let (id, time) = (name("user", user), now());
        let state = desk.gate.state();
        if let Err(denied) = state.admits(&id, time) {
            tracing::warn!(user, face, %denied, "a user was not let in");
            let details = json!({"face": face, "rule": denied.rule(), "why": denied.to_string()});
            let entry = format!("subject/{id}");
            self.refuse((&id, Action::Grant), &entry, details).await?;
            return Err(AccessError::Denied("the user may not come in".to_owned()));
        }
        let permit = self.permit(time);
        // Within its life a permit lets straight through; near its end admission is repeated.
        let wanted = Mode::ALL.into_iter().filter(|mode| {
            let enough = self.is_fresh(&state, (&id, *mode), time);
            // A grant is a reason to read, whatever the roles.
            let granted = *mode == Mode::Read && desk.gate.reads(user);
            let mut rights = Right::ALL.into_iter().filter(|r| r.mode() == *mode);
            !enough && (granted || rights.any(|r| desk.gate.somewhere(user, r, time)))
        });
        let changes: Vec<_> = wanted
            .map(|mode| Change::Permit(id.clone(), mode, Some(permit)))
            .collect();
        if changes.is_empty() {
            return Ok(());
        }
        let still_hold = changes.iter().all(|change| match change {
            Change::Permit(id, mode, _) => state.permit(id, *mode).is_some_and(|p| p.holds(time)),
            _ => false,
        });
        match AccessDesk::change(self, By::Hub(face), changes).await {
            // They are renewed the next time.
            Err(AccessError::NotRecorded(error)) if still_hold => {
                tracing::warn!(user, face, error, "permits are not renewed yet");
                Ok(())
            }
            changed => changed,
        }
    }
}

/// A user may change what they are known by themself, and nothing else.
fn is_own(caller: &Caller, change: &Change) -> Result<(), AccessError> {
    let own = name("user", &caller.user);
    match change {
        Change::Credentials(id, Some(_)) if *id == own => Ok(()),
        _ => Err(AccessError::Denied(format!(
            "`{}` may not change this",
            caller.user
        ))),
    }
}

/// How a change is recorded.
fn action(change: &Change) -> Action {
    match change {
        Change::Enrol(..) => Action::Enrol,
        Change::Revoke(_) | Change::Declare(_, None) => Action::Revoke,
        Change::Permit(..) | Change::Grant(..) | Change::ReaderKey(_, Some(_)) => Action::Grant,
        Change::EndGrant(..) | Change::ReaderKey(_, None) | Change::Credentials(_, None) => {
            Action::Revoke
        }
        _ => Action::Configure,
    }
}

fn object(entry: &str) -> String {
    name(ACCESS_OBJECT.trim_end_matches(':'), entry)
}

/// Nothing need be remembered of what is no more, but that a role which every site has is gone.
fn kind(entry: &Entry) -> &'static str {
    match entry.says.is_null() && !entry.name.starts_with("role/") {
        true => ACCESS_OVER,
        false => ACCESS,
    }
}

fn details(entry: &Entry, because: &Json) -> Json {
    json!({ "says": entry.says, "by": because })
}

/// What the details of a record about access say of its entry; `None` when another version wrote them.
pub fn recorded_entry(details: &Json) -> Option<&Json> {
    details.get("says")
}

/// An act that makes `entry` anew, for a record of the hub itself.
pub fn entry_act<'a>(
    hub: &'a str,
    change: &Change,
    entry: &'a Entry,
    (object, details): &'a (String, Json),
) -> Act<'a> {
    Act {
        kind: kind(entry),
        ..act(hub, (action(change), object), details)
    }
}

/// Object and details of the record of an entry that the hub itself makes anew.
pub fn entry_words(entry: &Entry, why: &str) -> (String, Json) {
    let because = json!({ "why": why });
    (object(&entry.name), details(entry, &because))
}

fn act<'a>(subject: &'a str, (action, object): (Action, &'a str), details: &'a Json) -> Act<'a> {
    Act {
        time: now(),
        subject,
        action,
        object,
        kind: ACCESS,
        details,
        response: Response::Accepted,
    }
}

/// An entry says all that is under its name: nobody makes one anew whose newest cannot be read.
fn may_say(before: &AccessState, entry: &Entry) -> Result<(), AccessError> {
    match before.is_unread(&entry.name) {
        true => Err(impossible(ChangeError::Unread(entry.name.clone()))),
        false => Ok(()),
    }
}

fn impossible(error: ChangeError) -> AccessError {
    AccessError::Impossible(error.to_string())
}

fn not_recorded(error: JournalError) -> AccessError {
    AccessError::NotRecorded(error.to_string())
}

/// For the log: by which rule a user was denied something.
pub fn log_denied(caller: &Caller, right: Right, object: &str, denied: &Denied) {
    let (user, session, right) = (&caller.user, &caller.session, right.name());
    tracing::warn!(user, session, right, object, rule = denied.rule(), %denied, "denied");
}
