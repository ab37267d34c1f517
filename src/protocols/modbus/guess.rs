//! What registers might mean, from their bits alone. Pure. A guess says why, because it is one: the
//! device's manual knows better.

use super::point::{DataType, WordOrder};

/// A guess at the type of some registers.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// First register.
    pub address: u16,
    /// Its type.
    pub data: DataType,
    /// The word with the lowest address.
    pub word_order: WordOrder,
    /// What it showed last, as this type.
    pub shown: String,
    /// What speaks for it.
    pub why: &'static str,
}

/// Shortest text that is taken for one, in characters.
const SHORTEST_TEXT: usize = 5;

/// Guesses at registers in a row, of which `before` and `after` are two readings some time apart. What
/// was 0 both times is left out: there is nothing to tell.
pub fn guesses(first: u16, before: &[u16], after: &[u16]) -> Vec<Guess> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(word) = after.get(at) {
        let (before, after) = (before.get(at..).unwrap_or_default(), after.get(at..));
        let after = after.unwrap_or_default();
        let address = first.saturating_add(at as u16);
        let guess = text(after)
            .or_else(|| float(before, after))
            .or_else(|| long(before, after))
            .unwrap_or_else(|| short(*word));
        at += usize::from(guess.0.width().max(1));
        let (data, word_order, shown, why) = guess;
        let silent = *word == 0 && before.first() == Some(&0) && data == DataType::U16;
        if !silent {
            found.push(Guess {
                address,
                data,
                word_order,
                shown,
                why,
            });
        }
    }
    found
}

type Found = (DataType, WordOrder, String, &'static str);

/// Printable characters, filled up with NULs.
fn text(words: &[u16]) -> Option<Found> {
    let bytes = words.iter().flat_map(|w| w.to_be_bytes());
    let shown: Vec<u8> = bytes.take_while(|b| (0x20..0x7f).contains(b)).collect();
    let letters = shown.iter().filter(|b| b.is_ascii_alphanumeric()).count();
    if letters < SHORTEST_TEXT || letters * 2 < shown.len() {
        return None;
    }
    let used = shown.len().div_ceil(2);
    let filled = words.iter().skip(used).take_while(|w| **w == 0).count();
    // Round lengths are usual; what is filled up beyond them is more likely something else.
    let length = (used + filled).min(used.next_multiple_of(4)).min(125);
    let text = String::from_utf8_lossy(&shown).trim_end().to_owned();
    let data = DataType::Text(2 * length as u16);
    Some((
        data,
        WordOrder::Big,
        text,
        "its bytes are letters and digits",
    ))
}

/// Two registers that make a number of a usual size.
fn float(before: &[u16], after: &[u16]) -> Option<Found> {
    let big = float_score(before, after, |[a, b]| [a, b]);
    let little = float_score(before, after, |[a, b]| [b, a]);
    let (score, value, why, order) = match (big, little) {
        (Some(b), Some(l)) if l.0 > b.0 => (l.0, l.1, l.2, WordOrder::Little),
        (Some(b), _) => (b.0, b.1, b.2, WordOrder::Big),
        (None, Some(l)) => (l.0, l.1, l.2, WordOrder::Little),
        (None, None) => return None,
    };
    (score >= 2).then(|| (DataType::F32, order, value.to_string(), why))
}

fn float_score(
    before: &[u16],
    after: &[u16],
    order: impl Fn([u16; 2]) -> [u16; 2],
) -> Option<(u32, f32, &'static str)> {
    let value = |words: &[u16], at: usize| {
        let pair = [*words.get(at)?, *words.get(at + 1)?];
        let [high, low] = order(pair);
        Some(f32::from_bits(u32::from(high) << 16 | u32::from(low)))
    };
    let usual = |x: f32| x.is_finite() && (1e-3..1e7).contains(&x.abs());
    let (old, new) = (value(before, 0)?, value(after, 0)?);
    if !usual(old) || !usual(new) {
        return None;
    }
    // A fraction that a person would write, or that an instrument of four digits would.
    let thousandths = f64::from(new) * 1000.0;
    let round = (thousandths - thousandths.round()).abs() < 1e-4 * thousandths.abs().max(1.0);
    let moved = old != new && (old - new).abs() < 0.2 * new.abs();
    let neighbour = value(after, 2).is_some_and(usual);
    let score = u32::from(round) * 2 + u32::from(moved) * 2 + u32::from(neighbour);
    let why = match (moved, round) {
        (true, _) => "as a number with a fraction it has a usual size, and moved a little",
        (_, true) => "as a number with a fraction it is of a usual size and round",
        _ => "as a number with a fraction it has a usual size",
    };
    Some((score, new, why))
}

/// Two registers that make a whole number.
fn long(before: &[u16], after: &[u16]) -> Option<Found> {
    let (&[a, b, ..], &[old_a, old_b, ..]) = (after, before) else {
        return None;
    };
    let join = |high: u16, low: u16| u32::from(high) << 16 | u32::from(low);
    for (high, low, old_high, old_low, order) in [
        (a, b, old_a, old_b, WordOrder::Big),
        (b, a, old_b, old_a, WordOrder::Little),
    ] {
        let (old, new) = (join(old_high, old_low), join(high, low));
        if high == 0xffff && low >= 0x8000 {
            let shown = (new as i32).to_string();
            return Some((DataType::I32, order, shown, "its sign fills the high word"));
        }
        let stays = high == old_high && low > old_low;
        let carries = high == old_high.wrapping_add(1) && low < old_low && new - old < 0x8000;
        let counts = stays || carries;
        if counts && (1..0x100).contains(&high) {
            let why = "its low word counts up below a small high word";
            return Some((DataType::U32, order, new.to_string(), why));
        }
    }
    None
}

fn short(word: u16) -> Found {
    if word >= 0xf000 {
        let shown = (word as i16).to_string();
        let why = "as a signed number it is a little below 0";
        return (DataType::I16, WordOrder::Big, shown, why);
    }
    let why = "nothing speaks for another type";
    (DataType::U16, WordOrder::Big, word.to_string(), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(x: f32) -> [u16; 2] {
        [(x.to_bits() >> 16) as u16, x.to_bits() as u16]
    }

    fn types(before: &[u16], after: &[u16]) -> Vec<(u16, DataType, WordOrder)> {
        let found = guesses(0, before, after);
        found
            .iter()
            .map(|g| (g.address, g.data, g.word_order))
            .collect()
    }

    #[test]
    fn registers_that_speak_for_themselves_are_understood() {
        let (big, little) = (WordOrder::Big, WordOrder::Little);
        let round = [float(21.5), float(6.25)].concat();
        let expected = [(0, DataType::F32, big), (2, DataType::F32, big)];
        assert_eq!(types(&round, &round), expected);

        let [high, low] = float(21.5);
        assert_eq!(
            types(&[low, high], &[low, high]),
            [(0, DataType::F32, little)]
        );

        let (before, after) = (float(50.1234), float(50.1301));
        assert_eq!(types(&before, &after), [(0, DataType::F32, big)]);

        let name = [0x5052, 0x4553, 0x5320, 0x3400, 7];
        let expected = [(0, DataType::Text(8), big), (4, DataType::U16, big)];
        assert_eq!(types(&name, &name), expected);

        assert_eq!(types(&[2, 100], &[2, 180]), [(0, DataType::U32, big)]);
        assert_eq!(types(&[100, 2], &[180, 2]), [(0, DataType::U32, little)]);
        assert_eq!(
            types(&[0xffff, 0xfff0], &[0xffff, 0xfff0]),
            [(0, DataType::I32, big)]
        );
        assert_eq!(
            types(&[0xfff6, 3], &[0xfff6, 3])[0],
            (0, DataType::I16, big)
        );
        let plain = [(0, DataType::U16, big), (2, DataType::U16, big)];
        assert_eq!(types(&[7, 0, 230], &[7, 0, 231]), plain);
    }

    #[test]
    fn guesses_show_what_they_mean_and_why() {
        let words = float(-12.5);
        let guess = &guesses(40, &words, &words)[0];
        assert_eq!((guess.address, guess.shown.as_str()), (40, "-12.5"));
        assert!(guess.why.contains("round"));
        // Less of the second reading than of the first is no reason to fall.
        assert_eq!(guesses(65_535, &[], &[5, 6]).len(), 2);
    }
}
