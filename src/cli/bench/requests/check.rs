//! What the clients remember, what the machines saw and what the ledger says, compared.

use super::drive::{Entry, Kind};
use super::hub::HUB;
use crate::crypto::SealingKey;
use crate::ledger::head::HeadSlot;
use crate::ledger::opening::{ActOpener, Opener};
use crate::ledger::query::Explorer;
use crate::ledger::verify::verify_store;
use crate::model::Nanos;
use crate::store::{FjallStore, HeadFile};
use anyhow::Context;
use serde::Serialize;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use weighbridge_verifier::{Content, Response};

/// What is wrong, by what it is; all of it must be 0.
#[derive(Debug, Default, Serialize)]
pub(super) struct Wrong {
    /// Requests that were answered, of which the ledger knows nothing, or something else.
    pub(super) answered_without_record: u64,
    /// Writes that were answered, of which the ledger does not say what came of them.
    pub(super) answered_without_result: u64,
    /// Requests of which the ledger has more records than there can be.
    pub(super) recorded_twice: u64,
    /// Records of requests that nobody sent.
    pub(super) recorded_but_never_sent: u64,
    /// Records that are older than their request, or younger than its answer.
    pub(super) recorded_at_another_time: u64,
    /// Results without a request.
    pub(super) result_without_request: u64,
    /// Writes that are recorded as done, and no machine saw.
    pub(super) recorded_but_not_done: u64,
    /// Writes that a machine saw, and the ledger has no request of.
    pub(super) done_but_not_recorded: u64,
    /// Writes that a machine saw twice.
    pub(super) done_twice: u64,
    /// What `verify` finds.
    pub(super) ledger_findings: u64,
}

impl Wrong {
    /// All of it.
    pub(super) fn sum(&self) -> u64 {
        self.answered_without_record
            + self.answered_without_result
            + self.recorded_twice
            + self.recorded_but_never_sent
            + self.recorded_at_another_time
            + self.result_without_request
            + self.recorded_but_not_done
            + self.done_but_not_recorded
            + self.done_twice
            + self.ledger_findings
    }
}

/// What the ledger has of one request.
#[derive(Default)]
struct Found {
    /// Records that it was taken, and when the first was made.
    taken: u32,
    refused: u32,
    results: u32,
    time: Nanos,
    /// The machine showed the value.
    done: bool,
}

/// What the ledger has.
#[derive(Default)]
pub(super) struct Ledger {
    requests: HashMap<u32, Found>,
    pub(super) blocks: u64,
    /// Records of the requests.
    pub(super) records: u64,
    findings: u64,
}

/// Reads the ledger of a hub that is not there any more.
pub(super) fn read(data: &Path, sealing: SealingKey) -> anyhow::Result<Ledger> {
    let store = Arc::new(FjallStore::open(data)?);
    let head = HeadFile::new(data).read()?;
    let report = verify_store(&*store, &head, None, &mut |_| {})?;
    let mut ledger = Ledger {
        findings: report.findings.len() as u64,
        ..Ledger::default()
    };
    let explorer = Explorer::new(store.clone());
    let mut opener = ActOpener::new(Opener::new(store, Arc::new(sealing), HUB), HUB);
    let tip = explorer.tip()?.context("the ledger is empty")?;
    ledger.blocks = tip.height;
    for height in 1..=tip.height {
        let block = explorer.block(height)?.context("a block is missing")?;
        for record in &block.records {
            if let Content::Message(message) = &record.body.content {
                let details = opener.open(message)?;
                let told = (message.kind.as_str(), record.body.response);
                ledger.note(told, record.body.time, &details);
            }
        }
    }
    Ok(ledger)
}

impl Ledger {
    fn note(&mut self, (kind, response): (&str, Response), time: Nanos, details: &Json) {
        let request = details.get("request").unwrap_or(details);
        let Some(number) = number(request).or_else(|| set_point(request)) else {
            return;
        };
        self.records += 1;
        let found = self.requests.entry(number).or_default();
        if kind == "control-result" {
            found.results += 1;
            let back = details
                .pointer("/results/0/read_back")
                .and_then(Json::as_u64);
            found.done |= back == Some(number.into());
            return;
        }
        found.time = time;
        match response {
            Response::Refused => found.refused += 1,
            _ => found.taken += 1,
        }
    }
}

/// The name that the client gave its request.
fn number(request: &Json) -> Option<u32> {
    request.get("request_id")?.as_str()?.parse().ok()
}

/// The value that was to be written: over OPC UA a request has no name.
fn set_point(request: &Json) -> Option<u32> {
    let value = request.pointer("/writes/0/value")?.as_u64()?;
    value.try_into().ok()
}

/// What the clients were told.
#[derive(Debug, Default, Serialize)]
pub(super) struct Answers {
    /// Done, or refused by decision.
    pub(super) answered: u64,
    /// Told that it could not be done now: nothing was released, and there may be a record or none.
    pub(super) put_off: u64,
    /// Not answered.
    pub(super) unanswered: u64,
}

/// Compares.
pub(super) fn compare(journal: &[Entry], seen: &[Vec<u8>], ledger: &Ledger) -> (Answers, Wrong) {
    let (mut answers, mut wrong) = (Answers::default(), Wrong::default());
    wrong.ledger_findings = ledger.findings;
    let mut machine: HashMap<u32, u32> = HashMap::new();
    for value in seen {
        if let Ok(value) = <[u8; 4]>::try_from(value.as_slice()) {
            *machine.entry(u32::from_be_bytes(value)).or_default() += 1;
        }
    }
    let nothing = Found::default();
    let mut sent = HashMap::with_capacity(journal.len());
    for entry in journal {
        sent.insert(entry.number, entry.kind);
        let found = ledger.requests.get(&entry.number).unwrap_or(&nothing);
        match entry.answered {
            None => answers.unanswered += 1,
            Some((_, 500..)) | Some((_, 401 | 429)) => answers.put_off += 1,
            Some((when, status)) => {
                answers.answered += 1;
                let due = match (status, entry.kind) {
                    // A machine may answer otherwise than it was asked to; the request was taken.
                    (200, _) | (422, Kind::Write | Kind::OpcUaWrite) => (1, 0),
                    _ => (0, 1),
                };
                if (found.taken, found.refused) != due {
                    wrong.answered_without_record += 1;
                    tracing::error!(
                        ?entry,
                        taken = found.taken,
                        refused = found.refused,
                        "record"
                    );
                } else if !(entry.sent..=when).contains(&found.time) {
                    wrong.recorded_at_another_time += 1;
                }
                let result = u32::from(entry.kind.writes() && due == (1, 0));
                if found.results != result {
                    wrong.answered_without_result += 1;
                }
            }
        }
    }
    for (number, found) in &ledger.requests {
        if found.taken + found.refused > 1 || found.results > 1 {
            wrong.recorded_twice += 1;
        }
        let kind = sent.get(number);
        wrong.recorded_but_never_sent += u64::from(kind.is_none());
        let unasked = found.results > 0 && found.taken == 0;
        wrong.result_without_request += u64::from(unasked);
        let undone = found.done && !machine.contains_key(number);
        wrong.recorded_but_not_done += u64::from(undone);
    }
    for (number, times) in &machine {
        let taken = ledger.requests.get(number).is_some_and(|f| f.taken > 0);
        wrong.done_but_not_recorded += u64::from(!taken);
        wrong.done_twice += u64::from(*times > 1);
    }
    (answers, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(number: u32, kind: Kind, status: Option<u16>) -> Entry {
        Entry {
            number,
            kind,
            sent: 10,
            answered: status.map(|status| (20, status)),
        }
    }

    /// A ledger with these records: kind, response, time, details.
    fn ledger(records: &[(&str, Response, Nanos, Json)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (kind, response, time, details) in records {
            ledger.note((kind, *response), *time, details);
        }
        ledger
    }

    #[test]
    fn each_kind_of_lie_is_found() {
        use Response::{Accepted, Refused};
        let asked = |number: u32| json!({"request_id": number.to_string()});
        let write = |number: u32| json!({"writes": [{"tag": "setpoint", "value": number}]});
        let came =
            |number: u32| json!({"request": write(number), "results": [{"read_back": number}]});
        let seen = |number: u32| number.to_be_bytes().to_vec();
        let (write_1, read_2) = (Kind::OpcUaWrite, Kind::History);
        let journal = [entry(1, write_1, Some(200)), entry(2, read_2, Some(200))];
        let right = [
            ("control", Accepted, 15, write(1)),
            ("control-result", Accepted, 16, came(1)),
            ("history-read", Accepted, 12, asked(2)),
        ];
        let (answers, wrong) = compare(&journal, &[seen(1)], &ledger(&right));
        assert_eq!((answers.answered, wrong.sum()), (2, 0), "{wrong:?}");

        let without = |at: usize| {
            let mut some = right.to_vec();
            some.remove(at);
            compare(&journal, &[seen(1)], &ledger(&some)).1
        };
        assert_eq!(without(2).answered_without_record, 1);
        assert_eq!(without(1).answered_without_result, 1);
        let unasked = without(0);
        assert_eq!(unasked.result_without_request, 1);
        assert_eq!(unasked.done_but_not_recorded, 1);

        let with = |more| {
            let some = [&right[..], &[more]].concat();
            compare(&journal, &[seen(1)], &ledger(&some)).1
        };
        assert_eq!(with(right[2].clone()).recorded_twice, 1);
        let strange = with(("history-read", Accepted, 12, asked(9)));
        assert_eq!(strange.recorded_but_never_sent, 1);
        let refused = with(("history-read", Refused, 12, asked(2)));
        assert_eq!(refused.answered_without_record, 1);

        let mut late = right.clone();
        late[2].2 = 21;
        let (_, wrong) = compare(&journal, &[seen(1)], &ledger(&late));
        assert_eq!(wrong.recorded_at_another_time, 1);
        let (_, wrong) = compare(&journal, &[], &ledger(&right));
        assert_eq!(wrong.recorded_but_not_done, 1);
        let (_, wrong) = compare(&journal, &[seen(1), seen(1)], &ledger(&right));
        assert_eq!(wrong.done_twice, 1);
    }
}
