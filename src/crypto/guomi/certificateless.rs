//! Making a certificateless key (GM/T 0130) with several centres.
//!
//! ```text
//! user:    d′ random, U = [d′]G            centre i: w_i random, W_i = [w_i]G
//! 1. everybody sends a hash commitment to U or W_i, bound to identity, version and session
//! 2. when all commitments are there, everybody opens
//! 3. W = U + Σ W_i      H = SM3(ENTL ‖ ID ‖ a ‖ b ‖ G ‖ P_pub)      λ = SM3(W ‖ H) mod n
//! 4. centre i sends t_i = w_i + λ·ms_i; the user checks [t_i]G = W_i + [λ]P_i
//! 5. d = d′ + Σ t_i, and P = [d]G = W + [λ]P_pub, which anyone computes from ID, W and P_pub
//! ```
//!
//! The identity that is hashed is the user's name with the version of the master key, so the standard's
//! form stays as it is. Nobody but the user ever has d: without d′ all centres together do not.

use super::centre::{CentreKey, Centres};
use super::point::{Point, PointError, hash_of, scalar_of};
use sm2::elliptic_curve::Generate;
use sm2::elliptic_curve::group::Group;
use sm2::{NonZeroScalar, ProjectivePoint, Scalar, SecretKey};
use sm3::{Digest, Sm3};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The curve's a, b and G (GB/T 32918.5-2017), as they are hashed.
const CURVE: [[u8; 32]; 4] = [
    bytes(b"FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFC"),
    bytes(b"28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93"),
    bytes(b"32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7"),
    bytes(b"BC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0"),
];
/// The name of the user among the parties: no centre can have it, for a centre's is not empty.
const USER: &str = "";
/// Longest name of a user: its length in bits must fit two bytes.
const MAX_ID: usize = 1_000;

/// Hash commitments by party; the user's name is empty.
pub type Commitments = BTreeMap<String, [u8; 32]>;
/// Opened points by party.
pub type Openings = BTreeMap<String, Point>;

/// What one making of a key is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose key.
    pub id: String,
    /// Chosen by the user at random, never twice.
    pub nonce: [u8; 32],
}

/// Who kept a key from being made, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The user's name cannot be hashed.
    #[error("the name {0:?} is empty or longer than {MAX_ID} bytes")]
    Name(String),
    /// A centre is none of the set.
    #[error("{0:?} is no centre of this set")]
    Stranger(String),
    /// A party said nothing.
    #[error("{} has not answered", party(.0))]
    Missing(String),
    /// A party opened something else than it had committed to.
    #[error("{} opened another point than it had committed to", party(.0))]
    Opening(String),
    /// A centre's part of the key does not fit.
    #[error("centre {0:?} gave a part that does not fit its share of the master key")]
    Part(String),
    /// The parts add up to nothing: begin again.
    #[error("the parts add up to nothing; begin again")]
    Nothing,
}

fn party(name: &str) -> String {
    match name {
        USER => "the user".to_owned(),
        centre => format!("centre {centre:?}"),
    }
}

impl From<PointError> for Fault {
    fn from(_: PointError) -> Self {
        Self::Nothing
    }
}

/// A party that has committed itself: the user, or a centre.
pub(super) struct Party {
    pub(super) session: Session,
    pub(super) centres: Centres,
    pub(super) name: String,
    pub(super) secret: Zeroizing<NonZeroScalar>,
    /// The others' commitments, once all were there; it opens for these only.
    pub(super) seen: Option<Commitments>,
}

/// A user who wants a key.
pub struct Applicant(pub(super) Party);

/// A centre that helps to make one key. Its random number serves once.
pub struct Helper<'a> {
    pub(super) party: Party,
    pub(super) key: &'a CentreKey,
}

/// A key that was made.
pub struct UserKey {
    /// Whose.
    pub id: String,
    /// Version of the master key.
    pub version: u64,
    /// Published with it: anyone computes the public key from it.
    pub declared: Point,
    secret: SecretKey,
}

impl Party {
    fn new(centres: &Centres, session: Session, name: &str) -> Result<Self, Fault> {
        if session.id.is_empty() || session.id.len() > MAX_ID {
            return Err(Fault::Name(session.id));
        }
        Ok(Self {
            session,
            centres: centres.clone(),
            name: name.to_owned(),
            secret: Zeroizing::new(NonZeroScalar::generate()),
            seen: None,
        })
    }

    pub(super) fn commitment(&self, name: &str, point: &Point) -> [u8; 32] {
        hash_of(
            "weighbridge/certificateless/commit/v1",
            &[
                self.session.id.as_bytes(),
                &self.centres.version().to_be_bytes(),
                &self.session.nonce,
                name.as_bytes(),
                &point.0,
            ],
        )
    }

    fn committed(&self) -> [u8; 32] {
        self.commitment(&self.name, &Point::generated(&self.secret))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(USER).chain(self.centres.members().keys().map(String::as_str))
    }

    pub(super) fn open(&mut self, commitments: &Commitments) -> Result<Point, Fault> {
        for name in self.names() {
            if !commitments.contains_key(name) {
                return Err(Fault::Missing(name.to_owned()));
            }
        }
        if commitments.get(&self.name) != Some(&self.committed()) {
            return Err(Fault::Opening(self.name.clone()));
        }
        // Who has opened once has shown its point: what others commit to later may be made from it.
        if self.seen.get_or_insert_with(|| commitments.clone()) != commitments {
            let other = |name: &&str| {
                self.seen.as_ref().and_then(|seen| seen.get(*name)) != commitments.get(*name)
            };
            let name = self.names().find(other).unwrap_or(USER);
            return Err(Fault::Opening(name.to_owned()));
        }
        Ok(Point::generated(&self.secret))
    }

    /// W and λ, when all have opened what they had committed to.
    pub(super) fn joined(&self, openings: &Openings) -> Result<(Point, Scalar), Fault> {
        let mut sum = ProjectivePoint::identity();
        for name in self.names() {
            let point = openings
                .get(name)
                .ok_or_else(|| Fault::Missing(name.to_owned()))?;
            let committed = self.seen.as_ref().and_then(|seen| seen.get(name));
            if committed != Some(&self.commitment(name, point)) {
                return Err(Fault::Opening(name.to_owned()));
            }
            let decoded = point.decode();
            sum += decoded.map_err(|_| Fault::Opening(name.to_owned()))?;
        }
        let declared = Point::of(&sum)?;
        let lambda = lambda(&self.session.id, &self.centres, &declared)?;
        Ok((declared, lambda))
    }
}

impl Applicant {
    /// Begins to make a key for `session`.
    pub fn new(centres: &Centres, session: Session) -> Result<Self, Fault> {
        Party::new(centres, session, USER).map(Self)
    }

    /// Its commitment.
    pub fn committed(&self) -> [u8; 32] {
        self.0.committed()
    }

    /// Opens, once everybody has committed.
    pub fn open(&mut self, commitments: &Commitments) -> Result<Point, Fault> {
        self.0.open(commitments)
    }

    /// Puts the key together from the centres' parts. Each is checked; one that does not fit is named.
    pub fn finish(
        self,
        openings: &Openings,
        parts: &BTreeMap<String, Scalar>,
    ) -> Result<UserKey, Fault> {
        let party = self.0;
        let (declared, lambda) = party.joined(openings)?;
        let mut secret = Zeroizing::new(**party.secret);
        for name in party.centres.members().keys() {
            let part = parts
                .get(name)
                .ok_or_else(|| Fault::Missing(name.clone()))?;
            if !fits(&party.centres, openings, name, (part, &lambda)) {
                return Err(Fault::Part(name.clone()));
            }
            *secret += *part;
        }
        let secret = Option::<NonZeroScalar>::from(NonZeroScalar::new(*secret));
        let secret = SecretKey::from(secret.ok_or(Fault::Nothing)?);
        let key = UserKey {
            id: party.session.id,
            version: party.centres.version(),
            declared,
            secret,
        };
        let public = public_key(&key.id, &party.centres, &key.declared)?;
        assert_eq!(
            Point::generated(&key.secret.to_nonzero_scalar()),
            public,
            "parts that fit make the key that anyone computes"
        );
        Ok(key)
    }
}

impl<'a> Helper<'a> {
    /// Joins the making of a key.
    pub fn new(key: &'a CentreKey, centres: &Centres, session: Session) -> Result<Self, Fault> {
        if !centres.members().contains_key(key.name()) {
            return Err(Fault::Stranger(key.name().to_owned()));
        }
        let party = Party::new(centres, session, key.name())?;
        Ok(Self { party, key })
    }

    /// Its commitment.
    pub fn committed(&self) -> [u8; 32] {
        self.party.committed()
    }

    /// Opens, once everybody has committed.
    pub fn open(&mut self, commitments: &Commitments) -> Result<Point, Fault> {
        self.party.open(commitments)
    }

    /// Its part of the key, once everybody has opened. It may be seen by anyone: without the user's
    /// own secret it is of no use.
    pub fn part(self, openings: &Openings) -> Result<Scalar, Fault> {
        let (_, lambda) = self.party.joined(openings)?;
        Ok(**self.party.secret + lambda * **self.key.share)
    }
}

impl UserKey {
    /// The secret key, for signing and decryption by SM2.
    pub fn secret(&self) -> &SecretKey {
        &self.secret
    }
}

/// Whether a centre's part fits: `[t_i]G = W_i + [λ]P_i`.
pub(super) fn fits(
    centres: &Centres,
    openings: &Openings,
    name: &str,
    (part, lambda): (&Scalar, &Scalar),
) -> bool {
    let opened = openings.get(name).and_then(|point| point.decode().ok());
    let public = centres.members().get(name);
    let public = public.and_then(|point| point.decode().ok());
    match (opened, public) {
        (Some(opened), Some(public)) => {
            ProjectivePoint::generator() * *part == opened + public * *lambda
        }
        _ => false,
    }
}

/// The public key of who has `declared` under this version of the master key:
/// `P = W + [λ]P_pub`. Nothing but the key itself shows that it is theirs.
pub fn public_key(id: &str, centres: &Centres, declared: &Point) -> Result<Point, PointError> {
    let lambda = lambda(id, centres, declared)?;
    Point::of(&(declared.decode()? + centres.public().decode()? * lambda))
}

/// `λ = SM3(x_W ‖ y_W ‖ H_A) mod n` with
/// `H_A = SM3(ENTL_A ‖ ID_A ‖ a ‖ b ‖ x_G ‖ y_G ‖ x_Pub ‖ y_Pub)`.
fn lambda(id: &str, centres: &Centres, declared: &Point) -> Result<Scalar, PointError> {
    let identity = format!("{id}#{}", centres.version());
    let bits = u16::try_from(identity.len() * 8).map_err(|_| PointError)?;
    let mut hash = Sm3::new();
    hash.update(bits.to_be_bytes());
    hash.update(identity);
    for constant in CURVE {
        hash.update(constant);
    }
    hash.update(centres.public().coordinates()?);
    let h_a = hash.finalize();
    let mut hash = Sm3::new();
    hash.update(declared.coordinates()?);
    hash.update(h_a);
    Ok(scalar_of(&hash.finalize().into()))
}

/// 32 bytes written in hexadecimal digits.
const fn bytes(text: &[u8; 64]) -> [u8; 32] {
    const fn digit(letter: u8) -> u8 {
        match letter {
            b'0'..=b'9' => letter - b'0',
            b'A'..=b'F' => letter - b'A' + 10,
            _ => panic!("not a hexadecimal digit"),
        }
    }
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 32 {
        bytes[i] = digit(text[2 * i]) << 4 | digit(text[2 * i + 1]);
        i += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use sm2::dsa::signature::{Signer, Verifier};
    use sm2::dsa::{Signature, SigningKey, VerifyingKey};

    struct Site {
        keys: Vec<CentreKey>,
        centres: Centres,
    }

    impl Site {
        fn new(count: usize, version: u64) -> Self {
            let names = (0..count).map(|i| format!("centre-{i}"));
            let keys: Vec<_> = names.map(|name| CentreKey::generate(&name)).collect();
            let members: Vec<_> = keys.iter().map(|key| key.member(version)).collect();
            let centres = Centres::new(version, &members).unwrap();
            Self { keys, centres }
        }

        fn begin(&self, id: &str) -> (Applicant, Vec<Helper<'_>>, Commitments) {
            let mut nonce = [0; 32];
            getrandom::fill(&mut nonce).unwrap();
            let session = Session {
                id: id.into(),
                nonce,
            };
            let applicant = Applicant::new(&self.centres, session.clone()).unwrap();
            let help = |key| Helper::new(key, &self.centres, session.clone()).unwrap();
            let helpers: Vec<_> = self.keys.iter().map(help).collect();
            let mut commitments = Commitments::from([(USER.to_owned(), applicant.committed())]);
            for helper in &helpers {
                commitments.insert(helper.key.name().to_owned(), helper.committed());
            }
            (applicant, helpers, commitments)
        }

        fn opened(
            applicant: &mut Applicant,
            helpers: &mut [Helper<'_>],
            commitments: &Commitments,
        ) -> Openings {
            let user = (USER.to_owned(), applicant.open(commitments).unwrap());
            let mut openings = Openings::from([user]);
            for helper in helpers {
                let opened = helper.open(commitments).unwrap();
                openings.insert(helper.key.name().to_owned(), opened);
            }
            openings
        }

        fn parts(helpers: Vec<Helper<'_>>, openings: &Openings) -> BTreeMap<String, Scalar> {
            let part = |h: Helper<'_>| (h.key.name().to_owned(), h.part(openings).unwrap());
            helpers.into_iter().map(part).collect()
        }

        fn make(&self, id: &str) -> UserKey {
            let (mut applicant, mut helpers, commitments) = self.begin(id);
            let openings = Self::opened(&mut applicant, &mut helpers, &commitments);
            let parts = Self::parts(helpers, &openings);
            applicant.finish(&openings, &parts).unwrap()
        }
    }

    #[test]
    fn what_it_signs_holds_under_the_key_that_anyone_computes() {
        for count in [1, 2, 5] {
            let site = Site::new(count, 7);
            let key = site.make("user:ann");
            let signer = SigningKey::new("user:ann", key.secret()).unwrap();
            let signature: Signature = signer.sign(b"a weighed batch");
            let verifier = |id: &str, centres: &Centres, declared: &Point| {
                let public = public_key(id, centres, declared).unwrap();
                VerifyingKey::from_sec1_bytes("user:ann", &public.0).unwrap()
            };
            let holds = |v: VerifyingKey| v.verify(b"a weighed batch", &signature).is_ok();
            assert!(holds(verifier("user:ann", &site.centres, &key.declared)));
            // Not under another name, another point, another master key or another version of it.
            assert!(!holds(verifier("user:bob", &site.centres, &key.declared)));
            let other = site.make("user:ann");
            assert!(!holds(verifier("user:ann", &site.centres, &other.declared)));
            let strangers = Site::new(count, 7).centres;
            assert!(!holds(verifier("user:ann", &strangers, &key.declared)));
            let members: Vec<_> = site.keys.iter().map(|key| key.member(8)).collect();
            let later = Centres::new(8, &members).unwrap();
            assert_eq!(later.public(), site.centres.public());
            assert!(!holds(verifier("user:ann", &later, &key.declared)));
        }
    }

    #[test]
    fn who_is_missing_or_cheats_is_named() {
        let site = Site::new(3, 1);
        let name = || "centre-1".to_owned();
        // No commitment: nobody opens.
        let (mut applicant, _, mut commitments) = site.begin("user:ann");
        commitments.remove("centre-1");
        assert_eq!(applicant.open(&commitments), Err(Fault::Missing(name())));
        // Another point than committed to: no centre gives its part, and the user takes none.
        let (mut applicant, mut helpers, commitments) = site.begin("user:ann");
        let honest = Site::opened(&mut applicant, &mut helpers, &commitments);
        let mut lied = honest.clone();
        lied.insert(name(), honest["centre-2"]);
        let victim = helpers.pop().unwrap();
        assert_eq!(victim.part(&lied).unwrap_err(), Fault::Opening(name()));
        let nothing = BTreeMap::new();
        let refused = applicant.finish(&lied, &nothing).err().unwrap();
        assert_eq!(refused, Fault::Opening(name()));
        // A part that does not fit, and one that does not come.
        for wrong in [true, false] {
            let (mut applicant, mut helpers, commitments) = site.begin("user:ann");
            let openings = Site::opened(&mut applicant, &mut helpers, &commitments);
            let mut parts = Site::parts(helpers, &openings);
            let fault = match wrong {
                true => {
                    *parts.get_mut("centre-1").unwrap() += Scalar::ONE;
                    Fault::Part(name())
                }
                false => {
                    parts.remove("centre-1");
                    Fault::Missing(name())
                }
            };
            assert_eq!(applicant.finish(&openings, &parts).err(), Some(fault));
        }
    }

    #[test]
    fn who_has_opened_opens_for_no_other_commitments() {
        let site = Site::new(2, 1);
        let (_, mut helpers, commitments) = site.begin("user:ann");
        helpers[0].open(&commitments).unwrap();
        let mut others = commitments.clone();
        others.insert("centre-1".into(), [7; 32]);
        let refused = helpers[0].open(&others);
        assert_eq!(refused, Err(Fault::Opening("centre-1".into())));
        // A commitment of one session is none in another.
        let (_, mut again, mixed) = site.begin("user:ann");
        let mut mixed_in = mixed.clone();
        mixed_in.insert("centre-0".into(), commitments["centre-0"]);
        let refused = again[0].open(&mixed_in);
        assert_eq!(refused, Err(Fault::Opening("centre-0".into())));
    }

    #[test]
    fn all_centres_together_lack_the_users_secret() {
        let site = Site::new(3, 1);
        let (mut applicant, mut helpers, commitments) = site.begin("user:ann");
        let openings = Site::opened(&mut applicant, &mut helpers, &commitments);
        let parts = Site::parts(helpers, &openings);
        let key = applicant.finish(&openings, &parts).unwrap();
        let of_all: Scalar = parts.values().copied().sum();
        let rest = *key.secret().to_nonzero_scalar() - of_all;
        // What they lack is the logarithm of the point that the user opened.
        let lacking = NonZeroScalar::new(rest).unwrap();
        assert_eq!(Point::generated(&lacking), openings[USER]);
    }
}
