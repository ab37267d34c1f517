//! Where a hub is, as somebody writes it.

/// An address of a hub: `http://HOST[:PORT]` or `https://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct HubUrl {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

impl std::str::FromStr for HubUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.strip_prefix("http://").map(|rest| (false, rest));
        let either = plain.or_else(|| Some((true, text.strip_prefix("https://")?)));
        let (tls, rest) = either.ok_or_else(|| {
            format!(
                "expected http://HOST:PORT or https://HOST:PORT, for example http://127.0.0.1:8080, not `{text}`"
            )
        })?;
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
            return Err("expected only the address, without a path: https://HOST:PORT".to_owned());
        }
        let bracket_end = authority.rfind(']').map_or(0, |i| i + 1);
        let colon = authority
            .get(bracket_end..)
            .and_then(|tail| tail.rfind(':'))
            .map(|i| bracket_end + i);
        let (host, port) = match colon {
            None => (authority, if tls { 443 } else { 80 }),
            Some(colon) => {
                let (host, port) = authority.split_at(colon);
                let port = port.trim_start_matches(':');
                let port = port
                    .parse()
                    .map_err(|_| format!("`{port}` is not a port: 1 to 65535"))?;
                (host, port)
            }
        };
        // A name is the same in whichever letters it is written, and so is the session there.
        let host = host.to_ascii_lowercase();
        Ok(Self { tls, host, port })
    }
}

impl HubUrl {
    /// Whether TLS is spoken.
    pub(in crate::cli) fn is_tls(&self) -> bool {
        self.tls
    }

    /// Its host, an IPv6 address in brackets.
    pub(in crate::cli) fn host(&self) -> &str {
        &self.host
    }
}

impl std::fmt::Display for HubUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_or_explained() {
        let url: HubUrl = "http://127.0.0.1:8080/".parse().unwrap();
        assert_eq!(url.to_string(), "http://127.0.0.1:8080");
        let url: HubUrl = "http://[::1]:81".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port), ("[::1]", 81));
        let url: HubUrl = "http://[::1]".parse().unwrap();
        assert_eq!((url.port, url.is_tls()), (80, false));
        let url: HubUrl = "https://Plant.Example/".parse().unwrap();
        assert_eq!(
            (url.to_string().as_str(), url.is_tls()),
            ("https://plant.example:443", true)
        );
        for bad in [
            "127.0.0.1:8080",
            "ftp://127.0.0.1",
            "https://",
            "http://",
            "http://h:99999",
            "http://h/api",
            "http://u@h",
        ] {
            assert!(bad.parse::<HubUrl>().is_err(), "{bad}");
        }
    }
}
