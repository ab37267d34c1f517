//! QR codes (ISO/IEC 18004) for a terminal and for a page.

use super::output::Style;
use crate::api::{QR_QUIET as QUIET, Qr};
use anyhow::{Context, Result};

fn code(text: &str) -> Result<Qr> {
    Qr::new(text).context("the text is too long for a QR code")
}

/// Two modules a character, as half blocks. Light is drawn, dark is not: right on a dark terminal; where
/// there are colours, they are said, and it is right on any.
pub(super) fn terminal(text: &str, style: Style) -> Result<String> {
    let code = code(text)?;
    let side = code.side() + 2 * QUIET;
    let light = |x: usize, y: usize| match (x.checked_sub(QUIET), y.checked_sub(QUIET)) {
        (Some(x), Some(y)) => !code.is_dark(x, y),
        _ => true,
    };
    let mut out = String::new();
    for y in (0..side).step_by(2) {
        if style.colour {
            out.push_str("\x1b[97;40m");
        }
        for x in 0..side {
            out.push(match (light(x, y), y + 1 < side && light(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        if style.colour {
            out.push_str("\x1b[0m");
        }
        out.push('\n');
    }
    Ok(out)
}

/// An SVG picture.
pub(super) fn svg(text: &str) -> Result<String> {
    Ok(code(text)?.svg())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "otpauth://totp/hub-1:ann?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=hub-1";

    /// The light modules that are drawn, row by row.
    fn drawn(text: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in text.lines() {
            rows.push(line.chars().map(|c| "█▀".contains(c)).collect());
            rows.push(line.chars().map(|c| "█▄".contains(c)).collect());
        }
        rows
    }

    #[test]
    fn the_terminal_shows_the_modules_of_the_code() {
        let code = code(TEXT).unwrap();
        let shown = drawn(&terminal(TEXT, Style { colour: false }).unwrap());
        let side = code.side() + 2 * QUIET;
        assert!(shown.iter().all(|row| row.len() == side));
        for (y, row) in shown.iter().take(side).enumerate() {
            for (x, light) in row.iter().enumerate() {
                let dark = x >= QUIET && y >= QUIET && code.is_dark(x - QUIET, y - QUIET);
                assert_eq!(*light, !dark, "{x}, {y}");
            }
        }
        // The finder pattern in the corner: seven dark, with a light ring inside.
        let corner: String = (0..7)
            .map(|x| if shown[QUIET][QUIET + x] { '.' } else { '#' })
            .collect();
        assert_eq!(corner, "#######");
        let coloured = terminal(TEXT, Style { colour: true }).unwrap();
        assert!(
            coloured
                .lines()
                .all(|l| l.starts_with("\x1b[97;40m") && l.ends_with("\x1b[0m"))
        );
    }

    #[test]
    fn a_picture_and_what_is_too_long_for_one() {
        assert!(svg(TEXT).unwrap().starts_with("<svg"));
        assert!(svg(&"x".repeat(3_000)).is_err());
    }
}
