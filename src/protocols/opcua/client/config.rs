//! Configuration of an OPC UA device and of its tags.

use super::node::NodeAddress;
use crate::model::ValueKind;
use crate::protocols::opcua::security::{Mode, Policy, Trust};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How an OPC UA server is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpcUaConfig {
    /// `opc.tcp://host:port/path`.
    #[serde(deserialize_with = "endpoint_url")]
    pub url: String,
    /// Security policy; its endpoint must exist on the server.
    #[serde(default)]
    pub security_policy: Policy,
    /// Message security, for a policy other than `none`.
    #[serde(default)]
    pub security_mode: Mode,
    /// User name; anonymous when neither it nor a user certificate is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File whose first line is the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// User certificate (DER), instead of a user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_certificate: Option<PathBuf>,
    /// Its private key (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_key: Option<PathBuf>,
    /// Certificate folder; used and made only with a security policy other than `none`.
    #[serde(default = "default_pki_dir")]
    pub pki_dir: PathBuf,
    /// Which server certificates are trusted.
    #[serde(default)]
    pub trust: Trust,
    /// How often the server sends what it gathered, in ms.
    #[serde(default = "default_publishing_interval")]
    pub publishing_interval_ms: u32,
    /// How often the server samples a variable, in ms; 0 is as fast as it can.
    #[serde(default = "default_sampling_interval")]
    pub sampling_interval_ms: u32,
    /// Samples the server keeps of each variable between two sendings; what does not fit is lost,
    /// marked by the server, and counted.
    #[serde(default = "default_queue_size")]
    pub queue_size: u32,
    /// Which samples the server reports.
    #[serde(default)]
    pub report: Report,
    /// Longest time until a session is open, in ms.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout_ms: u32,
    /// Longest time without an answer before the connection is given up, in ms.
    #[serde(default = "default_silence_timeout")]
    pub silence_timeout_ms: u32,
    /// Samples that wait here for the device's actor; what does not fit is dropped and counted.
    #[serde(default = "default_buffer")]
    pub buffer: usize,
    /// Whether the gap of an outage, or of a hub that was down, is filled from the server's history,
    /// where it keeps one.
    #[serde(default = "default_fill_gaps")]
    pub fill_gaps: bool,
    /// Longest gap that is filled, in s; what is older stays missing.
    #[serde(default = "default_fill_gaps_s")]
    pub fill_gaps_s: u32,
    /// File that keeps what the namespace indices of the addresses mean; a configuration file has it in
    /// its data directory. Without one that is forgotten when the process ends.
    #[serde(skip)]
    pub learned: Option<PathBuf>,
}

impl OpcUaConfig {
    /// The defaults for the server at `url`: no security, anonymous.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            security_policy: Policy::None,
            security_mode: Mode::SignAndEncrypt,
            user: None,
            password_file: None,
            user_certificate: None,
            user_key: None,
            pki_dir: default_pki_dir(),
            trust: Trust::Folder,
            publishing_interval_ms: default_publishing_interval(),
            sampling_interval_ms: default_sampling_interval(),
            queue_size: default_queue_size(),
            report: Report::default(),
            connect_timeout_ms: default_connect_timeout(),
            silence_timeout_ms: default_silence_timeout(),
            buffer: default_buffer(),
            fill_gaps: default_fill_gaps(),
            fill_gaps_s: default_fill_gaps_s(),
            learned: None,
        }
    }
}

/// Which samples a server reports (OPC 10000-4 §7.22.2, `DataChangeTrigger`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// Every sample with a new source timestamp, also when the value is the same: control charts
    /// count samples, and a stuck sensor is seen by its repetitions.
    #[default]
    EverySample,
    /// Only when value or status changed.
    Changes,
}

/// Where a tag's value comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpcUaPoint {
    /// The variable.
    pub node: NodeAddress,
    /// Type of the tag's values; the server's type is converted to it.
    #[serde(rename = "type", default = "default_kind")]
    pub kind: ValueKind,
    /// Smallest change that is reported, in units of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "deadband")]
    pub deadband: Option<f64>,
    /// The same in percent of the variable's `EURange`, 0 to 100; instead of `deadband`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "percent")]
    pub deadband_percent: Option<f64>,
    /// How often the server looks at this variable, in ms, where it differs from the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling_interval_ms: Option<u32>,
    /// Samples the server keeps of it between two sendings, where that differs from the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_size: Option<u32>,
}

impl OpcUaPoint {
    /// A variable without a deadband.
    pub fn new(node: NodeAddress, kind: ValueKind) -> Self {
        Self {
            node,
            kind,
            deadband: None,
            deadband_percent: None,
            sampling_interval_ms: None,
            queue_size: None,
        }
    }
}

fn endpoint_url<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match check_url(&text) {
        Ok(()) => Ok(text),
        Err(reason) => Err(serde::de::Error::custom(reason)),
    }
}

pub(super) fn check_url(text: &str) -> Result<(), String> {
    let fits = text
        .strip_prefix("opc.tcp://")
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':']))
        && opcua::core::comms::url::is_opc_ua_binary_url(text);
    if fits {
        Ok(())
    } else {
        Err(format!(
            "{text:?} is not an OPC UA address; write opc.tcp://HOST:PORT"
        ))
    }
}

fn deadband<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if value.is_finite() && value >= 0.0 {
        Ok((value > 0.0).then_some(value))
    } else {
        Err(serde::de::Error::custom(
            "a deadband is a number from 0 on, in units of the value",
        ))
    }
}

fn percent<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if (0.0..=100.0).contains(&value) {
        Ok((value > 0.0).then_some(value))
    } else {
        Err(serde::de::Error::custom(
            "a deadband in percent is a number from 0 to 100",
        ))
    }
}

fn default_kind() -> ValueKind {
    ValueKind::F64
}
fn default_pki_dir() -> PathBuf {
    "pki/opcua-client".into()
}
fn default_publishing_interval() -> u32 {
    100
}
fn default_sampling_interval() -> u32 {
    50
}
fn default_queue_size() -> u32 {
    20
}
fn default_connect_timeout() -> u32 {
    3_000
}
fn default_silence_timeout() -> u32 {
    2_500
}
fn default_fill_gaps() -> bool {
    true
}
fn default_fill_gaps_s() -> u32 {
    86_400
}
fn default_buffer() -> usize {
    65_536
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_config_has_the_defaults() {
        let read: OpcUaConfig = toml::from_str(r#"url = "opc.tcp://10.0.0.5:4840""#).unwrap();
        assert_eq!(read, OpcUaConfig::new("opc.tcp://10.0.0.5:4840"));
        let point: OpcUaPoint = toml::from_str(r#"node = "ns=2;s=T""#).unwrap();
        assert_eq!((point.kind, point.deadband), (ValueKind::F64, None));
    }

    #[test]
    fn mistakes_are_refused() {
        for bad in [
            r#"url = "http://x""#,
            r#"url = "opc.tcp://""#,
            r#"url = "opc.tcp://:4840""#,
            "",
            "url = \"opc.tcp://x\"\nsecurity_policy = \"basic128\"",
            "url = \"opc.tcp://x\"\nunknown = 1",
        ] {
            assert!(toml::from_str::<OpcUaConfig>(bad).is_err(), "{bad}");
        }
        for bad in [
            "node = \"x\"",
            "node = \"i=1\"\ndeadband = -1.0",
            "node = \"i=1\"\ndeadband_percent = 101.0",
            "node = \"i=1\"\ntype = \"f32\"",
        ] {
            assert!(toml::from_str::<OpcUaPoint>(bad).is_err(), "{bad}");
        }
    }
}
