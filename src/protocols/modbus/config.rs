//! How a Modbus device is reached: the `modbus = { … }` of a `[[device]]`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Most registers that one request may ask for (Modbus Application Protocol V1.1b3, 6.3 and 6.4).
pub const MAX_REGISTERS: u32 = 125;
/// Most coils or discrete inputs that one request may ask for (6.1 and 6.2).
pub const MAX_COILS: u32 = 2000;

/// How a Modbus TCP device is reached and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModbusConfig {
    /// Where it listens: `host:port`; IPv6 addresses in brackets. The usual port is 502.
    pub address: Endpoint,
    /// Unit id: 1 unless a gateway has several devices behind it.
    #[serde(default = "default_unit_id")]
    pub unit_id: u8,
    /// Milliseconds from one poll to the next; 0 polls as fast as the device answers.
    #[serde(default = "default_period")]
    pub period_ms: Bounded<0, 86_400_000>,
    /// Milliseconds to wait for a connection, and for each answer.
    #[serde(default = "default_timeout")]
    pub timeout_ms: Bounded<1, 600_000>,
    /// Most registers in one request; some devices allow fewer than the standard's 125.
    #[serde(default = "default_max_registers")]
    pub max_registers: Bounded<1, MAX_REGISTERS>,
    /// Most coils or discrete inputs in one request.
    #[serde(default = "default_max_coils")]
    pub max_coils: Bounded<1, MAX_COILS>,
    /// How many registers, coils or inputs that no tag asks for may be read between two tags to save
    /// a request. 0, the default, never reads what nobody asked for: some registers do something
    /// when they are read.
    #[serde(default)]
    pub max_gap: Bounded<0, MAX_COILS>,
}

impl ModbusConfig {
    /// A device at `address` with every other key at its default.
    pub fn new(address: Endpoint) -> Self {
        Self {
            address,
            unit_id: default_unit_id(),
            period_ms: default_period(),
            timeout_ms: default_timeout(),
            max_registers: default_max_registers(),
            max_coils: default_max_coils(),
            max_gap: Bounded::default(),
        }
    }
}

fn default_unit_id() -> u8 {
    1
}

fn default_period() -> Bounded<0, 86_400_000> {
    Bounded(1000)
}

fn default_timeout() -> Bounded<1, 600_000> {
    Bounded(1000)
}

fn default_max_registers() -> Bounded<1, MAX_REGISTERS> {
    Bounded(MAX_REGISTERS)
}

fn default_max_coils() -> Bounded<1, MAX_COILS> {
    Bounded(MAX_COILS)
}

/// A whole number from `LOW` to `HIGH`; anything else is refused when the file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// A host and a port, as `plc.example:502`, `192.0.2.7:502` or `[2001:db8::7]:502`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(String);

impl Endpoint {
    /// As text, as a resolver takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.0
    }
}

impl From<std::net::SocketAddr> for Endpoint {
    fn from(address: std::net::SocketAddr) -> Self {
        Self(address.to_string())
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wanted = || format!("{text:?} is not host:port, as in \"192.0.2.7:502\"");
        let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let plain = !host.is_empty() && !host.contains([':', '/', '[', ']', ' ']);
        match port.parse::<u16>() {
            Ok(port) if port > 0 && (plain || bracketed) => Ok(Self(text)),
            _ => Err(wanted()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_enough_and_the_rest_has_defaults() {
        let config: ModbusConfig = toml::from_str("address = '127.0.0.1:502'").unwrap();
        let address = Endpoint::try_from("127.0.0.1:502".to_string()).unwrap();
        assert_eq!(config, ModbusConfig::new(address));
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<ModbusConfig>(&text).unwrap(), config);
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
        ] {
            let error = toml::from_str::<ModbusConfig>(line).unwrap_err();
            assert!(error.to_string().contains(said), "{line}: {error}");
            assert!(error.span().is_some(), "{line}: no place");
        }
    }
}
