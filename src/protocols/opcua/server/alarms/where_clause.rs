//! Where clauses of event filters (OPC 10000-4, 7.7.3), with three-valued logic: a comparison of what
//! cannot be compared is neither true nor false.

use opcua::types::{
    AttributeId, ContentFilter, FilterOperator, NodeId, NumericRange, Operand, QualifiedName,
    Variant, VariantScalarTypeId, VariantTypeId,
};
use std::cmp::Ordering;

/// Elements of one clause; a longer one is left to the stack.
const MOST_ELEMENTS: usize = 256;

/// A clause that can be evaluated.
#[derive(Debug)]
pub(super) struct Where(Vec<Element>);

#[derive(Debug)]
struct Element {
    operator: FilterOperator,
    operands: Vec<Term>,
}

#[derive(Debug)]
enum Term {
    Element(usize),
    Literal(Variant),
    Field {
        path: Vec<QualifiedName>,
        attribute: AttributeId,
        range: NumericRange,
    },
}

/// What a clause asks of an event.
pub(super) trait Subject {
    /// A field of it.
    fn field(
        &self,
        attribute: AttributeId,
        range: &NumericRange,
        path: &[QualifiedName],
    ) -> Variant;

    /// Whether it is of this type, or of one of its subtypes.
    fn is_of_type(&self, id: &NodeId) -> bool;
}

impl Where {
    /// Reads a clause; `None` when it is empty, or not one that can be evaluated here.
    pub(super) fn parse(clause: &ContentFilter) -> Option<Self> {
        let elements = clause.elements.as_ref()?;
        if elements.is_empty() || elements.len() > MOST_ELEMENTS {
            return None;
        }
        let read = elements.iter().enumerate().map(|(at, element)| {
            let operands = element.filter_operands.as_ref()?;
            let terms = operands.iter().map(|operand| {
                let operand = Operand::try_from(operand.clone()).ok()?;
                Term::of(operand, at, elements.len())
            });
            let element = Element {
                operator: element.filter_operator,
                operands: terms.collect::<Option<_>>()?,
            };
            element.is_sound().then_some(element)
        });
        Some(Self(read.collect::<Option<_>>()?))
    }

    /// Whether the subject passes.
    pub(super) fn passes(&self, subject: &impl Subject) -> bool {
        // Elements refer to later ones only, so each is evaluated once, from the last to the first.
        let mut values = vec![Variant::Empty; self.0.len()];
        for (at, element) in self.0.iter().enumerate().rev() {
            let value = element.value(subject, &values);
            if let Some(slot) = values.get_mut(at) {
                *slot = value;
            }
        }
        matches!(values.first(), Some(Variant::Boolean(true)))
    }
}

impl Term {
    fn of(operand: Operand, at: usize, elements: usize) -> Option<Self> {
        match operand {
            Operand::ElementOperand(element) => {
                let to = element.index as usize;
                (to > at && to < elements).then_some(Self::Element(to))
            }
            Operand::LiteralOperand(literal) => Some(Self::Literal(literal.value)),
            Operand::SimpleAttributeOperand(simple) => Some(Self::Field {
                path: simple.browse_path.unwrap_or_default(),
                attribute: AttributeId::from_u32(simple.attribute_id).ok()?,
                range: simple.index_range,
            }),
            Operand::AttributeOperand(_) => None,
        }
    }

    fn value(&self, subject: &impl Subject, values: &[Variant]) -> Variant {
        match self {
            Self::Element(at) => values.get(*at).cloned().unwrap_or_default(),
            Self::Literal(value) => value.clone(),
            Self::Field {
                path,
                attribute,
                range,
            } => subject.field(*attribute, range, path),
        }
    }
}

impl Element {
    fn is_sound(&self) -> bool {
        use FilterOperator as F;
        let count = self.operands.len();
        match self.operator {
            F::Equals
            | F::GreaterThan
            | F::LessThan
            | F::GreaterThanOrEqual
            | F::LessThanOrEqual
            | F::Like
            | F::And
            | F::Or
            | F::Cast
            | F::BitwiseAnd
            | F::BitwiseOr => count == 2,
            F::IsNull | F::Not | F::OfType => count == 1,
            F::Between => count == 3,
            F::InList => count >= 2,
            F::InView | F::RelatedTo => false,
        }
    }

    fn value(&self, subject: &impl Subject, values: &[Variant]) -> Variant {
        use FilterOperator as F;
        let term = |at: usize| {
            let term = self.operands.get(at);
            term.map_or(Variant::Empty, |term| term.value(subject, values))
        };
        let order = |wanted: fn(Ordering) -> bool| {
            compared(&term(0), &term(1)).map_or(Variant::Empty, |order| wanted(order).into())
        };
        match self.operator {
            F::Equals => equal(&term(0), &term(1)).map_or(Variant::Empty, Variant::from),
            F::IsNull => (term(0) == Variant::Empty).into(),
            F::GreaterThan => order(Ordering::is_gt),
            F::LessThan => order(Ordering::is_lt),
            F::GreaterThanOrEqual => order(Ordering::is_ge),
            F::LessThanOrEqual => order(Ordering::is_le),
            F::Like => match (text(&term(0)), text(&term(1))) {
                (Some(text), Some(pattern)) => like(&text, &pattern).into(),
                _ => Variant::Empty,
            },
            F::Not => truth(&term(0)).map_or(Variant::Empty, |t| (!t).into()),
            F::Between => {
                let from = compared(&term(0), &term(1)).map(Ordering::is_ge);
                let to = compared(&term(0), &term(2)).map(Ordering::is_le);
                both(from, to)
            }
            F::InList => {
                let value = term(0);
                let mut found = (1..self.operands.len()).map(|at| equal(&value, &term(at)));
                found.any(|equal| equal == Some(true)).into()
            }
            F::And => both(truth(&term(0)), truth(&term(1))),
            F::Or => match (truth(&term(0)), truth(&term(1))) {
                (Some(true), _) | (_, Some(true)) => true.into(),
                (Some(false), Some(false)) => false.into(),
                _ => Variant::Empty,
            },
            F::Cast => match type_of(&term(1)) {
                Some(target) => term(0).cast(VariantTypeId::Scalar(target)),
                None => Variant::Empty,
            },
            F::BitwiseAnd => bits(&term(0), &term(1), |a, b| a & b),
            F::BitwiseOr => bits(&term(0), &term(1), |a, b| a | b),
            F::OfType => match term(0) {
                Variant::NodeId(id) => subject.is_of_type(&id).into(),
                Variant::ExpandedNodeId(id) => subject.is_of_type(&id.node_id).into(),
                _ => Variant::Empty,
            },
            F::InView | F::RelatedTo => Variant::Empty,
        }
    }
}

fn both(a: Option<bool>, b: Option<bool>) -> Variant {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => false.into(),
        (Some(true), Some(true)) => true.into(),
        _ => Variant::Empty,
    }
}

fn truth(value: &Variant) -> Option<bool> {
    match value {
        Variant::Boolean(truth) => Some(*truth),
        _ => None,
    }
}

fn text(value: &Variant) -> Option<String> {
    match value {
        Variant::String(text) => Some(text.as_ref().to_owned()),
        Variant::LocalizedText(text) => Some(text.text.as_ref().to_owned()),
        Variant::QualifiedName(name) => Some(name.name.as_ref().to_owned()),
        _ => None,
    }
}

fn integer(value: &Variant) -> Option<i128> {
    Some(match value {
        Variant::SByte(v) => i128::from(*v),
        Variant::Byte(v) => i128::from(*v),
        Variant::Int16(v) => i128::from(*v),
        Variant::UInt16(v) => i128::from(*v),
        Variant::Int32(v) => i128::from(*v),
        Variant::UInt32(v) => i128::from(*v),
        Variant::Int64(v) => i128::from(*v),
        Variant::UInt64(v) => i128::from(*v),
        Variant::StatusCode(v) => i128::from(v.bits()),
        Variant::DateTime(v) => i128::from(v.ticks()),
        _ => return None,
    })
}

fn float(value: &Variant) -> Option<f64> {
    match value {
        Variant::Float(v) => Some(f64::from(*v)),
        Variant::Double(v) => Some(*v),
        other => integer(other).map(|v| v as f64),
    }
}

/// Their order; `None` when they have none.
fn compared(a: &Variant, b: &Variant) -> Option<Ordering> {
    if let (Some(a), Some(b)) = (integer(a), integer(b)) {
        return Some(a.cmp(&b));
    }
    if let (Some(a), Some(b)) = (float(a), float(b)) {
        return a.partial_cmp(&b);
    }
    if let (Some(a), Some(b)) = (text(a), text(b)) {
        return Some(a.cmp(&b));
    }
    match (a, b) {
        (Variant::Boolean(a), Variant::Boolean(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Whether they are the same; `None` when they cannot be compared.
fn equal(a: &Variant, b: &Variant) -> Option<bool> {
    let id = |value: &Variant| match value {
        Variant::NodeId(id) => Some((**id).clone()),
        Variant::ExpandedNodeId(id) => Some(id.node_id.clone()),
        _ => None,
    };
    if let (Some(a), Some(b)) = (id(a), id(b)) {
        return Some(a == b);
    }
    match (a, b) {
        (Variant::ByteString(a), Variant::ByteString(b)) => Some(a == b),
        (Variant::Guid(a), Variant::Guid(b)) => Some(a == b),
        _ => compared(a, b).map(Ordering::is_eq),
    }
}

fn bits(a: &Variant, b: &Variant, operation: fn(i128, i128) -> i128) -> Variant {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => i64::try_from(operation(a, b)).map_or(Variant::Empty, Variant::from),
        _ => Variant::Empty,
    }
}

fn type_of(value: &Variant) -> Option<VariantScalarTypeId> {
    let id = match value {
        Variant::NodeId(id) => (**id).clone(),
        Variant::ExpandedNodeId(id) => id.node_id.clone(),
        _ => return None,
    };
    match VariantTypeId::try_from(&id) {
        Ok(VariantTypeId::Scalar(scalar)) => Some(scalar),
        _ => None,
    }
}

/// The standard's patterns: `%` any characters, `_` one, `[abc]`, `[a-f]`, `[^abc]`, `\` before one that
/// means itself.
fn like(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let pattern = pieces(pattern);
    // reached[i]: the pieces so far match the first i characters.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for piece in &pattern {
        let mut next = vec![false; text.len() + 1];
        match piece {
            Piece::Any => {
                let mut open = false;
                for (slot, here) in next.iter_mut().zip(&reached) {
                    open |= here;
                    *slot = open;
                }
            }
            Piece::One(matches) => {
                let steps = reached
                    .iter()
                    .zip(&text)
                    .map(|(here, c)| *here && matches.takes(*c));
                for (slot, step) in next.iter_mut().skip(1).zip(steps) {
                    *slot = step;
                }
            }
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

enum Piece {
    Any,
    One(Class),
}

enum Class {
    Every,
    Char(char),
    Of {
        ranges: Vec<(char, char)>,
        not: bool,
    },
}

impl Class {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Every => true,
            Self::Char(wanted) => *wanted == c,
            Self::Of { ranges, not } => ranges.iter().any(|(a, b)| (*a..=*b).contains(&c)) != *not,
        }
    }
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        pieces.push(match c {
            '%' => Piece::Any,
            '_' => Piece::One(Class::Every),
            '\\' => Piece::One(Class::Char(rest.next().unwrap_or('\\'))),
            '[' => {
                let not = rest.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while let Some(from) = rest.next().filter(|c| *c != ']') {
                    let from = if from == '\\' {
                        rest.next().unwrap_or(from)
                    } else {
                        from
                    };
                    let mut to = from;
                    if rest.next_if_eq(&'-').is_some() {
                        match rest.next_if(|c| *c != ']') {
                            Some(end) => to = end,
                            None => ranges.push(('-', '-')),
                        }
                    }
                    ranges.push((from, to));
                }
                Piece::One(Class::Of { ranges, not })
            }
            c => Piece::One(Class::Char(c)),
        });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use opcua::types::{ContentFilterElement, LocalizedText, ObjectTypeId, SimpleAttributeOperand};

    /// An event of severity 600 from plc-1/temperature.
    struct Hot;

    impl Subject for Hot {
        fn field(
            &self,
            attribute: AttributeId,
            _: &NumericRange,
            path: &[QualifiedName],
        ) -> Variant {
            match (attribute, path) {
                (AttributeId::Value, [name]) => match name.name.as_ref() {
                    "Severity" => 600u16.into(),
                    "SourceName" => "plc-1/temperature".into(),
                    "Message" => LocalizedText::new("en", "too hot").into(),
                    "EventType" => NodeId::from(ObjectTypeId::OffNormalAlarmType).into(),
                    _ => Variant::Empty,
                },
                _ => Variant::Empty,
            }
        }

        fn is_of_type(&self, id: &NodeId) -> bool {
            *id == ObjectTypeId::ConditionType || *id == ObjectTypeId::OffNormalAlarmType
        }
    }

    fn the(name: &str) -> Operand {
        Operand::SimpleAttributeOperand(SimpleAttributeOperand {
            type_definition_id: ObjectTypeId::BaseEventType.into(),
            browse_path: Some(vec![QualifiedName::new(0, name)]),
            attribute_id: AttributeId::Value as u32,
            index_range: Default::default(),
        })
    }

    fn of_type(id: ObjectTypeId) -> Operand {
        Operand::literal(NodeId::from(id))
    }

    fn parsed(elements: Vec<(FilterOperator, Vec<Operand>)>) -> Option<Where> {
        let elements = elements.into_iter().map(ContentFilterElement::from);
        Where::parse(&ContentFilter {
            elements: Some(elements.collect()),
        })
    }

    #[test]
    fn clauses_that_clients_send() {
        use FilterOperator as F;
        let lit = |value: Variant| Operand::literal(value);
        let types = [
            ObjectTypeId::ConditionType,
            ObjectTypeId::OffNormalAlarmType,
        ];
        let [condition, off_normal] = types.map(of_type);
        let table = [
            (
                vec![(
                    F::InList,
                    vec![the("EventType"), condition.clone(), off_normal.clone()],
                )],
                true,
            ),
            (
                vec![(F::InList, vec![the("EventType"), condition.clone()])],
                false,
            ),
            (vec![(F::OfType, vec![condition])], true),
            (
                vec![(F::OfType, vec![of_type(ObjectTypeId::AuditEventType)])],
                false,
            ),
            (
                vec![(
                    F::Equals,
                    vec![the("SourceName"), lit("plc-1/temperature".into())],
                )],
                true,
            ),
            (
                vec![(F::Equals, vec![the("SourceName"), lit("plc-2".into())])],
                false,
            ),
            (
                vec![(F::Like, vec![the("SourceName"), lit("plc-_/%".into())])],
                true,
            ),
            (
                vec![(F::Like, vec![the("Message"), lit("%cold%".into())])],
                false,
            ),
            (
                vec![(
                    F::GreaterThanOrEqual,
                    vec![the("Severity"), lit(600i32.into())],
                )],
                true,
            ),
            (
                vec![(F::GreaterThan, vec![the("Severity"), lit(600.0.into())])],
                false,
            ),
            (
                vec![(
                    F::Between,
                    vec![the("Severity"), lit(1u8.into()), lit(1000i64.into())],
                )],
                true,
            ),
            (vec![(F::IsNull, vec![the("Nothing")])], true),
            // What is not known is neither true nor false.
            (
                vec![
                    (F::Not, vec![Operand::element(1)]),
                    (F::Equals, vec![the("Nothing"), lit(1.into())]),
                ],
                false,
            ),
            (
                vec![(F::BitwiseAnd, vec![the("Severity"), lit(8.into())])],
                false,
            ),
            (
                vec![
                    (F::And, vec![Operand::element(1), Operand::element(2)]),
                    (F::OfType, vec![off_normal]),
                    (F::Or, vec![Operand::element(3), Operand::element(4)]),
                    (F::Equals, vec![the("Nothing"), lit(1.into())]),
                    (F::LessThan, vec![the("Severity"), lit(601u32.into())]),
                ],
                true,
            ),
        ];
        for (n, (clause, passes)) in table.into_iter().enumerate() {
            let clause = parsed(clause).unwrap_or_else(|| panic!("clause {n}"));
            assert_eq!(clause.passes(&Hot), passes, "clause {n}: {clause:?}");
        }
    }

    #[test]
    fn what_is_no_clause_is_left_to_the_stack() {
        use FilterOperator as F;
        assert!(parsed(vec![]).is_none());
        assert!(parsed(vec![(F::Equals, vec![the("Severity")])]).is_none());
        assert!(parsed(vec![(F::Not, vec![Operand::element(0)])]).is_none());
        assert!(parsed(vec![(F::Not, vec![Operand::element(7)])]).is_none());
        assert!(parsed(vec![(F::InView, vec![the("Severity")])]).is_none());
    }

    #[test]
    fn a_clause_that_refers_twice_to_everything_is_evaluated_once() {
        let last = MOST_ELEMENTS - 1;
        let mut elements: Vec<_> = (1..=last)
            .map(|next| {
                let next = Operand::element(next as u32);
                (FilterOperator::And, vec![next.clone(), next])
            })
            .collect();
        elements.push((FilterOperator::IsNull, vec![the("Nothing")]));
        assert!(parsed(elements).unwrap().passes(&Hot));
    }

    #[test]
    fn patterns_of_the_standard() {
        for (text, pattern, matches) in [
            ("That is fine", "Th[ia][ts]%", true),
            ("This is fine", "Th[ia][ts]%", true),
            ("Then at any", "Th[ia][ts]%", false),
            ("entail", "%en%", true),
            ("abc4", "abc[13-68]", true),
            ("abc2", "abc[13-68]", false),
            ("ABC2", "ABC[^13-5]", true),
            ("ABC4", "ABC[^13-5]", false),
            ("100%", "100\\%", true),
            ("1000", "100\\%", false),
            ("a-", "a[x-]", true),
            ("ab", "a_", true),
            ("a", "a_", false),
            ("", "", true),
            ("", "%", true),
            ("a.c", "a.c", true),
            ("abc", "a.c", false),
        ] {
            assert_eq!(like(text, pattern), matches, "{text} like {pattern}");
        }
    }
}
