//! Security policies, modes and trust, as they are written in configurations.

use opcua::crypto::SecurityPolicy;
use opcua::types::MessageSecurityMode;
use serde::{Deserialize, Serialize};

/// A security policy (OPC 10000-7). Those that were withdrawn as broken are not offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// Neither signed nor encrypted.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Basic256Sha256.
    #[serde(rename = "basic256sha256")]
    Basic256Sha256,
    /// Aes128_Sha256_RsaOaep.
    #[serde(rename = "aes128_sha256_rsa_oaep")]
    Aes128Sha256RsaOaep,
    /// Aes256_Sha256_RsaPss.
    #[serde(rename = "aes256_sha256_rsa_pss")]
    Aes256Sha256RsaPss,
}

impl Policy {
    /// The policies that sign and encrypt.
    pub const SECURE: [Self; 3] = [
        Self::Basic256Sha256,
        Self::Aes128Sha256RsaOaep,
        Self::Aes256Sha256RsaPss,
    ];

    /// Its name in OPC 10000-7.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Basic256Sha256 => "Basic256Sha256",
            Self::Aes128Sha256RsaOaep => "Aes128_Sha256_RsaOaep",
            Self::Aes256Sha256RsaPss => "Aes256_Sha256_RsaPss",
        }
    }

    /// Its URI, as secure channels name it.
    pub fn uri(self) -> &'static str {
        self.stack().to_uri()
    }

    pub(crate) fn stack(self) -> SecurityPolicy {
        match self {
            Self::None => SecurityPolicy::None,
            Self::Basic256Sha256 => SecurityPolicy::Basic256Sha256,
            Self::Aes128Sha256RsaOaep => SecurityPolicy::Aes128Sha256RsaOaep,
            Self::Aes256Sha256RsaPss => SecurityPolicy::Aes256Sha256RsaPss,
        }
    }
}

/// What a policy other than `none` does to messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Messages are signed and can be read by others.
    Sign,
    /// Messages are signed and encrypted.
    #[default]
    SignAndEncrypt,
}

impl Mode {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Sign, Self::SignAndEncrypt];

    pub(crate) fn stack(self) -> MessageSecurityMode {
        match self {
            Self::Sign => MessageSecurityMode::Sign,
            Self::SignAndEncrypt => MessageSecurityMode::SignAndEncrypt,
        }
    }
}

/// Which certificates of the other side are trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Those in the folder `trusted`. An unknown one is put into `rejected`, to be moved by hand.
    #[default]
    Folder,
    /// Any, and each is put into `trusted` when it is first seen. For commissioning and tests.
    Any,
}
