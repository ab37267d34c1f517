//! What must hold of watches and boards.

use super::*;
use crate::model::{Nanos, VerdictClass};
use crate::validation::{Chart, Finding, Rule, Verdict};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Nanos = 1_000_000_000;
const START: Nanos = 1_780_000_000 * SECOND;
const BY: (&str, &str) = ("anna", "seen");

fn config() -> AlarmConfig {
    AlarmConfig::default()
}

fn tags() -> Vec<Arc<str>> {
    vec!["a".into(), "b".into()]
}

fn finding(tag: u32, chart: Chart, rule: Rule, class: VerdictClass) -> Finding {
    Finding {
        tag,
        name: tags().get(tag as usize).map_or("?", |t| t).to_owned(),
        unit: "°C".into(),
        chart,
        rule,
        class,
        sample: 0,
        last: 0,
        count: 1,
        time: START,
        value: 99.5,
        statistic: 98.0,
        limit: 90.0,
    }
}

fn flagged(tags: &[u32], chart: Chart, rule: Rule) -> Verdict {
    let class = VerdictClass::OutOfControl;
    let findings = tags.iter().map(|tag| finding(*tag, chart, rule, class));
    Verdict {
        class,
        findings: findings.collect(),
        unlisted: 0,
    }
}

fn beyond(tags: &[u32]) -> Verdict {
    flagged(tags, Chart::Individuals, Rule::BeyondLimit)
}

/// Edges in short: `+a` raised, `-a` cleared, `*` for the device.
fn short(edges: &[Edge]) -> String {
    let one = |edge: &Edge| {
        let sign = match edge.kind {
            EdgeKind::Raised(_) => '+',
            EdgeKind::Cleared => '-',
        };
        format!("{sign}{}", edge.tag.as_deref().unwrap_or("*"))
    };
    edges.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn an_alarm_is_raised_once_and_is_over_after_three_good_batches_in_a_row() {
    let mut watch = DeviceWatch::new(&config(), tags(), &[]);
    let good = Verdict::accepted();
    let story = [
        (&good, ""),
        (&beyond(&[0]), "+a"),
        (&beyond(&[0]), ""),
        (&good, ""),
        (&good, ""),
        // Once more: it all begins anew.
        (&beyond(&[0]), ""),
        (&good, ""),
        // Another tag's trouble is none of this one.
        (&beyond(&[1]), "+b"),
        (&good, "-a"),
        (&good, ""),
        (&good, "-b"),
        (&good, ""),
    ];
    for (step, (verdict, edges)) in story.into_iter().enumerate() {
        assert_eq!(short(&watch.judged(verdict)), edges, "step {step}");
    }
}

#[test]
fn what_is_worse_is_raised_again_and_what_is_milder_is_not() {
    let mut watch = DeviceWatch::new(&config(), tags(), &[]);
    let pattern = flagged(&[0], Chart::Nelson, Rule::Nelson(2));
    assert_eq!(short(&watch.judged(&pattern)), "+a");
    assert_eq!(short(&watch.judged(&beyond(&[0]))), "+a");
    assert_eq!(short(&watch.judged(&pattern)), "");
    let both = Verdict {
        findings: [pattern.findings, beyond(&[0]).findings].concat(),
        ..beyond(&[])
    };
    let mut watch = DeviceWatch::new(&config(), tags(), &[]);
    let edges = watch.judged(&both);
    let EdgeKind::Raised(trouble) = &edges[0].kind else {
        panic!("{edges:?}");
    };
    assert_eq!(trouble.severity, severity::BEYOND_LIMIT);
    assert!(trouble.message.contains("99.5 °C"), "{}", trouble.message);
    let exceeded = trouble.exceeded.as_ref().unwrap();
    assert_eq!((exceeded.value, exceeded.limit), (Some(99.5), Some(90.0)));
}

#[test]
fn a_refused_batch_and_a_lost_link_are_of_the_device_and_say_nothing_of_its_tags() {
    let invalid = Verdict {
        class: VerdictClass::Invalid,
        findings: vec![finding(
            1,
            Chart::Sensor,
            Rule::OutOfRange,
            VerdictClass::Invalid,
        )],
        unlisted: 0,
    };
    let good = Verdict::accepted();
    let mut watch = DeviceWatch::new(&config(), tags(), &[]);
    assert_eq!(short(&watch.judged(&beyond(&[0]))), "+a");
    assert_eq!(short(&watch.judged(&invalid)), "+*");
    assert_eq!(short(&watch.link(Some("no route"))), "+*");
    assert_eq!(short(&watch.link(Some("no route"))), "");
    // A batch that was under way when the link broke does not bring it back.
    for _ in 0..2 {
        assert_eq!(short(&watch.judged(&good)), "");
    }
    assert_eq!(short(&watch.judged(&good)), "-a");
    assert_eq!(short(&watch.link(None)), "");
    assert_eq!(short(&watch.judged(&good)), "");
    assert_eq!(short(&watch.judged(&invalid)), "");
    for _ in 0..2 {
        assert_eq!(short(&watch.judged(&good)), "");
    }
    assert_eq!(short(&watch.judged(&good)), "-*");
}

#[test]
fn with_findings_that_are_not_listed_no_tag_counts_as_good() {
    let mut watch = DeviceWatch::new(&config(), tags(), &[]);
    watch.judged(&beyond(&[0]));
    let cut = Verdict {
        unlisted: 1,
        ..beyond(&[1])
    };
    for _ in 0..10 {
        assert!(!short(&watch.judged(&cut)).contains("-a"));
    }
}

fn raised(severity: Severity) -> Edge {
    let trouble = Trouble {
        severity,
        message: "too hot".into(),
        exceeded: None,
    };
    Edge {
        tag: Some("a".into()),
        kind: EdgeKind::Raised(trouble),
    }
}

fn cleared() -> Edge {
    Edge {
        tag: Some("a".into()),
        kind: EdgeKind::Cleared,
    }
}

fn board() -> Board {
    Board::new(config(), Vec::new(), START)
}

/// A board with one active alarm.
fn alarmed() -> (Board, Alarm) {
    let mut board = board();
    let alarm = board.edge(&"d".into(), raised(600), START).unwrap();
    (board, alarm)
}

/// Active, acknowledged, confirmed, shelved, retained.
fn flags(alarm: &Alarm) -> String {
    let flags = [
        ('A', alarm.active),
        ('K', alarm.acknowledged),
        ('C', alarm.confirmed),
        ('S', alarm.shelving != Shelving::Unshelved),
        ('R', alarm.retain()),
    ];
    flags
        .map(|(c, set)| if set { c } else { '.' })
        .iter()
        .collect()
}

#[test]
fn a_disabled_alarm_is_followed_and_of_no_interest_until_it_is_enabled() {
    use AlarmAction::{Acknowledge, Disable, Enable};
    let (mut board, alarm) = alarmed();
    let act = |b: &mut Board, action| b.act("d/a", None, action, BY, START);
    let already = act(&mut board, Enable).unwrap_err();
    assert_eq!(already, AlarmError::Already("it is enabled already"));
    let disabled = act(&mut board, Disable).unwrap();
    assert_eq!(flags(&disabled), "A....");
    // It must be remembered, or it would be told of after the next start.
    assert!(!disabled.at_rest() && disabled.event > alarm.event);
    assert_eq!(act(&mut board, Acknowledge), Err(AlarmError::Disabled));
    assert!(matches!(
        act(&mut board, Disable),
        Err(AlarmError::Already(_))
    ));
    board.edge(&"d".into(), cleared(), START).unwrap();
    let raised = board.edge(&"d".into(), raised(900), START).unwrap();
    assert!(raised.active && !raised.retain());
    let enabled = act(&mut board, Enable).unwrap();
    assert_eq!((flags(&enabled), enabled.severity), ("A...R".into(), 900));
    let seen = board.act("d/a", Some(enabled.event), Acknowledge, BY, START);
    assert!(seen.unwrap().acknowledged);
}

#[test]
fn the_alarms_of_what_is_gone_are_over_and_those_of_others_stay() {
    let (mut board, _) = alarmed();
    board.edge(&"e".into(), raised(600), START).unwrap();
    let none = board.retire("d", |alarm| alarm.tag.is_none(), START);
    assert!(none.is_empty());
    let retired = board.retire("d", |_| true, START);
    assert_eq!(retired.len(), 1);
    assert_eq!(
        (&*retired[0].id, flags(&retired[0])),
        ("d/a", "....R".into())
    );
    assert!(board.retire("d", |_| true, START).is_empty());
    assert!(board.get("e/a").unwrap().active);
}

#[test]
fn the_life_of_an_alarm() {
    use AlarmAction::{Acknowledge, Comment, Confirm, Unshelve};
    let (mut board, alarm) = alarmed();
    assert_eq!((&*alarm.id, flags(&alarm)), ("d/a", "A...R".into()));
    let already = |b: &mut Board, action| b.act("d/a", None, action, BY, START).unwrap_err();
    assert_eq!(
        already(&mut board, Confirm),
        AlarmError::NotYet("acknowledge it before you confirm it")
    );
    assert!(matches!(
        already(&mut board, Unshelve),
        AlarmError::Already(_)
    ));
    let alarm = board.act("d/a", Some(alarm.event), Acknowledge, BY, START);
    let alarm = alarm.unwrap();
    assert_eq!(flags(&alarm), "AK..R");
    assert_eq!(alarm.comment, Some(("anna".into(), "seen".into())));
    assert!(matches!(
        already(&mut board, Acknowledge),
        AlarmError::Already(_)
    ));
    // Without a comment the last one stays.
    let alarm = board.act("d/a", Some(alarm.event), Confirm, ("bob", ""), START);
    let alarm = alarm.unwrap();
    assert_eq!(
        (flags(&alarm), alarm.comment.is_some()),
        ("AKC.R".into(), true)
    );
    let alarm = board.edge(&"d".into(), cleared(), START + SECOND).unwrap();
    assert_eq!(flags(&alarm), ".KC..");
    assert!(alarm.at_rest());
    assert_eq!((alarm.since, alarm.time), (START, START + SECOND));
    assert!(board.edge(&"d".into(), cleared(), START).is_none());
    let said = board.act("d/a", None, Comment, ("bob", "it was the fan"), START);
    assert!(said.is_ok());
    let silent = board.act("d/a", None, Comment, ("bob", ""), START);
    assert!(matches!(silent, Err(AlarmError::Argument(_))));
    let long = "x".repeat(MAX_COMMENT + 1);
    let long = board.act("d/a", None, Comment, ("bob", &long), START);
    assert!(matches!(long, Err(AlarmError::Argument(_))));
    let nowhere = board.act("d/z", None, Comment, BY, START);
    assert_eq!(nowhere, Err(AlarmError::Unknown("d/z".into())));
}

#[test]
fn only_the_newest_occurrence_is_acknowledged() {
    let (mut board, first) = alarmed();
    // Its end is a new event, but no new occurrence: who saw it active may still say so.
    board.edge(&"d".into(), cleared(), START).unwrap();
    let plan =
        |board: &Board, event| board.plan("d/a", Some(event), AlarmAction::Acknowledge, BY, START);
    assert!(plan(&board, first.event).is_ok());
    let second = board.edge(&"d".into(), raised(300), START).unwrap();
    assert_eq!((flags(&second), second.severity), ("A...R".into(), 300));
    assert_eq!(plan(&board, first.event), Err(AlarmError::Outdated));
    assert_eq!(plan(&board, second.event + 1), Err(AlarmError::Outdated));
    board
        .act(
            "d/a",
            Some(second.event),
            AlarmAction::Acknowledge,
            BY,
            START,
        )
        .unwrap();
    // What becomes worse must be acknowledged anew.
    let worse = board.edge(&"d".into(), raised(600), START).unwrap();
    assert_eq!(flags(&worse), "A...R");
    assert_eq!(plan(&board, second.event), Err(AlarmError::Outdated));
    assert!(plan(&board, worse.event).is_ok());
    assert!(board.edge(&"d".into(), raised(450), START).is_none());
}

#[test]
fn shelving_ends_by_time_by_the_alarms_end_or_by_hand() {
    let (mut board, _) = alarmed();
    let shelve = |board: &mut Board, time: Option<u64>| {
        let action = AlarmAction::Shelve(time.map(Duration::from_secs));
        board.act("d/a", None, action, BY, START)
    };
    for wrong in [0, 24 * 3600 + 1] {
        let refused = shelve(&mut board, Some(wrong));
        assert!(matches!(refused, Err(AlarmError::Argument(_))), "{wrong}");
    }
    let alarm = shelve(&mut board, Some(60)).unwrap();
    assert_eq!(alarm.shelving, Shelving::Until(START + 60 * SECOND));
    assert_eq!(board.next_expiry(), Some(START + 60 * SECOND));
    assert!(matches!(
        shelve(&mut board, Some(5)),
        Err(AlarmError::Already(_))
    ));
    assert!(board.expire(START + 59 * SECOND).is_empty());
    let over = board.expire(START + 60 * SECOND);
    assert_eq!((over.len(), over[0].shelving), (1, Shelving::Unshelved));
    assert_eq!(board.next_expiry(), None);

    // From timed to one shot, which the alarm's end ends.
    shelve(&mut board, Some(60)).unwrap();
    assert_eq!(
        shelve(&mut board, None).unwrap().shelving,
        Shelving::OneShot
    );
    assert!(matches!(
        shelve(&mut board, None),
        Err(AlarmError::Already(_))
    ));
    let alarm = board.edge(&"d".into(), cleared(), START).unwrap();
    assert_eq!(alarm.shelving, Shelving::Unshelved);
    shelve(&mut board, None).unwrap();
    let unshelved = board.act("d/a", None, AlarmAction::Unshelve, BY, START);
    assert_eq!(unshelved.unwrap().shelving, Shelving::Unshelved);
}

#[test]
fn a_full_board_makes_room_for_what_is_at_rest_and_counts_what_it_cannot_take() {
    let config = AlarmConfig {
        most: 2,
        ..config()
    };
    let mut board = Board::new(config, Vec::new(), START);
    let raise = |board: &mut Board, device: &str| {
        let device = device.into();
        board.edge(&device, raised(600), START).is_some()
    };
    assert!(raise(&mut board, "1") && raise(&mut board, "2"));
    assert!(!raise(&mut board, "3"));
    assert_eq!((board.beyond(), board.alarms().count()), (1, 2));
    for action in [AlarmAction::Acknowledge, AlarmAction::Confirm] {
        board.act("1/a", None, action, BY, START).unwrap();
    }
    board.edge(&"1".into(), cleared(), START).unwrap();
    assert!(raise(&mut board, "3"));
    let ids: Vec<_> = board.alarms().map(|alarm| &*alarm.id).collect();
    assert_eq!(ids, ["2/a", "3/a"]);
}

#[test]
fn a_board_goes_on_from_what_was_recorded() {
    let (mut board, _) = alarmed();
    let alarm = board
        .act("d/a", None, AlarmAction::Acknowledge, BY, START)
        .unwrap();
    let text = serde_json::to_string(&alarm).unwrap();
    let read: Alarm = serde_json::from_str(&text).unwrap();
    assert_eq!(read, alarm);
    let mut board = Board::new(config(), vec![read.clone()], START);
    assert_eq!(board.get("d/a"), Some(&alarm));
    let mut watch = DeviceWatch::new(&config(), tags(), &[read]);
    // Still there: nothing new. Three good batches: over.
    assert_eq!(short(&watch.judged(&beyond(&[0]))), "");
    for _ in 0..2 {
        watch.judged(&Verdict::accepted());
    }
    let edges = watch.judged(&Verdict::accepted());
    assert_eq!(short(&edges), "-a");
    let over = board.edge(&"d".into(), edges[0].clone(), START).unwrap();
    assert!(over.event > alarm.event);
    assert_eq!(flags(&over), ".K..R");
}

#[derive(Clone, Debug)]
enum Step {
    Edge(Edge),
    Act(Option<i64>, AlarmAction),
    Time(Nanos),
}

fn step() -> impl Strategy<Value = Step> {
    let action = prop_oneof![
        Just(AlarmAction::Acknowledge),
        Just(AlarmAction::Confirm),
        Just(AlarmAction::Shelve(None)),
        (1u64..100).prop_map(|s| AlarmAction::Shelve(Some(Duration::from_secs(s)))),
        Just(AlarmAction::Unshelve),
        Just(AlarmAction::Comment),
    ];
    prop_oneof![
        (1u16..1000).prop_map(|severity| Step::Edge(raised(severity))),
        Just(Step::Edge(cleared())),
        (proptest::option::of(-3i64..3), action).prop_map(|(back, action)| Step::Act(back, action)),
        (0..50 * SECOND).prop_map(Step::Time),
    ]
}

proptest! {
    /// Whatever happens: events only rise, one a change; what is not acknowledged is not confirmed;
    /// what is active or not dealt with is retained; only a new occurrence takes an acknowledgement
    /// back; nothing is changed by what is refused.
    #[test]
    fn a_board_keeps_its_word(steps in proptest::collection::vec(step(), 1..60)) {
        let mut board = board();
        let mut now = START;
        let mut before: Option<Alarm> = None;
        for step in steps {
            let changed = match step {
                Step::Edge(edge) => board.edge(&"d".into(), edge, now),
                Step::Act(back, action) => {
                    let event = before.as_ref().and_then(|alarm| Some(alarm.event.saturating_add_signed(back?)));
                    let planned = board.plan("d/a", event, action, BY, now);
                    let done = board.act("d/a", event, action, BY, now);
                    prop_assert_eq!(&planned, &done);
                    done.ok()
                }
                Step::Time(passed) => {
                    now += passed;
                    board.expire(now).pop()
                }
            };
            let after = board.get("d/a").cloned();
            match changed {
                Some(changed) => {
                    prop_assert_eq!(Some(&changed), after.as_ref());
                    prop_assert!(changed.event > before.as_ref().map_or(0, |alarm| alarm.event));
                    prop_assert!(changed.occurrence <= changed.event);
                    let anew = before.as_ref().is_none_or(|b| b.occurrence != changed.occurrence);
                    if let Some(before) = before.filter(|_| !anew) {
                        prop_assert!(changed.acknowledged || !before.acknowledged);
                        prop_assert!(changed.confirmed || !before.confirmed);
                    }
                }
                None => prop_assert_eq!(&before, &after),
            }
            if let Some(alarm) = &after {
                prop_assert!(alarm.acknowledged || !alarm.confirmed);
                prop_assert_eq!(alarm.retain(), alarm.active || !alarm.acknowledged || !alarm.confirmed);
                prop_assert!(!matches!(alarm.shelving, Shelving::Until(end) if end <= now) || board.next_expiry() <= Some(now));
            }
            before = after;
        }
    }

    /// However verdicts come, edges of one alarm alternate, or become worse, and at least `clear_after`
    /// batches lie between a finding and the end.
    #[test]
    fn a_watch_never_chatters(bad in proptest::collection::vec(any::<bool>(), 1..100), clear_after in 1u32..5) {
        let config = AlarmConfig { clear_after, ..config() };
        let mut watch = DeviceWatch::new(&config, tags(), &[]);
        let (mut active, mut good) = (false, 0);
        for bad in bad {
            let edges = watch.judged(&if bad { beyond(&[0]) } else { Verdict::accepted() });
            good = if bad { 0 } else { good + 1 };
            let expected = match (active, bad) {
                (false, true) => "+a",
                (true, false) if good == clear_after => "-a",
                _ => "",
            };
            prop_assert_eq!(short(&edges), expected);
            active = match expected {
                "+a" => true,
                "-a" => false,
                _ => active,
            };
        }
    }
}
