//! The settings of one tag, with the device's and its own put together: plain numbers, and the form
//! that goes into the record as `judged_by`.

use super::ValidationError;
use super::config::{
    AfterSignal, ChartKind, Consequence, LimitPolicy, SigmaFrom, TagValidation, ValidationConfig,
};
use crate::model::{TagSpec, ValueKind};
use borsh::{BorshDeserialize, BorshSerialize};
use std::cmp::Ordering;

/// Limits that are set instead of learned.
#[derive(Clone, Copy, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub(super) struct SetLimits {
    /// Centre line and standard deviation, where both are known.
    pub center_sigma: Option<(f64, f64)>,
    pub lcl: Option<f64>,
    pub ucl: Option<f64>,
}

/// Which charts are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct ChartSet {
    pub individuals: bool,
    pub moving_range: bool,
    pub xbar_s: bool,
    pub ewma: bool,
    pub cusum: bool,
}

impl ChartSet {
    fn of(kinds: &[ChartKind]) -> Self {
        Self {
            individuals: kinds.contains(&ChartKind::Individuals),
            moving_range: kinds.contains(&ChartKind::MovingRange),
            xbar_s: kinds.contains(&ChartKind::XbarS),
            ewma: kinds.contains(&ChartKind::Ewma),
            cusum: kinds.contains(&ChartKind::Cusum),
        }
    }
}

/// What each kind of finding does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Consequences {
    pub signal: Consequence,
    pub stuck: Consequence,
    pub rate: Consequence,
    pub missing: Consequence,
    pub range: Consequence,
}

/// Everything that is set about one tag.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub(super) struct TagSettings {
    pub name: String,
    pub unit: String,
    pub range: Option<(f64, f64)>,
    /// Whether its values are quantities; switches, text and bytes are not.
    pub chartable: bool,
    pub phase1_samples: u32,
    pub charts: ChartSet,
    pub limits: LimitPolicy,
    pub sigma_from: SigmaFrom,
    pub sigmas: f64,
    pub margin: f64,
    pub lambda: f64,
    pub ewma_l: f64,
    pub cusum_k: f64,
    pub cusum_h: f64,
    pub after_signal: AfterSignal,
    pub subgroup: u32,
    /// Bit n−1 stands for rule n.
    pub western_electric: u8,
    /// Bit n−1 stands for rule n.
    pub nelson: u8,
    pub stuck_after: Option<u32>,
    pub max_rate: Option<f64>,
    pub missing_share: f64,
    pub on: Consequences,
    pub set: Option<SetLimits>,
}

impl TagSettings {
    /// Puts device settings and a tag's own together.
    pub fn resolve(
        tag: &TagSpec,
        device: &ValidationConfig,
        own: &TagValidation,
    ) -> Result<Self, ValidationError> {
        let ewma = own.ewma.unwrap_or(device.ewma);
        let cusum = own.cusum.unwrap_or(device.cusum);
        let sigmas = own.sigmas.unwrap_or(device.sigmas).get();
        let western_electric = own.western_electric.as_ref();
        let western_electric = western_electric.unwrap_or(&device.western_electric);
        let nelson = own.nelson.as_ref().unwrap_or(&device.nelson);
        let numeric = !matches!(tag.kind, ValueKind::Text | ValueKind::Bytes);
        Ok(Self {
            name: tag.name.to_string(),
            unit: tag.unit.clone(),
            range: range(tag)?.filter(|_| numeric),
            chartable: matches!(tag.kind, ValueKind::I64 | ValueKind::U64 | ValueKind::F64),
            phase1_samples: own.phase1_samples.unwrap_or(device.phase1_samples),
            charts: ChartSet::of(own.charts.as_ref().unwrap_or(&device.charts)),
            limits: own.limits.unwrap_or(device.limits),
            sigma_from: own.sigma_from.unwrap_or(device.sigma_from),
            sigmas,
            margin: own.margin.unwrap_or(device.margin).get(),
            lambda: ewma.lambda.get(),
            ewma_l: ewma.l.get(),
            cusum_k: cusum.k.get(),
            cusum_h: cusum.h.get(),
            after_signal: cusum.after_signal,
            subgroup: own.subgroup.unwrap_or(device.subgroup).get(),
            western_electric: rule_bits(western_electric.iter().map(|r| r.get())),
            nelson: rule_bits(nelson.iter().map(|r| r.get())),
            stuck_after: own.stuck_after.or(device.stuck_after).filter(|_| numeric),
            max_rate: own.max_rate.map(|r| r.get()).filter(|_| numeric),
            missing_share: own.missing_share.unwrap_or(device.missing_share).get(),
            on: Consequences {
                signal: own.on_signal.unwrap_or(device.on_signal),
                stuck: own.on_stuck.unwrap_or(device.on_stuck),
                rate: own.on_rate.unwrap_or(device.on_rate),
                missing: own.on_missing.unwrap_or(device.on_missing),
                range: own.on_range.unwrap_or(device.on_range),
            },
            set: set_limits(tag, own, sigmas)?,
        })
    }

    /// Whether limits are learned from the first good samples.
    pub fn learns(&self) -> bool {
        self.chartable && self.set.is_none() && self.phase1_samples > 0
    }
}

fn rule_bits(rules: impl Iterator<Item = u32>) -> u8 {
    rules.fold(0, |bits, rule| bits | 1 << (rule - 1))
}

fn contradiction<T>(tag: &TagSpec, reason: impl Into<String>) -> Result<T, ValidationError> {
    Err(ValidationError::Settings {
        tag: tag.name.to_string(),
        reason: reason.into(),
    })
}

fn range(tag: &TagSpec) -> Result<Option<(f64, f64)>, ValidationError> {
    match tag.range {
        Some((low, high)) if low.partial_cmp(&high) != Some(Ordering::Less) => contradiction(
            tag,
            format!("its range {low} to {high} is empty; give the lower end first"),
        ),
        range => Ok(range),
    }
}

fn set_limits(
    tag: &TagSpec,
    own: &TagValidation,
    sigmas: f64,
) -> Result<Option<SetLimits>, ValidationError> {
    let (lcl, ucl) = (own.lcl.map(|x| x.get()), own.ucl.map(|x| x.get()));
    if let (Some(low), Some(high)) = (lcl, ucl)
        && low >= high
    {
        return contradiction(tag, format!("lcl {low} is not below ucl {high}"));
    }
    let center_sigma = match (own.center, own.sigma) {
        (Some(center), Some(sigma)) => Some((center.get(), sigma.get())),
        (Some(_), None) => return contradiction(tag, "center is set without sigma; set both"),
        (None, Some(_)) => return contradiction(tag, "sigma is set without center; set both"),
        (None, None) => match (lcl, ucl) {
            (Some(low), Some(high)) => {
                Some((low + (high - low) / 2.0, (high - low) / (2.0 * sigmas)))
            }
            _ => None,
        },
    };
    if let Some((center, sigma)) = center_sigma
        && !(center.is_finite() && sigma.is_finite() && sigma > 0.0)
    {
        return contradiction(
            tag,
            "its set limits are too far apart, or too close, for 64-bit numbers",
        );
    }
    let none = center_sigma.is_none() && lcl.is_none() && ucl.is_none();
    Ok((!none).then_some(SetLimits {
        center_sigma,
        lcl,
        ucl,
    }))
}
