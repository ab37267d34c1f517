//! What is pressed: a letter and the number of a hub. On a terminal at once, from a pipe as it comes.

use super::Event;
use std::io::Read;
use std::sync::mpsc::SyncSender;

/// What somebody wants, and of which hub, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Kill(usize),
    Start(usize),
    Freeze(usize),
    Thaw(usize),
    Quit,
}

/// Makes keys of what is pressed.
#[derive(Default)]
struct Pressed {
    letter: Option<u8>,
}

impl Pressed {
    fn next(&mut self, byte: u8) -> Option<Key> {
        let letter = self.letter.take();
        match (letter, byte) {
            (_, b'q') => Some(Key::Quit),
            (_, b'k' | b's' | b'f' | b't') => {
                self.letter = Some(byte);
                None
            }
            (Some(letter), b'1'..=b'9') => {
                let hub = usize::from(byte - b'1');
                match letter {
                    b'k' => Some(Key::Kill(hub)),
                    b's' => Some(Key::Start(hub)),
                    b'f' => Some(Key::Freeze(hub)),
                    _ => Some(Key::Thaw(hub)),
                }
            }
            _ => None,
        }
    }
}

/// The terminal as it was, which it is again when this is dropped.
pub(super) struct Keys {
    #[cfg(unix)]
    was: Option<rustix::termios::Termios>,
}

impl Keys {
    /// Reads keys from standard input from now on, on a thread of its own.
    pub(super) fn read(events: SyncSender<Event>) -> Self {
        let keys = Self::at_once();
        std::thread::spawn(move || {
            let (mut pressed, mut byte) = (Pressed::default(), [0; 1]);
            while matches!(std::io::stdin().read(&mut byte), Ok(1)) {
                let key = pressed.next(byte[0]);
                if key.is_some_and(|key| events.send(Event::Key(key)).is_err()) {
                    return;
                }
            }
        });
        keys
    }

    /// Has the terminal give every key at once and show none. Ctrl-C stays what it is.
    #[cfg(unix)]
    fn at_once() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let Ok(was) = tcgetattr(std::io::stdin()) else {
            return Self { was: None };
        };
        let mut now = was.clone();
        now.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        let set = tcsetattr(std::io::stdin(), OptionalActions::Now, &now);
        Self {
            was: set.is_ok().then_some(was),
        }
    }

    #[cfg(not(unix))]
    fn at_once() -> Self {
        Self {}
    }
}

#[cfg(unix)]
impl Drop for Keys {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        if let Some(was) = &self.was {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, was);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_and_a_number_are_a_key() {
        let mut pressed = Pressed::default();
        let keys: Vec<_> = b"k2\ns2 kf3t3x4k0k 1q"
            .iter()
            .filter_map(|b| pressed.next(*b))
            .collect();
        let due = [
            Key::Kill(1),
            Key::Start(1),
            Key::Freeze(2),
            Key::Thaw(2),
            Key::Quit,
        ];
        assert_eq!(keys, due);
    }
}
