//! Engineering units as OPC UA names them: the common codes of UN/ECE Recommendation No. 20
//! (OPC 10000-8 §5.6.4).

use opcua::types::{EUInformation, LocalizedText};

const NAMESPACE: &str = "http://www.opcfoundation.org/UA/units/un/cefact";

/// How people write it, its code, its name.
const UNITS: [(&str, &str, &str); 66] = [
    ("°C", "CEL", "degree Celsius"),
    ("K", "KEL", "kelvin"),
    ("°F", "FAH", "degree Fahrenheit"),
    ("bar", "BAR", "bar"),
    ("mbar", "MBR", "millibar"),
    ("Pa", "PAL", "pascal"),
    ("hPa", "A97", "hectopascal"),
    ("kPa", "KPA", "kilopascal"),
    ("MPa", "MPA", "megapascal"),
    ("A", "AMP", "ampere"),
    ("mA", "4K", "milliampere"),
    ("V", "VLT", "volt"),
    ("mV", "2Z", "millivolt"),
    ("kV", "KVT", "kilovolt"),
    ("W", "WTT", "watt"),
    ("kW", "KWT", "kilowatt"),
    ("MW", "MAW", "megawatt"),
    ("Wh", "WHR", "watt hour"),
    ("kWh", "KWH", "kilowatt hour"),
    ("VA", "D46", "volt - ampere"),
    ("Ω", "OHM", "ohm"),
    ("Hz", "HTZ", "hertz"),
    ("kHz", "KHZ", "kilohertz"),
    ("rpm", "RPM", "revolutions per minute"),
    ("1/min", "RPM", "revolutions per minute"),
    ("mm", "MMT", "millimetre"),
    ("cm", "CMT", "centimetre"),
    ("m", "MTR", "metre"),
    ("µm", "4H", "micrometre (micron)"),
    ("km", "KMT", "kilometre"),
    ("rad", "C81", "radian"),
    ("°", "DD", "degree [unit of angle]"),
    ("deg", "DD", "degree [unit of angle]"),
    ("rad/s", "2A", "radian per second"),
    ("m/s", "MTS", "metre per second"),
    ("mm/s", "C16", "millimetre per second"),
    ("m/min", "2X", "metre per minute"),
    ("km/h", "KMH", "kilometre per hour"),
    ("m/s²", "MSK", "metre per second squared"),
    ("%", "P1", "percent or proportion"),
    ("ppm", "59", "part per million"),
    ("l", "LTR", "litre"),
    ("L", "LTR", "litre"),
    ("ml", "MLT", "millilitre"),
    ("m³", "MTQ", "cubic metre"),
    ("l/min", "L2", "litre per minute"),
    ("L/min", "L2", "litre per minute"),
    ("l/h", "E32", "litre per hour"),
    ("m³/h", "MQH", "cubic metre per hour"),
    ("m³/s", "MQS", "cubic metre per second"),
    ("Nm", "NU", "newton metre"),
    ("N·m", "NU", "newton metre"),
    ("N", "NEW", "newton"),
    ("kN", "B47", "kilonewton"),
    ("J", "JOU", "joule"),
    ("g", "GRM", "gram"),
    ("kg", "KGM", "kilogram"),
    ("t", "TNE", "tonne (metric ton)"),
    ("kg/h", "E93", "kilogram per hour"),
    ("kg/s", "KGS", "kilogram per second"),
    ("s", "SEC", "second [unit of time]"),
    ("ms", "C26", "millisecond"),
    ("µs", "B98", "microsecond"),
    ("min", "MIN", "minute [unit of time]"),
    ("h", "HUR", "hour"),
    ("dB", "2N", "decibel"),
];

/// The EUInformation of a unit; one without a code keeps its name and has id -1, as the standard
/// asks for units from elsewhere.
pub(super) fn engineering_units(unit: &str) -> EUInformation {
    match UNITS.iter().find(|(written, ..)| *written == unit) {
        Some((written, code, name)) => EUInformation {
            namespace_uri: NAMESPACE.into(),
            unit_id: unit_id(code),
            display_name: LocalizedText::from(*written),
            description: LocalizedText::new("en", name),
        },
        None => EUInformation {
            namespace_uri: Default::default(),
            unit_id: -1,
            display_name: LocalizedText::from(unit),
            description: LocalizedText::null(),
        },
    }
}

/// The code's characters as the digits of a number to the base 256.
fn unit_id(code: &str) -> i32 {
    code.bytes().fold(0, |id, byte| (id << 8) | i32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_the_ids_the_foundation_publishes() {
        // From the table UNECE_to_OPCUA.csv: CEL, BAR, P1, 4H.
        let id = |unit| engineering_units(unit).unit_id;
        assert_eq!(id("°C"), 4_408_652);
        assert_eq!(id("bar"), 4_342_098);
        assert_eq!(id("%"), 20_529);
        assert_eq!(id("µm"), 13_384);
        assert_eq!(id("furlong"), -1);
        assert_eq!(
            engineering_units("furlong").display_name.text.as_ref(),
            "furlong"
        );
    }

    #[test]
    fn every_way_of_writing_is_there_once() {
        for (i, (written, code, _)) in UNITS.iter().enumerate() {
            assert!(UNITS[..i].iter().all(|(other, ..)| other != written));
            assert!((2..=3).contains(&code.len()), "{code}");
        }
    }
}
