//! The settings of validation as a configuration file has them: for a device, and for one tag.

use super::numbers::{
    Finite, Lambda, NelsonRule, NotNegative, Positive, RecoveryBatches, Share, SubgroupSize,
    WesternElectricRule,
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// A control chart that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChartKind {
    /// Single values against limits (Shewhart).
    Individuals,
    /// The step from one sample to the next.
    MovingRange,
    /// Mean and standard deviation of subgroups.
    XbarS,
    /// Exponentially weighted moving average (Roberts 1959).
    Ewma,
    /// Two-sided tabular cumulative sum (Page 1954).
    Cusum,
}

/// How the limits of the individuals, moving range and EWMA charts follow from Phase I.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum LimitPolicy {
    /// The range of Phase I, widened by `margin` of itself on both sides, and never narrower than
    /// `sigmas` standard deviations (more when few samples are known). It asks nothing of the distribution, so it suits a moving
    /// robot; for 1,000 independent normal samples it comes to about 6.5 standard deviations. It
    /// also looks at how the tag behaved, and charts no constants, no counters and no levels that
    /// were still on their way somewhere.
    #[default]
    Envelope,
    /// The textbook: centre ± `sigmas` standard deviations. Right for independent, roughly normal
    /// samples, and then it calls every 370th of them (at 3) out of control.
    Sigma,
}

/// Where a standard deviation comes from.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum SigmaFrom {
    /// Mean moving range over d2.
    #[default]
    MovingRange,
    /// Standard deviation of all samples of Phase I.
    StandardDeviation,
}

/// What a finding does to its batch.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Consequence {
    /// It is out of control: stored, flagged, alarmed.
    Flag,
    /// It is invalid: refused, and not stored.
    Refuse,
}

/// What a CUSUM does after it signalled.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum AfterSignal {
    /// It starts again from zero, so a lasting shift signals again and again, and the chart is quiet
    /// as soon as the process is back.
    #[default]
    Restart,
    /// It goes on adding, as the textbooks draw it.
    Continue,
}

/// Settings of the EWMA chart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EwmaConfig {
    /// Weight of the newest sample.
    pub lambda: Lambda,
    /// Limits in standard deviations of the statistic.
    pub l: Positive,
}

impl Default for EwmaConfig {
    fn default() -> Self {
        Self {
            lambda: Lambda::known(0.2),
            l: Positive::known(2.962),
        }
    }
}

/// Settings of the CUSUM chart, in standard deviations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CusumConfig {
    /// Reference value: half of the shift that is to be found.
    pub k: NotNegative,
    /// Decision interval.
    pub h: Positive,
    /// What happens after a signal.
    pub after_signal: AfterSignal,
}

impl Default for CusumConfig {
    fn default() -> Self {
        Self {
            k: NotNegative::known(0.5),
            h: Positive::known(5.0),
            after_signal: AfterSignal::default(),
        }
    }
}

/// Validation of a device: what holds for all of its tags unless a tag says otherwise.
///
/// The defaults are made for many tags at high rates, where a textbook chart would alarm all day:
/// individuals, moving range and EWMA with [`LimitPolicy::Envelope`] after 1,000 samples of Phase I.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationConfig {
    /// Good samples of a tag that its limits are learned from; 0 learns nothing.
    pub phase1_samples: u32,
    /// The charts that are on.
    pub charts: Vec<ChartKind>,
    /// How limits follow from Phase I.
    pub limits: LimitPolicy,
    /// Where the standard deviation of limits, CUSUM and rules comes from.
    pub sigma_from: SigmaFrom,
    /// Half-width of Shewhart limits in standard deviations.
    pub sigmas: Positive,
    /// By how much of itself the range of Phase I is widened on each side.
    pub margin: NotNegative,
    /// The EWMA chart.
    pub ewma: EwmaConfig,
    /// The CUSUM chart.
    pub cusum: CusumConfig,
    /// Samples in a subgroup of the X̄-S chart.
    pub subgroup: SubgroupSize,
    /// Western Electric rules that are on, by number.
    pub western_electric: Vec<WesternElectricRule>,
    /// Nelson rules that are on, by number.
    pub nelson: Vec<NelsonRule>,
    /// Equal values in a row that mean a stuck sensor; 0 is off. Unless set it is learned: five
    /// times the longest run of Phase I, at least 20, for tags that moved in Phase I.
    pub stuck_after: Option<u32>,
    /// Share of a tag's samples in a batch that may be missing before it is a finding.
    pub missing_share: Share,
    /// A clock that went back is believed again after so many refused batches that ran evenly.
    pub clock_recovery: RecoveryBatches,
    /// What a signal of a chart or rule does.
    pub on_signal: Consequence,
    /// What a stuck sensor does.
    pub on_stuck: Consequence,
    /// What too fast a change does.
    pub on_rate: Consequence,
    /// What too many missing samples do.
    pub on_missing: Consequence,
    /// What a value outside the physical range does.
    pub on_range: Consequence,
    /// What a clock that goes back does.
    pub on_clock: Consequence,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self {
            phase1_samples: 1000,
            charts: vec![
                ChartKind::Individuals,
                ChartKind::MovingRange,
                ChartKind::Ewma,
            ],
            limits: LimitPolicy::default(),
            sigma_from: SigmaFrom::default(),
            sigmas: Positive::known(3.0),
            margin: NotNegative::known(0.5),
            ewma: EwmaConfig::default(),
            cusum: CusumConfig::default(),
            subgroup: SubgroupSize::known(5),
            western_electric: Vec::new(),
            nelson: Vec::new(),
            stuck_after: None,
            missing_share: Share::known(0.5),
            clock_recovery: RecoveryBatches::known(3),
            on_signal: Consequence::Flag,
            on_stuck: Consequence::Flag,
            on_rate: Consequence::Flag,
            on_missing: Consequence::Flag,
            on_range: Consequence::Refuse,
            on_clock: Consequence::Refuse,
        }
    }
}

/// Validation of one tag: what differs from its device, and limits that are set instead of learned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TagValidation {
    /// See [`ValidationConfig::phase1_samples`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase1_samples: Option<u32>,
    /// See [`ValidationConfig::charts`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charts: Option<Vec<ChartKind>>,
    /// See [`ValidationConfig::limits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitPolicy>,
    /// See [`ValidationConfig::sigma_from`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma_from: Option<SigmaFrom>,
    /// See [`ValidationConfig::sigmas`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigmas: Option<Positive>,
    /// See [`ValidationConfig::margin`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<NotNegative>,
    /// See [`ValidationConfig::ewma`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ewma: Option<EwmaConfig>,
    /// See [`ValidationConfig::cusum`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cusum: Option<CusumConfig>,
    /// See [`ValidationConfig::subgroup`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subgroup: Option<SubgroupSize>,
    /// See [`ValidationConfig::western_electric`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub western_electric: Option<Vec<WesternElectricRule>>,
    /// See [`ValidationConfig::nelson`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nelson: Option<Vec<NelsonRule>>,
    /// See [`ValidationConfig::stuck_after`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stuck_after: Option<u32>,
    /// See [`ValidationConfig::missing_share`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_share: Option<Share>,
    /// See [`ValidationConfig::on_signal`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_signal: Option<Consequence>,
    /// See [`ValidationConfig::on_stuck`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_stuck: Option<Consequence>,
    /// See [`ValidationConfig::on_rate`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_rate: Option<Consequence>,
    /// See [`ValidationConfig::on_missing`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_missing: Option<Consequence>,
    /// See [`ValidationConfig::on_range`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_range: Option<Consequence>,
    /// Set centre line, in the tag's unit; needs `sigma`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub center: Option<Finite>,
    /// Set standard deviation, in the tag's unit; needs `center`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma: Option<Positive>,
    /// Set lower control limit of single values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lcl: Option<Finite>,
    /// Set upper control limit of single values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ucl: Option<Finite>,
    /// Fastest change that is possible, in the tag's unit per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<Positive>,
}
