//! An OPC UA server as a source: its variables are subscribed, and their notifications read.

use super::config::{OpcUaConfig, OpcUaPoint, Report, check_url};
use super::inbox::{Arrival, Inbox};
use super::node::NodeAddress;
use super::notifications::Notifications;
use super::session::{APPLICATION_URI, Connection, explain};
use crate::model::{BatchBuilder, DeviceId, Quality, TagSpec, ValueKind, now};
use crate::protocols::opcua::pki;
use crate::protocols::opcua::security::Policy;
use crate::protocols::source::{Mode, Source, SourceError};
use async_trait::async_trait;
use opcua::client::Session;
use opcua::types::{
    DataChangeFilter, DataChangeTrigger, DeadbandType, Error, ExtensionObject,
    MonitoredItemCreateRequest, MonitoringMode, MonitoringParameters, NodeId, ReadValueId,
    StatusCode, TimestampsToReturn,
};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Samples that one `read` writes at most, so that a batch can close in between.
const READ_AT_MOST: usize = 8192;
/// Shortest time from one attempt to the next: a server that is down is not hammered.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);
/// How often a variable that was missing is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Monitored items in one request.
const ITEMS_A_REQUEST: usize = 500;

/// Why an OPC UA device cannot be made of its configuration.
#[derive(Debug, thiserror::Error)]
pub enum OpcUaError {
    /// The address.
    #[error("{0}")]
    Url(String),
    /// Half of a log-in.
    #[error(
        "device {device}: {0} without {1}; give both, or neither for an anonymous log-in",
        given,
        missing
    )]
    LogIn {
        /// The device.
        device: DeviceId,
        /// The key that is there.
        given: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// A password that would be sent in the clear.
    #[error(
        "device {0}: a password would cross the network unencrypted with security_policy \"none\"; choose a security policy, or log in anonymously"
    )]
    PlainPassword(DeviceId),
    /// No tag.
    #[error("device {0} has no tag")]
    NoTags(DeviceId),
    /// The certificate folder.
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
}

/// Reads one OPC UA server.
pub struct OpcUaSource {
    device: DeviceId,
    config: OpcUaConfig,
    tags: Arc<[TagSpec]>,
    kinds: Arc<[ValueKind]>,
    points: Arc<[OpcUaPoint]>,
    dropped: Arc<AtomicU64>,
    reported: Arc<Mutex<HashSet<usize>>>,
    last_attempt: Option<Instant>,
    running: Option<Running>,
}

struct Running {
    inbox: Arc<Inbox>,
    connection: Connection,
    _searching: Option<AbortOnDropHandle<()>>,
}

impl OpcUaSource {
    /// A source for `device`. Makes the certificate folder where the security policy needs one,
    /// which takes about a second the first time.
    pub fn new(
        device: DeviceId,
        config: OpcUaConfig,
        points: Vec<(TagSpec, OpcUaPoint)>,
    ) -> Result<Self, OpcUaError> {
        check_url(&config.url).map_err(OpcUaError::Url)?;
        check_log_in(&device, &config)?;
        if points.is_empty() {
            return Err(OpcUaError::NoTags(device));
        }
        if config.security_policy != Policy::None {
            let subject = pki::Subject {
                name: "Weighbridge client".into(),
                application_uri: APPLICATION_URI.into(),
                hosts: vec![pki::host_name()],
            };
            pki::ensure(&config.pki_dir, &subject)?;
        }
        let (tags, points): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        Ok(Self {
            kinds: tags.iter().map(|t| t.kind).collect(),
            tags: tags.into(),
            points: points.into(),
            dropped: Arc::default(),
            reported: Arc::default(),
            last_attempt: None,
            running: None,
            device,
            config,
        })
    }

    /// Counts the samples that were lost because the hub or the server's queue was too slow.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }

    async fn try_connect(&self) -> Result<Running, SourceError> {
        let inbox = Arc::new(Inbox::new(self.config.buffer, self.dropped.clone()));
        let connection = Connection::open(&self.config, inbox.clone()).await?;
        let session = connection.session.clone();
        let failed = |e: Error| explain(&self.config, &e);
        // With a publishing interval this long at most, silence for the lifetime ends it.
        let interval = Duration::from_millis(self.config.publishing_interval_ms.into());
        let notifications = Notifications {
            inbox: inbox.clone(),
            kinds: self.kinds.clone(),
        };
        let subscription = session
            .create_subscription(interval, 600, 20, 0, 0, true, notifications)
            .await
            .map_err(failed)?;
        let search = Search {
            device: self.device.clone(),
            config: self.config.clone(),
            tags: self.tags.clone(),
            points: self.points.clone(),
            reported: self.reported.clone(),
            session,
            subscription,
        };
        let all = (0..self.points.len()).collect();
        let missing = search.subscribe(all).await.map_err(failed)?;
        inbox.put(missing.iter().map(|(column, quality)| Arrival {
            column: *column,
            time: now(),
            value: None,
            quality: *quality,
        }));
        let searching = (!missing.is_empty()).then(|| {
            let columns = missing.into_iter().map(|(column, _)| column).collect();
            AbortOnDropHandle::new(tokio::spawn(search.go_on(columns)))
        });
        Ok(Running {
            inbox,
            connection,
            _searching: searching,
        })
    }
}

fn check_log_in(device: &DeviceId, config: &OpcUaConfig) -> Result<(), OpcUaError> {
    let half = |given: bool, missing: bool, names: [&'static str; 2]| match (given, missing) {
        (true, false) => Err(OpcUaError::LogIn {
            device: device.clone(),
            given: names[0],
            missing: names[1],
        }),
        _ => Ok(()),
    };
    let (user, password) = (config.user.is_some(), config.password_file.is_some());
    half(user, password, ["user", "password_file"])?;
    half(password, user, ["password_file", "user"])?;
    let (certificate, key) = (config.user_certificate.is_some(), config.user_key.is_some());
    half(certificate, key, ["user_certificate", "user_key"])?;
    half(key, certificate, ["user_key", "user_certificate"])?;
    if user && config.security_policy == Policy::None {
        return Err(OpcUaError::PlainPassword(device.clone()));
    }
    Ok(())
}

#[async_trait]
impl Source for OpcUaSource {
    fn tags(&self) -> Arc<[TagSpec]> {
        self.tags.clone()
    }

    fn mode(&self) -> Mode {
        Mode::Subscribing
    }

    async fn connect(&mut self) -> Result<(), SourceError> {
        self.running = None;
        if let Some(last) = self.last_attempt {
            tokio::time::sleep_until(last + BETWEEN_ATTEMPTS).await;
        }
        self.last_attempt = Some(Instant::now());
        let limit = self.config.connect_timeout_ms;
        let attempt =
            tokio::time::timeout(Duration::from_millis(limit.into()), self.try_connect()).await;
        let running = attempt.unwrap_or_else(|_| {
            Err(SourceError::Timeout {
                address: self.config.url.clone(),
                milliseconds: limit.into(),
            })
        })?;
        self.running = Some(running);
        Ok(())
    }

    async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError> {
        let broken = |reason: String| SourceError::Unreachable {
            address: self.config.url.clone(),
            reason,
        };
        let Some(running) = &self.running else {
            return Err(broken("it is not connected".into()));
        };
        if let Err(reason) = running.inbox.filled().await {
            self.running = None;
            return Err(broken(reason));
        }
        for arrival in running.inbox.take(READ_AT_MOST) {
            let Arrival {
                column,
                time,
                value,
                quality,
            } = arrival;
            out.push(column, time, value, quality);
        }
        Ok(())
    }

    async fn close(&mut self) {
        if let Some(running) = self.running.take() {
            running.connection.close().await;
        }
    }
}

/// Subscribes variables, and goes on looking for those that are not there.
struct Search {
    device: DeviceId,
    config: OpcUaConfig,
    tags: Arc<[TagSpec]>,
    points: Arc<[OpcUaPoint]>,
    reported: Arc<Mutex<HashSet<usize>>>,
    session: Arc<Session>,
    subscription: u32,
}

impl Search {
    async fn go_on(self, mut missing: Vec<usize>) {
        while !missing.is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
            // A failure of the connection is seen and told by its driver.
            let Ok(still) = self.subscribe(missing.clone()).await else {
                return;
            };
            missing = still.into_iter().map(|(column, _)| column).collect();
        }
    }

    /// Subscribes the variables of `columns`; returns those that cannot be, and why.
    async fn subscribe(&self, columns: Vec<usize>) -> Result<Vec<(usize, Quality)>, Error> {
        let by_uri = |c: &&usize| self.point(**c).is_some_and(|p| p.namespace_uri().is_some());
        if columns.iter().any(|c| by_uri(&c)) {
            self.session.read_namespace_array().await?;
        }
        let mut missing = Vec::new();
        let mut found = Vec::new();
        for column in columns {
            let index = |uri: &str| self.session.get_namespace_index_from_cache(uri);
            match self.point(column).and_then(|node| node.resolve(index)) {
                Some(id) => found.push((column, id)),
                None => missing.push((column, StatusCode::BadNodeIdUnknown)),
            }
        }
        for chunk in found.chunks(ITEMS_A_REQUEST) {
            missing.extend(self.create_items(chunk).await?);
        }
        self.report(&missing);
        Ok(missing
            .into_iter()
            .map(|(column, status)| (column, Quality(status.bits())))
            .collect())
    }

    fn point(&self, column: usize) -> Option<&NodeAddress> {
        self.points.get(column).map(|p| &p.node)
    }

    async fn create_items(
        &self,
        found: &[(usize, NodeId)],
    ) -> Result<Vec<(usize, StatusCode)>, Error> {
        let requests = found.iter().map(|(c, id)| self.request(*c, id, true));
        let refused = self.send(found, requests.collect()).await?;
        // Simple servers know no filter: better every value they report than none.
        let (filter, others): (Vec<_>, Vec<_>) = refused.into_iter().partition(|(_, status)| {
            matches!(
                *status,
                StatusCode::BadMonitoredItemFilterUnsupported
                    | StatusCode::BadMonitoredItemFilterInvalid
                    | StatusCode::BadFilterNotAllowed
                    | StatusCode::BadDeadbandFilterInvalid
            )
        });
        let again: Vec<_> = found
            .iter()
            .filter(|(column, _)| filter.iter().any(|(c, _)| c == column))
            .cloned()
            .collect();
        let mut missing = others;
        if !again.is_empty() {
            let requests = again.iter().map(|(c, id)| self.request(*c, id, false));
            missing.extend(self.send(&again, requests.collect()).await?);
        }
        Ok(missing)
    }

    async fn send(
        &self,
        found: &[(usize, NodeId)],
        requests: Vec<MonitoredItemCreateRequest>,
    ) -> Result<Vec<(usize, StatusCode)>, Error> {
        let results = self
            .session
            .create_monitored_items(self.subscription, TimestampsToReturn::Both, requests)
            .await?;
        let statuses = found.iter().zip(&results);
        Ok(statuses
            .map(|((column, _), created)| (*column, created.result.status_code))
            .filter(|(_, status)| status.is_bad())
            .collect())
    }

    fn request(&self, column: usize, id: &NodeId, filtered: bool) -> MonitoredItemCreateRequest {
        let deadband = self.points.get(column).and_then(|p| p.deadband);
        let filter = DataChangeFilter {
            trigger: match self.config.report {
                // A new timestamp would report what the deadband is to hold back.
                Report::EverySample if deadband.is_none() => {
                    DataChangeTrigger::StatusValueTimestamp
                }
                _ => DataChangeTrigger::StatusValue,
            },
            deadband_type: match deadband {
                Some(_) => DeadbandType::Absolute as u32,
                None => DeadbandType::None as u32,
            },
            deadband_value: deadband.unwrap_or(0.0),
        };
        MonitoredItemCreateRequest {
            item_to_monitor: ReadValueId::from(id.clone()),
            monitoring_mode: MonitoringMode::Reporting,
            requested_parameters: MonitoringParameters {
                client_handle: column as u32 + 1,
                sampling_interval: self.config.sampling_interval_ms.into(),
                filter: if filtered {
                    ExtensionObject::from_message(filter)
                } else {
                    ExtensionObject::null()
                },
                queue_size: self.config.queue_size.max(1),
                discard_oldest: true,
            },
        }
    }

    /// Logs a missing variable once, however often the device reconnects.
    fn report(&self, missing: &[(usize, StatusCode)]) {
        let mut reported = self.reported.lock();
        for (column, status) in missing {
            let (Some(tag), Some(point)) = (self.tags.get(*column), self.points.get(*column))
            else {
                continue;
            };
            if reported.insert(*column) {
                tracing::warn!(
                    device = %self.device,
                    tag = %tag.name,
                    node = %point.node,
                    "the server has no such variable; the tag is Bad until it appears ({status})"
                );
            }
        }
    }
}
