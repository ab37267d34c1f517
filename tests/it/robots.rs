//! A robot on the shop floor, shown by one hub as OPC UA for Robotics, and read by another with the profile
//! for any such robot, which knows the standard's names and none of the server's.

use crate::modbus_device::{COILS, Frames, HOLDING, Memory, listen};
use crate::support::{Plant, run, stderr};
use serde_json::Value as Json;
use std::collections::BTreeMap;

const AXES: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_robot_is_read_by_the_names_of_the_standard() {
    let memory = Memory::shared();
    {
        let mut memory = memory.lock();
        let cells = &mut memory.cells;
        cells.extend((0..AXES as u16).map(|axis| ((HOLDING, axis), 100 + axis)));
        cells.extend((0..AXES as u16).map(|axis| ((HOLDING, 20 + axis), 40 + axis)));
        cells.extend([((HOLDING, 40), 85), ((HOLDING, 41), 3)]);
        cells.extend([((COILS, 0), 0), ((COILS, 1), 1)]);
    }
    let address = listen(memory.clone(), Frames::Mbap).await;
    let read = tokio::task::spawn_blocking(move || {
        let plant = Plant::without_machines();
        let mut config = format!(
            "[hub]\nid = \"hub-1\"\n\n[http]\nbind = \"127.0.0.1:0\"\n\n[opcua_server]\nbind = \"127.0.0.1:0\"\n\n\
             [[device]]\nid = \"robot-1\"\nmodbus = {{ address = \"{address}\", period_ms = 20 }}\n\
             machinery = {{ kind = \"robot\" }}\n"
        );
        let mut tag = |name: &str, place: &str, role: &str| {
            config += &format!(
                "\n[[device.tag]]\nname = \"{name}\"\nmodbus = {{ {place} }}\nrole = \"robotics:{role}\"\n\
                 validation = {{ charts = [] }}\n"
            );
        };
        for axis in 1..=AXES {
            let at = format!("holding_register = {}, type = \"i16\"", axis - 1);
            tag(
                &format!("q{axis}"),
                &at,
                &format!("axis/{axis}/ActualPosition"),
            );
            let at = format!("holding_register = {}, type = \"i16\"", axis + 19);
            tag(
                &format!("t{axis}"),
                &at,
                &format!("motor/{axis}/MotorTemperature"),
            );
        }
        tag("speed", "holding_register = 40", "motion/SpeedOverride");
        tag("mode", "holding_register = 41", "safety/OperationalMode");
        tag("stop", "coil = 0", "safety/EmergencyStop");
        tag("loaded", "coil = 1", "task/TaskProgramLoaded");
        std::fs::write(plant.path("hub.toml"), config).unwrap();
        let mut hub = plant.run_hub();
        hub.next_block();
        let url = hub.up["opcua_url"].as_str().unwrap();
        // What this hub was told nothing of is left out, and so is what only v1.02 has.
        let reader = format!(
            "[hub]\nid = \"hub-2\"\n\n[[device]]\nid = \"r\"\nprofile = \"opcua-robotics\"\nurl = \"{url}\"\n\
             axes = {AXES}\nremove = [\"flange_load\", \"protective_stop\", \"program_name\"]\n"
        );
        let file = plant.path("reader.toml");
        std::fs::write(&file, reader).unwrap();
        let file = file.to_str().unwrap();
        let read = run(&["read", "r", "--direct", "--config", file, "--json"]);
        // One value is bad, and that is said.
        assert_eq!(read.status.code(), Some(1), "{}", stderr(&read));
        serde_json::from_slice::<Json>(&read.stdout).unwrap()
    });
    let read = read.await.unwrap();
    let tags = read["tags"].as_array().unwrap().iter();
    let values: BTreeMap<_, _> = tags
        .map(|tag| (tag["tag"].as_str().unwrap(), &tag["sample"]))
        .collect();
    for axis in 1..=AXES {
        let (position, motor) = (
            format!("axis_{axis}_position"),
            format!("motor_{axis}_temperature"),
        );
        assert_eq!(values[&*position]["value"], (99 + axis) as f64, "{read}");
        assert_eq!(values[&*motor]["value"], (39 + axis) as f64, "{read}");
    }
    assert_eq!(values["speed_override"]["value"], 85.0);
    assert_eq!(values["operational_mode"]["value"], 3);
    assert_eq!(values["emergency_stop"]["value"], false);
    assert_eq!(values["program_loaded"]["value"], true);
    assert_eq!(
        values["program_state"]["quality"], "Bad",
        "v1.00 has no such thing"
    );
}
