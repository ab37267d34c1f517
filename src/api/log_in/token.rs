//! What a client shows with each request: a cookie, or a bearer token.

use actix_web::http::header::{self, HeaderMap};
use data_encoding::BASE64URL_NOPAD;
use weighbridge_verifier::{Hash, sha256};
use zeroize::Zeroizing;

/// Random bytes of a token.
const BYTES: usize = 32;

/// The name of the cookie. With the prefix browsers take it by TLS only, from this very host, and for all of
/// it (RFC 6265bis, 4.1.3.2).
fn name(tls: bool) -> &'static str {
    match tls {
        true => "__Host-weighbridge",
        false => "weighbridge",
    }
}

/// A new token.
pub(super) fn make() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    getrandom::fill(&mut *bytes)?;
    Ok(Zeroizing::new(BASE64URL_NOPAD.encode(&*bytes)))
}

/// What is kept of a token.
pub(super) fn hash(token: &str) -> Hash {
    sha256(&[b"weighbridge session\n", token.as_bytes()])
}

/// The hash of the token that a request shows, if it does. Of a cookie and a bearer token the latter counts: it
/// was put there on purpose.
pub(super) fn shown(headers: &HeaderMap, tls: bool) -> Option<Hash> {
    let bearer = headers.get(header::AUTHORIZATION).map(|value| {
        let text = value.to_str().ok()?;
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let token = match bearer {
        Some(bearer) => bearer,
        None => cookie(headers, name(tls)),
    };
    token.map(hash)
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE);
    let pairs = all.filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|text| text.split(';'));
    pairs.find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then_some(value)
    })
}

/// The header that makes a browser keep `token`, for as long as it runs.
pub(super) fn keep(token: &str, tls: bool) -> String {
    let secure = if tls { "; Secure" } else { "" };
    format!(
        "{}={token}; Path=/; HttpOnly; SameSite=Strict{secure}",
        name(tls)
    )
}

/// The header that makes a browser forget it.
pub(super) fn forget(tls: bool) -> String {
    format!("{}; Max-Age=0", keep("", tls))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn headers(all: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_found_where_it_was_put() {
        let (cookie, bearer) = (header::COOKIE, header::AUTHORIZATION);
        let t = Some(hash("t"));
        for (given, tls, expected) in [
            (vec![(cookie.clone(), "weighbridge=t")], false, t),
            (vec![(cookie.clone(), "a=b; weighbridge=t; c=d")], false, t),
            (
                vec![(cookie.clone(), "a=b"), (cookie.clone(), "weighbridge=t")],
                false,
                t,
            ),
            (vec![(cookie.clone(), "__Host-weighbridge=t")], true, t),
            // Another program of this host may set the plain one.
            (vec![(cookie.clone(), "weighbridge=t")], true, None),
            (vec![(cookie.clone(), "xweighbridge=t")], false, None),
            (vec![(bearer.clone(), "Bearer t")], true, t),
            (vec![(bearer.clone(), "bearer  t")], false, t),
            (
                vec![(bearer.clone(), "Basic t"), (cookie, "weighbridge=t")],
                false,
                None,
            ),
            (vec![(bearer, "t")], false, None),
            (vec![], false, None),
        ] {
            assert_eq!(shown(&headers(&given), tls), expected, "{given:?}");
        }
    }

    #[test]
    fn tokens_are_new_and_cookies_are_kept_close() {
        let (a, b) = (make().unwrap(), make().unwrap());
        assert_ne!(*a, *b);
        assert_eq!(a.len(), 43);
        assert_eq!(
            keep("t", true),
            "__Host-weighbridge=t; Path=/; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(
            forget(false),
            "weighbridge=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
        );
    }
}
