//! What the charts of one tag remember between samples, and its bytes.

use super::ValidationError;
use super::armed::Armed;
use super::bits::{Reader, put_count, put_f64, put_u64};
use super::cusum::CusumState;
use super::moments::Moments;
use super::phase1::{PHASE1_WORDS, Phase1};
use super::rules::RuleState;
use super::settings::TagSettings;

/// Memory of one tag's charts in Phase II.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct TagState {
    /// EWMA statistic.
    pub ewma: f64,
    /// The last good sample, when there was one.
    pub last: Option<f64>,
    /// Whether nothing was missing since it.
    pub linked: bool,
    /// Equal samples in a row that end with it.
    pub run: u32,
    pub cusum: CusumState,
    pub subgroup: Moments,
    pub rules: RuleState,
}

impl TagState {
    /// Charts that start: the EWMA at its centre line, everything else empty.
    pub fn start(&mut self, armed: &Armed) {
        self.ewma = armed.ewma.map_or(0.0, |e| e.limits.center);
        self.cusum = CusumState::default();
        self.subgroup = Moments::default();
        self.rules = RuleState::default();
    }
}

const HAS_LAST: u8 = 1;
const LINKED: u8 = 2;
const LEARNING: u8 = 4;

/// Whether a tag's last sample matters: only then it is written.
fn needs_last(settings: &TagSettings, armed: &Armed, learning: bool) -> bool {
    learning || armed.moving_range.is_some() || armed.stuck_after > 0 || settings.max_rate.is_some()
}

pub(super) fn write(
    out: &mut Vec<u8>,
    settings: &TagSettings,
    armed: &Armed,
    state: &TagState,
    phase1: Option<&Phase1>,
) {
    let last = state
        .last
        .filter(|_| needs_last(settings, armed, phase1.is_some()));
    let mut flags = 0;
    if last.is_some() {
        flags |= HAS_LAST;
        flags |= if state.linked { LINKED } else { 0 };
    }
    flags |= if phase1.is_some() { LEARNING } else { 0 };
    out.push(flags);
    if let Some(last) = last {
        put_f64(out, last);
        put_count(out, state.run);
    }
    if let Some(phase1) = phase1 {
        for word in phase1.words() {
            put_u64(out, word);
        }
        return;
    }
    if armed.ewma.is_some() {
        put_f64(out, state.ewma);
    }
    if armed.cusum.is_some() {
        put_f64(out, state.cusum.upper);
        put_f64(out, state.cusum.lower);
    }
    if armed.xbar_s.is_some() {
        put_count(out, state.subgroup.count);
        put_f64(out, state.subgroup.mean);
        put_f64(out, state.subgroup.m2);
    }
    if armed.rules.is_some() {
        write_rules(out, &state.rules);
    }
}

/// Reads what [`write`] wrote for the same settings and limits.
pub(super) fn read(
    from: &mut Reader<'_>,
    settings: &TagSettings,
    armed: &Armed,
    learning: bool,
) -> Result<(TagState, Option<Box<Phase1>>), ValidationError> {
    let flags = from.u8()?;
    if (flags & LEARNING != 0) != learning {
        let (says, but) = if learning {
            ("has limits", "none were")
        } else {
            ("is in Phase I", "its limits were")
        };
        return Err(ValidationError::State(format!(
            "in it tag {} {says}, but {but} given",
            settings.name
        )));
    }
    let mut state = TagState::default();
    state.start(armed);
    if flags & HAS_LAST != 0 {
        state.last = Some(from.f64()?);
        state.run = from.count()?;
        state.linked = flags & LINKED != 0;
    }
    if learning {
        let mut words = [0; PHASE1_WORDS];
        for word in &mut words {
            *word = from.u64()?;
        }
        let (target, lambda) = (settings.phase1_samples, settings.lambda);
        let phase1 = Phase1::from_words(target, lambda, settings.subgroup, &words);
        return Ok((state, Some(Box::new(phase1))));
    }
    if armed.ewma.is_some() {
        state.ewma = from.f64()?;
    }
    if armed.cusum.is_some() {
        state.cusum.upper = from.f64()?;
        state.cusum.lower = from.f64()?;
    }
    if armed.xbar_s.is_some() {
        state.subgroup.count = from.count()?;
        state.subgroup.mean = from.f64()?;
        state.subgroup.m2 = from.f64()?;
    }
    if armed.rules.is_some() {
        state.rules = read_rules(from)?;
    }
    Ok((state, None))
}

fn write_rules(out: &mut Vec<u8>, rules: &RuleState) {
    out.push(u8::from(rules.last.is_some()));
    if let Some(last) = rules.last {
        put_f64(out, last);
    }
    out.extend([
        rules.side as u8,
        rules.trend as u8,
        rules.turns,
        rules.within,
        rules.outside,
        rules.above_two,
        rules.below_two,
        rules.above_one,
        rules.below_one,
    ]);
}

fn read_rules(from: &mut Reader<'_>) -> Result<RuleState, ValidationError> {
    let last = match from.u8()? {
        0 => None,
        _ => Some(from.f64()?),
    };
    Ok(RuleState {
        last,
        side: from.u8()? as i8,
        trend: from.u8()? as i8,
        turns: from.u8()?,
        within: from.u8()?,
        outside: from.u8()?,
        above_two: from.u8()?,
        below_two: from.u8()?,
        above_one: from.u8()?,
        below_one: from.u8()?,
    })
}
