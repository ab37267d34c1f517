//! The validator of one device: a batch in, a verdict out.
//!
//! The charts run on from batch to batch. A refused batch does not feed them: after it they are as
//! they were before. What a signal does to its own chart: individuals and moving range remember
//! nothing; an EWMA goes on, so it signals until the process, and then the average, are back; a CUSUM
//! starts again from zero unless told to go on; run rules go on counting.

mod judging;

use crate::model::TagSpec;
use crate::validation::ValidationError;
use crate::validation::armed::Armed;
use crate::validation::bits::{Reader, put_count};
use crate::validation::clock::TimelineClock;
use crate::validation::config::{Consequence, TagValidation, ValidationConfig};
use crate::validation::limits::{LIMITS_VERSION, Limits};
use crate::validation::phase1::{Baseline, Phase1};
use crate::validation::settings::TagSettings;
use crate::validation::state::{self, TagState};
use crate::validation::verdict::Verdict;
use std::sync::Arc;
use weighbridge_verifier::decode;
use weighbridge_verifier::settings::{Origin, WITH_ORIGINS};

/// Version of the charts' state.
const STATE_VERSION: u8 = 1;
/// Version of a settings document that does not say what it was made from. It is read, not written.
const WITHOUT_ORIGINS: u8 = 1;

/// What came of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What is said of it.
    pub verdict: Verdict,
    /// The limits of the device, when this batch ended Phase I of some tags.
    pub learned: Option<Limits>,
}

/// Judges the batches of one device, in order.
///
/// `judge` is a pure function of (settings, limits, state, batch), with + − × ÷ √ as its only
/// arithmetic: from [`settings_document`](Self::settings_document)'s content and
/// [`state`](Self::state) as they were before a batch, any machine finds the same verdict, bit by bit.
#[derive(Clone, Debug)]
pub struct DeviceValidator {
    tags: Arc<[TagSpec]>,
    settings: Vec<TagSettings>,
    clock_recovery: u32,
    on_clock: Consequence,
    baselines: Vec<Option<Baseline>>,
    origins: Arc<[Origin]>,
    limits: Arc<Limits>,
    armed: Vec<Armed>,
    states: Vec<TagState>,
    phase1: Vec<Option<Box<Phase1>>>,
    clocks: Vec<TimelineClock>,
    before: Before,
    numbers: Vec<f64>,
}

/// The charts as they were before the batch that is being judged.
#[derive(Clone, Debug, Default)]
struct Before {
    states: Vec<TagState>,
    phase1: Vec<Option<Box<Phase1>>>,
    /// Tags whose Phase I this batch ended.
    ended: Vec<usize>,
}

impl DeviceValidator {
    /// A validator whose charts start afresh. `per_tag` has one override a tag, or is empty.
    /// Tags that `learned` knows are judged by it; the others begin Phase I.
    pub fn new(
        tags: Arc<[TagSpec]>,
        device: &ValidationConfig,
        per_tag: &[TagValidation],
        learned: Option<Limits>,
    ) -> Result<Self, ValidationError> {
        if !per_tag.is_empty() && per_tag.len() != tags.len() {
            return Err(ValidationError::OverrideCount {
                tags: tags.len(),
                overrides: per_tag.len(),
            });
        }
        let none = TagValidation::default();
        let own = |i: usize| per_tag.get(i).unwrap_or(&none);
        let settings = tags.iter().enumerate();
        let settings = settings.map(|(i, tag)| TagSettings::resolve(tag, device, own(i)));
        let settings = settings.collect::<Result<Vec<_>, _>>()?;
        let baselines = settings
            .iter()
            .map(|s| baseline_of(s, learned.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let count = tags.len();
        let mut validator = Self {
            tags,
            clock_recovery: device.clock_recovery.get(),
            on_clock: device.on_clock,
            origins: Arc::default(),
            limits: Arc::new(Limits {
                version: LIMITS_VERSION,
                tags: Vec::new(),
            }),
            armed: Vec::new(),
            states: vec![TagState::default(); count],
            phase1: vec![None; count],
            clocks: Vec::new(),
            before: Before::default(),
            numbers: Vec::new(),
            settings,
            baselines,
        };
        validator.arm_all();
        Ok(validator)
    }

    /// Names the files that its settings were made from. They change no verdict, only what is said of it.
    pub fn made_from(mut self, origins: &[Origin]) -> Self {
        self.origins = origins.into();
        self
    }

    /// The validator as it was when [`state`](Self::state) gave `bytes`, under the same settings and
    /// the limits then in force.
    pub fn restore(
        tags: Arc<[TagSpec]>,
        device: &ValidationConfig,
        per_tag: &[TagValidation],
        limits: Option<Limits>,
        bytes: &[u8],
    ) -> Result<Self, ValidationError> {
        let mut validator = Self::new(tags, device, per_tag, limits)?;
        validator.read_state(bytes)?;
        Ok(validator)
    }

    /// The device's tags, in column order.
    pub fn tags(&self) -> &Arc<[TagSpec]> {
        &self.tags
    }

    /// The limits in force.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Tags that are still in Phase I.
    pub fn learning(&self) -> usize {
        self.phase1.iter().flatten().count()
    }

    /// Ends Phase I now for every tag that is still in it, with the samples it has. `None` when
    /// there was none.
    pub fn finish_phase1(&mut self) -> Option<Limits> {
        let ended: Vec<usize> = self.tags_in_phase1().collect();
        for &tag in &ended {
            self.end_phase1(tag);
        }
        (!ended.is_empty()).then(|| self.write_limits())
    }

    /// Canonical bytes of everything the charts remember. Taken before a batch is judged, they go
    /// with it into the sealed batch.
    pub fn state(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 24 * self.states.len());
        out.push(STATE_VERSION);
        put_count(&mut out, self.states.len() as u32);
        put_count(&mut out, self.clocks.len() as u32);
        for clock in &self.clocks {
            clock.write(&mut out);
        }
        let tags = self.settings.iter().zip(&self.armed).zip(&self.states);
        for (((settings, armed), state), phase1) in tags.zip(&self.phase1) {
            state::write(&mut out, settings, armed, state, phase1.as_deref());
        }
        out
    }

    /// Canonical bytes of the settings and limits in force, behind the files they were made from: what
    /// judges the next batch.
    pub fn settings_document(&self) -> Vec<u8> {
        weighbridge_verifier::encode(&(
            WITH_ORIGINS,
            &*self.origins,
            self.clock_recovery,
            self.on_clock,
            &self.settings,
            &*self.limits,
        ))
    }

    /// The limits in a [`settings_document`](Self::settings_document).
    pub fn limits_of_document(bytes: &[u8]) -> Result<Limits, ValidationError> {
        type Judging = (u32, Consequence, Vec<TagSettings>, Limits);
        let what = "settings";
        let limits = match bytes.split_first() {
            Some((&WITHOUT_ORIGINS, rest)) => {
                decode::<Judging>(what, rest).map(|(.., limits)| limits)
            }
            Some((&WITH_ORIGINS, rest)) => {
                decode::<(Vec<Origin>, Judging)>(what, rest).map(|(_, (.., limits))| limits)
            }
            version => {
                let version = version.map_or(0, |(version, _)| *version);
                return Err(ValidationError::State(format!(
                    "the version {version} of the settings is not known here, only {WITHOUT_ORIGINS} \
                     and {WITH_ORIGINS}"
                )));
            }
        };
        limits.map_err(|error| ValidationError::State(error.to_string()))
    }

    fn read_state(&mut self, bytes: &[u8]) -> Result<(), ValidationError> {
        let mut from = Reader(bytes);
        let version = from.u8()?;
        if version != STATE_VERSION {
            return Err(ValidationError::State(format!(
                "its version {version} is not known here, only {STATE_VERSION}"
            )));
        }
        let tags = from.count()? as usize;
        if tags != self.states.len() {
            return Err(ValidationError::State(format!(
                "it is of {tags} tags, and the device has {}",
                self.states.len()
            )));
        }
        let clocks = from.count()? as usize;
        if clocks > self.states.len().max(1) {
            return Err(ValidationError::State(format!(
                "it has {clocks} clocks for {tags} tags"
            )));
        }
        self.clocks = (0..clocks)
            .map(|_| TimelineClock::read(&mut from))
            .collect::<Result<_, _>>()?;
        let tags = self.settings.iter().zip(&self.armed);
        let memory = self.states.iter_mut().zip(&mut self.phase1);
        for ((settings, armed), (state, phase1)) in tags.zip(memory) {
            (*state, *phase1) = state::read(&mut from, settings, armed, phase1.is_some())?;
        }
        if self.state() != bytes {
            return Err(ValidationError::State("it is not in canonical form".into()));
        }
        Ok(())
    }

    fn tags_in_phase1(&self) -> impl Iterator<Item = usize> + '_ {
        let slots = self.phase1.iter().enumerate();
        slots.filter(|(_, p)| p.is_some()).map(|(tag, _)| tag)
    }

    /// Builds every tag's charts from settings and baselines.
    fn arm_all(&mut self) {
        let known = self.settings.iter().zip(&self.baselines);
        self.armed = known.map(|(s, b)| Armed::new(s, b.as_ref())).collect();
        for (tag, settings) in self.settings.iter().enumerate() {
            if let (Some(state), Some(armed)) = (self.states.get_mut(tag), self.armed.get(tag)) {
                state.start(armed);
            }
            let known = self.baselines.get(tag).is_some_and(Option::is_some);
            if let Some(slot) = self.phase1.get_mut(tag)
                && settings.learns()
                && !known
            {
                let (target, lambda) = (settings.phase1_samples, settings.lambda);
                *slot = Some(Box::new(Phase1::new(target, lambda, settings.subgroup)));
            }
        }
        self.write_limits();
    }

    /// Ends Phase I of a tag: its charts begin.
    fn end_phase1(&mut self, tag: usize) {
        let Some(phase1) = self.phase1.get_mut(tag).and_then(Option::take) else {
            return;
        };
        let baseline = phase1.finish();
        if let (Some(settings), Some(armed), Some(state), Some(slot)) = (
            self.settings.get(tag),
            self.armed.get_mut(tag),
            self.states.get_mut(tag),
            self.baselines.get_mut(tag),
        ) {
            *armed = Armed::new(settings, Some(&baseline));
            state.start(armed);
            *slot = Some(baseline);
        }
    }

    fn write_limits(&mut self) -> Limits {
        let tags = self.settings.iter().zip(&self.armed).zip(&self.baselines);
        let limits = Limits {
            version: LIMITS_VERSION,
            tags: tags
                .filter_map(|((settings, armed), b)| armed.document(settings, b.as_ref()))
                .collect(),
        };
        self.limits = Arc::new(limits.clone());
        limits
    }
}

fn baseline_of(
    settings: &TagSettings,
    learned: Option<&Limits>,
) -> Result<Option<Baseline>, ValidationError> {
    let known = learned.and_then(|l| l.tag(&settings.name));
    let Some(baseline) = known.and_then(|t| t.baseline.as_ref()) else {
        return Ok(None);
    };
    if !baseline.is_finite() {
        let reason = format!("what Phase I found of tag {} is not finite", settings.name);
        return Err(ValidationError::Limits(reason));
    }
    Ok(settings.learns().then(|| baseline.clone()))
}
