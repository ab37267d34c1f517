//! Releasing a copy to a user (Wan et al. 2019, Algorithm 2): the user stores a request at their own level; the
//! hub, which is high, reads, makes a copy at the user's level and encrypts it to the user's public key. Both are
//! records, durable before the copy leaves.

use super::Readers;
use crate::access::{Caller, Denied, Right};
use crate::api::{ReadersFault, ReleaseRequest};
use crate::crypto::SealingPublicKey;
use crate::ledger::act::name;
use crate::ledger::history::PastError;
use crate::ledger::history::succession::Succession;
use crate::ledger::key_wrap::hub_object;
use crate::ledger::opening::Opener;
use crate::ledger::proof::Exhibits;
use crate::ledger::query::{Explorer, QueryError};
use crate::ledger::reading::{Copied, RELEASE, Release, SealedCopy, copy};
use crate::model::{now, rfc3339};
use serde_json::{Value as Json, json};
use weighbridge_verifier::{Action, Block, Content, MessageContent};

/// Kind of the record of a user's request.
const REQUEST: &str = "release-request";

/// Tells the two records of one release from all others.
struct Released {
    heights: (u64, u64),
    /// The number that both have.
    number: String,
}

impl Readers {
    /// Releases a copy to the caller. The request, the release and a refusal are durable in the record before
    /// this returns.
    ///
    /// # Errors
    /// When the caller may not have it, has no key, it cannot be recorded, or cannot be read.
    pub async fn release(
        &self,
        caller: &Caller,
        request: ReleaseRequest,
    ) -> Result<Release, ReadersFault> {
        let inner = &*self.0;
        let (id, object) = (name("user", &caller.user), name("device", &request.device));
        let mut number = [0; 16];
        let random = getrandom::fill(&mut number);
        random.map_err(|e| ReadersFault::Unreadable(format!("there is no randomness: {e}")))?;
        let digits = data_encoding::HEXLOWER.encode(&number);
        let decided = self.decide(&caller.user, (&id, &object), &request);
        let asked = json!({
            "number": digits,
            "tags": request.tags,
            "from": rfc3339(request.range.0),
            "from_ns": request.range.0.to_string(),
            "to": rfc3339(request.range.1),
            "to_ns": request.range.1.to_string(),
            "session": caller.session,
        });
        let wanted = (Action::Release, REQUEST);
        let denied = decided.as_ref().err();
        let first = self.told((&id, &object), wanted, denied, asked).await?;
        let Ok(key) = decided else {
            let (user, device) = (&caller.user, &request.device);
            let why = format!("nothing of {device} is released to {user}");
            return Err(ReadersFault::Denied(why));
        };
        self.indexed().map_err(ReadersFault::Unreadable)?;
        let copied = self.copied(caller, &request).await?;
        if copied.tags.is_empty() {
            let why = format!("nothing is recorded of {} in that time", request.device);
            return Err(ReadersFault::Unknown(why));
        }
        let sealed = SealedCopy::seal(&key, number, &copied);
        let sealed = sealed.map_err(|e| ReadersFault::Unreadable(e.to_string()))?;
        let suite = inner.planner.signer.suite();
        let told = json!({
            "number": digits,
            "to": id,
            "to_level": inner.gate.state().subjects().get(&id).map(|s| s.level),
            "key": key.compressed(),
            "device": request.device,
            "tags": copied.tags.iter().map(|tag| &tag.tag).collect::<Vec<_>>(),
            "from_ns": copied.from_ns,
            "to_ns": copied.to_ns,
            "samples": copied.samples(),
            "ciphertext": sealed.hash(suite),
        });
        let by_hub = (inner.gate.hub(), &*id);
        let second = self.told(by_hub, (Action::Release, RELEASE), None, told);
        let released = Released {
            heights: (first, second.await?),
            number: digits,
        };
        let (explorer, opener) = (inner.explorer.clone(), inner.planner.opener.clone());
        let hub = inner.planner.signer.id().to_owned();
        let shown = move || shown(&explorer, (&opener, &hub), &released);
        let evidence = self.reading(shown).await?;
        Ok(Release {
            copy: sealed,
            evidence,
        })
    }

    /// The key that the copy is encrypted to, if it may be made: on the whitelist, in a session that a code or a
    /// key began, with a role that may see the history of all that is named, within a permit, and by a hub that
    /// may read on the device's level.
    fn decide(
        &self,
        user: &str,
        (id, object): (&str, &str),
        request: &ReleaseRequest,
    ) -> Result<SealingPublicKey, Denied> {
        let gate = &self.0.gate;
        let tags = request.tags.iter();
        let objects: Vec<_> = match request.tags.is_empty() {
            true => vec![object.to_owned()],
            false => tags.map(|tag| format!("{object}/{tag}")).collect(),
        };
        let objects = objects.iter().map(String::as_str);
        gate.passages(user, Right::History, objects, now())?;
        if !request.proven {
            return Err(Denied::NoCode);
        }
        let state = gate.state();
        let key = state.reader(id).map(|reader| reader.key);
        let key = key.and_then(|key| SealingPublicKey::from_compressed(&key).ok());
        key.ok_or(Denied::NoKey)
    }

    async fn copied(
        &self,
        caller: &Caller,
        request: &ReleaseRequest,
    ) -> Result<Copied, ReadersFault> {
        let inner = &*self.0;
        let (store, opener) = (inner.store.clone(), inner.planner.opener.clone());
        let (gate, user, request) = (inner.gate.clone(), caller.user.clone(), request.clone());
        self.reading(move || {
            let time = now();
            let sees = |tag: &str| {
                let object = format!("device:{}/{tag}", request.device);
                gate.passage(&user, Right::History, &object, time).is_ok()
            };
            let of = (request.device.as_str(), request.tags.as_slice());
            copy((&*store, &opener), of, request.range, sees)
        })
        .await
    }
}

/// The evidence of both records, with what they say.
fn shown(
    explorer: &Explorer,
    (opener, hub): (&Opener, &str),
    released: &Released,
) -> Result<weighbridge_verifier::evidence::Evidence, PastError> {
    let genesis = explorer.genesis()?.ok_or(PastError::Genesis)?;
    let mut succession = Succession::begin(explorer)?;
    let mut exhibits = Exhibits::new(succession.set().clone());
    exhibits.show_record(&genesis, 0)?;
    let (request, release) = released.heights;
    for (height, kind) in [(request, REQUEST), (release, RELEASE)] {
        let block = block(explorer, height)?;
        for (index, record) in block.records.iter().enumerate() {
            let Content::Message(message) = &record.body.content else {
                continue;
            };
            if message.kind == kind && is_of(opener, hub, message, &released.number)? {
                let opened = opener.open_to_show(&hub_object(hub), &message.sealed)?;
                exhibits.show_opened(&block, index, opened)?;
            }
        }
    }
    for height in exhibits.heights() {
        for (block, index) in succession.through(height)? {
            exhibits.show_record(&block, index)?;
        }
    }
    Ok(exhibits.into_evidence()?)
}

fn block(explorer: &Explorer, height: u64) -> Result<Block, PastError> {
    let block = explorer.block(height)?;
    block.ok_or_else(|| {
        PastError::Query(QueryError::Store(
            crate::ledger::store::StoreError::Damaged(format!("block {height} is missing")),
        ))
    })
}

fn is_of(
    opener: &Opener,
    hub: &str,
    message: &MessageContent,
    number: &str,
) -> Result<bool, PastError> {
    let details: Json = opener.open_act(hub, message)?;
    Ok(details["number"] == number)
}
