//! A hundred mistakes that people make in configurations and profiles, each answered where it is, with
//! what to do. The seed chooses them, and what stands around them; `WEIGHBRIDGE_SEED` replays a run.

use crate::support::Random;
use std::path::Path;
use weighbridge::config::{self, Diagnostic};

const MISTAKES: usize = 100;
const ANSWERED: usize = 95;

const HUB: &str = r#"[hub]
id = "hub-1"

[ledger]
max_records = 64

[http]
bind = "127.0.0.1:8080"

[opcua_server]
bind = "127.0.0.1:4840"

[[device]]
id = "plc-1"
group = "cell-a"

[device.batch]
samples = 4096

[device.modbus]
address = "192.0.2.7:502"
unit_id = 1
period_ms = 100
max_registers = 125

[device.validation]
charts = ["individuals", "ewma"]
limits = "envelope"
sigmas = 3.0
ewma = { lambda = 0.2, l = 2.7 }
on_range = "refuse"

[[device.tag]]
name = "temperature"
unit = "°C"
range = [0.0, 120.0]
modbus = { holding_register = 10, type = "f32", word_order = "little" }

[[device.tag]]
name = "pressure"
modbus = { input_register = 20, type = "u32" }

[[device.tag]]
name = "ready"
modbus = { holding_register = 30, bit = 2 }

[[device]]
id = "robot-1"

[device.opcua]
url = "opc.tcp://192.0.2.8:4840"
security_policy = "none"
report = "changes"

[[device.tag]]
name = "axis_1"
opcua = { node = "ns=2;s=Robot1.Axis1", type = "f64" }

[[device]]
id = "press-1"
profile = "press"
with = { address = "192.0.2.9:502", base = 100 }
remove = ["spare"]

[[devices]]
profile = "universal-robots"
each = [
    { id = "arm-1", address = "192.0.2.11" },
    { id = "arm-2", address = "192.0.2.12" },
]
"#;

const PRESS: &str = r#"[profile]
id = "press"
name = "A press"
version = "1"
source = "its manual"
extends = "machine"

[parameters]
base = { default = 0, range = [0, 60000], help = "first register" }
unit = { type = "text", default = "kN", help = "unit of forces" }

[validation]
phase1_samples = 500

[[tag]]
name = "force"
unit = "{unit}"
range = [0.0, 900.0]
modbus = { holding_register = "{base + 4}", type = "f32" }

[[group]]
for = { zone = "1..3" }

[[group.tag]]
name = "zone_{zone}"
unit = "°C"
modbus = { holding_register = "{base + 10 + 2 * index}", type = "f32" }
"#;

const MACHINE: &str = r#"[profile]
id = "machine"
name = "Any machine"
version = "1"
source = "its manual"

[parameters]
address = { type = "text", example = "192.0.2.1:502", help = "where it is" }

[modbus]
address = "{address}"

[[tag]]
name = "state"
modbus = { holding_register = 0 }

[[tag]]
name = "spare"
modbus = { holding_register = 1 }
"#;

/// File, what stands there, what a mistake makes of it, where in that the caret must be (`$` is its
/// end), and a part of the answer that says what to do.
type Kind = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const KINDS: &[Kind] = &[
    // Headers.
    (
        "hub.toml",
        "[ledger]",
        "[leger]",
        "leger",
        "did you mean `ledger`?",
    ),
    (
        "hub.toml",
        "[http]",
        "[htpp]",
        "htpp",
        "did you mean `http`?",
    ),
    (
        "hub.toml",
        "[opcua_server]",
        "[opcua-server]",
        "opcua-server",
        "did you mean `opcua_server`?",
    ),
    (
        "hub.toml",
        "[[device]]\nid = \"plc-1\"",
        "[device]\nid = \"plc-1\"",
        "[device]",
        "`[[device]]`",
    ),
    (
        "hub.toml",
        "[[device.tag]]\nname = \"temperature\"",
        "[device.tag]\nname = \"temperature\"",
        "[device.tag]",
        "`[[device.tag]]`",
    ),
    (
        "hub.toml",
        "[device.modbus]",
        "[device.modbuss]",
        "modbuss",
        "did you mean `modbus`?",
    ),
    (
        "hub.toml",
        "[device.validation]",
        "[device.validaton]",
        "validaton",
        "did you mean `validation`?",
    ),
    (
        "hub.toml",
        "[[device]]\nid = \"robot-1\"",
        "[[devise]]\nid = \"robot-1\"",
        "devise",
        "did you mean `device`?",
    ),
    (
        "hub.toml",
        "[[device.tag]]\nname = \"axis_1\"",
        "[[device.tags]]\nname = \"axis_1\"",
        "tags",
        "did you mean `tag`?",
    ),
    (
        "hub.toml",
        "[hub]\nid = \"hub-1\"\n",
        "[hub]\n",
        "[hub]",
        "add `id = ",
    ),
    // Keys.
    (
        "hub.toml",
        "period_ms = 100",
        "period = 100",
        "period",
        "did you mean `period_ms`?",
    ),
    (
        "hub.toml",
        "unit_id = 1",
        "unit-id = 1",
        "unit-id",
        "did you mean `unit_id`?",
    ),
    (
        "hub.toml",
        "unit_id = 1",
        "slave_id = 1",
        "slave_id",
        "`unit_id`",
    ),
    (
        "hub.toml",
        "address = \"192.0.2.7:502\"",
        "adress = \"192.0.2.7:502\"",
        "adress",
        "did you mean `address`?",
    ),
    (
        "hub.toml",
        "name = \"pressure\"",
        "nmae = \"pressure\"",
        "nmae",
        "did you mean `name`?",
    ),
    (
        "hub.toml",
        "holding_register = 10",
        "holding_reg = 10",
        "holding_reg ",
        "did you mean `holding_register`?",
    ),
    ("hub.toml", "url = ", "ulr = ", "ulr", "did you mean `url`?"),
    (
        "hub.toml",
        "node = ",
        "nodeid = ",
        "nodeid",
        "did you mean `node`?",
    ),
    (
        "hub.toml",
        "samples = 4096",
        "smaples = 4096",
        "smaples",
        "did you mean `samples`?",
    ),
    (
        "hub.toml",
        "lambda = 0.2",
        "lamda = 0.2",
        "lamda",
        "did you mean `lambda`?",
    ),
    (
        "hub.toml",
        "profile = \"press\"",
        "profil = \"press\"",
        "profil ",
        "did you mean `profile`?",
    ),
    (
        "hub.toml",
        "range = [0.0, 120.0]",
        "rnage = [0.0, 120.0]",
        "rnage",
        "did you mean `range`?",
    ),
    (
        "hub.toml",
        "word_order = ",
        "wordorder = ",
        "wordorder",
        "did you mean `word_order`?",
    ),
    // Types.
    (
        "hub.toml",
        "period_ms = 100",
        "period_ms = \"100\"",
        "\"100\"",
        "write `period_ms = 100`",
    ),
    (
        "hub.toml",
        "unit_id = 1",
        "unit_id = 1.5",
        "1.5",
        "whole number",
    ),
    (
        "hub.toml",
        "name = \"pressure\"",
        "name = 5",
        "5",
        "write `name = \"5\"`",
    ),
    (
        "hub.toml",
        "charts = [\"individuals\", \"ewma\"]",
        "charts = \"ewma\"",
        "\"ewma\"",
        "list",
    ),
    (
        "hub.toml",
        "range = [0.0, 120.0]",
        "range = \"0..120\"",
        "\"0..120\"",
        "range = [",
    ),
    (
        "hub.toml",
        "max_records = 64",
        "max_records = true",
        "true",
        "whole number",
    ),
    ("hub.toml", "each = [\n", "each = [ 5,\n", "5", "{ … }"),
    // Numbers that cannot be.
    (
        "hub.toml",
        "unit_id = 1",
        "unit_id = 300",
        "300",
        "from 0 to 255",
    ),
    (
        "hub.toml",
        "max_registers = 125",
        "max_registers = 126",
        "126",
        "from 1 to 125",
    ),
    (
        "hub.toml",
        "period_ms = 100",
        "period_ms = -1",
        "-1",
        "from 0 to",
    ),
    (
        "hub.toml",
        "max_records = 64",
        "max_records = 0",
        "0",
        "from 1 to 65536",
    ),
    (
        "hub.toml",
        "holding_register = 10",
        "holding_register = 70000",
        "70000",
        "from 0 to 65535",
    ),
    (
        "hub.toml",
        "holding_register = 10",
        "holding_register = 400011",
        "400011",
        "`holding_register = 10`",
    ),
    (
        "hub.toml",
        "input_register = 20",
        "input_register = 30021",
        "30021",
        "`input_register = 20`",
    ),
    (
        "hub.toml",
        "bit = 2",
        "bit = 16",
        "{ holding_register = 30",
        "0 to 15",
    ),
    (
        "hub.toml",
        "sigmas = 3.0",
        "sigmas = -3.0",
        "-3.0",
        "correct `sigmas`",
    ),
    (
        "hub.toml",
        "lambda = 0.2",
        "lambda = 1.5",
        "1.5",
        "correct `lambda`",
    ),
    (
        "hub.toml",
        "range = [0.0, 120.0]",
        "range = [120.0, 0.0]",
        "[120.0",
        "below its high end",
    ),
    (
        "hub.toml",
        "input_register = 20, type = \"u32\"",
        "input_register = 65535, type = \"u32\"",
        "{ input_register",
        "past the last",
    ),
    // Values that are none.
    (
        "hub.toml",
        "on_range = \"refuse\"",
        "on_range = \"reject\"",
        "\"reject\"",
        "`refuse`",
    ),
    (
        "hub.toml",
        "limits = \"envelope\"",
        "limits = \"envelop\"",
        "\"envelop\"",
        "did you mean \"envelope\"?",
    ),
    (
        "hub.toml",
        "\"individuals\"",
        "\"individual\"",
        "\"individual\"",
        "did you mean \"individuals\"?",
    ),
    (
        "hub.toml",
        "type = \"f32\"",
        "type = \"float\"",
        "\"float\"",
        "`f32`",
    ),
    (
        "hub.toml",
        "word_order = \"little\"",
        "word_order = \"low\"",
        "\"low\"",
        "`little`",
    ),
    (
        "hub.toml",
        "security_policy = \"none\"",
        "security_policy = \"basic256\"",
        "\"basic256\"",
        "`basic256sha256`",
    ),
    (
        "hub.toml",
        "report = \"changes\"",
        "report = \"change\"",
        "\"change\"",
        "did you mean \"changes\"?",
    ),
    (
        "hub.toml",
        "192.0.2.7:502",
        "192.0.2.7",
        "\"192.0.2.7\"",
        "host:port",
    ),
    (
        "hub.toml",
        "opc.tcp://192.0.2.8:4840",
        "http://192.0.2.8:4840",
        "\"http:",
        "opc.tcp://HOST:PORT",
    ),
    (
        "hub.toml",
        "ns=2;s=Robot1.Axis1",
        "Robot1.Axis1",
        "\"Robot1",
        "node = \"ns=",
    ),
    (
        "hub.toml",
        "id = \"plc-1\"",
        "id = \"PLC 1\"",
        "\"PLC 1\"",
        "lower-case",
    ),
    (
        "hub.toml",
        "bind = \"127.0.0.1:8080\"",
        "bind = \"localhost:8080\"",
        "\"localhost",
        "IP:port",
    ),
    (
        "hub.toml",
        "bind = \"127.0.0.1:8080\"",
        "bind = \"0.0.0.0:8080\"",
        "\"0.0.0.0",
        "bind = \"127.0.0.1:8080\"",
    ),
    // Things that do not fit each other.
    (
        "hub.toml",
        "id = \"robot-1\"",
        "id = \"plc-1\"",
        "\"plc-1\"",
        "another name",
    ),
    (
        "hub.toml",
        "id = \"arm-2\"",
        "id = \"arm-1\"",
        "\"arm-1\"",
        "another name",
    ),
    (
        "hub.toml",
        "name = \"pressure\"",
        "name = \"temperature\"",
        "\"temperature\"",
        "another name",
    ),
    (
        "hub.toml",
        "\"127.0.0.1:4840\"",
        "\"127.0.0.1:8080\"",
        "\"127.0.0.1:8080\"",
        "port 4840",
    ),
    (
        "hub.toml",
        "opcua = { node = \"ns=2;s=Robot1.Axis1\", type = \"f64\" }",
        "modbus = { coil = 1 }",
        "modbus",
        "`opcua = {",
    ),
    (
        "hub.toml",
        "modbus = { input_register = 20, type = \"u32\" }\n",
        "",
        "[[device.tag]]",
        "`modbus = {",
    ),
    (
        "hub.toml",
        "input_register = 20, type = \"u32\"",
        "holding_register = 11, type = \"u32\"",
        "{ holding_register = 11",
        "next free address after `temperature` is 12",
    ),
    (
        "hub.toml",
        "[device.opcua]\nurl = \"opc.tcp://192.0.2.8:4840\"\nsecurity_policy = \"none\"\nreport = \"changes\"\n",
        "",
        "[[device]]",
        "exactly one",
    ),
    (
        "hub.toml",
        "address = \"192.0.2.7:502\"\n",
        "",
        "[device.modbus]",
        "address",
    ),
    // Not TOML.
    (
        "hub.toml",
        "id = \"hub-1\"",
        "id = \"hub-1",
        "$",
        "a line is",
    ),
    (
        "hub.toml",
        "max_records = 64",
        "max_records 64",
        "64",
        "a line is",
    ),
    (
        "hub.toml",
        "range = [0.0, 120.0]",
        "range = [0.0, 120.0",
        "[0.0",
        "close it",
    ),
    (
        "hub.toml",
        "bit = 2 }",
        "bit = 2",
        "{ holding_register = 30",
        "close it",
    ),
    (
        "hub.toml",
        "sigmas = 3.0",
        "sigmas = three",
        "three",
        "a line is",
    ),
    (
        "hub.toml",
        "unit_id = 1\n",
        "unit_id = 1\nunit_id = 2\n",
        "unit_id = 2",
        "twice",
    ),
    // The use of profiles.
    (
        "hub.toml",
        "profile = \"press\"",
        "profile = \"prees\"",
        "\"prees\"",
        "did you mean \"press\"?",
    ),
    (
        "hub.toml",
        "profile = \"universal-robots\"",
        "profile = \"universal-robot\"",
        "\"universal-robot\"",
        "\"universal-robots\"",
    ),
    (
        "hub.toml",
        "base = 100",
        "bsae = 100",
        "bsae",
        "did you mean `base`?",
    ),
    (
        "hub.toml",
        "base = 100",
        "base = \"100\"",
        "\"100\"",
        "base = ",
    ),
    (
        "hub.toml",
        "base = 100",
        "base = 99999",
        "99999",
        "0 to 60000",
    ),
    (
        "hub.toml",
        "address = \"192.0.2.9:502\", ",
        "",
        "\"press\"",
        "add `address = ",
    ),
    (
        "hub.toml",
        "192.0.2.9:502",
        "192.0.2.9",
        "\"192.0.2.9\"",
        "host:port",
    ),
    (
        "hub.toml",
        ", address = \"192.0.2.12\"",
        "",
        "\"universal-robots\"",
        "add `address = ",
    ),
    (
        "hub.toml",
        "address = \"192.0.2.12\"",
        "adress = \"192.0.2.12\"",
        "adress",
        "did you mean `address`?",
    ),
    (
        "hub.toml",
        "remove = [\"spare\"]",
        "remove = [\"spear\"]",
        "\"spear\"",
        "`spare`",
    ),
    (
        "hub.toml",
        "profile = \"press\"\n",
        "",
        "with",
        "add `profile = ",
    ),
    (
        "hub.toml",
        "each = [",
        "eahc = [",
        "eahc",
        "did you mean `each`?",
    ),
    // Profiles.
    (
        "press.toml",
        "id = \"press\"",
        "id = \"pres\"",
        "\"pres\"",
        "write `id = \"press\"`",
    ),
    (
        "press.toml",
        "source = \"its manual\"\n",
        "",
        "[profile]",
        "add `source",
    ),
    (
        "press.toml",
        "extends = \"machine\"",
        "extends = \"machin\"",
        "\"machin\"",
        "did you mean \"machine\"?",
    ),
    (
        "press.toml",
        "extends = \"machine\"",
        "extends = \"press\"",
        "\"press\"",
        "does not descend",
    ),
    ("press.toml", "default = 0, ", "", "{ range", "`default`"),
    (
        "press.toml",
        "default = 0, range = [0, 60000]",
        "default = 70000, range = [0, 60000]",
        "70000",
        "`default`",
    ),
    (
        "press.toml",
        "default = 0,",
        "defualt = 0,",
        "defualt",
        "did you mean `default`?",
    ),
    (
        "press.toml",
        "{base + 4}",
        "{bsae + 4}",
        "bsae",
        "did you mean `base`?",
    ),
    (
        "press.toml",
        "{base + 4}",
        "{base + 4",
        "\"{base + 4",
        "write it twice",
    ),
    (
        "press.toml",
        "{base + 4}",
        "{base +}",
        "base +",
        "expression is like",
    ),
    (
        "press.toml",
        "\"{base + 4}\"",
        "\"{unit}\"",
        "\"{unit}\"",
        "write `holding_register = ",
    ),
    (
        "press.toml",
        "[[tag]]\nname = \"force\"",
        "[tag]\nname = \"force\"",
        "[tag]",
        "`[[tag]]`",
    ),
    (
        "press.toml",
        "[[group]]\nfor = { zone = \"1..3\" }\n",
        "[[group]]\n",
        "[[group]]",
        "write `for = ",
    ),
    (
        "press.toml",
        "zone = \"1..3\"",
        "zone = \"1-3\"",
        "\"1-3\"",
        "\"1..6\"",
    ),
    (
        "press.toml",
        "zone = \"1..3\"",
        "zone = \"1..zones\"",
        "zones",
        "parameters known here",
    ),
    (
        "press.toml",
        "[[group.tag]]",
        "[[group.tags]]",
        "tags",
        "did you mean `tag`?",
    ),
    (
        "press.toml",
        "name = \"zone_{zone}\"",
        "name = \"zone\"",
        "\"zone\"",
        "another name",
    ),
    (
        "press.toml",
        "range = [0.0, 900.0]",
        "range = [900.0, 0.0]",
        "[900.0",
        "below its high end",
    ),
    (
        "press.toml",
        "holding_register = \"{base + 10",
        "holding_rgister = \"{base + 10",
        "holding_rgister",
        "did you mean `holding_register`?",
    ),
    (
        "press.toml",
        "phase1_samples = 500",
        "phase1_sample = 500",
        "phase1_sample ",
        "did you mean `phase1_samples`?",
    ),
    (
        "press.toml",
        "[validation]",
        "[validations]",
        "validations",
        "did you mean `validation`?",
    ),
    (
        "press.toml",
        "[[tag]]\nname = \"force\"",
        "[[tag]\nname = \"force\"",
        "\nname",
        "a line is",
    ),
    (
        "press.toml",
        "type = \"f32\" }\n\n[[group]]",
        "type = \"real\" }\n\n[[group]]",
        "\"real\"",
        "`f32`",
    ),
];

/// Whether the mistake is answered at its line and column, with a caret, and with what to do.
fn is_answered(
    found: &[Diagnostic],
    file: &str,
    (line, column): (usize, usize),
    fix: &str,
) -> bool {
    found.iter().any(|d| {
        let here = d.position() == Some((line, column)) && Path::new(&d.file).ends_with(file);
        let text = d.render(false);
        here && text.contains('^') && text.contains("help: ") && text.contains(fix)
    })
}

#[test]
fn a_hundred_mistakes_are_answered_where_they_are() {
    let mut random = Random::from_env();
    let dir = tempfile::tempdir().unwrap();
    let profiles = dir.path().join("plugins/profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    let files = [
        ("hub.toml", dir.path().join("hub.toml"), HUB),
        ("press.toml", profiles.join("press.toml"), PRESS),
        ("machine.toml", profiles.join("machine.toml"), MACHINE),
    ];
    let hub = &files[0].1;
    let write = || {
        files
            .iter()
            .for_each(|(_, path, text)| std::fs::write(path, text).unwrap())
    };
    write();
    let right = config::load(hub).unwrap_or_else(|found| {
        panic!(
            "{}",
            found.iter().map(ToString::to_string).collect::<String>()
        )
    });
    assert_eq!(right.warnings, vec![]);
    assert_eq!(right.config.devices.len(), 5);

    // Every kind once, as far as they go, in an order that the seed chooses.
    let mut kinds: Vec<&Kind> = KINDS.iter().collect();
    for i in (1..kinds.len()).rev() {
        kinds.swap(i, random.below(i as u64 + 1) as usize);
    }
    let mut missed = Vec::new();
    let mut answered = 0;
    for at in 0..MISTAKES {
        let (file, from, to, caret, fix) = *kinds[at % kinds.len()];
        write();
        let (_, path, text) = files.iter().find(|(name, ..)| *name == file).unwrap();
        let start = text
            .find(from)
            .unwrap_or_else(|| panic!("{from:?} is not in {file}"));
        // What stands before it differs from run to run.
        let comments = "# a comment °\n".repeat(random.below(4) as usize);
        let before = format!("{comments}{}", &text[..start]);
        let made = format!("{before}{to}{}", &text[start + from.len()..]);
        let place = match to.find(caret) {
            _ if caret == "$" => before.len() + to.len(),
            Some(found) => before.len() + found,
            // It stands before what was taken out, or is the next of its kind.
            None => {
                let end = before.len() + to.len();
                let near = made[..end].rfind(caret);
                near.unwrap_or_else(|| made.find(caret).unwrap())
            }
        };
        let line = made[..place].matches('\n').count() + 1;
        let begin = made[..place].rfind('\n').map_or(0, |at| at + 1);
        let column = made[begin..place].chars().count() + 1;
        std::fs::write(path, &made).unwrap();
        let found = match config::load(hub) {
            Ok(loaded) => loaded.warnings,
            Err(found) => found,
        };
        if is_answered(&found, file, (line, column), fix) {
            answered += 1;
        } else {
            let said: String = found.iter().map(ToString::to_string).collect();
            missed.push(format!(
                "{from:?} -> {to:?}: expected {file}:{line}:{column} and {fix:?}, got\n{said}"
            ));
        }
    }
    eprintln!("{answered} of {MISTAKES} mistakes answered");
    assert!(
        answered >= ANSWERED,
        "{answered} of {MISTAKES}\n{}",
        missed.join("\n")
    );
    if !missed.is_empty() {
        eprintln!("missed:\n{}", missed.join("\n"));
    }
}
