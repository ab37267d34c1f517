//! What a server says that it is, and the certificates of the connection to it.

use super::config::OpcUaConfig;
use super::line::Line;
use crate::model::{About, CertificateInUse, Nameplate, Side};
use crate::protocols::opcua::pki;
use crate::protocols::opcua::security::Policy;
use opcua::types::{
    AttributeId, BuildInfo, DataValue, EndpointDescription, NodeId, UAString, VariableId, Variant,
};

/// Longest text of a nameplate; it comes from outside.
const LONGEST: usize = 200;

/// `BuildInfo` (OPC 10000-5, 12.4): the whole, which is all that small controllers have, and its parts,
/// which are all that a client understands of some others.
const BUILD_INFO: [VariableId; 5] = [
    VariableId::Server_ServerStatus_BuildInfo,
    VariableId::Server_ServerStatus_BuildInfo_ManufacturerName,
    VariableId::Server_ServerStatus_BuildInfo_ProductName,
    VariableId::Server_ServerStatus_BuildInfo_SoftwareVersion,
    VariableId::Server_ServerStatus_BuildInfo_BuildNumber,
];

/// What is known of the server at the end of `line`. A server that says nothing of itself is read all
/// the same.
pub(super) async fn about(line: &Line, endpoint: &EndpointDescription) -> About {
    let nodes = BUILD_INFO.map(NodeId::from);
    let said = line.read(&nodes, AttributeId::Value).await;
    About {
        nameplate: said.ok().and_then(|said| nameplate(&said)),
        certificates: certificates(&line.config, endpoint),
    }
}

fn nameplate(said: &[DataValue]) -> Option<Nameplate> {
    let value = |at: usize| said.get(at).and_then(|v| v.value.as_ref());
    let whole = match value(0) {
        Some(Variant::ExtensionObject(object)) => object.inner_as::<BuildInfo>(),
        _ => None,
    };
    let text = |at: usize, of: fn(&BuildInfo) -> &UAString| {
        let text = match value(at) {
            Some(Variant::String(text)) => text.as_ref(),
            _ => whole.map_or("", |info| of(info).as_ref()),
        };
        let plain = text.chars().filter(|c| !c.is_control());
        let plain: String = plain.take(LONGEST).collect();
        plain.trim().to_owned()
    };
    let version = text(3, |info| &info.software_version);
    let build = text(4, |info| &info.build_number);
    let plate = Nameplate {
        manufacturer: text(1, |info| &info.manufacturer_name),
        product: text(2, |info| &info.product_name),
        model: String::new(),
        version: match build.is_empty() || version.contains(&build) {
            true => version,
            false => format!("{version} build {build}").trim().to_owned(),
        },
    };
    (!plate.is_empty()).then_some(plate)
}

fn certificates(config: &OpcUaConfig, endpoint: &EndpointDescription) -> Vec<CertificateInUse> {
    if config.security_policy == Policy::None {
        return Vec::new();
    }
    let shown = endpoint.server_certificate.as_ref();
    let theirs = pki::presented(Side::Theirs, shown, &config.pki_dir);
    pki::own(&config.pki_dir)
        .into_iter()
        .chain(theirs)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_kept_short_and_plain() {
        let said = |texts: [&str; 4]| {
            let mut values = vec![DataValue::default()];
            values.extend(texts.map(|t| DataValue::from(Variant::from(t))));
            nameplate(&values)
        };
        let plate = said(["Weighs\u{7} & Co", "Controller", "2.1", "77"]).unwrap();
        assert_eq!(plate.to_string(), "Weighs & Co Controller 2.1 build 77");
        assert_eq!(said(["", "", "2.1.77", "77"]).unwrap().version, "2.1.77");
        assert_eq!(said(["", " ", "", ""]), None);
        assert_eq!(nameplate(&[]), None);
        let long = "x".repeat(10_000);
        assert_eq!(
            said([&long, "", "", ""]).unwrap().manufacturer.len(),
            LONGEST
        );
    }
}
