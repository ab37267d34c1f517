//! How a Modbus device is reached and asked: the `modbus = { … }` of a `[[device]]`.

use super::limits::{Limits, NoRead};
use super::point::{ModbusPoint, Table};
use super::transport::{
    Baud, Endpoint, Framing, Parity, TlsSide, Transport, TransportError, TransportText,
};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// Most registers that one request may read (Modbus Application Protocol V1.1b3, 6.3 and 6.4).
pub const MAX_REGISTERS: u32 = 125;
/// Most coils or discrete inputs that one request may read (6.1 and 6.2).
pub const MAX_COILS: u32 = 2000;
/// Most registers that one request may write (6.12).
pub const MAX_WRITE_REGISTERS: u32 = 123;
/// Most coils that one request may write (6.11).
pub const MAX_WRITE_COILS: u32 = 1968;

/// How a Modbus device is reached and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ConfigText", into = "ConfigText")]
pub struct ModbusConfig {
    /// What carries the requests.
    pub transport: Transport,
    /// Whether devices with the same transport take turns on one connection, for gateways that allow
    /// only one. Devices on a serial line always do.
    pub share_connection: bool,
    /// Unit id: 1 unless several devices are behind the same address.
    pub unit_id: u8,
    /// Milliseconds from one poll to the next; 0 polls as fast as the device answers.
    pub period_ms: Bounded<0, 86_400_000>,
    /// Milliseconds to wait for a connection, and for each answer.
    pub timeout_ms: Bounded<1, 600_000>,
    /// Milliseconds of silence before each request, for devices that need them.
    pub delay_ms: Bounded<0, 60_000>,
    /// Most registers in one request; some devices allow fewer than the standard's 125.
    pub max_registers: Bounded<1, MAX_REGISTERS>,
    /// Most coils or discrete inputs in one request.
    pub max_coils: Bounded<1, MAX_COILS>,
    /// How many registers, coils or inputs that no tag asks for may be read between two tags to save
    /// a request. 0, the default, never reads what nobody asked for: some registers do something
    /// when they are read.
    pub max_gap: Bounded<0, MAX_COILS>,
    /// What must not be read whatever `max_gap` says.
    pub no_read: NoRead,
    /// Most registers in one writing request; 1 for devices that take them one by one.
    pub max_write_registers: Bounded<1, MAX_WRITE_REGISTERS>,
    /// Most coils in one writing request.
    pub max_write_coils: Bounded<1, MAX_WRITE_COILS>,
    /// How one bit of a register is written.
    pub bit_write: BitWrite,
    /// Whether registers are written and read back in one request (function 23).
    pub read_write: bool,
    /// Whether the device is asked who it is (function 43/14), once after connecting.
    pub identify: bool,
}

/// How one bit of a register is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BitWrite {
    /// With Mask Write Register (function 22): the device changes the bit alone.
    #[default]
    Mask,
    /// The register is read and written as a whole, for devices without function 22. What somebody
    /// else changes in it meanwhile is lost.
    Rewrite,
}

impl ModbusConfig {
    /// A Modbus TCP device at `address` with every other key at its default.
    pub fn new(address: Endpoint) -> Self {
        Self::over(Transport::Tcp(address))
    }

    /// A device that `transport` leads to, with every other key at its default.
    pub fn over(transport: Transport) -> Self {
        Self::with(transport, ConfigText::default())
    }

    /// What the file says of everything but the way there, which `transport` is.
    fn with(transport: Transport, text: ConfigText) -> Self {
        Self {
            transport,
            share_connection: text.share_connection,
            unit_id: text.unit_id,
            period_ms: text.period_ms,
            timeout_ms: text.timeout_ms,
            delay_ms: text.delay_ms,
            max_registers: text.max_registers,
            max_coils: text.max_coils,
            max_gap: text.max_gap,
            no_read: text.no_read,
            max_write_registers: text.max_write_registers,
            max_write_coils: text.max_write_coils,
            bit_write: text.bit_write,
            read_write: text.read_write,
            identify: text.identify,
        }
    }

    /// Relative paths start at `base` from now on.
    pub fn resolve(&mut self, base: &Path) {
        self.transport.resolve(base);
    }

    /// Whether it is on a serial line.
    pub fn is_serial(&self) -> bool {
        matches!(self.transport, Transport::Serial(_))
    }

    /// Whether other devices may use the same connection.
    pub fn is_shared(&self) -> bool {
        self.share_connection || self.is_serial()
    }

    /// Why the two cannot both be read, when they cannot: one serial port has one setting.
    pub fn conflict(&self, other: &Self) -> Option<String> {
        match (&self.transport, &other.transport) {
            (Transport::Serial(a), Transport::Serial(b)) if a.port == b.port && a != b => {
                Some(format!(
                    "the port {} cannot have two settings at a time: `baud`, `parity` and `stop_bits` \
                     of all its devices must be the same",
                    a.port
                ))
            }
            _ => None,
        }
    }

    /// Why a tag at `point` could never be read, or written where it is `writable`.
    pub fn fault(&self, point: &ModbusPoint, writable: bool) -> Option<String> {
        let limits = self.limits();
        let (table, width) = (point.table, u32::from(point.width()));
        if width > limits.cells(table) {
            return Some(format!(
                "it takes {width} {table}s, but one request may read {}; raise `max_registers` or \
                 shorten the tag",
                limits.cells(table)
            ));
        }
        for one in point.expanded() {
            let first = u32::from(one.address);
            if limits.no_read.touches(table, first, first + width) {
                return Some(format!(
                    "`no_read` excludes {table} {first}, so it would never have a value"
                ));
            }
        }
        if writable && matches!(table, Table::DiscreteInput | Table::InputRegister) {
            return Some(format!("a {table} can only be read: take `writable` away"));
        }
        let most = self.max_write_registers.get();
        (writable && !table.is_bits() && width > most).then(|| {
            format!(
                "it takes {width} registers, but one request may write {most}: take `writable` away or \
                 raise `max_write_registers`"
            )
        })
    }

    /// How long to wait for a connection or an answer.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.get().into())
    }

    /// What one reading request may span.
    pub(super) fn limits(&self) -> Limits<'_> {
        Limits {
            registers: self.max_registers.get(),
            coils: self.max_coils.get(),
            gap: self.max_gap.get(),
            no_read: &self.no_read,
        }
    }
}

/// A device as it is written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConfigText {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    framing: Option<Framing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsSide>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baud: Option<Baud>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parity: Option<Parity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_bits: Option<Bounded<1, 2>>,
    share_connection: bool,
    unit_id: u8,
    period_ms: Bounded<0, 86_400_000>,
    timeout_ms: Bounded<1, 600_000>,
    delay_ms: Bounded<0, 60_000>,
    max_registers: Bounded<1, MAX_REGISTERS>,
    max_coils: Bounded<1, MAX_COILS>,
    max_gap: Bounded<0, MAX_COILS>,
    no_read: NoRead,
    max_write_registers: Bounded<1, MAX_WRITE_REGISTERS>,
    max_write_coils: Bounded<1, MAX_WRITE_COILS>,
    bit_write: BitWrite,
    read_write: bool,
    identify: bool,
}

impl Default for ConfigText {
    fn default() -> Self {
        Self {
            address: None,
            framing: None,
            tls: None,
            serial: None,
            baud: None,
            parity: None,
            stop_bits: None,
            share_connection: false,
            unit_id: 1,
            period_ms: Bounded(1000),
            timeout_ms: Bounded(1000),
            delay_ms: Bounded(0),
            max_registers: Bounded(MAX_REGISTERS),
            max_coils: Bounded(MAX_COILS),
            max_gap: Bounded(0),
            no_read: NoRead::default(),
            max_write_registers: Bounded(MAX_WRITE_REGISTERS),
            max_write_coils: Bounded(MAX_WRITE_COILS),
            bit_write: BitWrite::default(),
            read_write: false,
            identify: false,
        }
    }
}

impl TryFrom<ConfigText> for ModbusConfig {
    type Error = TransportError;

    fn try_from(mut text: ConfigText) -> Result<Self, TransportError> {
        let transport = Transport::try_from(TransportText {
            address: text.address.take(),
            framing: text.framing.take(),
            tls: text.tls.take(),
            serial: text.serial.take(),
            baud: text.baud.take(),
            parity: text.parity.take(),
            stop_bits: text.stop_bits.take(),
        })?;
        if matches!(transport, Transport::Serial(_)) && !(1..=247).contains(&text.unit_id) {
            return Err(TransportError::Unit(text.unit_id));
        }
        Ok(Self::with(transport, text))
    }
}

impl From<ModbusConfig> for ConfigText {
    fn from(config: ModbusConfig) -> Self {
        let transport = TransportText::from(config.transport);
        Self {
            address: transport.address,
            framing: transport.framing,
            tls: transport.tls,
            serial: transport.serial,
            baud: transport.baud,
            parity: transport.parity,
            stop_bits: transport.stop_bits,
            share_connection: config.share_connection,
            unit_id: config.unit_id,
            period_ms: config.period_ms,
            timeout_ms: config.timeout_ms,
            delay_ms: config.delay_ms,
            max_registers: config.max_registers,
            max_coils: config.max_coils,
            max_gap: config.max_gap,
            no_read: config.no_read,
            max_write_registers: config.max_write_registers,
            max_write_coils: config.max_write_coils,
            bit_write: config.bit_write,
            read_write: config.read_write,
            identify: config.identify,
        }
    }
}

/// A whole number from `LOW` to `HIGH`; anything else is refused when the file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub struct Bounded<const LOW: u32, const HIGH: u32>(u32);

impl<const LOW: u32, const HIGH: u32> Bounded<LOW, HIGH> {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<const HIGH: u32> Default for Bounded<0, HIGH> {
    fn default() -> Self {
        Self(0)
    }
}

impl<const LOW: u32, const HIGH: u32> From<Bounded<LOW, HIGH>> for u32 {
    fn from(number: Bounded<LOW, HIGH>) -> Self {
        number.0
    }
}

impl<const LOW: u32, const HIGH: u32> TryFrom<i64> for Bounded<LOW, HIGH> {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        match u32::try_from(number) {
            Ok(n) if (LOW..=HIGH).contains(&n) => Ok(Self(n)),
            _ => Err(format!("{number} is not between {LOW} and {HIGH}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ModbusConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn an_address_is_enough_and_the_rest_has_defaults() {
        let config = read("address = '127.0.0.1:502'").unwrap();
        let address = Endpoint::try_from("127.0.0.1:502".to_string()).unwrap();
        assert_eq!(config, ModbusConfig::new(address));
    }

    #[test]
    fn every_transport_is_read_and_written_back() {
        let tls = "tls = { ca = 'ca.pem', certificate = 'c.pem', key = 'k.pem' }";
        for (text, name, shared) in [
            ("address = 'plc:502'", "Modbus TCP", false),
            (
                "address = 'plc:502'\nshare_connection = true",
                "Modbus TCP",
                true,
            ),
            (
                "address = 'plc:4001'\nframing = 'rtu'",
                "Modbus RTU over TCP",
                false,
            ),
            (
                &format!("address = 'plc:802'\n{tls}"),
                "Modbus TCP, TLS",
                false,
            ),
            ("serial = '/dev/ttyUSB0'", "Modbus RTU", true),
            (
                "serial = 'COM3'\nbaud = 9600\nparity = 'none'\nstop_bits = 1",
                "Modbus RTU",
                true,
            ),
        ] {
            let config = read(text).unwrap();
            assert_eq!(config.transport.name(), name, "{text}");
            assert_eq!(config.is_shared(), shared, "{text}");
            let again = read(&toml::to_string(&config).unwrap()).unwrap();
            assert_eq!(again, config, "{text}");
        }
    }

    #[test]
    fn a_serial_port_has_one_setting() {
        let nine = read("serial = 'COM3'\nbaud = 9600").unwrap();
        let other = read("serial = 'COM3'\nbaud = 9600\nunit_id = 2").unwrap();
        assert_eq!(nine.conflict(&other), None);
        let fast = read("serial = 'COM3'\nunit_id = 3").unwrap();
        assert!(nine.conflict(&fast).unwrap().contains("COM3"));
        let elsewhere = read("serial = 'COM4'").unwrap();
        assert_eq!(nine.conflict(&elsewhere), None);
    }

    #[test]
    fn wrong_values_are_refused_with_what_would_be_right() {
        for (line, said) in [
            ("address = 'plc'", "host:port"),
            ("address = 'http://plc:80'", "host:port"),
            ("address = '::1:502'", "host:port"),
            ("address = 'plc:0'", "host:port"),
            (
                "address = 'plc:502'\nmax_registers = 126",
                "between 1 and 125",
            ),
            ("address = 'plc:502'\ntimeout_ms = 0", "between 1 and"),
            ("address = 'plc:502'\nperiod_ms = -1", "between 0 and"),
            ("address = 'plc:502'\nslave_id = 1", "unknown field"),
            ("unit_id = 1", "exactly one of"),
            ("address = 'plc:502'\nserial = 'COM3'", "exactly one of"),
            ("address = 'plc:502'\nbaud = 9600", "`serial` only"),
            ("serial = 'COM3'\nframing = 'rtu'", "`address` only"),
            ("serial = 'COM3'\nunit_id = 248", "1 to 247"),
            ("serial = ''", "name the port"),
            ("serial = 'COM3'\nstop_bits = 3", "between 1 and 2"),
            (
                "address = 'plc:802'\nframing = 'rtu'\ntls = { ca = 'a', certificate = 'b', key = 'c' }",
                "no RTU frames",
            ),
            (
                "address = 'plc:802'\ntls = { ca = 'a', certificate = 'b', key = 'c', server_name = 'a b' }",
                "no certificate can be for it",
            ),
            (
                "address = 'plc:502'\nno_read = { coil = [[9, 8]] }",
                "first address is after",
            ),
        ] {
            let device = format!("[modbus]\n{line}");
            let device = toml::from_str::<std::collections::HashMap<String, ModbusConfig>>(&device);
            let error = device.unwrap_err();
            assert!(error.to_string().contains(said), "{line}: {error}");
            assert!(error.span().is_some(), "{line}: no place");
        }
    }
}
