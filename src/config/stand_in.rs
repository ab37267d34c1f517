//! stand-ins until the owners' structs are merged
use serde::{Deserialize, Serialize};
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OpcUaConfig {
    pub url: String,
}
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OpcUaPoint {
    pub node: String,
}
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpcUaServerConfig {
    pub bind: std::net::SocketAddr,
}
impl Default for OpcUaServerConfig {
    fn default() -> Self {
        Self {
            bind: ([127, 0, 0, 1], 4840).into(),
        }
    }
}
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationConfig {}
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TagValidation {}
