//! QR codes (ISO/IEC 18004): what an authenticator app scans, from a page or a terminal.

use fast_qr::convert::svg::SvgBuilder;
use fast_qr::{ECL, QRBuilder, QRCode};

/// Light modules around a code, as the standard wants them.
pub const QR_QUIET: usize = 4;

/// A code.
pub struct Qr(QRCode);

impl Qr {
    /// That of `text`; `None` when it is too long for one.
    pub fn new(text: &str) -> Option<Self> {
        QRBuilder::new(text).ecl(ECL::M).build().ok().map(Self)
    }

    /// Modules on a side.
    pub fn side(&self) -> usize {
        self.0.size
    }

    /// Whether the module in column `x` of row `y` is dark; what lies around the code is light.
    pub fn is_dark(&self, x: usize, y: usize) -> bool {
        let row = (y < self.0.size).then(|| &self.0[y]);
        let module = row.and_then(|row| row.get(..self.0.size)?.get(x));
        module.is_some_and(|module| module.value())
    }

    /// As an SVG picture.
    pub fn svg(&self) -> String {
        SvgBuilder::default().to_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_and_what_is_too_long_for_one() {
        let qr = Qr::new("otpauth://totp/hub-1:ann?secret=GEZDGNBV").unwrap();
        assert!(qr.svg().starts_with("<svg"));
        // The finder pattern in the corner, and the light around the code.
        let corner: String = (0..8)
            .map(|x| if qr.is_dark(x, 0) { '#' } else { '.' })
            .collect();
        assert_eq!(corner, "#######.");
        let side = qr.side();
        assert!(!qr.is_dark(side, 0) && !qr.is_dark(0, side));
        assert!(Qr::new(&"x".repeat(3_000)).is_none());
    }
}
