//! The newest word on what is remembered: alarms and access.

use super::*;

/// What a hub or a user recorded of an object that is remembered.
fn a_word(object: &str, action: Action, kind: &str, word: u8) -> Draft {
    let response = match action {
        Action::Refuse => Response::Refused,
        _ => Response::Accepted,
    };
    Draft {
        time: 50,
        subject: "user:anna".to_owned(),
        action,
        object: object.to_owned(),
        permit: None,
        content: Content::Message(MessageContent {
            kind: kind.to_owned(),
            commitment: Hash([word; 32]),
            sealed: SealedRef {
                hash: Hash([word; 32]),
                length: 9,
                key_epoch: 1,
            },
        }),
        response,
    }
}

#[test]
fn the_newest_word_on_an_alarm_is_kept_until_nothing_must_be_remembered() {
    use crate::ledger::words::{ALARM, ALARM_OVER};
    let (a, b) = ("alarm:press-1/pressure", "alarm:press-1");
    let mut drafts = vec![
        a_word(a, Action::Alarm, ALARM, 1),
        a_word(b, Action::Alarm, ALARM, 2),
        a_word(a, Action::Acknowledge, ALARM, 3),
        // Neither a refusal nor something about a device is the state of an alarm.
        a_word(a, Action::Refuse, "alarm-refused", 4),
        a_word("device:press-1", Action::Control, "control", 5),
    ];
    let words = |state: &State| {
        let words = state.alarms().iter();
        let words = words.map(|(id, word)| (id.clone(), word.message.commitment.0[0]));
        words.collect::<Vec<_>>()
    };
    let state = apply_all(&records(&drafts)).unwrap();
    assert_eq!(words(&state), [(b.to_owned(), 2), (a.to_owned(), 3)]);

    drafts.push(a_word(a, Action::Acknowledge, ALARM_OVER, 6));
    let rest = apply_all(&records(&drafts)).unwrap();
    assert_eq!(words(&rest), [(b.to_owned(), 2)]);
    drafts.push(a_word(b, Action::Alarm, ALARM_OVER, 7));
    let none = apply_all(&records(&drafts)).unwrap();
    assert!(none.alarms().is_empty());
}

#[test]
fn the_newest_word_on_access_is_kept_and_is_part_of_the_state() {
    use crate::ledger::words::{ACCESS, ACCESS_OVER};
    let (ann, permit) = ("access:subject/user:ann", "access:permit/read/user:ann");
    let mut drafts = vec![
        a_word(ann, Action::Enrol, ACCESS, 1),
        a_word(permit, Action::Grant, ACCESS, 2),
        a_word(ann, Action::Configure, ACCESS, 3),
        // What was refused, and what was only read, changes nothing.
        a_word(ann, Action::Refuse, ACCESS, 4),
        a_word(ann, Action::Read, ACCESS, 5),
    ];
    let words = |state: &State| {
        let words = state.access().iter();
        let words = words.map(|(id, word)| (id.clone(), word.message.commitment.0[0]));
        words.collect::<Vec<_>>()
    };
    let state = apply_all(&records(&drafts)).unwrap();
    assert_eq!(words(&state), [(permit.to_owned(), 2), (ann.to_owned(), 3)]);
    let without = apply_all(&records(&drafts[..2])).unwrap();
    assert_ne!(state.hash(), without.hash());
    drafts.push(a_word(permit, Action::Grant, ACCESS_OVER, 6));
    let rest = apply_all(&records(&drafts)).unwrap();
    assert_eq!(words(&rest), [(ann.to_owned(), 3)]);
    // Elsewhere nobody is enrolled, withdrawn or configured by sealed words.
    for action in [Action::Enrol, Action::Revoke, Action::Configure] {
        let mut hidden = records(&[a_word(ann, action, ACCESS, 7)]);
        let last = hidden.last_mut().unwrap();
        last.body.object = "identity:user:ann".to_owned();
        last.signature = signer().sign(&last.body.hash());
        let refused = apply_all(&hidden);
        assert!(
            matches!(refused, Err(ApplyError::Shape { .. })),
            "{action:?}"
        );
    }
}
