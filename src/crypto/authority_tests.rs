//! Authorities, and the chains of what they issue.

use super::*;
use crate::crypto::{Authorities, CertificateKind};

/// 2026-01-01.
const NOW: Nanos = 1_767_225_600 * SECOND;

fn authority() -> Authority {
    let (key, certificate) = Authority::make("hub-1", NOW, Serial([1; 16])).unwrap();
    Authority::new(certificate, &key).unwrap()
}

fn wanted(kind: CertificateKind, id: &str) -> (Zeroizing<String>, Wanted) {
    let key = new_key().unwrap();
    let pair = SecretPair::from_pem(&key).unwrap();
    let hosts = match kind.listens() {
        true => vec!["hub.example".to_owned(), "192.0.2.7".to_owned()],
        false => vec![],
    };
    let wanted = Wanted {
        name: CertifiedName {
            kind,
            id: id.to_owned(),
        },
        hosts,
        key: pair.subject_public_key_info(),
        days: 10,
    };
    (key, wanted)
}

fn trusts(authority: &Certificate, chain: &[&Certificate], now: Nanos) -> bool {
    let trusted = Authorities::new(std::slice::from_ref(authority)).unwrap();
    let chain: Vec<_> = chain.iter().map(|c| c.der().to_vec()).collect();
    trusted.check(&chain, now).is_ok()
}

#[test]
fn what_is_issued_says_whom_it_is_for_and_chains() {
    let authority = authority();
    assert!(authority.certificate().is_authority);
    for kind in CertificateKind::ALL {
        let (_, wanted) = wanted(kind, "x-1");
        let made = authority.issue(&wanted, NOW, Serial::random()).unwrap();
        assert_eq!(made.name.as_ref(), Some(&wanted.name));
        assert_eq!(made.common_name, "x-1");
        assert_eq!(made.hosts, wanted.hosts);
        assert_eq!(made.key(), wanted.key);
        assert_eq!(made.days_left(NOW), 10);
        assert!(!made.is_authority);
        assert!(trusts(authority.certificate(), &[&made], NOW), "{kind:?}");
    }
}

#[test]
fn nobody_is_trusted_before_or_after_the_time_or_of_another_authority() {
    let (mine, other) = (authority(), authority());
    let (_, wanted) = wanted(CertificateKind::User, "ann");
    let made = mine.issue(&wanted, NOW, Serial::random()).unwrap();
    let root = mine.certificate();
    let table = [
        (NOW - BEFORE - SECOND, false),
        (NOW - BEFORE, true),
        (NOW + 10 * DAY, true),
        (NOW + 10 * DAY + SECOND, false),
    ];
    for (time, holds) in table {
        assert_eq!(trusts(root, &[&made], time), holds, "{}", time - NOW);
        assert_eq!(made.is_valid_at(time), holds, "{}", time - NOW);
    }
    assert!(!trusts(other.certificate(), &[&made], NOW));
    // The authority itself is nobody who connects.
    assert!(!trusts(root, &[root], NOW));
    let none = Authorities::new(std::slice::from_ref(root))
        .unwrap()
        .check(&[], NOW);
    assert!(none.is_err());
    assert!(Authorities::new(&[]).is_err());
}

#[test]
fn every_flipped_bit_of_a_signature_or_name_breaks_the_chain() {
    let authority = authority();
    let (_, wanted) = wanted(CertificateKind::User, "ann");
    let made = authority.issue(&wanted, NOW, Serial::random()).unwrap();
    let trusted = Authorities::new(std::slice::from_ref(authority.certificate())).unwrap();
    for at in (0..made.der().len()).step_by(7) {
        let mut der = made.der().to_vec();
        der[at] ^= 1;
        assert!(trusted.check(&[der], NOW).is_err(), "byte {at}");
    }
}

#[test]
fn an_expired_certificate_is_issued_anew_for_the_same_key() {
    let authority = authority();
    let (_, wanted) = wanted(CertificateKind::Hub, "hub-1");
    let old = authority.issue(&wanted, NOW, Serial::random()).unwrap();
    let later = NOW + 400 * DAY;
    let new = authority.reissue(&old, later, Serial::random()).unwrap();
    assert_eq!(
        (new.key(), &new.hosts, &new.name),
        (old.key(), &old.hosts, &old.name)
    );
    assert_eq!(new.key_hash(), old.key_hash());
    assert_ne!(new.serial, old.serial);
    assert_eq!(new.days_left(later), 10);
    assert!(!trusts(authority.certificate(), &[&old], later));
    assert!(trusts(authority.certificate(), &[&new], later));
}

#[test]
fn an_expired_authority_is_renewed_and_what_it_issued_stays_good() {
    let (key, certificate) = Authority::make("hub-1", NOW, Serial([1; 16])).unwrap();
    let old = Authority::new(certificate.clone(), &key).unwrap();
    let (_, mut wanted) = wanted(CertificateKind::Edge, "edge-1");
    wanted.days = 9_000;
    let leaf = old.issue(&wanted, NOW, Serial::random()).unwrap();
    assert_eq!(
        leaf.valid_until, certificate.valid_until,
        "no longer than its authority"
    );
    let later = certificate.valid_until + DAY;
    let refused = old.issue(&wanted, later, Serial::random());
    assert!(matches!(refused, Err(AuthorityError::Expired(_))));
    let renewed = old.renewed(later, Serial::random()).unwrap();
    assert_eq!(renewed.subject, certificate.subject);
    assert_eq!(renewed.key_hash(), certificate.key_hash());
    let new = Authority::new(renewed.clone(), &key).unwrap();
    // The old leaf's time is over, but its signature holds under the renewed root.
    assert!(trusts(&renewed, &[&leaf], NOW));
    let leaf = new.reissue(&leaf, later, Serial::random()).unwrap();
    assert!(trusts(&renewed, &[&leaf], later));
    // Whoever still has the old root finds it good, too: the key is the same.
    assert!(trusts(&certificate, &[&leaf], later));
}

#[test]
fn a_key_and_a_certificate_must_go_together() {
    let (key, certificate) = Authority::make("a", NOW, Serial([1; 16])).unwrap();
    let other = new_key().unwrap();
    let refused = Authority::new(certificate.clone(), &other);
    assert!(matches!(refused, Err(AuthorityError::Pair(_))));
    let refused = Authority::new(certificate.clone(), "nothing");
    assert!(matches!(refused, Err(AuthorityError::Key(_))));
    let authority = Authority::new(certificate, &key).unwrap();
    let (leaf_key, wanted) = wanted(CertificateKind::User, "ann");
    let leaf = authority.issue(&wanted, NOW, Serial([9; 16])).unwrap();
    let refused = Authority::new(leaf, &leaf_key);
    assert!(matches!(refused, Err(AuthorityError::NoAuthority(_))));
}

/// A corporate authority, and one of a department below it that issues.
fn corporate(names: &[(DnType, &str)]) -> (Certificate, Certificate, Zeroizing<String>) {
    let ca = |names: &[(DnType, &str)]| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name = DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        date(&mut params, NOW, NOW + 5_000 * DAY).unwrap();
        params
    };
    let root = ca(&[(DnType::CommonName, "Corp Root")]);
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let root_certificate = root.self_signed(&pair).unwrap();
    let issuer = Issuer::new(root, pair);
    let key = new_key().unwrap();
    let pair = SecretPair::from_pem(&key).unwrap();
    let below = ca(names).signed_by(&pair, &issuer).unwrap();
    (
        Certificate::from_der(root_certificate.der()).unwrap(),
        Certificate::from_der(below.der()).unwrap(),
        key,
    )
}

#[test]
fn a_corporate_authority_can_issue() {
    let names = [
        (DnType::OrganizationName, "Corp"),
        (DnType::CommonName, "Plant 7"),
    ];
    let (root, below, key) = corporate(&names);
    let authority = Authority::new(below.clone(), &key).unwrap();
    let (_, wanted) = wanted(CertificateKind::User, "ann");
    let leaf = authority.issue(&wanted, NOW, Serial::random()).unwrap();
    assert!(trusts(&below, &[&leaf], NOW));
    assert!(trusts(&root, &[&leaf, &below], NOW));
    assert!(!trusts(&root, &[&leaf], NOW), "the one between is missing");
    let refused = authority.renewed(NOW, Serial::random());
    assert!(matches!(refused, Err(AuthorityError::NotRoot(_))));
}

#[test]
fn a_request_is_signed_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("edge.key");
    let (key, wanted) = wanted(CertificateKind::Hub, "hub-1");
    save_key(&file, &key).unwrap();
    let pem = request(&wanted.name, &wanted.hosts, &file).unwrap();
    assert_eq!(public_key_of(&file).unwrap(), wanted.key);
    let (hosts, key) = read_request(&pem).unwrap();
    assert_eq!((hosts, key), (wanted.hosts, wanted.key));
    // A request whose signature is spoiled was not made by the owner of the key.
    let mut der = pem::parse_request(&pem);
    let last = der.len() - 1;
    der[last] ^= 1;
    let error = read_request(&pem::write_request(&der)).unwrap_err();
    assert!(matches!(error, AuthorityError::Request(_)), "{error}");
}

mod pem {
    use data_encoding::BASE64;

    pub(super) fn parse_request(pem: &str) -> Vec<u8> {
        let lines = pem.lines().filter(|l| !l.starts_with("-----"));
        BASE64.decode(lines.collect::<String>().as_bytes()).unwrap()
    }

    pub(super) fn write_request(der: &[u8]) -> String {
        let text = BASE64.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
    }
}

#[test]
fn names_that_no_certificate_can_have_are_refused() {
    let authority = authority();
    let issue = |id: &str, hosts: &[&str]| {
        let (_, mut wanted) = wanted(CertificateKind::Hub, id);
        wanted.hosts = hosts.iter().map(|h| (*h).to_owned()).collect();
        authority.issue(&wanted, NOW, Serial::random())
    };
    for id in ["", "a b", "ann:root", "ä", "x\0", &"x".repeat(65)] {
        assert!(matches!(issue(id, &[]), Err(AuthorityError::Id(_))), "{id}");
    }
    for host in ["", "a b", "x/y", "ä.example"] {
        assert!(
            matches!(issue("a", &[host]), Err(AuthorityError::Host(_))),
            "{host}"
        );
    }
    let many = vec!["a.example"; MAX_HOSTS + 1];
    assert!(matches!(issue("a", &many), Err(AuthorityError::Hosts)));
    let good = ["hub.example", "*.plant.example", "192.0.2.7", "2001:db8::7"];
    assert_eq!(issue("a", &good).unwrap().hosts, good);
}
