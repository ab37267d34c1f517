//! A Modbus device as a source: polls it at its period, whole scans only.

use super::config::ModbusConfig;
use super::link::Link;
use super::plan::Limits;
use super::point::{ModbusPoint, Table};
use super::polls::{Polls, RETRY_AFTER};
use crate::model::{BatchBuilder, DeviceId, Nanos, TagSpec, ValueKind, now};
use crate::protocols::source::{Mode, Source, SourceError};
use async_trait::async_trait;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// Why a Modbus device cannot be read as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModbusConfigError {
    /// Nothing to read.
    #[error("device {device} has no tags; give it at least one [[device.tag]]")]
    NoTags {
        /// The device.
        device: DeviceId,
    },
    /// Longer than one request may be.
    #[error(
        "tag {tag} of device {device} takes {width} {table}s, but one request may read {limit}; raise max_registers or shorten the tag"
    )]
    TooWide {
        /// The device.
        device: DeviceId,
        /// The tag.
        tag: Arc<str>,
        /// Its table.
        table: Table,
        /// How many cells it takes.
        width: u16,
        /// How many one request may read.
        limit: u32,
    },
    /// The tag's type is not what its registers give.
    #[error(
        "tag {tag} of device {device} is declared as {declared:?}, but its registers give {given:?}"
    )]
    Kind {
        /// The device.
        device: DeviceId,
        /// The tag.
        tag: Arc<str>,
        /// Type of the tag.
        declared: ValueKind,
        /// Type of its point's values.
        given: ValueKind,
    },
}

/// A connection and the requests that go over it.
struct Session {
    link: Link,
    polls: Polls,
    since: Instant,
}

impl Session {
    /// Makes the requests of one scan; the time is that of the first one.
    async fn scan(mut self: Box<Self>) -> Result<(Box<Self>, Nanos), SourceError> {
        let time = now();
        self.polls.begin(self.since.elapsed());
        while let Some(request) = self.polls.next() {
            let answer = self.link.read(request).await?;
            self.polls.answer(answer);
        }
        Ok((self, time))
    }
}

type Scan = Pin<Box<dyn Future<Output = Result<(Box<Session>, Nanos), SourceError>> + Send>>;

/// Polls one Modbus TCP device.
pub struct ModbusSource {
    device: DeviceId,
    config: ModbusConfig,
    tags: Arc<[TagSpec]>,
    points: Arc<[ModbusPoint]>,
    pace: Option<Interval>,
    session: Option<Box<Session>>,
    /// The scan that is being made. It owns the session, so that whoever stops waiting for it loses
    /// nothing: the next call goes on waiting, and no answer is ever taken for another's.
    scan: Option<Scan>,
}

impl ModbusSource {
    /// A source that reads `points` of `device`, in the order of the batch's columns. Nothing is
    /// connected yet.
    pub fn new(
        device: DeviceId,
        config: ModbusConfig,
        points: Vec<(TagSpec, ModbusPoint)>,
    ) -> Result<Self, ModbusConfigError> {
        if points.is_empty() {
            return Err(ModbusConfigError::NoTags { device });
        }
        let limits = limits(&config);
        for (tag, point) in &points {
            let limit = limits.cells(point.table);
            if u32::from(point.width()) > limit {
                return Err(ModbusConfigError::TooWide {
                    device,
                    tag: tag.name.clone(),
                    table: point.table,
                    width: point.width(),
                    limit,
                });
            }
            if tag.kind != point.value_kind() {
                return Err(ModbusConfigError::Kind {
                    device,
                    tag: tag.name.clone(),
                    declared: tag.kind,
                    given: point.value_kind(),
                });
            }
        }
        let (tags, points): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        Ok(Self {
            device,
            config,
            tags: tags.into(),
            points: points.into(),
            pace: None,
            session: None,
            scan: None,
        })
    }

    fn open(&mut self, link: Link) {
        self.session = Some(Box::new(Session {
            link,
            polls: Polls::new(self.points.clone(), limits(&self.config)),
            since: Instant::now(),
        }));
        let period = Duration::from_millis(self.config.period_ms.get().into());
        self.pace = (!period.is_zero()).then(|| {
            let mut pace = interval(period);
            // A slow device is polled less often, not in bursts.
            pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
            pace
        });
    }

    fn drop_connection(&mut self) {
        self.session = None;
        self.scan = None;
    }

    fn report_refused(&self, polls: &Polls) {
        let names = polls.newly_refused().filter_map(|p| self.tags.get(p));
        let names: Vec<&str> = names.map(|tag| &*tag.name).collect();
        if let [first, ..] = names[..] {
            tracing::warn!(
                device = %self.device,
                tags = names.len(),
                first,
                retry_seconds = RETRY_AFTER.as_secs(),
                "the device refuses to read some tags; they are Bad, the others go on"
            );
        }
    }
}

fn limits(config: &ModbusConfig) -> Limits {
    Limits {
        registers: config.max_registers.get(),
        coils: config.max_coils.get(),
        gap: config.max_gap.get(),
    }
}

#[async_trait]
impl Source for ModbusSource {
    fn tags(&self) -> Arc<[TagSpec]> {
        self.tags.clone()
    }

    fn mode(&self) -> Mode {
        Mode::Scanning
    }

    async fn connect(&mut self) -> Result<(), SourceError> {
        self.drop_connection();
        let link = Link::connect(&self.config).await?;
        self.open(link);
        Ok(())
    }

    async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError> {
        if self.scan.is_none() {
            if let Some(pace) = &mut self.pace {
                pace.tick().await;
            }
            let session = self.session.take();
            let session = session.ok_or_else(|| SourceError::Unreachable {
                address: self.config.address.to_string(),
                reason: "not connected".into(),
            })?;
            self.scan = Some(Box::pin(session.scan()));
        }
        let Some(scan) = &mut self.scan else {
            return Ok(());
        };
        let result = scan.await;
        self.scan = None;
        let (session, time) = result?;
        out.begin_scan(time);
        session.polls.write(out);
        self.report_refused(&session.polls);
        self.session = Some(session);
        Ok(())
    }

    async fn close(&mut self) {
        self.scan = None;
        if let Some(session) = self.session.take() {
            session.link.close().await;
        }
    }
}
