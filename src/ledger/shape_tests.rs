//! Which records of what hubs say about themselves make sense on their own.

use super::*;
use weighbridge_verifier::{
    EquivocationContent, Faults, Hash, HubChange, HubVoteContent, LeaseContent, PublicKey,
};

fn body(action: Action, object: &str, content: Content) -> RecordBody {
    RecordBody {
        version: RECORD_VERSION,
        chain: "plant".to_owned(),
        hub: "hub-1".to_owned(),
        sequence: 1,
        previous: Hash::ZERO,
        time: 1,
        subject: "user:anna".to_owned(),
        action,
        object: object.to_owned(),
        permit: None,
        content,
        response: Response::Accepted,
    }
}

fn vote(hub: &str) -> Content {
    Content::HubVote(HubVoteContent {
        hub: hub.to_owned(),
        key: PublicKey([2; 33]),
        change: HubChange::Admit,
        faults: Faults::Byzantine,
    })
}

fn lease(device: &str, epoch: u64, hub: &str) -> Content {
    Content::Lease(LeaseContent {
        device: device.to_owned(),
        epoch,
        hub: hub.to_owned(),
    })
}

fn proof(length: usize) -> Content {
    Content::Equivocation(EquivocationContent {
        evidence: vec![0; length],
    })
}

#[test]
fn votes_leases_and_proofs_have_one_shape() {
    let long = "h".repeat(MAX_NAME + 1);
    let of_long = format!("hub:{}", &long[..MAX_NAME - 4]);
    let cases = [
        (Action::Membership, "hub:hub-2", vote("hub-2"), true),
        (
            Action::Membership,
            &*of_long,
            vote(&long[..MAX_NAME - 4]),
            true,
        ),
        (Action::Membership, "hub:hub-3", vote("hub-2"), false),
        (Action::Membership, "hub-2", vote("hub-2"), false),
        (Action::Membership, "hub:", vote(""), false),
        (Action::Grant, "hub:hub-2", vote("hub-2"), false),
        (Action::Enrol, "hub:hub-2", vote("hub-2"), false),
        (
            Action::Grant,
            "device:press-1",
            lease("press-1", 1, "hub-2"),
            true,
        ),
        (
            Action::Grant,
            "device:press-1",
            lease("press-1", 0, "hub-2"),
            false,
        ),
        (
            Action::Grant,
            "device:press-2",
            lease("press-1", 1, "hub-2"),
            false,
        ),
        (
            Action::Grant,
            "device:press-1",
            lease("press-1", 1, ""),
            false,
        ),
        (
            Action::Grant,
            "device:press-1",
            lease("press-1", 1, &long),
            false,
        ),
        (
            Action::Membership,
            "device:press-1",
            lease("press-1", 1, "hub-2"),
            false,
        ),
        (
            Action::Store,
            "device:press-1",
            lease("press-1", 1, "hub-2"),
            false,
        ),
        (
            Action::Membership,
            "hub:hub-2",
            proof(MAX_EQUIVOCATION),
            true,
        ),
        (
            Action::Membership,
            "hub:hub-2",
            proof(MAX_EQUIVOCATION + 1),
            false,
        ),
        (Action::Membership, "hub:", proof(9), false),
        (Action::Membership, "device:hub-2", proof(9), false),
        (Action::Grant, "hub:hub-2", proof(9), false),
        (
            Action::Membership,
            "hub:hub-2",
            Content::Commitment(Hash::ZERO),
            false,
        ),
    ];
    for (action, object, content, holds) in cases {
        let body = body(action, object, content);
        let checked = check_shape(Suite::Nist, &body);
        assert_eq!(checked.is_ok(), holds, "{body:?}: {checked:?}");
        // What is refused is said in other words.
        let refused = RecordBody {
            action: Action::Refuse,
            response: Response::Refused,
            ..body
        };
        assert!(check_shape(Suite::Nist, &refused).is_err());
    }
}
