//! Who may what, as the ledger has it when a hub starts, and what the configuration says of it.

use super::{Hub, HubError};
use crate::access::{
    AccessState, Caller, Change, Declared, ESCROW_ENTRY, Entry, Gate, Role, Side, Subject,
    escrow_name, reconcile,
};
use crate::actors::access::{AccessDesk, By, entry_act, entry_words, recorded_entry};
use crate::actors::ledger::Book;
use crate::crypto::SealingPublicKey;
use crate::ledger::State;
use crate::ledger::act::ActSealer;
use crate::ledger::opening::Opener;
use crate::ledger::words::ACCESS_OBJECT;
use crate::model::now;
use crate::protocols::ports::{AccessError, AccessPort};
use std::collections::BTreeSet;
use weighbridge_verifier::{IdentityKind, PublicKey, Suite};

/// Records of one block, at most.
const CHUNK: usize = 4_096;
/// Why the hub changes what the configuration says.
const CONFIGURED: &str = "the configuration says so";
/// Whom the configuration names besides users.
const MACHINES: [IdentityKind; 3] = [IdentityKind::Hub, IdentityKind::Edge, IdentityKind::Device];

/// What the ledger says of access. Nothing of it may be missing: who is on a blacklist that cannot be
/// read would come in. In a chain that the hub `own` shares, keys of what others recorded may come to it later; until
/// then the state says of which entries that is so, and refuses what they may be about.
pub(super) fn recorded_access(
    recorded: &State,
    opener: &Opener,
    own: Option<&str>,
) -> Result<AccessState, HubError> {
    let mut state = AccessState::default();
    for (object, word) in recorded.access() {
        let wrong = |reason: String| HubError::Access {
            entry: object.clone(),
            reason,
        };
        let details = match opener.open_act(&word.hub, &word.message) {
            Ok(details) => details,
            Err(error) if own.is_some_and(|own| own != word.hub) => {
                let hub = &word.hub;
                tracing::error!(entry = object, hub, %error, "what another hub recorded of access cannot be read yet");
                state.hide(object.strip_prefix(ACCESS_OBJECT).unwrap_or(object));
                continue;
            }
            Err(error) => return Err(wrong(error.to_string())),
        };
        let says = recorded_entry(&details);
        let says = says.ok_or_else(|| wrong("it was written by another version".to_owned()))?;
        let entry = Entry {
            name: object
                .strip_prefix(ACCESS_OBJECT)
                .unwrap_or(object)
                .to_owned(),
            says: says.clone(),
        };
        state
            .load(&entry)
            .map_err(|error| wrong(error.to_string()))?;
    }
    Ok(state)
}

/// The entries of access that other hubs than `own` recorded last: what its configuration does not say is not its
/// to take back.
pub(super) fn theirs(recorded: &State, own: &str) -> BTreeSet<String> {
    let others = recorded.access().iter().filter(|(_, word)| word.hub != own);
    let names = others.map(|(object, _)| object.strip_prefix(ACCESS_OBJECT).unwrap_or(object));
    names.map(str::to_owned).collect()
}

/// As [`reconcile`], but nothing is taken back that is another hub's.
fn reconcile_own(
    state: &AccessState,
    kinds: &[IdentityKind],
    declared: &Declared,
    theirs: &BTreeSet<String>,
) -> Vec<Change> {
    let mut changes = reconcile(state, kinds, declared);
    // What cannot be read is nobody's to make anew.
    changes.retain(|change| !state.is_unread(&state.entry(change).name));
    changes.retain(|change| match change {
        Change::Declare(id, None) | Change::White(_, id, false) => {
            !theirs.contains(&format!("subject/{id}"))
        }
        _ => true,
    });
    changes
}

/// The changes after which `wanted` alone is the key of escrow, but for those of other hubs.
pub(super) fn escrow(
    state: &AccessState,
    wanted: Option<&SealingPublicKey>,
    suite: Suite,
    theirs: &BTreeSet<String>,
) -> Result<Vec<Change>, HubError> {
    let wanted = wanted.map(SealingPublicKey::compressed);
    if let Some(key) = wanted.filter(|key| key.suite() != suite) {
        return Err(HubError::Access {
            entry: escrow_name(&key),
            reason: format!("the key is not of the chain's suite `{suite}`"),
        });
    }
    let ended = state.escrow().map(|(_, key)| *key);
    let ended = ended.filter(|key| Some(*key) != wanted);
    let ended =
        ended.filter(|key| !theirs.contains(&format!("{ESCROW_ENTRY}{}", escrow_name(key))));
    let known = |key: &PublicKey| state.escrow().any(|(_, known)| known == key);
    let begun = wanted.filter(|key| !known(key));
    if let Some(key) = wanted {
        tracing::warn!(
            escrow = escrow_name(&key),
            "every key is wrapped to the key of escrow as well: its owner can open what is recorded"
        );
    }
    let ended = ended.map(|key| Change::Escrow(key, false));
    let begun = begun.map(|key| Change::Escrow(key, true));
    Ok(ended.chain(begun).collect())
}

/// The state after these changes.
pub(super) fn with(state: &AccessState, changes: &[Change]) -> Result<AccessState, HubError> {
    let mut after = state.clone();
    for change in changes {
        let made = after.apply(change.clone());
        made.map_err(|error| not_declared(change, &error.to_string()))?;
    }
    Ok(after)
}

/// Brings machines that the configuration names, and the changes of escrow, into force, durably.
pub(super) fn declare(
    book: &mut Book,
    sealer: &ActSealer,
    state: &mut AccessState,
    (hub, declared, escrow): (&str, &Declared, Vec<Change>),
    theirs: &BTreeSet<String>,
) -> Result<(), HubError> {
    let mut recorded = Vec::new();
    let machines = reconcile_own(state, &MACHINES, declared, theirs);
    let escrow = escrow.into_iter();
    let escrow = escrow.filter(|change| !state.is_unread(&state.entry(change).name));
    let escrow: Vec<_> = escrow.collect();
    for wanted in escrow.into_iter().chain(machines) {
        for change in state.unfold(wanted) {
            let made = state.apply(change.clone());
            made.map_err(|error| not_declared(&change, &error.to_string()))?;
            let entry = state.entry(&change);
            let words = entry_words(&entry, CONFIGURED);
            let sealed = sealer.seal(&entry_act(hub, &change, &entry, &words));
            let sealed = sealed.map_err(|error| not_declared(&change, &error.to_string()))?;
            recorded.push(sealed.into_parts());
        }
    }
    while !recorded.is_empty() {
        let chunk: Vec<_> = recorded.drain(..recorded.len().min(CHUNK)).collect();
        let (drafts, puts): (Vec<_>, Vec<_>) = chunk.into_iter().unzip();
        book.append(drafts, None, puts.into_iter().flatten().collect(), now())?;
        sealer.durable();
    }
    Ok(())
}

fn not_declared(change: &Change, reason: &str) -> HubError {
    HubError::Access {
        entry: format!("{change:?}"),
        reason: reason.to_owned(),
    }
}

/// The machines of a configuration.
pub(super) fn machines<'a>(
    gate: &Gate,
    devices: impl Iterator<Item = &'a str>,
    edges: impl Iterator<Item = &'a str>,
) -> Declared {
    let none = BTreeSet::new;
    let devices = devices.map(|id| (format!("device:{id}"), IdentityKind::Device));
    let edges = edges.map(|id| (format!("edge:{id}"), IdentityKind::Edge));
    let hub = (gate.hub().to_owned(), IdentityKind::Hub);
    let all = devices.chain(edges).chain([hub]);
    all.map(|(id, kind)| (id, (kind, none()))).collect()
}

impl Hub {
    /// Changes who may what.
    pub fn access(&self) -> &AccessDesk {
        &self.actors.access
    }

    /// Decides who may what.
    pub fn gate(&self) -> &Gate {
        self.actors.access.gate()
    }

    /// Names the users of this hub, with their roles; those that it named before and names no more are
    /// withdrawn. Durable when it returns.
    ///
    /// # Errors
    /// When a user cannot be, or it cannot be recorded; then nothing was changed.
    pub async fn name_users(&self, users: &[(String, Vec<Role>)]) -> Result<(), HubError> {
        let declared = users.iter().map(|(user, roles)| {
            let roles = roles.iter().map(|role| role.name().to_owned()).collect();
            (format!("user:{user}"), (IdentityKind::User, roles))
        });
        self.reconcile(&[IdentityKind::User], &declared.collect())
            .await
    }

    /// Lets the program that holds this hub act as a user with these roles, whoever else is named.
    ///
    /// # Errors
    /// When there can be no such user, they were put on the blacklist, or it cannot be recorded.
    pub async fn enter(&self, user: &str, roles: &[Role]) -> Result<Caller, HubError> {
        let id = format!("user:{user}");
        let roles: BTreeSet<_> = roles.iter().map(|role| role.name().to_owned()).collect();
        let state = self.gate().state();
        let known = state.subjects().get(&id).filter(|known| !known.revoked);
        let mut changes = match known {
            Some(known) if known.roles == roles => Vec::new(),
            Some(_) => vec![Change::Assign(id.clone(), roles)],
            None => {
                let mut subject = Subject::new(IdentityKind::User);
                subject.roles = roles;
                vec![Change::Enrol(id.clone(), subject)]
            }
        };
        if !state.lists(Side::Extranet).white.contains(&id) {
            changes.push(Change::White(Side::Extranet, id, true));
        }
        let failed = |error: AccessError| HubError::Access {
            entry: format!("user `{user}`"),
            reason: error.to_string(),
        };
        let access = self.access();
        if !changes.is_empty() {
            let why = By::Hub("the program that holds the hub says so");
            access.change(why, changes).await.map_err(failed)?;
        }
        access.admit(user, "program").await.map_err(failed)?;
        Ok(Caller::new(user, "program"))
    }

    /// As when the hub starts, with devices and edge nodes that came and went.
    pub(super) async fn name_machines(
        &self,
        gone: &[&str],
        come: &[&str],
        edges: &[String],
    ) -> Result<(), HubError> {
        let state = self.gate().state();
        let known = state.subjects().iter().filter(|(_, subject)| {
            subject.kind == IdentityKind::Device && subject.declared.is_some()
        });
        let stay = known.filter_map(|(id, _)| id.strip_prefix("device:"));
        let stay = stay.filter(|id| !gone.contains(id));
        let devices = stay.chain(come.iter().copied());
        let declared = machines(self.gate(), devices, edges.iter().map(String::as_str));
        self.reconcile(&MACHINES, &declared).await
    }

    /// Entries of access that other hubs recorded last.
    async fn theirs(&self) -> Result<BTreeSet<String>, HubError> {
        let Some(cluster) = self.cluster() else {
            return Ok(BTreeSet::new());
        };
        let book = cluster.book().clone();
        let looked = move || book.look(|state, _, _| theirs(state, book.hub()));
        let looked = tokio::task::spawn_blocking(looked).await;
        looked.map_err(|_| HubError::Gone)
    }

    async fn reconcile(&self, kinds: &[IdentityKind], declared: &Declared) -> Result<(), HubError> {
        let theirs = self.theirs().await?;
        let changes = reconcile_own(&self.gate().state(), kinds, declared, &theirs);
        if changes.is_empty() {
            return Ok(());
        }
        let changed = self.access().change(By::Hub(CONFIGURED), changes).await;
        changed.map_err(|error| HubError::Access {
            entry: "what the configuration says".to_owned(),
            reason: error.to_string(),
        })
    }
}
