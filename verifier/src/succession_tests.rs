//! How votes are counted, as tables of what is recorded and what is in force after it.

use super::*;
use crate::equivocation::{Equivocation, Signed};
use crate::hash::Hash;
use crate::membership::Faults::{Byzantine, Crash};
use crate::record::{IdentityContent, RECORD_VERSION};
use crate::rotation::RotationContent;
use crate::signature::Signature;
use crate::suite::Suite;
use crate::vote::Vote;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;

/// The hub `a` has the key of seed 1, and so on; a capital letter is the same hub with another key.
fn signing_key(name: &str) -> SigningKey {
    let letter = name.as_bytes()[0];
    SigningKey::from_slice(&[letter; 32]).unwrap()
}

fn key(name: &str) -> PublicKey {
    let point = signing_key(name).verifying_key().to_sec1_point(true);
    PublicKey::from_sec1(Suite::Nist, point.as_bytes()).unwrap()
}

fn id(name: &str) -> String {
    name.to_lowercase()
}

/// A set as it is written: `a b c/2`, or with those that stand by, `a b c/2 d`.
fn set(text: &str) -> ValidatorSet {
    let (hubs, then) = text.split_once('/').unwrap();
    let mut then = then.split(' ');
    let threshold = then.next().unwrap();
    let validator = |name: &str| Validator {
        id: id(name),
        key: key(name),
    };
    ValidatorSet {
        validators: hubs.split(' ').map(validator).collect(),
        threshold: threshold.parse().unwrap(),
        standbys: then.map(validator).collect(),
    }
}

fn text(set: &ValidatorSet) -> String {
    let named = |v: &Validator| {
        let upper = v.id.to_uppercase();
        if key(&upper) == v.key {
            return upper;
        }
        assert_eq!(key(&v.id), v.key);
        v.id.clone()
    };
    let hubs: Vec<_> = set.validators.iter().map(named).collect();
    let standing = set.standbys.iter().map(|hub| format!(" {}", named(hub)));
    format!(
        "{}/{}{}",
        hubs.join(" "),
        set.threshold,
        standing.collect::<String>()
    )
}

fn body(hub: &str, object: String, content: Content) -> RecordBody {
    RecordBody {
        version: RECORD_VERSION,
        chain: "hall".to_owned(),
        hub: hub.to_owned(),
        sequence: 1,
        previous: Hash::ZERO,
        time: 0,
        subject: "user:anna".to_owned(),
        action: Action::Membership,
        object,
        permit: None,
        content,
        response: Response::Accepted,
    }
}

/// `+d` is a vote for letting `d` in, `-d` one for letting it go, `~d` one for letting it stand by.
fn vote(hub: &str, what: &str, faults: Faults) -> RecordBody {
    let (change, about) = what.split_at(1);
    let vote = HubVoteContent {
        hub: id(about),
        key: key(about),
        change: match change {
            "+" => HubChange::Admit,
            "~" => HubChange::Standby,
            _ => HubChange::Dismiss,
        },
        faults,
    };
    body(hub, format!("hub:{}", id(about)), Content::HubVote(vote))
}

fn rotation(from: &str, to: &str) -> RecordBody {
    let identity = IdentityContent {
        id: id(from),
        kind: IdentityKind::Hub,
        key: Some(key(to)),
    };
    let rotation = RotationContent {
        identity,
        replaces: key(from),
        proof: Signature([1; 64]),
        consent: None,
    };
    body(
        &id(from),
        "identity".to_owned(),
        Content::Rotation(rotation),
    )
}

/// `by` shows that `liar` precommitted a block and nothing in one round.
fn lie(by: &str, liar: &str, chain: &str) -> RecordBody {
    let secret = signing_key(liar);
    let signed = |message: Vote| {
        let hash = message.message(Suite::Nist, chain);
        let signature: p256::ecdsa::Signature = secret.sign_prehash(&hash.0).unwrap();
        Signed {
            message,
            signature: Signature(signature.normalize_s().to_bytes().into()),
        }
    };
    let block = Vote::precommit(5, 0, Hash([1; 32]));
    let none = Vote {
        block: None,
        ..block
    };
    let evidence = Equivocation::votes(key(liar), signed(block), signed(none)).to_bytes();
    let content = Content::Equivocation(EquivocationContent { evidence });
    body(by, format!("hub:{}", id(liar)), content)
}

/// What came of a record: `!` it may not be recorded, `.` nothing yet, else the set that it made.
fn came_of(succession: &mut Succession, body: &RecordBody) -> String {
    let before = succession.clone();
    let checked = succession.check(body);
    let change = succession.apply(body);
    if checked.is_err() {
        assert_eq!((change, &*succession), (None, &before));
        return "!".to_owned();
    }
    assert!(succession.set().is_well_formed());
    assert_eq!(change.is_some(), before.set() != succession.set());
    match change {
        Some(_) => text(succession.set()),
        None => ".".to_owned(),
    }
}

fn run(begin: &str, steps: &[(RecordBody, &str)]) -> Succession {
    let mut succession = Succession::new(set(begin));
    for (index, (body, wanted)) in steps.iter().enumerate() {
        let came = came_of(&mut succession, body);
        assert_eq!(
            &came, wanted,
            "step {index} from {begin}: {:?}",
            body.content
        );
    }
    succession
}

/// The table: who, what, and how the new set is trusted; and what comes of it.
fn votes(begin: &str, steps: &[(&str, &str, Faults, &str)]) -> Succession {
    let steps: Vec<_> = steps
        .iter()
        .map(|(hub, what, faults, wanted)| (vote(hub, what, *faults), *wanted))
        .collect();
    run(begin, &steps)
}

#[test]
fn a_set_grows_hub_by_hub() {
    votes(
        "a/1",
        &[
            ("a", "+b", Byzantine, "a b/2"),
            ("a", "+c", Byzantine, "."),
            ("b", "+c", Byzantine, "a b c/3"),
            ("a", "+d", Byzantine, "."),
            ("b", "+d", Byzantine, "."),
            ("c", "+d", Byzantine, "a b c d/3"),
            ("d", "+e", Byzantine, "."),
            ("b", "+e", Byzantine, "."),
            ("a", "+e", Byzantine, "a b c d e/4"),
            // What had counted is forgotten.
            ("c", "-e", Byzantine, "."),
            ("d", "-e", Byzantine, "."),
            ("a", "-e", Byzantine, "."),
            ("e", "-e", Byzantine, "a b c d/3"),
        ],
    );
}

#[test]
fn a_set_keeps_the_order_of_the_ids() {
    let three = votes(
        "m/1",
        &[
            ("m", "+a", Byzantine, "a m/2"),
            ("m", "+z", Byzantine, "."),
            ("a", "+z", Byzantine, "a m z/3"),
        ],
    );
    assert!(three.votes().is_empty());
}

#[test]
fn one_of_four_is_dismissed() {
    votes(
        "a b c d/3",
        &[
            ("a", "-d", Byzantine, "."),
            ("b", "-d", Byzantine, "."),
            ("c", "-d", Byzantine, "a b c/3"),
            // It has no vote any more.
            ("d", "+d", Byzantine, "!"),
        ],
    );
    // Three that only stop decide by a majority, when it was voted so.
    votes(
        "a b c d/3",
        &[
            ("a", "-d", Byzantine, "."),
            ("b", "-d", Crash, "."),
            ("c", "-d", Crash, "."),
            ("a", "-d", Crash, "a b c/2"),
        ],
    );
}

#[test]
fn who_may_vote_on_what() {
    for (begin, hub, what, faults) in [
        // Strangers, also on themselves.
        ("a b/2", "c", "+c", Byzantine),
        ("a b/2", "c", "-a", Byzantine),
        // Who is there, who is not, and under another key.
        ("a b/2", "a", "+b", Byzantine),
        ("a b/2", "a", "+B", Byzantine),
        ("a b/2", "a", "-c", Byzantine),
        ("a b/2", "a", "-B", Byzantine),
        // The last one.
        ("a/1", "a", "-a", Byzantine),
        // Majorities of other than three.
        ("a/1", "a", "+b", Crash),
        ("a b c/2", "a", "+d", Crash),
        ("a b c/2", "a", "-c", Crash),
        ("a b/2", "a", "-b", Crash),
        ("a b c d e/4", "a", "-e", Crash),
    ] {
        votes(begin, &[(hub, what, faults, "!")]);
    }
    let mut taken = vote("a", "+c", Byzantine);
    if let Content::HubVote(vote) = &mut taken.content {
        vote.key = key("b");
    }
    let mut refused = vote("a", "+c", Byzantine);
    refused.response = Response::Refused;
    let mut granted = vote("a", "+c", Byzantine);
    granted.action = Action::Grant;
    for body in [taken, refused, granted] {
        run("a b/2", &[(body, "!")]);
    }
}

#[test]
fn a_vote_counts_once_and_may_change_sides() {
    votes(
        "a b c/3",
        &[
            ("a", "+d", Byzantine, "."),
            ("a", "+d", Byzantine, "."),
            ("a", "+d", Byzantine, "."),
            ("b", "+d", Byzantine, "."),
            // Another key is another hub as far as votes go.
            ("a", "+D", Byzantine, "."),
            ("c", "+d", Byzantine, "."),
            ("a", "+d", Byzantine, "a b c d/3"),
        ],
    );
    // Votes on several hubs do not disturb each other.
    votes(
        "a b/2",
        &[
            ("a", "+c", Byzantine, "."),
            ("a", "+d", Byzantine, "."),
            ("b", "+d", Byzantine, "a b d/3"),
            ("b", "+c", Byzantine, "."),
            ("d", "+c", Byzantine, "a b c d/3"),
        ],
    );
}

#[test]
fn a_set_of_three_that_only_stop() {
    let three = votes(
        "a b/2",
        &[
            ("a", "+c", Crash, "."),
            ("b", "+c", Byzantine, "."),
            ("b", "+c", Crash, "a b c/2"),
        ],
    );
    assert_eq!(Faults::of(three.set()), Crash);
    // Two decide now. A fourth makes a set that a liar cannot stop.
    votes(
        "a b c/2",
        &[
            ("a", "+d", Byzantine, "."),
            ("c", "+d", Byzantine, "a b c d/3"),
        ],
    );
    votes(
        "a b c/2",
        &[
            ("a", "-b", Byzantine, "."),
            ("c", "-b", Byzantine, "a c/2"),
            ("c", "-a", Byzantine, "."),
            ("a", "-a", Byzantine, "c/1"),
        ],
    );
    for text in ["a/1", "a b/2", "a b c/3", "a b c d/3"] {
        assert_eq!(Faults::of(&set(text)), Byzantine, "{text}");
    }
}

#[test]
fn a_vote_that_was_possible_may_not_be_any_more() {
    // Of three a majority would decide; but then there are three already.
    votes(
        "a b/2",
        &[
            ("a", "+c", Crash, "."),
            ("a", "+d", Byzantine, "."),
            ("b", "+d", Byzantine, "a b d/3"),
            ("b", "+c", Crash, "!"),
        ],
    );
}

#[test]
fn who_left_has_left_its_votes() {
    let open = votes(
        "a b c d/3",
        &[
            ("d", "+e", Byzantine, "."),
            ("d", "-a", Byzantine, "."),
            ("a", "+e", Byzantine, "."),
            ("a", "-d", Byzantine, "."),
            ("b", "-d", Byzantine, "."),
            ("c", "-d", Byzantine, "a b c/3"),
            ("b", "+e", Byzantine, "."),
            ("a", "+D", Byzantine, "."),
            ("b", "+D", Byzantine, "."),
            ("c", "+D", Byzantine, "a b c D/3"),
        ],
    );
    let about: Vec<_> = open
        .votes()
        .iter()
        .map(|(hub, b)| (&**hub, b.len()))
        .collect();
    assert_eq!(about, [("e", 2)]);
}

#[test]
fn another_key_does_not_save_who_is_voted_out() {
    run(
        "a b c d/3",
        &[
            (vote("a", "-d", Byzantine), "."),
            (vote("b", "-d", Byzantine), "."),
            (rotation("d", "D"), "a b c D/3"),
            (vote("c", "-d", Byzantine), "!"),
            (vote("c", "-D", Byzantine), "a b c/3"),
        ],
    );
    // And who votes does so under any key that it has.
    run(
        "a b c/3",
        &[
            (vote("a", "+d", Byzantine), "."),
            (rotation("a", "A"), "A b c/3"),
            (vote("b", "+d", Byzantine), "."),
            (vote("c", "+d", Byzantine), "A b c d/3"),
        ],
    );
    let mut succession = Succession::new(set("a b/2"));
    assert_eq!(succession.apply(&rotation("c", "C")), None);
    assert_eq!(succession.apply(&rotation("B", "b")), None);
}

#[test]
fn who_said_two_things_leaves_at_once() {
    run(
        "a b c d/3",
        &[
            (lie("d", "e", "hall"), "!"),
            (lie("e", "d", "hall"), "!"),
            (lie("a", "d", "yard"), "!"),
            (lie("a", "d", "hall"), "a b c/3"),
            (lie("a", "d", "hall"), "!"),
            (lie("b", "c", "hall"), "a b/2"),
            (lie("b", "a", "hall"), "b/1"),
            (lie("b", "b", "hall"), "!"),
        ],
    );
    // Two that are left of three decide both.
    run("a b c/2", &[(lie("b", "c", "hall"), "a b/2")]);
    // It is of the hub that the record is about.
    let mut other = lie("a", "d", "hall");
    other.object = "hub:c".to_owned();
    let mut more = lie("a", "d", "hall");
    if let Content::Equivocation(proof) = &mut more.content {
        proof.evidence.push(0);
    }
    let mut refused = lie("a", "d", "hall");
    refused.action = Action::Refuse;
    for body in [other, more, refused] {
        run("a b c d/3", &[(body, "!")]);
    }
}

#[test]
fn who_stands_by_takes_the_place_of_who_goes() {
    let after = run(
        "a b c d/3",
        &[
            (vote("a", "~f", Byzantine), "."),
            (vote("b", "~f", Byzantine), "."),
            (vote("c", "~f", Byzantine), "a b c d/3 f"),
            (vote("a", "~e", Byzantine), "."),
            (vote("b", "~e", Byzantine), "."),
            // Who stands by has no vote.
            (vote("f", "~e", Byzantine), "!"),
            (vote("d", "~e", Byzantine), "a b c d/3 f e"),
            (vote("d", "-a", Byzantine), "."),
            // In the order in which they were named, and not by their ids.
            (lie("a", "d", "hall"), "a b c f/3 e"),
            (vote("d", "-a", Byzantine), "!"),
            (vote("a", "-b", Byzantine), "."),
            (vote("f", "-b", Byzantine), "."),
            (vote("c", "-b", Byzantine), "a c e f/3"),
            (lie("f", "a", "hall"), "c e f/3"),
        ],
    );
    assert!(after.votes().is_empty());
    // Of three that only stop, too.
    votes(
        "a b c/2",
        &[
            ("a", "~d", Crash, "."),
            ("b", "~d", Crash, "a b c/2 d"),
            ("a", "-c", Crash, "."),
            ("b", "-c", Crash, "a b d/2"),
        ],
    );
    // By proof, nobody is trusted as before.
    run("a b c/2 d", &[(lie("a", "c", "hall"), "a b d/3")]);
}

#[test]
fn who_stands_by_can_be_let_in_or_sent_away() {
    votes(
        "a b/2 d c",
        &[
            ("a", "+c", Byzantine, "."),
            ("b", "+c", Byzantine, "a b c/3 d"),
            ("a", "-d", Byzantine, "."),
            ("b", "-d", Byzantine, "."),
            ("c", "-d", Byzantine, "a b c/3"),
            ("c", "-d", Byzantine, "!"),
        ],
    );
    for (begin, hub, what, faults) in [
        ("a b/2", "a", "~b", Byzantine),
        ("a b/2 c", "a", "~c", Byzantine),
        ("a b/2 c", "a", "~C", Byzantine),
        ("a b/2 c", "a", "+C", Byzantine),
        ("a b/2 c", "a", "-C", Byzantine),
        ("a b/2 c", "c", "~d", Byzantine),
        ("a b/2 c", "c", "+d", Byzantine),
        ("a b/2", "a", "~c", Crash),
        // The last one has to be there, for somebody to say that the next one comes.
        ("a/1 b", "a", "-a", Byzantine),
    ] {
        votes(begin, &[(hub, what, faults, "!")]);
    }
    // By the key of one that decides, or stands by.
    for taken in ["b", "c"] {
        for change in [HubChange::Standby, HubChange::Admit] {
            let mut body = vote("a", "~d", Byzantine);
            if let Content::HubVote(vote) = &mut body.content {
                (vote.key, vote.change) = (key(taken), change);
            }
            run("a b/2 c", &[(body, "!")]);
        }
    }
    // A proof is of one that decides.
    run("a b/2 c", &[(lie("a", "c", "hall"), "!")]);
}

#[test]
fn no_more_stand_by_than_may() {
    let mut succession = Succession::new(set("a/1"));
    for number in 0..=MAX_STANDBYS {
        let mut body = vote("a", "~b", Byzantine);
        if let Content::HubVote(vote) = &mut body.content {
            vote.hub = format!("hub-{number:02}");
            vote.key = key(&char::from(b'c' + number as u8).to_string());
        }
        assert_eq!(succession.apply(&body).is_some(), number < MAX_STANDBYS);
    }
    assert_eq!(succession.set().standbys.len(), MAX_STANDBYS);
    assert!(succession.set().is_well_formed());
}

#[test]
fn a_hub_cannot_fill_the_memory_of_others() {
    let mut succession = Succession::new(set("a b/2"));
    let stranger = |number: usize| {
        let mut body = vote("a", "+c", Byzantine);
        if let Content::HubVote(vote) = &mut body.content {
            vote.hub = format!("hub-{number}");
        }
        body
    };
    for number in 0..MAX_BALLOTS {
        assert_eq!(came_of(&mut succession, &stranger(number)), ".");
    }
    assert_eq!(came_of(&mut succession, &stranger(MAX_BALLOTS)), "!");
    // What it said before, it may say again; and others have votes of their own.
    assert_eq!(came_of(&mut succession, &stranger(0)), ".");
    assert_eq!(came_of(&mut succession, &vote("b", "+d", Byzantine)), ".");
}
