//! Who is in the set.

use super::*;
use weighbridge_verifier::equivocation::{Equivocation, Signed};
use weighbridge_verifier::succession::SuccessionError;
use weighbridge_verifier::vote::Vote;
use weighbridge_verifier::{EquivocationContent, Faults, HubChange, HubVoteContent};

/// Hub number `n`, with a key of its own.
pub(super) fn hub(n: u8) -> TestSigner {
    TestSigner::new(SUITE, &format!("hub-{n}"), n)
}

/// The state of a chain that the first hub has begun.
pub(super) fn begun() -> State {
    apply_all(&records(&[])).unwrap()
}

/// `by` records `draft`.
pub(super) fn say(state: &mut State, by: &TestSigner, draft: &Draft) -> Result<(), ApplyError> {
    let (record, _) = sign_record(draft, state, by, 5_000);
    let before = state.hash();
    let applied = state.apply_with(&record, by);
    if applied.is_err() {
        assert_eq!(state.hash(), before);
    }
    applied
}

pub(super) fn membership(object: &str, content: Content) -> Draft {
    Draft {
        action: Action::Membership,
        object: object.to_owned(),
        content,
        ..store_draft(SUITE, "press-1", 1, 10)
    }
}

fn vote(about: &TestSigner, change: HubChange, faults: Faults) -> Draft {
    let content = HubVoteContent {
        hub: about.id().to_owned(),
        key: about.public_key(),
        change,
        faults,
    };
    let object = format!("hub:{}", about.id());
    membership(&object, Content::HubVote(content))
}

pub(super) fn admit(about: &TestSigner) -> Draft {
    vote(about, HubChange::Admit, Faults::Byzantine)
}

pub(super) fn dismissal(about: &TestSigner) -> Draft {
    vote(about, HubChange::Dismiss, Faults::Byzantine)
}

/// A set of `n` hubs.
pub(super) fn set_of(n: u8) -> State {
    let mut state = begun();
    for comer in 2..=n {
        for voter in 1..comer {
            say(&mut state, &hub(voter), &admit(&hub(comer))).unwrap_or_else(|why| {
                // Enough of the others have voted.
                assert!(state.is_member(&format!("hub-{comer}")), "{why}");
            });
        }
    }
    state
}

fn size_and_threshold(state: &State) -> (usize, u32) {
    let set = state.validators().unwrap();
    (set.validators.len(), set.threshold)
}

#[test]
fn a_set_grows_by_votes_and_shrinks_by_them() {
    for (n, threshold) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5)] {
        let state = set_of(n);
        assert_eq!(size_and_threshold(&state), (n as usize, threshold));
        assert!(state.votes().is_empty());
        assert!(state.validators().unwrap().is_well_formed());
    }
    let mut state = set_of(4);
    for voter in [1, 2] {
        say(&mut state, &hub(voter), &dismissal(&hub(4))).unwrap();
        assert!(state.is_member("hub-4"));
    }
    // Its own vote counts, too: it may go by itself.
    say(&mut state, &hub(4), &dismissal(&hub(4))).unwrap();
    assert_eq!(size_and_threshold(&state), (3, 3));
    assert!(state.identities()["hub-4"].revoked);
    let session = membership("x", Content::Commitment(Hash::ZERO));
    let session = Draft {
        action: Action::Session,
        ..session
    };
    let gone = Err(ApplyError::UnknownHub("hub-4".to_owned()));
    assert_eq!(say(&mut state, &hub(4), &session), gone);
    // Also where nobody looks at signatures.
    let (record, hash) = sign_record(&session, &state, &hub(4), 5_000);
    assert_eq!(state.apply_signed(&record.body, hash), gone);
}

#[test]
fn three_hubs_that_stop_but_do_not_lie_decide_by_a_majority() {
    let mut state = set_of(2);
    let crash = vote(&hub(3), HubChange::Admit, Faults::Crash);
    say(&mut state, &hub(1), &crash).unwrap();
    // Another word on how they are trusted is another vote.
    say(&mut state, &hub(2), &admit(&hub(3))).unwrap();
    assert_eq!(size_and_threshold(&state), (2, 2));
    say(&mut state, &hub(2), &crash).unwrap();
    assert_eq!(size_and_threshold(&state), (3, 2));
    let refused = say(
        &mut state,
        &hub(1),
        &vote(&hub(4), HubChange::Admit, Faults::Crash),
    );
    let why = SuccessionError::Faults(4);
    assert_eq!(refused, Err(ApplyError::Membership(why)));
}

#[test]
fn who_comes_has_an_id_and_a_key_of_its_own() {
    let mut state = set_of(2);
    let known = [
        enrol("press-1", IdentityKind::Device, Some(hub(9).public_key())),
        enrol("hub-3", IdentityKind::Hub, Some(hub(3).public_key())),
        enrol("anna", IdentityKind::User, None),
    ];
    for draft in known {
        say(&mut state, &hub(1), &draft).unwrap();
    }
    let comes = |id: &str, byte: u8| admit(&TestSigner::new(SUITE, id, byte));
    let refused = |state: &mut State, draft: &Draft| say(state, &hub(1), draft).unwrap_err();
    let taken = |id: &str, of: &str| ApplyError::KeyTaken(id.to_owned(), of.to_owned());
    assert_eq!(
        refused(&mut state, &comes("anna", 20)),
        ApplyError::IdentityTaken("anna".to_owned())
    );
    assert_eq!(
        refused(&mut state, &comes("hub-4", 9)),
        taken("hub-4", "press-1")
    );
    assert_eq!(
        refused(&mut state, &comes("hub-3", 21)),
        ApplyError::Replaced("hub-3".to_owned())
    );
    let twice = SuccessionError::Member("hub-2".to_owned());
    assert_eq!(
        refused(&mut state, &comes("hub-2", 22)),
        ApplyError::Membership(twice)
    );
    let stranger = say(&mut state, &hub(3), &admit(&hub(4)));
    assert_eq!(stranger, Err(ApplyError::UnknownHub("hub-3".to_owned())));
    // It was enrolled by hand with this very key.
    for voter in [1, 2] {
        say(&mut state, &hub(voter), &admit(&hub(3))).unwrap();
    }
    assert!(state.is_member("hub-3"));
    // Who was dismissed comes back with another key, and goes on in its own chain of records.
    for voter in [1, 2, 3] {
        say(&mut state, &hub(voter), &dismissal(&hub(2))).unwrap();
    }
    let same = refused(&mut state, &admit(&hub(2)));
    assert_eq!(same, taken("hub-2", "hub-2"));
    let anew = TestSigner::new(SUITE, "hub-2", 30);
    for voter in [1, 3] {
        say(&mut state, &hub(voter), &admit(&anew)).unwrap();
    }
    assert_eq!(state.former_keys("hub-2"), [hub(2).public_key()]);
    say(&mut state, &anew, &admit(&hub(5))).unwrap();
}

#[test]
fn who_lied_is_out_at_once() {
    let two = |liar: &TestSigner| {
        let signed = |block: Option<Hash>| {
            let message = Vote {
                block,
                ..Vote::precommit(9, 0, Hash::ZERO)
            };
            let signature = liar.sign(&message.message(SUITE, "plant"));
            Signed { message, signature }
        };
        let (a, b) = (signed(None), signed(Some(Hash([3; 32]))));
        let evidence = Equivocation::votes(liar.public_key(), a, b).to_bytes();
        let object = format!("hub:{}", liar.id());
        membership(
            &object,
            Content::Equivocation(EquivocationContent { evidence }),
        )
    };
    let mut state = set_of(4);
    say(&mut state, &hub(3), &admit(&hub(5))).unwrap();
    say(&mut state, &hub(1), &two(&hub(3))).unwrap();
    assert_eq!(size_and_threshold(&state), (3, 3));
    assert!(state.identities()["hub-3"].revoked);
    assert!(state.votes().is_empty(), "its votes are forgotten");
    let again = say(&mut state, &hub(1), &two(&hub(3)));
    assert!(matches!(again, Err(ApplyError::Membership(_))));
    let stranger = say(&mut state, &hub(1), &two(&hub(9)));
    assert!(matches!(stranger, Err(ApplyError::Membership(_))));
    let mut last = begun();
    let refused = say(&mut last, &hub(1), &two(&hub(1)));
    assert_eq!(refused, Err(ApplyError::Membership(SuccessionError::Last)));
}

/// Votes are in the state's hash and in its bytes, and neither knows them where there are none.
#[test]
fn open_votes_are_part_of_the_state() {
    let mut state = set_of(3);
    let (before, image) = (state.hash(), state.to_image());
    say(&mut state, &hub(1), &admit(&hub(4))).unwrap();
    let mut other = set_of(3);
    say(&mut other, &hub(1), &admit(&hub(5))).unwrap();
    assert_ne!(state.hash(), before);
    assert_ne!(state.hash(), other.hash());
    let with = state.to_image();
    assert!(with.len() > image.len());
    assert_eq!(State::of_image(SUITE, &with).unwrap(), state);
    assert_eq!(State::of_image(SUITE, &image).unwrap().hash(), before);
    assert!(State::of_image(SUITE, &with[..with.len() - 1]).is_err());
    // Empty sections written all the same would be a second form of the same state.
    let empty =
        weighbridge_verifier::encode(&(Votes::new(), BTreeMap::<String, Vec<Lease>>::new()));
    assert!(State::of_image(SUITE, &[&image[..], &empty].concat()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whoever votes for whatever: the set stays one that can decide, more than half of it decide, and two states
    /// that heard the same agree.
    #[test]
    fn whatever_is_voted_the_set_can_decide(
        votes in proptest::collection::vec((1u8..7, 1u8..7, any::<bool>(), any::<bool>()), 1..50)
    ) {
        let mut state = set_of(3);
        let mut other = state.clone();
        for (by, about, comes, crash) in votes {
            let faults = if crash { Faults::Crash } else { Faults::Byzantine };
            let change = if comes { HubChange::Admit } else { HubChange::Dismiss };
            let draft = vote(&hub(about), change, faults);
            let said = say(&mut state, &hub(by), &draft);
            prop_assert_eq!(say(&mut other, &hub(by), &draft), said);
            let set = state.validators().unwrap();
            prop_assert!(set.is_well_formed());
            prop_assert!(set.threshold as usize * 2 > set.validators.len());
            for validator in &set.validators {
                let identity = &state.identities()[&validator.id];
                prop_assert!(!identity.revoked && identity.key == Some(validator.key));
            }
            let mut voters = state.votes().values().flat_map(|ballots| ballots.keys());
            prop_assert!(voters.all(|voter| state.is_member(voter)));
        }
        prop_assert_eq!(state.hash(), other.hash());
    }
}
