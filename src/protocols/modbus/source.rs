//! A Modbus device as a source: polls it at its period, whole scans only.

use super::bus::{Bus, Met};
use super::config::ModbusConfig;
use super::control::ModbusControl;
use super::identify::{self, Identification};
use super::link::Station;
use super::point::{ModbusPoint, Table};
use super::polls::{Polls, RETRY_AFTER};
use crate::model::{About, BatchBuilder, DeviceId, Nanos, Peer, TagSpec, ValueKind, now};
use crate::protocols::control::Control;
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
    /// In a range that must not be read.
    #[error(
        "tag {tag} of device {device} is in {table}s that `no_read` excludes, so it would never have a value"
    )]
    NoRead {
        /// The device.
        device: DeviceId,
        /// The tag.
        tag: Arc<str>,
        /// Its table.
        table: Table,
    },
    /// Several values where one is needed.
    #[error("tag {tag} of device {device} is an array: every element of it is a tag of its own")]
    Array {
        /// The device.
        device: DeviceId,
        /// The tag.
        tag: Arc<str>,
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

/// The requests that are made while a connection lasts.
struct Session {
    bus: Arc<Bus>,
    station: Station,
    polls: Polls,
    since: Instant,
}

impl Session {
    /// Makes the requests of one scan; the time is that of the first one.
    async fn scan(mut self: Box<Self>) -> Result<(Box<Self>, Nanos), SourceError> {
        let time = now();
        self.polls.begin(self.since.elapsed());
        while let Some(request) = self.polls.next() {
            let answer = self.bus.read(&self.station, request).await?;
            self.polls.answer(answer);
        }
        Ok((self, time))
    }
}

type Scan = Pin<Box<dyn Future<Output = Result<(Box<Session>, Nanos), SourceError>> + Send>>;

/// Polls one Modbus device.
pub struct ModbusSource {
    device: DeviceId,
    config: Arc<ModbusConfig>,
    tags: Arc<[TagSpec]>,
    points: Arc<[ModbusPoint]>,
    bus: Arc<Bus>,
    station: Station,
    met: Met,
    identity: Identity,
    pace: Option<Interval>,
    session: Option<Box<Session>>,
    /// The scan that is being made. It owns the session, so that whoever stops waiting for it loses
    /// nothing: the next call goes on waiting, and no answer is ever taken for another's.
    scan: Option<Scan>,
}

/// What a device says of itself.
enum Identity {
    /// It has not been asked, and will be.
    Wanted,
    /// It has been asked, or is not to be.
    Known(Option<Identification>),
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
        let limits = config.limits();
        for (tag, point) in &points {
            let (first, end) = (u32::from(point.address), u32::from(point.width()));
            if limits.no_read.touches(point.table, first, first + end) {
                return Err(ModbusConfigError::NoRead {
                    device,
                    tag: tag.name.clone(),
                    table: point.table,
                });
            }
            if point.elements.is_some() {
                return Err(ModbusConfigError::Array {
                    device,
                    tag: tag.name.clone(),
                });
            }
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
            bus: Bus::of(&config),
            station: Station {
                unit_id: config.unit_id,
                timeout: config.timeout(),
                delay: Duration::from_millis(config.delay_ms.get().into()),
            },
            identity: match config.identify {
                true => Identity::Wanted,
                false => Identity::Known(None),
            },
            met: Met::default(),
            config: Arc::new(config),
            tags: tags.into(),
            points: points.into(),
            pace: None,
            session: None,
            scan: None,
        })
    }

    fn open(&mut self) {
        self.session = Some(Box::new(Session {
            bus: self.bus.clone(),
            station: self.station,
            polls: Polls::new(self.points.clone(), self.config.clone()),
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

    /// What the device said of itself, where it was asked.
    pub fn identification(&self) -> Option<&Identification> {
        match &self.identity {
            Identity::Known(identification) => identification.as_ref(),
            Identity::Wanted => None,
        }
    }

    /// Asks the device who it is, once: some fall silent at a function that they do not know, and must
    /// not be asked again.
    async fn identify(&mut self) -> Result<(), SourceError> {
        if matches!(self.identity, Identity::Wanted) {
            self.identity = Identity::Known(None);
            match identify::identify(&self.bus, &self.station).await {
                Ok(found) => {
                    if let Some(identification) = &found {
                        tracing::info!(device = %self.device, %identification, "it says what it is");
                    }
                    self.identity = Identity::Known(found);
                }
                Err(error) => {
                    tracing::debug!(device = %self.device, %error, "it does not say what it is");
                    return self.bus.connect(&self.station).await;
                }
            }
        }
        Ok(())
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
        self.bus.connect(&self.station).await?;
        self.identify().await?;
        *self.met.lock() = self.bus.peer();
        self.open();
        Ok(())
    }

    async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError> {
        if self.scan.is_none() {
            if let Some(pace) = &mut self.pace {
                pace.tick().await;
            }
            let session = self.session.take();
            let session = session.ok_or_else(|| SourceError::Unreachable {
                address: self.config.transport.to_string(),
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
        self.bus.still(&self.met)?;
        out.begin_scan(time);
        session.polls.write(out);
        self.report_refused(&session.polls);
        self.session = Some(session);
        Ok(())
    }

    fn about(&self) -> About {
        let said = self.identification().map(Identification::nameplate);
        About {
            nameplate: said.filter(|plate| !plate.is_empty()),
            certificates: Vec::new(),
        }
    }

    fn peer(&self) -> Option<Peer> {
        self.met.lock().clone()
    }

    fn control(&self) -> Option<Arc<dyn Control>> {
        Some(Arc::new(ModbusControl {
            device: self.device.clone(),
            bus: Arc::downgrade(&self.bus),
            met: self.met.clone(),
            station: self.station,
            config: self.config.clone(),
            tags: self.tags.clone(),
            points: self.points.clone(),
        }))
    }

    async fn close(&mut self) {
        self.drop_connection();
        self.bus.close(&self.station).await;
    }

    async fn turn_away(&mut self) {
        self.drop_connection();
        self.bus.hang_up(&self.station).await;
    }
}
