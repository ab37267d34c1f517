use super::*;
use proptest::prelude::*;

/// Example key and note of golang.org/x/mod/sumdb/note.
const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

/// The cosigned checkpoint of c2sp.org/tlog-cosignature.
const COSIGNED: &str = "example.com/behind-the-sofa\n20852163\n\
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
    — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
    — witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

fn never(_: &[u8; 32], _: &[u8], _: &[u8; 64]) -> bool {
    false
}

#[test]
fn published_notes_and_keys_are_read_and_written_the_same() {
    let key: NoteKey = GO_KEY.parse().unwrap();
    assert_eq!(key.to_string(), GO_KEY);
    for text in [GO_NOTE, COSIGNED] {
        let note = Note::parse(text.as_bytes()).unwrap();
        assert_eq!(note.to_string(), text);
    }
    let note = Note::parse(GO_NOTE.as_bytes()).unwrap();
    assert_eq!(note.signatures[0].key_id, key.id());
    // Its cosignature has the time of the specification's signed message.
    let note = Note::parse(COSIGNED.as_bytes()).unwrap();
    let time = note.signatures[1].signature.first_chunk().unwrap();
    assert_eq!(u64::from_be_bytes(*time), 1_679_315_147);
    assert_eq!(note.signatures[1].signature.len(), 72);
}

#[test]
fn a_wrong_signature_spoils_the_note_and_an_unknown_one_does_not() {
    let key: NoteKey = GO_KEY.parse().unwrap();
    let note = Note::parse(GO_NOTE.as_bytes()).unwrap();
    assert_eq!(
        note.verify(&key, never),
        Err(NoteError::Signature("PeterNeumann".to_owned()))
    );
    assert_eq!(note.verify(&key, |_, _, _| true), Ok(Stamp(None)));
    let other = NoteKey {
        key: KeyKind::Cosignature([1; 32]),
        ..key
    };
    let unsigned = Err(NoteError::Unsigned("PeterNeumann".to_owned()));
    assert_eq!(note.verify(&other, |_, _, _| true), unsigned);
}

#[test]
fn what_is_no_note_is_refused() {
    let signature = "— a AAAAAAE=\n";
    let good = format!("text\n\n{signature}");
    assert!(Note::parse(good.as_bytes()).is_ok());
    // Blank lines belong to the text; only the last one ends it.
    let blank = format!("a\n\nb\n\n{signature}");
    assert_eq!(Note::parse(blank.as_bytes()).unwrap().text, "a\n\nb\n");
    for bad in [
        String::new(),
        "text\n".to_owned(),
        "text\n\n".to_owned(),
        "text\n\n\n".to_owned(),
        format!("text\n{signature}"),
        format!("text\r\n\n{signature}"),
        format!("t\text\n\n{signature}"),
        "text\n\n— a AAAAAAE=".to_owned(),
        "text\n\n- a AAAAAAE=\n".to_owned(),
        "text\n\n—a AAAAAAE=\n".to_owned(),
        "text\n\n— a+b AAAAAAE=\n".to_owned(),
        "text\n\n—  AAAAAAE=\n".to_owned(),
        "text\n\n— a AAAAAAE\n".to_owned(),
        "text\n\n— a AAAAAAF=\n".to_owned(),
        "text\n\n— a AAAAAA==\n".to_owned(),
        "text\n\n— a AAAAAAE= \n".to_owned(),
        format!("text\n\n{}", signature.repeat(MAX_SIGNATURES + 1)),
        format!("{}\n\n{signature}", "x".repeat(MAX_NOTE)),
    ] {
        assert!(Note::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert_eq!(
        Note::parse(b"\xff\n\n\xe2\x80\x94 a AAAAAAE=\n"),
        Err(NoteError::Text)
    );
}

#[test]
fn what_is_no_key_is_refused() {
    for bad in [
        "",
        "a",
        "a+b",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10",
        "PeterNeumann+c74f20a3+BBpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+",
    ] {
        assert!(bad.parse::<NoteKey>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_read_is_written_the_same(text in "(\\PC|\n|— a AAAAAAE=\n){0,60}") {
        if let Ok(note) = Note::parse(text.as_bytes()) {
            prop_assert_eq!(note.to_string(), text);
        }
    }
}
