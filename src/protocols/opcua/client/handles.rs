//! How notifications are told apart: client handles.

/// The client handles of a device's subscription: a range that begins at random, so that values of another
/// one, which a server mistakes for ours, are not taken for ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handles {
    first: u32,
    count: u32,
}

impl Handles {
    pub(super) fn random(count: usize) -> Self {
        Self::from(getrandom::u32().unwrap_or_default(), count)
    }

    /// The range that `random` chooses. It leaves out 0: the stack gives that a meaning of its own.
    fn from(random: u32, count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let first = 1 + random % (u32::MAX - count).max(1);
        Self { first, count }
    }

    /// The client handle of a column.
    pub(super) fn of(self, column: usize) -> u32 {
        let column = u32::try_from(column).unwrap_or(u32::MAX);
        self.first.saturating_add(column)
    }

    /// The column of a client handle; `None` of one that is not ours.
    pub(super) fn column(self, handle: u32) -> Option<usize> {
        let column = handle.checked_sub(self.first)?;
        (column < self.count).then_some(column as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_of_one_column_or_not_ours() {
        for random in [0, 1, 7, u32::MAX / 2, u32::MAX - 1, u32::MAX] {
            let handles = Handles::from(random, 1_000);
            for column in [0, 1, 999] {
                let handle = handles.of(column);
                assert_ne!(handle, 0);
                assert_eq!(handles.column(handle), Some(column), "{random}");
            }
            assert_eq!(handles.column(handles.of(0) - 1), None);
            assert_eq!(handles.column(handles.of(999).wrapping_add(1)), None);
        }
    }
}
