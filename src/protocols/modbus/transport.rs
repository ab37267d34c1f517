//! What carries Modbus to a device: TCP, RTU frames over TCP, TLS, or a serial line.

use super::config::Bounded;
use crate::crypto::tls::server_name;
use crate::crypto::{TlsError, TlsFiles};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What carries Modbus to a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Modbus TCP: frames with an MBAP header, in the clear.
    Tcp(Endpoint),
    /// RTU frames, with a checksum and no header, through a serial device server.
    RtuOverTcp(Endpoint),
    /// Modbus/TCP Security (protocol specification v36, 2021): Modbus TCP through mutual TLS.
    Tls(Endpoint, TlsSide),
    /// RTU frames on a serial line (Modbus over Serial Line V1.02).
    Serial(SerialLine),
}

impl Transport {
    /// What people call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "Modbus TCP",
            Self::RtuOverTcp(_) => "Modbus RTU over TCP",
            Self::Tls(..) => "Modbus TCP, TLS",
            Self::Serial(_) => "Modbus RTU",
        }
    }

    /// Relative paths start at `base` from now on.
    pub fn resolve(&mut self, base: &Path) {
        if let Self::Tls(_, tls) = self {
            let files = &mut tls.files;
            for path in [&mut files.ca, &mut files.certificate, &mut files.key] {
                *path = base.join(&*path);
            }
        }
    }
}

/// Where it leads.
impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(endpoint) | Self::RtuOverTcp(endpoint) | Self::Tls(endpoint, _) => {
                endpoint.fmt(f)
            }
            Self::Serial(line) => f.write_str(&line.port),
        }
    }
}

/// Our side of a TLS connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "TlsText", into = "TlsText")]
pub struct TlsSide {
    /// Our certificate and key, and who vouches for the device.
    pub files: TlsFiles,
    /// The name in the device's certificate; `None` for the host of its address.
    pub server_name: Option<String>,
}

/// A serial port and how it is set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SerialLine {
    /// The port: `/dev/ttyUSB0`, `COM3`.
    pub port: String,
    /// Bits a second.
    pub baud: u32,
    /// The parity bit.
    pub parity: Parity,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
}

impl SerialLine {
    /// The least silence between two frames: 3.5 characters of 11 bits, and 1.75 ms from 19200 baud
    /// on (Modbus over Serial Line V1.02, 2.5.1.1).
    pub fn silence(&self) -> Duration {
        if self.baud > 19_200 {
            return Duration::from_micros(1750);
        }
        Duration::from_secs_f64(38.5 / f64::from(self.baud.max(1)))
    }
}

/// The parity bit of a serial line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    /// None.
    None,
    /// Even, as the standard has it.
    #[default]
    Even,
    /// Odd.
    Odd,
}

/// How frames are made on a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Framing {
    /// With an MBAP header.
    #[default]
    Tcp,
    /// As on a serial line.
    Rtu,
}

/// `tls = { … }` as it is written in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsText {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server_name: Option<CertificateName>,
}

/// Bits a second that a serial port can be set to.
pub(super) type Baud = Bounded<50, 4_000_000>;

/// The keys of the file that say how a device is reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TransportText {
    pub address: Option<Endpoint>,
    pub framing: Option<Framing>,
    pub tls: Option<TlsSide>,
    pub serial: Option<String>,
    pub baud: Option<Baud>,
    pub parity: Option<Parity>,
    pub stop_bits: Option<Bounded<1, 2>>,
}

/// Keys that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Neither or both of `address` and `serial`.
    #[error(
        "it needs exactly one of `address` (\"192.0.2.7:502\") and `serial` (\"/dev/ttyUSB0\")"
    )]
    OneOf,
    /// A key of a serial line beside `address`.
    #[error(
        "`{0}` goes with `serial` only; for RTU frames through a TCP port write `framing = \"rtu\"`"
    )]
    OnlySerial(&'static str),
    /// A key of TCP beside `serial`.
    #[error("`{0}` goes with `address` only: a serial line always carries RTU frames")]
    OnlyTcp(&'static str),
    /// RTU frames and TLS.
    #[error("`tls` goes with `framing = \"tcp\"` only: Modbus/TCP Security has no RTU frames")]
    RtuTls,
    /// No port.
    #[error("`serial` is empty: name the port, as in \"/dev/ttyUSB0\" or \"COM3\"")]
    Port,
    /// Nobody answers to it.
    #[error("`unit_id` is {0}; a device on a serial line has 1 to 247")]
    Unit(u8),
}

impl TryFrom<TransportText> for Transport {
    type Error = TransportError;

    fn try_from(text: TransportText) -> Result<Self, TransportError> {
        match (text.address, text.serial) {
            (Some(endpoint), None) => {
                let serial_only = [
                    ("baud", text.baud.is_some()),
                    ("parity", text.parity.is_some()),
                    ("stop_bits", text.stop_bits.is_some()),
                ];
                if let Some((key, _)) = serial_only.into_iter().find(|(_, given)| *given) {
                    return Err(TransportError::OnlySerial(key));
                }
                match (text.framing.unwrap_or_default(), text.tls) {
                    (Framing::Tcp, None) => Ok(Self::Tcp(endpoint)),
                    (Framing::Rtu, None) => Ok(Self::RtuOverTcp(endpoint)),
                    (Framing::Tcp, Some(tls)) => Ok(Self::Tls(endpoint, tls)),
                    (Framing::Rtu, Some(_)) => Err(TransportError::RtuTls),
                }
            }
            (None, Some(port)) => {
                if text.framing.is_some() {
                    return Err(TransportError::OnlyTcp("framing"));
                }
                if text.tls.is_some() {
                    return Err(TransportError::OnlyTcp("tls"));
                }
                if port.trim().is_empty() {
                    return Err(TransportError::Port);
                }
                Ok(Self::Serial(SerialLine {
                    port,
                    baud: text.baud.map_or(19_200, Bounded::get),
                    parity: text.parity.unwrap_or_default(),
                    // Every character has eleven bits: without parity the standard wants two.
                    stop_bits: text.stop_bits.map_or(
                        match text.parity {
                            Some(Parity::None) => 2,
                            _ => 1,
                        },
                        |bits| bits.get() as u8,
                    ),
                }))
            }
            _ => Err(TransportError::OneOf),
        }
    }
}

impl From<Transport> for TransportText {
    fn from(transport: Transport) -> Self {
        let mut text = Self::default();
        match transport {
            Transport::Tcp(endpoint) => text.address = Some(endpoint),
            Transport::RtuOverTcp(endpoint) => {
                text.address = Some(endpoint);
                text.framing = Some(Framing::Rtu);
            }
            Transport::Tls(endpoint, tls) => {
                text.address = Some(endpoint);
                text.tls = Some(tls);
            }
            Transport::Serial(line) => {
                text.serial = Some(line.port);
                text.baud = Baud::try_from(i64::from(line.baud)).ok();
                text.parity = Some(line.parity);
                text.stop_bits = Bounded::try_from(i64::from(line.stop_bits)).ok();
            }
        }
        text
    }
}

impl From<TlsText> for TlsSide {
    fn from(text: TlsText) -> Self {
        Self {
            files: TlsFiles {
                ca: text.ca,
                certificate: text.certificate,
                key: text.key,
            },
            server_name: text.server_name.map(|name| name.0),
        }
    }
}

/// A name that a certificate can have.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct CertificateName(String);

impl TryFrom<String> for CertificateName {
    type Error = TlsError;

    fn try_from(name: String) -> Result<Self, TlsError> {
        server_name(&name).map(|_| Self(name))
    }
}

impl From<CertificateName> for String {
    fn from(name: CertificateName) -> Self {
        name.0
    }
}

impl From<TlsSide> for TlsText {
    fn from(side: TlsSide) -> Self {
        Self {
            ca: side.files.ca,
            certificate: side.files.certificate,
            key: side.files.key,
            server_name: side.server_name.map(CertificateName),
        }
    }
}

/// A host and a port, as `plc.example:502`, `192.0.2.7:502` or `[2001:db8::7]:502`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(String);

impl Endpoint {
    /// As text, as a resolver takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host alone.
    pub fn host(&self) -> &str {
        self.0.rsplit_once(':').map_or(&self.0, |(host, _)| host)
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
    fn frames_are_apart_by_the_silence_of_the_standard() {
        let line = |baud| SerialLine {
            port: "/dev/ttyUSB0".into(),
            baud,
            parity: Parity::Even,
            stop_bits: 1,
        };
        assert_eq!(line(115_200).silence(), Duration::from_micros(1750));
        assert_eq!(line(9600).silence().as_micros(), 4010);
    }
}
