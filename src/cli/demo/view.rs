//! The demo's live view on a terminal: devices, points a second, verdicts, height, last refusal.

use crate::actors::ledger::{LedgerHealth, LedgerStatus, LedgerTip};
use crate::cli::output::Style;
use crate::hub::Hub;
use crate::live_view::{DeviceLive, Link};
use crate::model::{VerdictClass, rfc3339};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What is drawn, and how it was when it was drawn last.
pub(super) struct View {
    style: Style,
    urls: String,
    lines: usize,
    drawn: Instant,
    points: u64,
}

impl View {
    pub(super) fn new(style: Style, urls: String) -> Self {
        Self {
            style,
            urls,
            lines: 0,
            drawn: Instant::now(),
            points: 0,
        }
    }

    /// Draws the view over the one before.
    pub(super) fn draw(&mut self, hub: &Hub, fault: &str) {
        let text = self.text(hub, fault);
        let mut out = std::io::stdout().lock();
        if self.lines > 0 {
            // Back to the first line; every line is then cleared as it is written.
            let _ = write!(out, "\x1b[{}A", self.lines);
        }
        for line in text.lines() {
            let _ = writeln!(out, "\x1b[2K{line}");
        }
        let _ = out.flush();
        self.lines = text.lines().count();
    }

    fn text(&mut self, hub: &Hub, fault: &str) -> String {
        let stats = hub.stats();
        let read: u64 = hub
            .live()
            .devices()
            .iter()
            .map(|d| d.points.load(Ordering::Relaxed))
            .sum();
        let rate = (read - self.points) as f64 / self.drawn.elapsed().as_secs_f64().max(1e-3);
        (self.points, self.drawn) = (read, Instant::now());
        let mut text = String::new();
        let style = self.style;
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}  {}", style.bold("Weighbridge"), self.urls);
        let _ = writeln!(text);
        for device in hub.live().devices() {
            let _ = writeln!(text, "  {}", device_line(&device, style));
        }
        let count = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
        let _ = writeln!(text);
        let _ = writeln!(
            text,
            "  {rate:>8.0} points/s   accepted {}   out of control {}   invalid {}",
            count(&stats.accepted),
            style.yellow(&count(&stats.out_of_control).to_string()),
            style.red(&count(&stats.invalid).to_string()),
        );
        let _ = writeln!(text, "  {}", ledger_line(&hub.ledger_status().borrow()));
        let refusal = stats.refusals().into_iter().next();
        let refusal = refusal.map_or_else(
            || "no refusal yet".to_owned(),
            |r| {
                let time = rfc3339(r.time);
                format!("last refusal {}  {}: {}", &time[11..19], r.device, r.reason)
            },
        );
        let _ = writeln!(text, "  {}", cut(&refusal, 110));
        let _ = writeln!(text, "  {fault}");
        let _ = writeln!(text, "  Ctrl-C ends it, and says what was recorded");
        text
    }
}

fn device_line(device: &DeviceLive, style: Style) -> String {
    let link = match device.link() {
        Link::Up => style.green("● up      "),
        Link::Starting => style.yellow("○ starting"),
        Link::Down { .. } => style.red("✕ down    "),
    };
    let points = device.points.load(Ordering::Relaxed);
    let verdict = match device.verdict() {
        None => "nothing judged yet".to_owned(),
        Some((VerdictClass::Accepted, ..)) => style.green("accepted"),
        Some((VerdictClass::OutOfControl, _, why)) => {
            style.yellow(&format!("out of control: {}", cut(&why, 70)))
        }
        Some((VerdictClass::Invalid, _, why)) => style.red(&format!("refused: {}", cut(&why, 70))),
    };
    format!("{:<10} {link} {points:>9} points  {verdict}", device.id)
}

fn ledger_line(status: &LedgerStatus) -> String {
    let LedgerTip {
        height,
        hash,
        records,
        ..
    } = &status.tip;
    let line = format!(
        "height {height}   {records} records   last block {}",
        hash.short()
    );
    match &status.health {
        LedgerHealth::Up => line,
        LedgerHealth::Waiting(why) => format!("{line}   waiting: {why}"),
        LedgerHealth::Broken(why) => format!("{line}   broken: {why}"),
    }
}

/// At most `most` characters, so that no line wraps.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
