//! An OPC UA server as a source: its variables are subscribed, and their notifications read.

use super::about::about;
use super::config::{OpcUaConfig, OpcUaPoint, check_url};
use super::control::{Current, OpcUaControl};
use super::endpoint::{choose, endpoints};
use super::inbox::{Arrival, Inbox};
use super::keeper::{Slot, begin, keep};
use super::line::Line;
use super::names::FirstNames;
use super::publish::GONE;
use super::refusal::explain;
use super::session::{APPLICATION_URI, Connection, Credentials, Opened, Parked};
use super::subscription::Subscription;
use super::wanted::Wanted;
use crate::crypto::possession;
use crate::model::{About, BatchBuilder, DeviceId, EXPIRES_SOON, Peer, TagSpec, now};
use crate::protocols::control::Control;
use crate::protocols::neighbour::who_answers;
use crate::protocols::opcua::pki;
use crate::protocols::opcua::security::Policy;
use crate::protocols::source::{Mode, Recorded, Sent, Source, SourceError};
use async_trait::async_trait;
use opcua::types::{EndpointDescription, Error};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Samples that one `read` writes at most, so that a batch can close in between.
const READ_AT_MOST: usize = 8192;
/// Shortest time from one attempt to the next: a server that is down is not hammered.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// Shortest time from one request for a session to the next: a second, and a little, because the
/// server may see them closer together than we sent them.
const BETWEEN_SESSIONS: Duration = Duration::from_millis(1_050);

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
    /// Two deadbands.
    #[error("device {device}, tag {tag}: deadband and deadband_percent; give one of them")]
    TwoDeadbands {
        /// The device.
        device: DeviceId,
        /// The tag.
        tag: String,
    },
    /// No tag.
    #[error("device {0} has no tag")]
    NoTags(DeviceId),
    /// The certificate folder.
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
}

/// Reads one OPC UA server.
pub struct OpcUaSource {
    config: Arc<OpcUaConfig>,
    wanted: Arc<Wanted>,
    dropped: Arc<AtomicU64>,
    slot: Slot,
    current: Current,
    last_attempt: Option<Instant>,
    last_session: Option<Instant>,
    running: Option<Running>,
    parked: Mutex<Option<Parked>>,
    was_connected: bool,
    recorded: Option<Arc<dyn Recorded>>,
    about: About,
    peer: Option<Peer>,
}

struct Running {
    inbox: Arc<Inbox>,
    connection: Connection,
    _keeper: AbortOnDropHandle<()>,
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
        let both = |p: &OpcUaPoint| p.deadband.is_some() && p.deadband_percent.is_some();
        if let Some((tag, _)) = points.iter().find(|(_, p)| both(p)) {
            let tag = tag.name.to_string();
            return Err(OpcUaError::TwoDeadbands { device, tag });
        }
        if config.security_policy != Policy::None {
            ensure_certificate(&config.pki_dir)?;
            warn_of_expiry(&device, &config.pki_dir);
        }
        let learned = config.learned.clone();
        let names = FirstNames::new(&config.url, learned);
        Ok(Self {
            config: Arc::new(config),
            wanted: Arc::new(Wanted::new(device, points.into_iter().unzip(), names)),
            dropped: Arc::default(),
            slot: Slot::default(),
            current: Current::default(),
            last_attempt: None,
            last_session: None,
            running: None,
            parked: Mutex::default(),
            was_connected: false,
            recorded: None,
            about: About::default(),
            peer: None,
        })
    }

    /// The samples that the server is asked for in a second, and those that it may keep for one sending.
    /// `None` when it may send as fast as it can.
    fn asked_for(&self) -> Option<(f64, u64)> {
        let (mut per_second, mut burst) = (0.0, 0_u64);
        for point in &self.wanted.points {
            let every = point.sampling_interval_ms;
            let every = every.unwrap_or(self.config.sampling_interval_ms);
            let kept = point.queue_size.unwrap_or(self.config.queue_size);
            per_second += (every > 0).then_some(1_000.0 / f64::from(every))?;
            // Two sendings: one that waited, and the next.
            burst = burst.saturating_add(2 * u64::from(kept.max(1)));
        }
        Some((per_second, burst))
    }

    /// Which endpoint of the server to use; it also shows that the server is there, before a session
    /// is asked for.
    async fn find_endpoint(&self, with: &Credentials) -> Result<EndpointDescription, SourceError> {
        let asked = endpoints(&with.client, with.store.clone(), &self.config);
        let offered = self.in_time(async {
            let offered = asked.await;
            offered.map_err(|e| explain(&self.config, None, &e))
        });
        choose(&self.config, &with.identity, offered.await?)
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        let milliseconds = self.config.connect_timeout_ms.into();
        let limit = Duration::from_millis(milliseconds);
        let late = || SourceError::Timeout {
            address: self.config.url.clone(),
            milliseconds,
        };
        tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    /// Reads what was learned of the server before this process began.
    async fn remember(&self) -> Result<(), SourceError> {
        let wanted = self.wanted.clone();
        let loaded = tokio::task::spawn_blocking(move || wanted.names.load()).await;
        let loaded = loaded.unwrap_or_else(|panicked| Err(panicked.to_string()));
        loaded.map_err(|reason| SourceError::Unreachable {
            address: self.config.url.clone(),
            reason,
        })
    }

    /// Asks once what the ledger has of the device, so that what the server remembers since is taken
    /// from its history. Whether there is something to go on from.
    async fn go_on_from_recorded(&mut self) -> bool {
        if let Some(recorded) = self.recorded.take().filter(|_| self.config.fill_gaps) {
            match recorded.newest(&GONE.map(|code| code.bits())).await {
                Ok(newest) => {
                    let mut last = self.wanted.last.lock();
                    let both = last.iter_mut().zip(newest);
                    both.for_each(|(last, newest)| *last = (*last).max(newest));
                }
                Err(reason) => tracing::warn!(
                    device = %self.wanted.device,
                    reason,
                    "what is recorded cannot be read: the gap before the start is not filled"
                ),
            }
        }
        !self.was_connected && self.wanted.last.lock().iter().any(Option::is_some)
    }

    /// Takes the old session up again where that can be, and else opens one.
    async fn open_session(
        &mut self,
        with: Credentials,
        endpoint: EndpointDescription,
        inbox: &Arc<Inbox>,
    ) -> Result<(Connection, Opened), SourceError> {
        if let Some(last) = self.last_session {
            tokio::time::sleep_until(last + BETWEEN_SESSIONS).await;
        }
        let parked = self
            .parked
            .get_mut()
            .take()
            .filter(|parked| parked.fits(&endpoint));
        let config = self.config.clone();
        let opened = self
            .in_time(async {
                match parked {
                    Some(parked) => parked.resume(&config, inbox.clone()).await,
                    None => {
                        let opened = Connection::open(&config, with, endpoint, inbox.clone());
                        Ok((opened.await?, Opened::New))
                    }
                }
            })
            .await;
        self.last_session = Some(Instant::now());
        opened
    }

    /// The subscription that the server kept, or a new one.
    async fn subscription(&self, line: &Line, opened: Opened) -> Result<Arc<Subscription>, Error> {
        let old = self.slot.lock().take();
        if let Some(old) = old.filter(|old| old.may_be_on(line)) {
            let kept = match opened {
                Opened::Resumed => true,
                Opened::New => transferred(line, &old).await,
            };
            if kept {
                return Ok(old);
            }
            // What came over is of no use without the rest.
            old.delete(line).await;
        }
        begin(line).await
    }
}

/// Whether the server gave the old session's subscriptions to the new one, all of them.
async fn transferred(line: &Line, old: &Subscription) -> bool {
    let ids: Vec<_> = old.parts().iter().map(|part| part.id).collect();
    match line.session.transfer_subscriptions(&ids, false).await {
        Ok(results) => {
            results.len() == ids.len() && results.iter().all(|r| r.status_code.is_good())
        }
        Err(_) => false,
    }
}

/// Who answers, and the key that the open channel stands on: without security nobody proves one.
fn who(config: &OpcUaConfig, connection: &Connection) -> Option<Peer> {
    let address = (*connection.answering.lock())?;
    let secure = config.security_policy != Policy::None;
    let shown = secure.then(|| connection.endpoint.server_certificate.as_ref());
    let key = shown.and_then(possession::certified_key_hash);
    Some(who_answers(config.url.clone(), address, key))
}

fn warn_of_expiry(device: &DeviceId, folder: &Path) {
    let (found, _) = pki::list(folder).unwrap_or_default();
    for certificate in found.iter().filter(|c| c.place != pki::Place::Rejected) {
        let days = certificate.days_left(now());
        if days < EXPIRES_SOON {
            let (place, subject) = (certificate.place.name(), &certificate.subject);
            let folder = folder.display();
            tracing::warn!(
                %device,
                "the {place} certificate {subject} in {folder} is at its end in {days} days; \
                 `weighbridge certs list --pki {folder}` shows it"
            );
        }
    }
}

/// Makes the client's certificate folder and certificate where they are missing. Blocking.
pub fn ensure_certificate(folder: &Path) -> Result<(), pki::PkiError> {
    pki::ensure(folder, &subject())
}

/// Whom the client's certificate names.
pub fn subject() -> pki::Subject {
    pki::Subject {
        name: "Weighbridge client".into(),
        application_uri: APPLICATION_URI.into(),
        hosts: vec![pki::host_name()],
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
        *self.current.write() = None;
        if let Some(Running { connection, .. }) = self.running.take() {
            *self.parked.get_mut() = connection.park().await;
        }
        if let Some(last) = self.last_attempt {
            tokio::time::sleep_until(last + BETWEEN_ATTEMPTS).await;
        }
        self.last_attempt = Some(Instant::now());
        self.remember().await?;
        let after_start = self.go_on_from_recorded().await;
        let with = Credentials::read(&self.config)?;
        let endpoint = self.find_endpoint(&with).await?;
        let last = self.wanted.last.clone();
        let inbox = Arc::new(Inbox::new(self.config.buffer, self.dropped.clone(), last));
        let (connection, opened) = self.open_session(with, endpoint, &inbox).await?;
        self.peer = who(&self.config, &connection);
        let failed = |e: Error| explain(&self.config, None, &e);
        let line = Line::open(
            connection.session.clone(),
            self.config.clone(),
            self.wanted.clone(),
            inbox.clone(),
        );
        let line = Arc::new(line.await.map_err(failed)?);
        if after_start {
            line.prepare_first_fill().await;
        }
        line.hold();
        if opened == Opened::New {
            // A server that was restarted may be a newer one.
            self.about = about(&line, &connection.endpoint).await;
        }
        let subscription = self.subscription(&line, opened).await.map_err(failed)?;
        *self.slot.lock() = Some(subscription.clone());
        *self.current.write() = Some(line.clone());
        let after_outage = self.was_connected || after_start;
        let keeper = keep(line, subscription, self.slot.clone(), after_outage);
        self.was_connected = true;
        self.running = Some(Running {
            inbox,
            connection,
            _keeper: AbortOnDropHandle::new(tokio::spawn(keeper)),
        });
        Ok(())
    }

    fn peer(&self) -> Option<Peer> {
        self.peer.clone()
    }

    fn about(&self) -> About {
        self.about.clone()
    }

    /// Because the hub or the server's queue was too slow.
    fn lost(&mut self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    fn sent(&mut self) -> Option<Sent> {
        let samples = self.running.as_ref()?.inbox.sent();
        let (per_second, burst) = self.asked_for()?;
        Some(Sent {
            samples,
            per_second,
            burst,
        })
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
            // The session may be of use yet: `connect` will see.
            *self.current.write() = None;
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

    fn go_on_from(&mut self, recorded: Arc<dyn Recorded>) {
        self.recorded = Some(recorded);
    }

    fn control(&self) -> Option<Arc<dyn Control>> {
        Some(Arc::new(OpcUaControl::new(
            self.config.clone(),
            self.wanted.clone(),
            self.current.clone(),
        )))
    }

    async fn close(&mut self) {
        *self.current.write() = None;
        if let Some(running) = self.running.take() {
            running.connection.close().await;
        }
    }
}
