//! Who a device says it is: Read Device Identification, function 43/14 (Modbus Application Protocol
//! V1.1b3, 6.21).

use super::bus::Bus;
use super::link::Station;
use crate::model::Nameplate;
use crate::protocols::source::SourceError;
use std::fmt;
use tokio_modbus::prelude::ReadCode;

/// Most requests for one identification: a device may give its objects in several answers.
const MAX_ANSWERS: usize = 8;

/// What a device says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identification {
    /// Object number and text, in the order of the device.
    pub objects: Vec<(u8, String)>,
}

impl Identification {
    /// The text of object `number`.
    pub fn object(&self, number: u8) -> Option<&str> {
        let found = self.objects.iter().find(|(id, _)| *id == number);
        found.map(|(_, text)| text.as_str())
    }

    /// It in the words of any protocol. The name for people counts before the code for the order.
    pub fn nameplate(&self) -> Nameplate {
        let text = |number| self.object(number).unwrap_or_default().to_owned();
        let (code, name, model) = (text(1), text(4), text(5));
        let (product, model) = match (name.is_empty(), model.is_empty()) {
            (true, _) => (code, model),
            (false, true) => (name, code),
            (false, false) => (name, model),
        };
        Nameplate {
            manufacturer: text(0),
            product,
            model,
            version: text(2),
        }
    }

    /// What the standard calls object `number`.
    pub fn name(number: u8) -> &'static str {
        match number {
            0 => "vendor",
            1 => "product code",
            2 => "revision",
            3 => "vendor URL",
            4 => "product name",
            5 => "model",
            6 => "application",
            _ => "private",
        }
    }
}

/// Vendor, product and revision.
impl fmt::Display for Identification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = [0, 1, 2].into_iter().filter_map(|n| self.object(n));
        let known: Vec<&str> = known.filter(|text| !text.is_empty()).collect();
        f.write_str(&known.join(" "))
    }
}

/// Asks a device who it is; `None` when it does not say.
pub(super) async fn identify(
    bus: &Bus,
    station: &Station,
) -> Result<Option<Identification>, SourceError> {
    for code in [ReadCode::Regular, ReadCode::Basic] {
        let objects = objects(bus, station, code).await?;
        if !objects.is_empty() {
            return Ok(Some(Identification { objects }));
        }
    }
    Ok(None)
}

async fn objects(
    bus: &Bus,
    station: &Station,
    code: ReadCode,
) -> Result<Vec<(u8, String)>, SourceError> {
    let mut objects: Vec<(u8, String)> = Vec::new();
    let mut next = 0;
    for _ in 0..MAX_ANSWERS {
        let Ok(answer) = bus.identify(station, code, next).await? else {
            break;
        };
        for object in answer.device_id_objects {
            // From outside: what a terminal would take for a command is left out.
            let text = String::from_utf8_lossy(&object.value);
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            objects.push((object.id, text.trim().to_owned()));
        }
        if !answer.more_follows || answer.next_object_id <= next {
            break;
        }
        next = answer.next_object_id;
    }
    Ok(objects)
}
