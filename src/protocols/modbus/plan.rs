//! Packs points into the fewest requests. Pure.

use super::limits::Limits;
use super::point::{ModbusPoint, Table};

/// The cells of one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Which point, that is which column.
    pub point: usize,
    pub table: Table,
    pub address: u16,
    pub width: u16,
}

impl Span {
    pub(super) fn new(point: usize, of: &ModbusPoint) -> Self {
        Self {
            point,
            table: of.table,
            address: of.address,
            width: of.width(),
        }
    }

    /// The address after its last cell.
    pub(super) fn end(&self) -> u32 {
        u32::from(self.address) + u32::from(self.width)
    }
}

/// One request and the points that its answer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadRequest {
    pub table: Table,
    pub address: u16,
    pub count: u16,
    /// By ascending address; never empty.
    pub spans: Vec<Span>,
}

impl ReadRequest {
    /// The request that reads exactly `spans`, which are of one table and sorted by address.
    fn over(spans: Vec<Span>) -> Option<Self> {
        let first = spans.first()?;
        let (table, address) = (first.table, first.address);
        let end = spans.iter().map(Span::end).max()?;
        Some(Self {
            table,
            address,
            count: u16::try_from(end - u32::from(address)).ok()?,
            spans,
        })
    }

    /// Two requests that together read the same points: cut at the widest gap where there is one, for
    /// a cell that nobody asked for may be what the device refuses, else in the middle. `None` for a
    /// single point.
    pub(super) fn split(&self) -> Option<(Self, Self)> {
        let mut end = u32::from(self.address);
        let mut cut = (0, self.spans.len() / 2);
        for (index, span) in self.spans.iter().enumerate() {
            let gap = u32::from(span.address).saturating_sub(end);
            if index > 0 && gap > cut.0 {
                cut = (gap, index);
            }
            end = end.max(span.end());
        }
        let (left, right) = self.spans.split_at(cut.1);
        Some((Self::over(left.to_vec())?, Self::over(right.to_vec())?))
    }
}

/// Packs `spans` into requests: each span whole in exactly one of them, as few as possible.
///
/// Going up the addresses and starting a new request only where a limit forces it is the classic
/// greedy cover of intervals.
pub(super) fn plan(mut spans: Vec<Span>, limits: Limits<'_>) -> Vec<ReadRequest> {
    spans.sort_by_key(|s| (s.table, s.address, s.point));
    let mut requests = Vec::new();
    let mut open: Vec<Span> = Vec::new();
    let (mut start, mut end) = (0, 0);
    for span in spans {
        let fits = open.first().is_some_and(|first| {
            first.table == span.table
                && limits.may_skip(span.table, end, span.address.into())
                && span.end().max(end) - start <= limits.cells(span.table)
        });
        if fits {
            end = end.max(span.end());
        } else {
            requests.extend(ReadRequest::over(std::mem::take(&mut open)));
            start = u32::from(span.address);
            end = span.end();
        }
        open.push(span);
    }
    requests.extend(ReadRequest::over(open));
    requests
}

#[cfg(test)]
mod tests {
    use super::super::limits::NoRead;
    use super::*;
    use proptest::prelude::*;

    fn span(point: usize, address: u16, width: u16) -> Span {
        Span {
            point,
            table: Table::HoldingRegister,
            address,
            width,
        }
    }

    static ALL: NoRead = NoRead {
        coil: Vec::new(),
        discrete_input: Vec::new(),
        holding_register: Vec::new(),
        input_register: Vec::new(),
    };

    const LIMITS: Limits<'_> = Limits {
        registers: 125,
        coils: 2000,
        gap: 0,
        no_read: &ALL,
    };

    #[test]
    fn a_thousand_registers_are_eight_requests() {
        let spans = (0..1000).map(|i| span(i, i as u16, 1)).collect();
        let requests = plan(spans, LIMITS);
        assert_eq!(requests.len(), 8);
        assert!(
            requests
                .iter()
                .all(|r| r.count == 125 && r.spans.len() == 125)
        );
    }

    #[test]
    fn a_gap_is_read_only_when_it_is_allowed() {
        let spans = vec![span(0, 10, 2), span(1, 15, 1)];
        assert_eq!(plan(spans.clone(), LIMITS).len(), 2);
        assert_eq!(plan(spans.clone(), Limits { gap: 2, ..LIMITS }).len(), 2);
        let joined = plan(spans.clone(), Limits { gap: 3, ..LIMITS });
        assert_eq!((joined.len(), joined[0].count), (1, 6));
        let no_read = toml::from_str("holding_register = [[13, 13]]").unwrap();
        let limits = Limits {
            gap: 3,
            no_read: &no_read,
            ..LIMITS
        };
        assert_eq!(plan(spans, limits).len(), 2);
    }

    #[test]
    fn tables_are_never_mixed_and_the_last_address_is_reached() {
        let mut spans = vec![span(0, 65535, 1), span(1, 65534, 1)];
        spans.push(Span {
            table: Table::InputRegister,
            ..span(2, 65533, 1)
        });
        let requests = plan(spans, LIMITS);
        assert_eq!(requests.len(), 2);
        assert_eq!((requests[0].address, requests[0].count), (65534, 2));
    }

    #[test]
    fn a_split_cuts_at_the_gap_and_else_in_the_middle() {
        let gap = Limits { gap: 9, ..LIMITS };
        let requests = plan(
            vec![span(0, 0, 1), span(1, 1, 1), span(2, 2, 1), span(3, 9, 1)],
            gap,
        );
        let (left, right) = requests[0].split().unwrap();
        assert_eq!((left.spans.len(), right.spans.len()), (3, 1));
        let (left, right) = left.split().unwrap();
        assert_eq!((left.spans.len(), right.spans.len()), (1, 2));
        assert_eq!(left.split(), None);
    }

    fn any_spans(count: usize) -> impl Strategy<Value = Vec<Span>> {
        let table = prop_oneof![
            Just(Table::Coil),
            Just(Table::DiscreteInput),
            Just(Table::HoldingRegister),
            Just(Table::InputRegister)
        ];
        let cell = (
            table,
            0u16..300,
            prop_oneof![Just(1u16), Just(2), Just(4), 1u16..=20],
        );
        prop::collection::vec(cell, 0..count).prop_map(|cells| {
            let span = |(point, (table, address, width)): (usize, (Table, u16, u16))| Span {
                point,
                table,
                address,
                width: if table.is_bits() { 1 } else { width },
            };
            cells.into_iter().enumerate().map(span).collect()
        })
    }

    /// No hole among `spans` that is too wide or holds a cell that must not be read.
    fn gaps_within(spans: &[Span], limits: Limits<'_>) -> bool {
        let mut end = spans[0].end();
        spans.iter().all(|s| {
            let mut gap = end..u32::from(s.address);
            let fits = gap.len() as u32 <= limits.gap
                && !gap.any(|cell| limits.no_read.touches(s.table, cell, cell + 1));
            end = end.max(s.end());
            fits
        })
    }

    fn any_no_read() -> impl Strategy<Value = NoRead> {
        let range = (0u16..300, 0u16..4)
            .prop_map(|(first, more)| (first, first + more).try_into().unwrap());
        prop::collection::vec(range, 0..6).prop_map(|ranges| NoRead {
            coil: ranges.clone(),
            holding_register: ranges,
            ..NoRead::default()
        })
    }

    /// Fewest groups over all ways of grouping, by trying them all.
    fn fewest(spans: &[Span], limits: Limits<'_>, groups: &mut Vec<Vec<Span>>) -> usize {
        let Some((first, rest)) = spans.split_first() else {
            let valid = groups.iter().all(|group| {
                let mut group = group.clone();
                group.sort_by_key(|s| s.address);
                let end = group.iter().map(Span::end).max().unwrap();
                end - u32::from(group[0].address) <= limits.cells(group[0].table)
                    && group.iter().all(|s| s.table == group[0].table)
                    && gaps_within(&group, limits)
            });
            return if valid { groups.len() } else { usize::MAX };
        };
        let mut best = usize::MAX;
        for at in 0..groups.len() {
            groups[at].push(*first);
            best = best.min(fewest(rest, limits, groups));
            groups[at].pop();
        }
        groups.push(vec![*first]);
        best = best.min(fewest(rest, limits, groups));
        groups.pop();
        best
    }

    proptest! {
        #[test]
        fn every_point_is_read_exactly_once_within_the_limits(
            spans in any_spans(200), registers in 20u32..=125, coils in 1u32..=2000, gap in 0u32..30,
            no_read in any_no_read(),
        ) {
            let limits = Limits { registers, coils, gap, no_read: &no_read };
            let requests = plan(spans.clone(), limits);
            let mut read: Vec<Span> = requests.iter().flat_map(|r| r.spans.clone()).collect();
            read.sort_by_key(|s| s.point);
            prop_assert_eq!(read, spans);
            for request in &requests {
                let (start, end) = (u32::from(request.address),
                    u32::from(request.address) + u32::from(request.count));
                prop_assert!(u32::from(request.count) <= limits.cells(request.table));
                prop_assert!(request.spans.iter().all(|s| s.table == request.table
                    && u32::from(s.address) >= start && s.end() <= end));
                prop_assert_eq!(request.spans.iter().map(Span::end).max(), Some(end));
                prop_assert_eq!(u32::from(request.spans[0].address), start);
                prop_assert!(gaps_within(&request.spans, limits));
            }
        }

        #[test]
        fn no_grouping_has_fewer_requests(
            spans in any_spans(7), gap in 0u32..30, no_read in any_no_read(),
        ) {
            let spans: Vec<Span> = spans.into_iter()
                .map(|s| Span { address: s.address % 60, ..s }).collect();
            let limits = Limits { registers: 24, coils: 10, gap, no_read: &no_read };
            let best = if spans.is_empty() { 0 } else { fewest(&spans, limits, &mut Vec::new()) };
            prop_assert_eq!(plan(spans, limits).len(), best);
        }

        #[test]
        fn splitting_loses_nothing_and_ends(spans in any_spans(40)) {
            let limits = Limits { gap: 5, ..LIMITS };
            for request in plan(spans, limits) {
                let points = request.spans.len();
                let mut queue = vec![request];
                let mut singles = 0;
                while let Some(request) = queue.pop() {
                    match request.split() {
                        Some((left, right)) => queue.extend([left, right]),
                        None => singles += request.spans.len(),
                    }
                }
                prop_assert_eq!(singles, points);
            }
        }
    }
}
