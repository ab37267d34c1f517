//! What the demo of several hubs shows: a picture that is drawn anew on a terminal, lines elsewhere.

use super::stage::{Actor, Stage, State};
use crate::cli::output::Style;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

/// What was said last, that is shown.
const SAID: usize = 6;

pub(super) struct View {
    style: Style,
    live: bool,
    began: Instant,
    dir: String,
    lines: usize,
    said: VecDeque<String>,
}

impl View {
    pub(super) fn new(style: Style, live: bool, began: Instant, dir: &Path) -> Self {
        Self {
            style,
            live,
            began,
            dir: dir.display().to_string(),
            lines: 0,
            said: VecDeque::new(),
        }
    }

    /// Says that something happened: in the picture, or as a line on standard error.
    pub(super) fn say(&mut self, what: &str) {
        let line = format!("{:>7.1} s  {what}", self.began.elapsed().as_secs_f64());
        if !self.live {
            // Standard output may be one JSON object. Nobody listening is fine.
            let _ = writeln!(std::io::stderr(), "{line}");
            return;
        }
        if self.said.len() >= SAID {
            self.said.pop_front();
        }
        self.said.push_back(line);
    }

    /// Prints where each hub is, in one line.
    pub(super) fn line(&self, stage: &Stage) {
        let seconds = self.began.elapsed().as_secs_f64();
        let mut text = format!("{seconds:>7.1} s ");
        for actor in &stage.actors {
            // Writing into a String cannot fail.
            let _ = write!(
                text,
                "  {} {} {}",
                actor.place.id,
                word(actor.state),
                actor.height
            );
        }
        if let Some(block) = stage.blocks.back() {
            let signed = block.signed_by.len();
            let _ = write!(
                text,
                "  block {} by {}, {signed} signatures",
                block.height, block.proposer
            );
        }
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// Draws the picture over the one before.
    pub(super) fn draw(&mut self, stage: &Stage, fault: &str) {
        let text = self.picture(stage, fault);
        let mut out = std::io::stdout().lock();
        if self.lines > 0 {
            let _ = write!(out, "\x1b[{}A", self.lines);
        }
        for line in text.lines() {
            let _ = writeln!(out, "\x1b[2K{line}");
        }
        let _ = out.flush();
        self.lines = text.lines().count();
    }

    fn picture(&self, stage: &Stage, fault: &str) -> String {
        let style = self.style;
        let mut text = String::new();
        let hubs = stage.actors.len();
        let _ = writeln!(
            text,
            "{}  {hubs} hubs, one chain   {}\n",
            style.bold("Weighbridge"),
            self.dir
        );
        for (number, actor) in stage.actors.iter().enumerate() {
            let _ = writeln!(text, "{}", hub_line(number + 1, actor, style));
        }
        let _ = writeln!(text, "\n  last blocks (height, proposed by, signatures)");
        let blocks = stage.blocks.iter().rev().map(|block| {
            let signed = block.signed_by.len();
            format!("{} {} {signed}", block.height, block.proposer)
        });
        let _ = writeln!(
            text,
            "  {}\n",
            blocks.take(6).collect::<Vec<_>>().join("   ")
        );
        // Always as many lines, so that nothing jumps.
        let empty = String::new();
        for line in self.said.iter().chain(std::iter::repeat(&empty)).take(SAID) {
            let _ = writeln!(text, "{}", cut(line, 118));
        }
        let _ = writeln!(text, "\n  {fault}");
        let _ = writeln!(
            text,
            "  k1 kill hub 1   s1 start it again   f1 freeze it   t1 let it go on   q quit"
        );
        text
    }
}

fn hub_line(number: usize, actor: &Actor, style: Style) -> String {
    let state = match actor.state {
        State::Up => style.green("● up      "),
        State::Starting => style.yellow("○ starting"),
        State::Frozen => style.yellow("‖ frozen  "),
        State::Killed => style.red("✕ killed  "),
        State::Ended => style.red("✕ ended   "),
    };
    let number_of = |key: &str| actor.cluster[key].as_u64().unwrap_or_default();
    let is_up = matches!(actor.state, State::Up);
    let of_it = match is_up {
        true => format!(
            "{:>2} linked  {:>5} open",
            number_of("linked"),
            number_of("open")
        ),
        false => format!("{:>22}", "–"),
    };
    let devices = actor.place.devices.join(", ");
    let url = &actor.place.url;
    let height = actor.height;
    format!(
        "  {number} {:<7} {state}  height {height:>6}  {of_it}  {devices:<18} {url}",
        actor.place.id
    )
}

fn word(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Up => "up",
        State::Frozen => "frozen",
        State::Killed => "killed",
        State::Ended => "ended",
    }
}

/// At most `most` characters, so that no line wraps.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
