//! The newest sample of every tag: what SCADA, the dashboard and `status` show.
//!
//! Writers are the device actors, readers the faces. Nobody waits: a reader that is late sees only
//! the newest value, which is what "live" means. A reader that wants every value listens to the news.

use crate::model::{About, DeviceId, Nanos, Quality, TagSpec, Value, VerdictClass, rfc3339};
use parking_lot::{RwLock, RwLockReadGuard};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{broadcast, watch};

/// Updates that a slow reader of a device's news may be behind; then it is told that it missed some.
const NEWS: usize = 256;

/// The newest sample of a tag.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveSample {
    /// Source time.
    pub time: Nanos,
    /// The value.
    pub value: Value,
    /// Quality: the source's, worsened by the verdict of the batch it was in.
    pub quality: Quality,
}

/// How a device's connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not yet tried.
    Starting,
    /// Answering.
    Up,
    /// Not answering.
    Down(Trouble),
}

/// What is said of a device in trouble, everywhere in the same two layers: plain words first, then
/// the exact error, the last success and the next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In plain words: what is wrong, and what to look at.
    pub plain: String,
    /// The exact error, as the protocol or the operating system gave it; may be empty.
    pub exact: String,
    /// When a value was last read; `None` when none was since the hub started.
    pub last_success: Option<Nanos>,
    /// When the next attempt is due.
    pub retry_at: Nanos,
}

impl Trouble {
    /// What is wrong, plain and exact, without the times.
    pub fn in_short(&self) -> String {
        match self.exact.as_str() {
            "" => self.plain.clone(),
            exact => format!("{} ({exact})", self.plain),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_short())?;
        match self.last_success {
            Some(time) => write!(f, "; last read {}", rfc3339(time))?,
            None => f.write_str("; never read since the hub started")?,
        }
        write!(f, "; next attempt {}", rfc3339(self.retry_at))
    }
}

/// Something new at a device.
#[derive(Clone, Debug)]
pub struct News {
    /// Counts the news of the device.
    pub serial: u64,
    /// Samples in the order they came, as they are shown: tag index and sample. A tag may have several.
    pub samples: Arc<[(usize, LiveSample)]>,
}

/// The live state of one device.
pub struct DeviceLive {
    /// Its id.
    pub id: DeviceId,
    /// Its tags.
    pub tags: Arc<[TagSpec]>,
    /// Points read since start.
    pub points: AtomicU64,
    /// Samples that had to be dropped, and were not recorded.
    pub dropped: AtomicU64,
    /// Reconnections since start.
    pub reconnects: AtomicU64,
    /// When a value was last read, by the hub's clock; 0 when none was.
    heard: AtomicI64,
    inner: RwLock<Inner>,
    version: watch::Sender<u64>,
    news: OnceLock<broadcast::Sender<News>>,
}

struct Inner {
    /// Of the newest news.
    serial: u64,
    /// With the source's own quality.
    samples: Vec<Option<LiveSample>>,
    /// What the newest verdict said of each tag; it holds until the next verdict.
    judged: Vec<Quality>,
    link: Link,
    verdict: Option<(VerdictClass, Nanos, String)>,
    about: About,
}

impl Inner {
    /// The sample as it is shown: its own quality, worsened by the verdict and by a broken link.
    fn shown(&self, index: usize) -> Option<LiveSample> {
        let sample = self.samples.get(index)?.clone()?;
        Some(self.as_shown(index, sample))
    }

    /// The quality that a sample is shown with.
    fn quality(&self, index: usize, own: Quality) -> Quality {
        match (&self.link, self.judged.get(index)) {
            (Link::Down(_), _) => Quality::BAD_NO_COMMUNICATION,
            (_, Some(judged)) => own.worse(*judged),
            (_, None) => own,
        }
    }

    fn all_shown(&self) -> Vec<(usize, LiveSample)> {
        let all = 0..self.samples.len();
        all.filter_map(|i| Some((i, self.shown(i)?))).collect()
    }

    /// Tells news. Under the lock, so that they come in the order of the changes.
    fn tell(
        &mut self,
        listeners: Option<&broadcast::Sender<News>>,
        news: Vec<(usize, LiveSample)>,
    ) {
        self.serial += 1;
        if let Some(listeners) = listeners
            && !news.is_empty()
        {
            let _ = listeners.send(News {
                serial: self.serial,
                samples: news.into(),
            });
        }
    }

    fn as_shown(&self, index: usize, mut sample: LiveSample) -> LiveSample {
        sample.quality = self.quality(index, sample.quality);
        sample
    }
}

/// A device's newest samples while nothing can change them. To be held shortly: its samples wait; and
/// whoever holds it must ask nothing else of the same device, which may wait for itself then.
pub struct Shown<'a>(RwLockReadGuard<'a, Inner>);

impl Shown<'_> {
    /// The newest sample of tag `index`, and the quality that it is shown with.
    pub fn sample(&self, index: usize) -> Option<(&LiveSample, Quality)> {
        let sample = self.0.samples.get(index)?.as_ref()?;
        Some((sample, self.0.quality(index, sample.quality)))
    }
}

impl DeviceLive {
    fn new(id: DeviceId, tags: Arc<[TagSpec]>) -> Self {
        let inner = Inner {
            serial: 0,
            samples: vec![None; tags.len()],
            judged: vec![Quality::GOOD; tags.len()],
            link: Link::Starting,
            verdict: None,
            about: About::default(),
        };
        Self {
            id,
            tags,
            points: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            heard: AtomicI64::new(0),
            inner: RwLock::new(inner),
            version: watch::Sender::new(0),
            news: OnceLock::new(),
        }
    }

    /// Puts newer samples in: tag index and sample. Of several of one tag the last is the newest; the
    /// others are seen by who listens to the news.
    pub fn update(&self, samples: impl IntoIterator<Item = (usize, LiveSample)>) {
        let listeners = self.listeners();
        let mut news = Vec::new();
        {
            let mut inner = self.inner.write();
            for (index, sample) in samples {
                if index >= inner.samples.len() {
                    continue;
                }
                if listeners.is_some() {
                    news.push((index, inner.as_shown(index, sample.clone())));
                }
                if let Some(slot) = inner.samples.get_mut(index) {
                    *slot = Some(sample);
                }
            }
            inner.tell(listeners, news);
        }
        self.version.send_modify(|v| *v += 1);
    }

    /// Whether somebody wants every sample, and not only the newest.
    pub fn has_listeners(&self) -> bool {
        self.listeners().is_some()
    }

    fn listeners(&self) -> Option<&broadcast::Sender<News>> {
        self.news.get().filter(|news| news.receiver_count() > 0)
    }

    /// Everything that is new from now on. Who reads too slowly is told how much was missed.
    pub fn news(&self) -> broadcast::Receiver<News> {
        let news = self.news.get_or_init(|| broadcast::Sender::new(NEWS));
        news.subscribe()
    }

    /// Changes what decides how all samples are shown.
    fn show_anew(&self, change: impl FnOnce(&mut Inner)) {
        {
            let mut inner = self.inner.write();
            change(&mut inner);
            let listeners = self.listeners();
            let news = match listeners {
                Some(_) => inner.all_shown(),
                None => Vec::new(),
            };
            inner.tell(listeners, news);
        }
        self.version.send_modify(|v| *v += 1);
    }

    /// Says that values were read, by the hub's clock.
    pub fn set_heard(&self, time: Nanos) {
        self.heard.store(time, Ordering::Relaxed);
    }

    /// When a value was last read.
    pub fn heard(&self) -> Option<Nanos> {
        let time = self.heard.load(Ordering::Relaxed);
        (time != 0).then_some(time)
    }

    /// Says that the device does not answer: in plain words, exactly, and when it is tried again.
    pub fn set_down(&self, plain: impl Into<String>, exact: impl Into<String>, retry_at: Nanos) {
        self.set_link(Link::Down(Trouble {
            plain: plain.into(),
            exact: exact.into(),
            last_success: self.heard(),
            retry_at,
        }));
    }

    /// Says how the connection is. While it is down every tag's quality is Bad_NoCommunication.
    pub fn set_link(&self, link: Link) {
        self.show_anew(|inner| inner.link = link);
    }

    /// Says what is known of the device besides its values.
    pub fn set_about(&self, about: About) {
        self.inner.write().about = about;
    }

    /// What is known of the device besides its values.
    pub fn about(&self) -> About {
        self.inner.read().about.clone()
    }

    /// Says what validation said of the newest batch: of the whole, and of each tag by a quality.
    pub fn set_verdict(
        &self,
        class: VerdictClass,
        time: Nanos,
        reason: String,
        judged: Vec<Quality>,
    ) {
        self.show_anew(|inner| {
            inner.judged = judged;
            inner.verdict = Some((class, time, reason));
        });
    }

    /// The newest sample of tag `index`.
    pub fn sample(&self, index: usize) -> Option<LiveSample> {
        self.inner.read().shown(index)
    }

    /// The newest sample of tag `index`, and the serial of the newest news it stands for.
    pub fn newest(&self, index: usize) -> (u64, Option<LiveSample>) {
        let inner = self.inner.read();
        (inner.serial, inner.shown(index))
    }

    /// The newest samples, under lock: for who reads many.
    pub fn shown(&self) -> Shown<'_> {
        Shown(self.inner.read())
    }

    /// The newest sample of every tag, in tag order.
    pub fn samples(&self) -> Vec<Option<LiveSample>> {
        let inner = self.inner.read();
        (0..inner.samples.len()).map(|i| inner.shown(i)).collect()
    }

    /// How the connection is.
    pub fn link(&self) -> Link {
        self.inner.read().link.clone()
    }

    /// Class, time and reason of the newest verdict.
    pub fn verdict(&self) -> Option<(VerdictClass, Nanos, String)> {
        self.inner.read().verdict.clone()
    }

    /// Wakes whenever something of this device changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Counts points that were read.
    pub fn count_points(&self, points: u64) {
        self.points.fetch_add(points, Ordering::Relaxed);
    }
}

/// The live state of all devices of a hub.
#[derive(Clone, Default)]
pub struct LiveView {
    devices: Arc<RwLock<BTreeMap<DeviceId, Arc<DeviceLive>>>>,
}

impl LiveView {
    /// Adds a device, or replaces the one of the same id.
    pub fn register(&self, id: DeviceId, tags: Arc<[TagSpec]>) -> Arc<DeviceLive> {
        let live = Arc::new(DeviceLive::new(id.clone(), tags));
        self.devices.write().insert(id, live.clone());
        live
    }

    /// Takes a device out. Whoever holds its live state keeps it as it was last.
    pub fn remove(&self, id: &str) {
        self.devices.write().remove(id);
    }

    /// The device of this id.
    pub fn device(&self, id: &str) -> Option<Arc<DeviceLive>> {
        self.devices.read().get(id).cloned()
    }

    /// All devices, by id.
    pub fn devices(&self) -> Vec<Arc<DeviceLive>> {
        self.devices.read().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ValueKind;

    #[test]
    fn who_listens_hears_every_sample_and_who_looks_sees_the_newest() {
        let tag = TagSpec {
            name: "t".into(),
            kind: ValueKind::I64,
            unit: String::new(),
            description: String::new(),
            range: None,
            writable: false,
        };
        let live = LiveView::default().register("d".into(), [tag].into());
        let sample = |value| LiveSample {
            time: value,
            value: Value::I64(value),
            quality: Quality::GOOD,
        };
        live.update([(0, sample(1))]);
        assert!(!live.has_listeners());
        let mut news = live.news();
        assert!(live.has_listeners());
        live.update([(0, sample(2)), (0, sample(3)), (7, sample(9))]);
        live.set_link(Link::Up);
        assert_eq!(live.sample(0), Some(sample(3)));
        let heard = news.try_recv().unwrap();
        assert_eq!(*heard.samples, [(0, sample(2)), (0, sample(3))]);
        let shown_anew = news.try_recv().unwrap();
        assert_eq!(*shown_anew.samples, [(0, sample(3))]);
        assert_eq!(live.newest(0), (shown_anew.serial, Some(sample(3))));
        assert_eq!(shown_anew.serial, heard.serial + 1);
        assert!(news.try_recv().is_err());
        drop(news);
        assert!(!live.has_listeners());
    }
}
