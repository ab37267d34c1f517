//! Keys of one kind after the other are replaced, by the commands with which people do it.

use super::load::{Load, Meter, ms};
use super::site::{ANNA, CARL, EDGE, RITA, Running, Site, machine};
use crate::model::{Nanos, now};
use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two keys of a kind.
const PAUSE: Duration = Duration::from_millis(500);
/// How far back what is sealed is fetched.
const BACK: Nanos = 5_000_000_000;

/// What is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Nothing: the same load, for comparison.
    Nothing,
    /// The hub's signing key.
    Hub,
    /// The edge node's key.
    Edge,
    /// A user's password.
    Password,
    /// A user's certificate and its key.
    Certificate,
    /// A reader's key.
    Reader,
    /// A device's own key, at the second hub.
    Device,
    /// The set of key generation centres, at the second hub.
    Centres,
}

impl Kind {
    /// Those of the first hub.
    pub(super) const FIRST: [Self; 6] = [
        Self::Nothing,
        Self::Hub,
        Self::Edge,
        Self::Password,
        Self::Certificate,
        Self::Reader,
    ];

    /// In words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing, for comparison",
            Self::Hub => "hub's signing key",
            Self::Edge => "edge node's key",
            Self::Password => "user's password",
            Self::Certificate => "user's certificate and key",
            Self::Reader => "reader's key",
            Self::Device => "device's own key",
            Self::Centres => "key generation centres",
        }
    }
}

/// What came of one kind.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    pub(super) kind: Kind,
    pub(super) rotations: u32,
    pub(super) seconds: f64,
    #[serde(flatten)]
    pub(super) load: Load,
    /// Longest time between two durable blocks.
    pub(super) block_gap_ms: f64,
    /// Longest time between two samples of a tag, by device; known at the end.
    pub(super) sample_gap_ms: std::collections::BTreeMap<String, f64>,
    /// From when to when.
    #[serde(skip)]
    pub(super) span: (Nanos, Nanos),
}

/// What somebody was handed before a key was replaced.
pub(super) struct Held {
    pub(super) note: String,
    /// Sealed batches with their proofs, and the reader's key that opens them.
    pub(super) sealed: (String, String),
}

/// Who replaces keys.
pub(super) struct Turns<'a> {
    site: &'a Site,
    hub: &'a Running,
    edge: &'a Running,
    /// The file of the edge node's key.
    edge_key: PathBuf,
    /// The file of the reader's key.
    pub(super) reader_key: String,
    /// The hash of the key that Carl logs in by.
    carl: Option<String>,
    pub(super) held: Vec<Held>,
    number: u32,
}

impl<'a> Turns<'a> {
    /// Makes the reader and their grant.
    pub(super) fn begin(
        site: &'a Site,
        (hub, edge): (&'a Running, &'a Running),
    ) -> anyhow::Result<Self> {
        let mut turns = Self {
            site,
            hub,
            edge,
            edge_key: site.dir.join("cell/keys/edge.key"),
            reader_key: String::new(),
            carl: None,
            held: Vec::new(),
            number: 0,
        };
        turns.reader()?;
        site.tool(&["access", "grant", "user:rita", "*"])?;
        let file = site.text("rita.txt");
        site.log_in(RITA, &["--user", RITA, "--password-file", &file])?;
        Ok(turns)
    }

    /// Replaces keys of `kind` so many times under the load that `meter` sees.
    pub(super) fn phase(
        &mut self,
        kind: Kind,
        rotations: u32,
        (meter, bar): (&Meter, &ProgressBar),
    ) -> anyhow::Result<Phase> {
        let (began, from) = (Instant::now(), now());
        meter.take();
        self.hub.blocks();
        for _ in 0..rotations {
            self.number += 1;
            self.hold()?;
            let replaced = match kind {
                Kind::Hub => self.site.tool(&["keys", "rotate", "hub"]).map(drop),
                Kind::Edge => self.edge(),
                Kind::Password => self.password(),
                Kind::Certificate => self.certificate(),
                Kind::Reader => self.reader(),
                Kind::Nothing | Kind::Device | Kind::Centres => Ok(()),
            };
            replaced.with_context(|| format!("the {} was not replaced", kind.name()))?;
            std::thread::sleep(PAUSE);
            bar.inc(1);
        }
        let load = meter.take();
        let blocks = self.hub.blocks();
        let ends = [began].into_iter().chain(blocks).chain([Instant::now()]);
        Ok(Phase {
            kind,
            rotations: if kind == Kind::Nothing { 0 } else { rotations },
            seconds: began.elapsed().as_secs_f64(),
            load,
            block_gap_ms: ms(longest(ends)),
            sample_gap_ms: Default::default(),
            span: (from, now()),
        })
    }

    /// Takes what an auditor and a reader would take.
    fn hold(&mut self) -> anyhow::Result<()> {
        let note = self.site.text(&format!("held-{}.note", self.number));
        std::fs::write(&note, self.site.tool(&["checkpoint"])?)?;
        let sealed = self.site.text(&format!("held-{}.sealed", self.number));
        let (device, from) = (machine(false, 0), (now() - BACK).to_string());
        let first = self.site.text("plant/keys/hub.pub");
        let read = [
            "reader",
            "read",
            &device,
            "--key",
            &self.reader_key,
            "--trust",
            &first,
            "--from",
            &from,
            "--save",
            &sealed,
        ];
        self.site.tool_as(RITA, &read)?;
        let sealed = (sealed, self.reader_key.clone());
        self.held.push(Held { note, sealed });
        Ok(())
    }

    fn edge(&mut self) -> anyhow::Result<()> {
        let new = self
            .site
            .text(&format!("cell/keys/edge-{}.key", self.number));
        let (whose, old) = (format!("edge:{EDGE}"), self.edge_key.display().to_string());
        let make = [
            "keys",
            "make",
            &whose,
            &new,
            "--chain",
            "main",
            "--replaces",
            &old,
        ];
        self.site.tool(&make)?;
        self.site
            .tool(&["keys", "enrol", &format!("{new}.enrol.json")])?;
        self.edge_key = PathBuf::from(new);
        self.site.edge_has(&self.edge_key)?;
        self.edge.next("key").map(drop)
    }

    fn password(&self) -> anyhow::Result<()> {
        self.site.password(ANNA, self.number)?;
        let file = self.site.text("anna.txt");
        self.site
            .hub_tool(&["user", "passwd", ANNA, "--password-file", &file])?;
        self.site
            .log_in(ANNA, &["--user", ANNA, "--password-file", &file])
    }

    fn certificate(&mut self) -> anyhow::Result<()> {
        let key = self.site.text(&format!("carl-{}.key", self.number));
        self.site
            .hub_tool(&["certs", "issue", "user", CARL, "--key", &key])?;
        let issued = self.site.text("plant/pki/issued/user/carl.crt");
        let added = self
            .site
            .hub_tool(&["user", "key", CARL, "--add", &issued])?;
        let hash = added.split_whitespace().last();
        let hash = hash.context("a key has a hash")?.to_owned();
        let by = ["--certificate", &issued, "--key", &key];
        self.site.log_in(CARL, &by)?;
        if let Some(before) = self.carl.replace(hash) {
            self.site
                .hub_tool(&["user", "key", CARL, "--forget", &before])?;
        }
        Ok(())
    }

    fn reader(&mut self) -> anyhow::Result<()> {
        let name = self.site.text(&format!("rita-{}", self.number));
        self.site.tool(&["reader", "keygen", &name])?;
        let public = format!("{name}.pub.pem");
        self.site
            .tool(&["access", "reader", "user:rita", &public])?;
        self.reader_key = format!("{name}.key.pem");
        ensure!(
            PathBuf::from(&self.reader_key).exists(),
            "keygen makes a key"
        );
        Ok(())
    }
}

/// The longest time between two of these.
pub(super) fn longest(times: impl IntoIterator<Item = Instant>) -> Duration {
    let (mut longest, mut before) = (Duration::ZERO, None);
    for time in times {
        let since = before.map_or(Duration::ZERO, |b| time.saturating_duration_since(b));
        longest = longest.max(since);
        before = Some(time);
    }
    longest
}
