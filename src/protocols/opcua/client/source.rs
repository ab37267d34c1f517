//! An OPC UA server as a source: its variables are subscribed, and their notifications read.

use super::config::{OpcUaConfig, OpcUaPoint, check_url};
use super::inbox::{Arrival, Inbox};
use super::notifications::Notifications;
use super::search::{Search, Wanted};
use super::session::{APPLICATION_URI, Connection, explain};
use crate::model::{BatchBuilder, DeviceId, TagSpec, now};
use crate::protocols::opcua::pki;
use crate::protocols::opcua::security::Policy;
use crate::protocols::source::{Mode, Source, SourceError};
use async_trait::async_trait;
use opcua::types::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Samples that one `read` writes at most, so that a batch can close in between.
const READ_AT_MOST: usize = 8192;
/// Shortest time from one attempt to the next: a server that is down is not hammered.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

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
    config: OpcUaConfig,
    wanted: Arc<Wanted>,
    dropped: Arc<AtomicU64>,
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
            config,
            wanted: Arc::new(Wanted::new(device, tags, points)),
            dropped: Arc::default(),
            last_attempt: None,
            running: None,
        })
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
            wanted: self.wanted.clone(),
        };
        let subscription = session
            .create_subscription(interval, 600, 20, 0, 0, true, notifications)
            .await
            .map_err(failed)?;
        let search = Search {
            wanted: self.wanted.clone(),
            config: self.config.clone(),
            session,
            subscription,
        };
        let all = (0..self.wanted.points.len()).collect();
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
        self.wanted.tags.clone()
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

    /// Because the hub or the server's queue was too slow.
    fn lost(&mut self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
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
