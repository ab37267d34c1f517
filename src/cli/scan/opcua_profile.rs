//! What a scan of an OPC UA server found, as a profile that `profile test` and `check` accept and a
//! person finishes.

use super::opcua::{kind_name, sum};
use super::target::{MOST_IN_CASE, comment, plain, quoted};
use crate::config::MAX_TAG_NAME;
use crate::model::Value;
use crate::protocols::opcua::{FoundVariable, OpcUaConfig, Policy, Scan, Trust};
use std::collections::HashSet;
use toml::Value as Toml;

/// Longest tag name, with room for a number that tells it from others.
const NAME: usize = MAX_TAG_NAME - 8;

/// The profile `id` with the variables as tags.
pub(super) fn profile(id: &str, config: &OpcUaConfig, found: &Scan) -> String {
    let names = names(&found.variables);
    let mut out = format!(
        "# Found by `weighbridge scan {}`: {}.\n\
         # Take away what nobody needs, and say in `source` which document explains the rest. A range that a server\n\
         # gives is the normal one. The hub takes `range` for what is possible at all, so it stands in a comment.\n\
         \n[profile]\nid = {}\nname = {}\nversion = \"1\"\nsource = {}\n\
         \n[parameters]\nurl = {{ default = {}, help = \"the server; another machine of the kind has another\" }}\n\
         \n[opcua]\nurl = \"{{url}}\"\n",
        comment(&config.url),
        sum(found),
        quoted(id),
        quoted(&format!("what {} shows", config.url)),
        quoted(&format!("the address space of {}", config.url)),
        quoted(&config.url),
    );
    if config.security_policy != Policy::None {
        let policy = Toml::try_from(config.security_policy);
        let mode = Toml::try_from(config.security_mode);
        for (key, value) in [("security_policy", policy), ("security_mode", mode)] {
            out.extend(value.map(|value| format!("{key} = {value}\n")));
        }
    }
    for (variable, name) in found.variables.iter().zip(&names) {
        out += &tag(variable, name);
    }
    out + &case(&found.variables, &names)
}

/// What a device says besides its profile: where it is, and what is of the site and not of the kind.
pub(super) fn device(config: &OpcUaConfig) -> toml::Table {
    let usual = OpcUaConfig::new(config.url.clone());
    let mut opcua = toml::Table::new();
    let mut set = |key: &str, value: Option<Toml>| {
        opcua.extend(value.map(|value| (key.to_owned(), value)));
    };
    if config.security_policy != Policy::None {
        let trust = (config.trust != Trust::Folder).then_some(config.trust);
        set("trust", trust.and_then(|t| Toml::try_from(t).ok()));
        let folder = (config.pki_dir != usual.pki_dir).then_some(&config.pki_dir);
        set("pki_dir", folder.and_then(|f| Toml::try_from(f).ok()));
    }
    set("user", config.user.clone().map(Into::into));
    let password = config.password_file.as_ref();
    set(
        "password_file",
        password.and_then(|p| Toml::try_from(p).ok()),
    );
    let mut keys = toml::Table::from_iter([("url".to_owned(), config.url.clone().into())]);
    if !opcua.is_empty() {
        // Below the plain keys, as `[device.opcua]`.
        let device = toml::Table::from_iter([("opcua".to_owned(), Toml::Table(opcua))]);
        keys.insert("device".to_owned(), Toml::Table(device));
    }
    keys
}

fn tag(variable: &FoundVariable, name: &str) -> String {
    let mut out = format!("\n[[tag]]\nname = {}\n", plain(name));
    for (key, text) in [
        ("unit", &variable.unit),
        ("description", &variable.description),
    ] {
        if !text.is_empty() {
            out += &format!("{key} = {}\n", plain(text));
        }
    }
    if let Some((low, high)) = variable.range {
        out += &format!("# range = [{low:?}, {high:?}]\n");
    }
    if variable.writable {
        out += "# writable = true\n";
    }
    let node = plain(&variable.node.to_string());
    let kind = quoted(&kind_name(variable));
    out + &format!("opcua = {{ node = {node}, type = {kind} }}\n")
}

/// The values that there were, as a golden case.
fn case(variables: &[FoundVariable], names: &[String]) -> String {
    let known = variables.iter().zip(names).filter_map(|(variable, name)| {
        let value = match variable.value.as_ref()? {
            Value::Bool(value) => Toml::Boolean(*value),
            Value::I64(value) => Toml::Integer(*value),
            Value::U64(value) => Toml::Integer(i64::try_from(*value).ok()?),
            Value::F64(value) if value.is_finite() => Toml::Float(*value),
            Value::Text(value) => Toml::String(value.to_string()),
            _ => return None,
        };
        let node = variable.node.to_string();
        // A key of TOML is one line.
        (!node.contains(char::is_control)).then(|| (node, name.clone(), value))
    });
    let known: Vec<_> = known.take(MOST_IN_CASE).collect();
    if known.is_empty() {
        return String::new();
    }
    let mut out =
        "\n[[case]]\nname = \"as it was when it was scanned\"\n\n[case.values]\n".to_owned();
    out.extend(
        known
            .iter()
            .map(|(node, _, value)| format!("{} = {value}\n", quoted(node))),
    );
    out += "\n[case.expect]\n";
    out.extend(
        known
            .iter()
            .map(|(_, name, value)| format!("{} = {value}\n", quoted(name))),
    );
    out
}

fn names(variables: &[FoundVariable]) -> Vec<String> {
    let mut taken = HashSet::new();
    let names = variables.iter();
    names
        .map(|v| unique(&mut taken, &tag_name(&v.path)))
        .collect()
}

/// The path as a tag's name: no slash, no control characters, not too long.
fn tag_name(path: &[String]) -> String {
    let joined = path.join(".");
    let clean = joined.trim().chars().map(|c| match c {
        '/' => '_',
        c if c.is_control() => '_',
        c => c,
    });
    let mut name = String::new();
    for c in clean {
        if name.len() + c.len_utf8() > NAME {
            break;
        }
        name.push(c);
    }
    match name.trim() {
        "" => "variable".into(),
        name => name.into(),
    }
}

fn unique(names: &mut HashSet<String>, name: &str) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while !names.insert(candidate.clone()) {
        candidate = format!("{name}_{number}");
        number += 1;
    }
    candidate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::profile::Profile;
    use crate::model::ValueKind;

    fn variable(path: &[&str], node: &str) -> FoundVariable {
        FoundVariable {
            path: path.iter().map(|p| (*p).to_owned()).collect(),
            node: node.parse().unwrap(),
            kind: ValueKind::F64,
            value: Some(Value::F64(1.5)),
            unit: "°C".into(),
            range: Some((0.0, 100.0)),
            description: "a \"hot\"\nthing {x}".into(),
            writable: true,
            history: false,
        }
    }

    #[test]
    fn what_a_scan_writes_is_a_profile_and_a_device_of_few_lines_uses_it() {
        let found = Scan {
            variables: vec![
                variable(&["Machine", "a/b"], "nsu=urn:x%3By;s=\"DB\".\"a\""),
                variable(&["Machine", "a_b"], "i=5"),
                variable(&[""], "ns=9;g=C496578A-0DFE-4B8F-870A-745238C6AEAE"),
                variable(&["x".repeat(500).as_str()], "ns=2;b=AQI="),
                variable(&["{odd}"], "ns=2;s={0}"),
            ],
            nodes: 9,
            left_out: 1,
            complete: false,
        };
        let secure = OpcUaConfig {
            security_policy: Policy::Aes256Sha256RsaPss,
            trust: Trust::Any,
            pki_dir: "elsewhere".into(),
            user: Some("reader".into()),
            password_file: Some("keys/pw".into()),
            ..OpcUaConfig::new("opc.tcp://127.0.0.1:4840")
        };
        for settings in [OpcUaConfig::new("opc.tcp://127.0.0.1:4840"), secure] {
            let dir = tempfile::tempdir().unwrap();
            let text = profile("robot", &settings, &found);
            let file = dir.path().join("plugins/profiles/robot.toml");
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &text).unwrap();
            let read = Profile::load(&file).unwrap_or_else(|found| panic!("{text}\n{found:?}"));
            assert_eq!(read.warnings, []);
            assert_eq!(read.cases.len(), 1);
            let hub = dir.path().join("hub.toml");
            let device = device(&settings).to_string();
            let head = "[hub]\nid = \"hub-1\"\n[[device]]\nid = \"r-1\"\nprofile = \"robot\"\n";
            std::fs::write(&hub, format!("{head}{device}")).unwrap();
            let loaded = config::load(&hub).unwrap_or_else(|found| panic!("{device}\n{found:?}"));
            let device = &loaded.config.devices[0];
            let opcua = device.opcua.as_ref().unwrap();
            assert_eq!(opcua.user, settings.user);
            assert_eq!(opcua.security_policy, settings.security_policy);
            assert_eq!(opcua.trust, settings.trust);
            let names: Vec<_> = device.tags.iter().map(|t| t.name.as_str()).collect();
            assert_eq!(names[..3], ["Machine.a_b", "Machine.a_b_2", "variable"]);
            assert_eq!(names[4], "{odd}");
            for (tag, variable) in device.tags.iter().zip(&found.variables) {
                assert_eq!(tag.opcua.as_ref().unwrap().node, variable.node);
                assert_eq!(tag.unit, "°C");
                assert_eq!(tag.description, variable.description);
            }
        }
    }
}
