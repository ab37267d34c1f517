//! Tokens that OpenSSL made (`tests/interop/timestamp_authority.py`), and what must not be taken for one.

use super::form::TimeStampReq;
use super::*;
use std::path::Path;
use weighbridge_verifier::sha256;

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/timestamp");
    std::fs::read(folder.join(name)).unwrap()
}

fn imprint() -> [u8; 32] {
    sha256(&[b"a checkpoint\n"]).0
}

fn trusted(name: &str) -> TimestampAuthorities {
    TimestampAuthorities::from_pem(&file(name)).unwrap()
}

fn token(kind: &str) -> Vec<u8> {
    token_of_response(&file(&format!("{kind}.reply"))).unwrap()
}

fn nonce() -> u64 {
    let query = TimeStampReq::from_der(&file("query")).unwrap();
    let bytes = query.nonce.unwrap();
    bytes
        .as_bytes()
        .iter()
        .fold(0, |n, byte| n << 8 | u64::from(*byte))
}

const POLICY: &str = "1.3.6.1.4.1.99999.1";

fn check(kind: &str) -> Result<Timestamp, TimestampError> {
    let ca = trusted("ca.pem");
    verify(&token(kind), &imprint(), Some(nonce()), Some(POLICY), &ca)
}

#[test]
fn tokens_of_openssl_hold() {
    for kind in ["rsa", "ecdsa"] {
        let stamp = check(kind).unwrap();
        assert_eq!(stamp.authority, format!("CN=TSA {kind} of the authority"));
        assert_eq!(stamp.policy, POLICY);
        assert_eq!(stamp.accuracy, Some(1_000_000_000));
        assert!(!stamp.serial.is_empty());
    }
}

#[test]
fn what_is_not_for_time_stamps_is_refused() {
    for kind in ["no-usage", "not-critical", "more-usage"] {
        assert_eq!(check(kind), Err(TimestampError::Usage), "{kind}");
    }
    let refused = check("expired").unwrap_err();
    assert!(
        matches!(&refused, TimestampError::Authority(why) if why.contains("Expired")),
        "{refused}"
    );
}

#[test]
fn other_questions_and_other_authorities_are_refused() {
    let (token, ca) = (token("ecdsa"), trusted("ca.pem"));
    let ask = |imprint: &[u8; 32], nonce, policy| verify(&token, imprint, nonce, policy, &ca);
    assert!(ask(&imprint(), None, None).is_ok());
    assert_eq!(ask(&[0; 32], None, None), Err(TimestampError::Imprint));
    let other = Some(nonce() ^ 1);
    assert_eq!(ask(&imprint(), other, None), Err(TimestampError::Nonce));
    let policy = Err(TimestampError::Policy(POLICY.to_owned()));
    assert_eq!(ask(&imprint(), None, Some("1.2.3")), policy);
    let refused = verify(&token, &imprint(), None, None, &trusted("other-ca.pem"));
    assert!(
        matches!(refused, Err(TimestampError::Authority(_))),
        "{refused:?}"
    );
    // The hash is of another kind, whatever its bytes are.
    let sha512 = token_of_response(&file("sha512.reply")).unwrap();
    let refused = verify(&sha512, &imprint(), None, None, &ca);
    assert_eq!(refused, Err(TimestampError::Imprint));
    let refused = token_of_response(&file("refused.reply")).unwrap_err();
    assert!(matches!(refused, TimestampError::Refused(_)), "{refused}");
}

/// Whatever bit is changed, the token is refused or says the same: what is not signed says nothing.
#[test]
fn a_changed_bit_changes_nothing_that_is_said() {
    let ca = trusted("ca.pem");
    for kind in ["ecdsa", "rsa"] {
        let (token, said) = (token(kind), check(kind).unwrap());
        let mut refused = 0;
        for bit in 0..token.len() * 8 {
            let mut changed = token.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            match verify(&changed, &imprint(), Some(nonce()), Some(POLICY), &ca) {
                Ok(still) => assert_eq!(still, said, "{kind}, bit {bit}"),
                Err(_) => refused += 1,
            }
        }
        assert!(
            refused > token.len() * 7,
            "{kind}: only {refused} were refused"
        );
        for end in 0..token.len() {
            let cut = verify(&token[..end], &imprint(), None, None, &ca);
            assert!(
                matches!(cut, Err(TimestampError::Form(_))),
                "{kind}, {end} bytes"
            );
        }
    }
}

#[test]
fn a_request_is_what_openssl_asks() {
    // Its parameters of the hash are NULL, ours absent (RFC 5754 §2); the rest is the same.
    let theirs = TimeStampReq::from_der(&file("query")).unwrap();
    let ours = request(&imprint(), nonce(), Some(POLICY)).unwrap();
    let mut ours = TimeStampReq::from_der(&ours).unwrap();
    ours.message_imprint.hash_algorithm = theirs.message_imprint.hash_algorithm.clone();
    assert_eq!(ours, theirs);
    assert!(request(&imprint(), 0, Some("a policy")).is_err());
    for nonce in [0, 127, 128, u64::MAX] {
        let bytes = request(&imprint(), nonce, None).unwrap();
        let read = TimeStampReq::from_der(&bytes).unwrap();
        assert_eq!(read.nonce, Some(integer(nonce).unwrap()));
    }
}

#[test]
fn nobody_to_trust_is_an_error() {
    for pem in [&b""[..], b"no certificate", &file("query")] {
        let read = TimestampAuthorities::from_pem(pem);
        assert!(matches!(read, Err(TimestampError::NoAuthority(_))));
    }
}
