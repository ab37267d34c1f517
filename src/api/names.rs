//! By which names a face is asked for, and how it is spoken to.

use super::guard::is_loopback;
use crate::crypto::TlsServerConfig;
use actix_web::http::uri::Authority;
use std::net::IpAddr;

/// How the HTTP face is reached, and by whom. The default: in plain, by whoever is on this machine.
#[derive(Clone, Debug, Default)]
pub struct Front {
    /// Names and addresses that it is asked for by, besides loopback and the address it listens on.
    pub hosts: Vec<String>,
    /// TLS; plain without it.
    pub tls: Option<TlsServerConfig>,
}

/// What a request's `Host` and `Origin` are compared with.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    hosts: Vec<String>,
    address: Option<IpAddr>,
    /// Whether it speaks TLS.
    pub(super) tls: bool,
}

impl Names {
    /// Those of `front`, listening on `address`.
    pub(super) fn new(front: &Front, address: IpAddr) -> Self {
        Self {
            hosts: front.hosts.clone(),
            address: (!address.is_unspecified()).then_some(address),
            tls: front.tls.is_some(),
        }
    }

    /// Whether `host`, with or without a port, means this hub.
    pub(super) fn answer_to(&self, host: &str) -> bool {
        is_loopback(host) || self.are_own(host)
    }

    fn are_own(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        // `plant.example@elsewhere`: only a bare host with an optional port is taken.
        if authority.as_str().contains('@') {
            return false;
        }
        let name = bare(authority.host());
        let address: Option<IpAddr> = name.parse().ok();
        let mut hosts = self.hosts.iter().map(|host| bare(host));
        match address {
            Some(ip) => self.address == Some(ip) || hosts.any(|own| own.parse() == Ok(ip)),
            None => hosts.any(|own| own.eq_ignore_ascii_case(name)),
        }
    }

    /// What a browser calls a page of `host`.
    pub(super) fn origin(&self, host: &str) -> String {
        match self.tls {
            true => format!("https://{host}"),
            false => format!("http://{host}"),
        }
    }

    /// Whether browsers may be told to come to `host` by TLS only. Not for loopback: other programs
    /// of that machine are there, too.
    pub(super) fn is_strict(&self, host: &str) -> bool {
        self.tls && !is_loopback(host)
    }
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_are_answered_and_others_are_not() {
        let front = Front {
            hosts: vec!["plant.example".into(), "2001:db8::7".into()],
            ..Front::default()
        };
        let names = Names::new(&front, [192, 0, 2, 7].into());
        for host in [
            "plant.example",
            "PLANT.example:8443",
            "192.0.2.7:8443",
            "[2001:db8:0::7]:1",
            "localhost",
        ] {
            assert!(names.answer_to(host), "{host}");
        }
        for host in [
            "",
            "plant.example.evil",
            "evil@plant.example",
            "plant.example@evil",
            "192.0.2.8",
            "0.0.0.0",
            "[2001:db8::8]",
        ] {
            assert!(!names.answer_to(host), "{host}");
        }
        let anywhere = Names::new(&Front::default(), [0, 0, 0, 0].into());
        assert!(!anywhere.answer_to("0.0.0.0"));
        assert!(!anywhere.answer_to("192.0.2.7"));
    }
}
