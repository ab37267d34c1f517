//! Centres and certificateless keys as a ledger has them.

use super::centre::{Centres, CentresError, Member, Possession};
use super::certificateless::public_key;
use super::point::Point;
use sm2::Scalar;
use sm2::elliptic_curve::PrimeField;
use weighbridge_verifier::centres::derived_name;
use weighbridge_verifier::{CentreShare, Hash, PublicKey, Suite};

fn point(key: &PublicKey) -> Option<Point> {
    (key.suite() == Suite::Guomi).then(|| Point(key.to_sec1()))
}

fn key(point: &Point) -> Option<PublicKey> {
    PublicKey::from_sec1(Suite::Guomi, &point.0)
}

/// A number modulo the order of the curve from its 32 bytes; each has one form only.
pub fn number(bytes: &[u8; 32]) -> Option<Scalar> {
    Option::from(Scalar::from_repr((*bytes).into()))
}

/// What a centre says of itself, as it is recorded.
pub fn share(member: &Member) -> Option<CentreShare> {
    Some(CentreShare {
        name: member.name.clone(),
        public: key(&member.public)?,
        commitment: key(&member.possession.commitment)?,
        response: Hash(member.possession.response.to_repr().into()),
    })
}

/// The set that is recorded, each of whose centres proves that it knows its share. They are in the order
/// of their names, so that a set has one form.
pub fn centres(version: u32, shares: &[CentreShare]) -> Result<Centres, CentresError> {
    let disorder = shares.windows(2).find_map(|pair| match pair {
        [a, b] if a.name >= b.name => Some(b.name.clone()),
        _ => None,
    });
    if let Some(name) = disorder {
        return Err(CentresError::Name(name));
    }
    let member = |share: &CentreShare| {
        let read = || {
            Some(Member {
                name: share.name.clone(),
                public: point(&share.public)?,
                possession: Possession {
                    commitment: point(&share.commitment)?,
                    response: number(&share.response.0)?,
                },
            })
        };
        read().ok_or_else(|| CentresError::Possession(share.name.clone()))
    };
    let members = shares.iter().map(member).collect::<Result<Vec<_>, _>>()?;
    Centres::new(u64::from(version), &members)
}

/// The key of an identity of a chain (chain, kind, id) that declared this point; `None` when it has none.
pub fn derive(
    (chain, kind, id): (&str, &str, &str),
    centres: &Centres,
    declared: &PublicKey,
) -> Option<PublicKey> {
    let name = derived_name(chain, kind, id);
    key(&public_key(&name, centres, &point(declared)?).ok()?)
}
