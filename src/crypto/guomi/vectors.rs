//! The standards' own examples, so that a crate that changes is noticed.

use aes_gcm::AesGcm;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use sm2::SecretKey;
use sm2::dsa::signature::Verifier;
use sm2::dsa::{Signature, SigningKey, VerifyingKey};
use sm2::pke::{DecryptingKey, Mode};
use sm3::{Digest, Sm3};
use sm4::Sm4;
use sm4::cipher::{Array, BlockCipherEncrypt};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// GB/T 32918.5-2017, the private key of both of its examples.
fn key() -> SecretKey {
    let key = "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8";
    SecretKey::from_slice(&hex(key)).unwrap()
}

/// GB/T 32918.5-2017, Annex A.
#[test]
fn the_signature_of_the_standard_holds() {
    let signer = SigningKey::new("1234567812345678", &key()).unwrap();
    let public = hex(
        "04 09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020
            CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13",
    );
    assert_eq!(*signer.verifying_key().to_sec1_bytes(), *public);
    let verifier = VerifyingKey::from_sec1_bytes("1234567812345678", &public).unwrap();
    let signature = hex(
        "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3
         B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA",
    );
    let signature = Signature::try_from(signature.as_slice()).unwrap();
    verifier.verify(b"message digest", &signature).unwrap();
    assert!(verifier.verify(b"message digesT", &signature).is_err());
}

/// GB/T 32918.5-2017, Annex C.
#[test]
fn the_ciphertext_of_the_standard_opens() {
    let ciphertext = hex(
        "04 04EBFC718E8D1798620432268E77FEB6415E2EDE0E073C0F4F640ECD2E149A73
            E858F9D81E5430A57B36DAAB8F950A3C64E6EE6A63094D99283AFF767E124DF0
            59983C18F809E262923C53AEC295D30383B54E39D609D160AFCB1908D0BD8766
            21886CA989CA9C7D58087307CA93092D651EFA",
    );
    let opener = DecryptingKey::new_with_mode(key().to_nonzero_scalar(), Mode::C1C3C2);
    assert_eq!(opener.decrypt(&ciphertext).unwrap(), b"encryption standard");
    for byte in 1..ciphertext.len() {
        let mut changed = ciphertext.clone();
        changed[byte] ^= 1;
        assert!(opener.decrypt(&changed).is_err(), "byte {byte}");
    }
}

/// GB/T 32905-2016, Annex A.
#[test]
fn the_hashes_of_the_standard() {
    let abc = hex("66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0");
    assert_eq!(Sm3::digest(b"abc").as_slice(), abc);
    let long = hex("debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732");
    assert_eq!(Sm3::digest("abcd".repeat(16)).as_slice(), long);
}

/// GB/T 32907-2016, Annex A, and RFC 8998, A.1.
#[test]
fn the_ciphers_of_the_standards() {
    let key = hex("0123456789ABCDEFFEDCBA9876543210");
    let mut block = Array::try_from(key.as_slice()).unwrap();
    Sm4::new_from_slice(&key).unwrap().encrypt_block(&mut block);
    assert_eq!(block.as_slice(), hex("681EDF34D206965E86B3E94F536E4246"));

    let plain = "ABCDEFEA".chars().flat_map(|c| [c; 16]);
    let plain = hex(&plain.collect::<String>());
    let cipher = AesGcm::<Sm4, U12>::new_from_slice(&key).unwrap();
    let payload = Payload {
        msg: &plain,
        aad: &hex("FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2"),
    };
    let nonce = hex("00001234567800000000ABCD");
    let nonce = nonce.as_slice().try_into().unwrap();
    let sealed = hex(
        "17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735
         D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D
         83DE3541E4C2B58177E065A9BF7B62EC",
    );
    assert_eq!(cipher.encrypt(nonce, payload).unwrap(), sealed);
}
