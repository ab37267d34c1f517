//! Points of the SM2 curve as they travel.

use borsh::{BorshDeserialize, BorshSerialize};
use sm2::elliptic_curve::group::Group;
use sm2::elliptic_curve::sec1::{FromSec1Point, ToSec1Point};
use sm2::{AffinePoint, NonZeroScalar, ProjectivePoint, Scalar, Sec1Point};
use sm3::{Digest, Sm3};

/// A point of the curve in compressed SEC 1 form; whether it is one is known when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Point(pub [u8; 33]);

/// Bytes that are no point, or the point at infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a point of the SM2 curve")]
pub struct PointError;

impl Point {
    pub(super) fn of(point: &ProjectivePoint) -> Result<Self, PointError> {
        if bool::from(point.is_identity()) {
            return Err(PointError);
        }
        let encoded = point.to_affine().to_sec1_point(true);
        encoded
            .as_bytes()
            .try_into()
            .map(Self)
            .map_err(|_| PointError)
    }

    /// `[scalar]G`.
    pub(super) fn generated(scalar: &NonZeroScalar) -> Self {
        match Self::of(&(ProjectivePoint::generator() * **scalar)) {
            Ok(point) => point,
            Err(error) => unreachable!("a multiple of a generator of prime order: {error}"),
        }
    }

    pub(super) fn decode(&self) -> Result<ProjectivePoint, PointError> {
        let encoded = Sec1Point::from_bytes(self.0).map_err(|_| PointError)?;
        let point = Option::<AffinePoint>::from(AffinePoint::from_sec1_point(&encoded));
        point.map(ProjectivePoint::from).ok_or(PointError)
    }

    /// Both coordinates, 32 bytes each, as the standards hash them.
    pub(super) fn coordinates(&self) -> Result<[u8; 64], PointError> {
        let encoded = self.decode()?.to_affine().to_sec1_point(false);
        let bytes = encoded.as_bytes().get(1..).ok_or(PointError)?;
        bytes.try_into().map_err(|_| PointError)
    }
}

/// SM3 of several parts, each after its length: no two lists of parts have the same bytes.
pub(super) fn hash_of(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sm3::new();
    for part in std::iter::once(&label.as_bytes()).chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A hash as a number modulo the order of the curve.
pub(super) fn scalar_of(hash: &[u8; 32]) -> Scalar {
    use sm2::elliptic_curve::ops::Reduce;
    <Scalar as Reduce<sm2::FieldBytes>>::reduce(&(*hash).into())
}
