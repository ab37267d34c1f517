//! A small hub made of plain values, for the tests of this module.

use super::caller::LOCAL;
use super::context::{ApiContext, DeviceInfo, DeviceList};
use super::feed::Feed;
use super::loaded::ConfigStatus;
use super::ports::*;
use super::server::Api;
use crate::access::{Caller, Gate, Right, Role};
use crate::live_view::{Link, LiveSample, LiveView};
use crate::model::now;
use crate::model::{Nanos, Quality, TagSpec, Value, ValueKind, VerdictClass};
use crate::protocols::FixedAccess;
use crate::protocols::control::{MethodCall, WriteFault, Written};
use crate::protocols::fake_alarms::FakeAlarms;
use crate::protocols::ports::AccessPort;
use crate::protocols::ports::{ControlError, ControlPort};
use crate::stats::{Refusal, Stats};
use crate::validation::{ChartPoint, TagChart};
use actix_web::web;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use weighbridge_verifier::*;

/// 2026-01-01T00:00:00Z.
pub(super) const NEW_YEAR: Nanos = 1_767_225_600_000_000_000;

/// A chain in memory, one block a second from [`NEW_YEAR`] on.
#[derive(Default)]
pub(super) struct FakeLedger {
    blocks: Mutex<Vec<Block>>,
    /// What keeps it from taking blocks.
    pub(super) trouble: Mutex<Option<String>>,
    /// When set, every question fails with it.
    pub(super) failure: Mutex<Option<String>>,
}

impl FakeLedger {
    /// Adds a block with a record for each (device, verdict).
    pub(super) fn add(&self, batches: &[(&str, VerdictClass)]) {
        let mut blocks = self.blocks.lock();
        let height = blocks.len() as u64 + 1;
        let previous_hash = blocks.last().map_or(Hash::ZERO, |b| b.header.hash());
        let time = NEW_YEAR + height as i64 * 1_000_000_000;
        let records: Vec<_> = (0..)
            .zip(batches)
            .map(|(i, (device, class))| record(height, i, time, device, *class))
            .collect();
        let header = BlockHeader {
            version: block::BLOCK_VERSION,
            chain: "plant".into(),
            height,
            previous_hash,
            time,
            record_count: records.len() as u32,
            merkle_root: Block::merkle_root(weighbridge_verifier::Suite::Nist, &records),
            state_hash: Hash([2; 32]),
            validators_hash: Hash([3; 32]),
            proposer: "hub-1".into(),
        };
        let signature = CommitSignature {
            validator: "hub-1".into(),
            signature: Signature([7; 64]),
        };
        blocks.push(Block {
            header,
            records,
            certificate: CommitCertificate {
                signatures: vec![signature],
            }
            .into(),
        });
    }

    fn check(&self) -> Result<(), LedgerReadError> {
        let failure = self.failure.lock().clone();
        failure.map_or(Ok(()), |reason| Err(LedgerReadError(reason)))
    }
}

fn record(height: u64, i: u64, time: Nanos, device: &str, class: VerdictClass) -> Record {
    let refused = class == VerdictClass::Invalid;
    let content = Content::Batch(BatchContent {
        device: device.into(),
        epoch: 1,
        sequence: height,
        samples: 12,
        grade: 0,
        inner_root: Hash([4; 32]),
        sealed: (!refused).then_some(SealedRef {
            hash: Hash([5; 32]),
            length: 900,
            key_epoch: 1,
        }),
        verdict: VerdictSummary {
            class,
            chart: "ewma".into(),
            rule: "beyond_limit".into(),
        },
        judged_by: Hash([6; 32]),
        attester: None,
    });
    let body = RecordBody {
        version: record::RECORD_VERSION,
        chain: "plant".into(),
        hub: "hub-1".into(),
        sequence: height * 100 + i,
        previous: Hash::ZERO,
        time,
        subject: format!("device:{device}"),
        action: if refused {
            Action::Refuse
        } else {
            Action::Store
        },
        object: format!("device:{device}"),
        permit: None,
        content,
        response: if refused {
            Response::Refused
        } else {
            Response::Accepted
        },
    };
    Record {
        body,
        signature: Signature([8; 64]),
    }
}

impl LedgerReader for FakeLedger {
    fn tip(&self) -> Option<Tip> {
        let blocks = self.blocks.lock();
        let newest = &blocks.last()?.header;
        Some(Tip {
            height: newest.height,
            hash: newest.hash(),
            time: newest.time,
            records: blocks.iter().map(|b| b.records.len() as u64).sum(),
        })
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    fn block(&self, height: u64) -> Result<Option<Block>, LedgerReadError> {
        self.check()?;
        let blocks = self.blocks.lock();
        Ok(blocks.iter().find(|b| b.header.height == height).cloned())
    }

    fn blocks(&self, before: Option<u64>, limit: usize) -> Result<Vec<Block>, LedgerReadError> {
        self.check()?;
        let below = |b: &&Block| before.is_none_or(|before| b.header.height < before);
        let blocks = self.blocks.lock();
        let newest_first = blocks.iter().rev().filter(below);
        Ok(newest_first.take(limit).cloned().collect())
    }

    fn records(
        &self,
        before: Option<RecordAt>,
        limit: usize,
        filter: &RecordFilter,
    ) -> Result<RecordPage, LedgerReadError> {
        self.check()?;
        let blocks = self.blocks.lock();
        let mut page = RecordPage::default();
        for block in blocks.iter().rev() {
            for (position, record) in block.records.iter().enumerate().rev() {
                let position = position as u32;
                let height = block.header.height;
                let at = RecordAt { height, position };
                if before.is_some_and(|before| at >= before) {
                    continue;
                }
                let batch = record.body.batch();
                let device = batch.map(|b| b.device.clone());
                let fits = (filter.device.is_none() || filter.device == device)
                    && filter.action.is_none_or(|a| a == record.body.action)
                    && filter
                        .verdict
                        .is_none_or(|v| batch.is_some_and(|b| b.verdict.class == v));
                if !fits {
                    continue;
                }
                if page.records.len() == limit {
                    page.next = page.records.last().map(|(at, _)| *at);
                    return Ok(page);
                }
                page.records.push((at, record.clone()));
            }
        }
        Ok(page)
    }
}

/// A chart of `plc-1/temperature` only: ten points, the last one without a value.
struct FakeCharts;

impl ChartReader for FakeCharts {
    fn chart(&self, device: &str, tag: &str, points: usize) -> Option<TagChart> {
        if (device, tag) != ("plc-1", "temperature") {
            return None;
        }
        let all = (0..10i32).map(|i| ChartPoint {
            time: NEW_YEAR + i64::from(i) * 1_000_000_000,
            value: if i == 9 { f64::NAN } else { f64::from(i) },
            bad: i == 9,
            signalled: (i == 8).then(|| "nelson rule_3".into()),
        });
        Some(TagChart {
            device: device.into(),
            tag: tag.into(),
            unit: "°C".into(),
            center: Some(4.0),
            lcl: Some(-1.0),
            ucl: None,
            basis: "limits are set".into(),
            points: all.skip(10usize.saturating_sub(points)).collect(),
        })
    }
}

pub(super) fn tag(name: &str, kind: ValueKind, unit: &str) -> TagSpec {
    TagSpec {
        writable: false,
        name: name.into(),
        kind,
        unit: unit.into(),
        description: String::new(),
        range: (kind == ValueKind::F64).then_some((0.0, 120.0)),
    }
}

pub(super) struct FakeHub {
    pub(super) context: ApiContext,
    pub(super) ledger: Arc<FakeLedger>,
}

impl FakeHub {
    /// Two devices, one of them down; three blocks with five batches; one refusal.
    pub(super) fn new() -> Self {
        let live = LiveView::default();
        let tags = [
            tag("temperature", ValueKind::F64, "°C"),
            tag("running", ValueKind::Bool, ""),
            tag("count", ValueKind::U64, ""),
        ];
        let plc = live.register("plc-1".into(), tags.into());
        plc.set_link(Link::Up);
        plc.count_points(300);
        let sample = |value, quality| LiveSample {
            time: NEW_YEAR,
            value,
            quality,
        };
        plc.update([
            (0, sample(Value::F64(f64::NAN), Quality::BAD_OUT_OF_RANGE)),
            (1, sample(Value::Bool(true), Quality::GOOD)),
            (2, sample(Value::U64(u64::MAX), Quality::GOOD)),
        ]);
        let robot = live.register("robot-1".into(), [tag("axis", ValueKind::F64, "°")].into());
        robot.set_heard(NEW_YEAR);
        robot.set_down(
            "127.0.0.1:4855 cannot be reached",
            "connection refused",
            NEW_YEAR + 2_000_000_000,
        );
        let stats = Arc::new(Stats::default());
        stats.count_batch(VerdictClass::Accepted, 12);
        stats.count_batch(VerdictClass::Invalid, 0);
        stats.count_block(2, 1800);
        stats.refused(Refusal {
            time: NEW_YEAR,
            device: "plc-1".into(),
            sequence: 3,
            reason: "sample 2 of <temperature> is not a number".into(),
        });
        let ledger = Arc::new(FakeLedger::default());
        ledger.add(&[("plc-1", VerdictClass::Accepted)]);
        ledger.add(&[
            ("plc-1", VerdictClass::Accepted),
            ("robot-1", VerdictClass::OutOfControl),
        ]);
        ledger.add(&[
            ("plc-1", VerdictClass::Invalid),
            ("robot-1", VerdictClass::Accepted),
        ]);
        let info = DeviceInfo {
            id: "robot-1".into(),
            group: Some("cell-a".into()),
            protocol: "OPC UA".into(),
            address: "opc.tcp://127.0.0.1:4855".into(),
            machine: Default::default(),
        };
        let context = ApiContext {
            edges: None,
            sessions: Arc::new(FakeSessions),
            hub_id: "hub-1".into(),
            started: NEW_YEAR,
            live,
            devices: DeviceList::new([info]),
            config: ConfigStatus::default(),
            stats,
            ledger: ledger.clone(),
            charts: Arc::new(FakeCharts),
            control: None,
            alarms: FakeAlarms::new(),
            access: access_as(Role::Engineer),
            log_in: None,
            history: None,
            checkpoints: None,
            eraser: None,
            readers: None,
            cluster: None,
            keys: None,
            users: None,
            opcua_url: Some("opc.tcp://127.0.0.1:4840/".into()),
            certificates: None,
        };
        let mut hub = Self { context, ledger };
        hub.set_role(Role::Engineer);
        hub
    }

    /// What the users of the face are from now on.
    pub(super) fn set_role(&mut self, role: Role) {
        let access = access_as(role);
        self.context.control = Some(Arc::new(FakeControl(access.gate().clone())));
        self.context.access = access;
    }

    /// What handlers share, without a running stream.
    pub(super) fn api(&self) -> web::Data<Api> {
        web::Data::new(Api {
            context: self.context.clone(),
            feed: Arc::new(Feed::new(CancellationToken::new())),
            names: Default::default(),
            log_in: None,
        })
    }
}

/// Writes whatever is asked for, but 13, and calls nothing.
struct FakeControl(Gate);

#[async_trait]
impl ControlPort for FakeControl {
    async fn write(
        &self,
        caller: &Caller,
        _: &str,
        writes: Vec<(String, Value)>,
    ) -> Result<Written, ControlError> {
        if !self.0.somewhere(&caller.user, Right::Write, now()) {
            return Err(ControlError::Denied("no".into()));
        }
        let write = |value: Value| match value.as_f64() {
            Some(13.0) => Err(WriteFault::Value("it brings bad luck".into())),
            _ => Ok(value),
        };
        Ok(writes.into_iter().map(|(_, value)| write(value)).collect())
    }

    async fn call(
        &self,
        _: &Caller,
        _: &str,
        call: MethodCall,
    ) -> Result<Result<Vec<Value>, WriteFault>, ControlError> {
        Ok(match call.method.as_str() {
            "echo" => Ok(call.arguments),
            other => Err(WriteFault::Refused(format!("{other} is no method"))),
        })
    }
}

/// Follows nobody.
pub(super) struct FakeSessions;

impl crate::protocols::ports::SessionPort for FakeSessions {
    fn asked(&self, _: &str, _: &str) {}

    fn ended(&self, _: &str) {}

    fn open(&self) -> usize {
        0
    }
}

fn access_as(role: Role) -> Arc<dyn AccessPort> {
    FixedAccess::new(&[(LOCAL.to_owned(), vec![role])]).unwrap()
}
