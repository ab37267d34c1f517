//! Replays of small files: golden folders, and what must hold for any file.

use super::*;
use clap::Parser;
use std::path::Path;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: ReplayArgs,
}

/// Runs `replay` with a line of arguments; `{}` in it stands for `folder`. Gives the labels.
fn run_line(line: &str, folder: &Path) -> Result<(Summary, String)> {
    let output = tempfile::NamedTempFile::new().unwrap();
    let line = line.replace("{}", folder.to_str().unwrap());
    let words = ["replay", "-o", output.path().to_str().unwrap()];
    let words = words.into_iter().chain(line.split_whitespace());
    let args = Command::try_parse_from(words)?.args;
    let summary = replay(&args)?;
    Ok((summary, std::fs::read_to_string(output.path()).unwrap()))
}

fn golden() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/replay")
}

/// Every folder has `args` (one line), `input.csv` and `expected.csv`.
#[test]
fn golden_folders() {
    let mut cases = 0;
    for folder in std::fs::read_dir(golden()).unwrap() {
        let folder = folder.unwrap().path();
        let args = std::fs::read_to_string(folder.join("args")).unwrap();
        let (_, labels) = run_line(&args, &folder).unwrap();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(folder.join("expected.csv"), &labels).unwrap();
        }
        let expected = std::fs::read_to_string(folder.join("expected.csv")).unwrap();
        assert_eq!(labels, expected, "{}", folder.display());
        cases += 1;
    }
    assert!(cases >= 4);
}

/// A wave with noise, and a fault from row 300 on.
fn wave(rows: usize, start: usize) -> String {
    let mut csv = String::from("when;level;flow;label\n");
    let mut noise = 12345u64;
    for i in 0..rows {
        noise = noise
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let jitter = (noise >> 40) as f64 / (1u64 << 24) as f64;
        let fault = if i >= 300 { 15.0 } else { 0.0 };
        let level = 5.0 * (i as f64 / 7.0).sin() + jitter + fault;
        let (minute, second) = ((i + start) / 60, (i + start) % 60);
        let (hour, minute) = (minute / 60, minute % 60);
        let label = u8::from(i >= 300);
        csv.push_str(&format!(
            "2024-05-01 {hour:02}:{minute:02}:{second:02};{level:.4};{:.4};{label}\n",
            jitter * 3.0
        ));
    }
    csv
}

fn labels_of(csv: &str, args: &str) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("input.csv"), csv).unwrap();
    let line = format!("--csv {{}}/input.csv --ignore label --phase1-rows 200 {args}");
    let (_, labels) = run_line(&line, folder.path()).unwrap();
    let mut reader = csv::Reader::from_reader(labels.as_bytes());
    let rows = reader.records().map(|r| r.unwrap());
    rows.map(|r| (r[1].to_string(), r[2].to_string())).collect()
}

#[test]
fn a_fault_is_labelled_and_nothing_else() {
    let labels = labels_of(&wave(400, 0), "");
    assert_eq!(labels.len(), 400);
    let wrong = labels.iter().take(300).filter(|l| l.0 == "1").count();
    let found = labels.iter().skip(300).filter(|l| l.0 == "1").count();
    assert_eq!(wrong, 0);
    assert!(found > 60, "{found}");
}

#[test]
fn a_label_depends_on_no_later_row_whatever_the_batch() {
    let whole = wave(400, 0);
    for args in ["", "--batch 20", "--batch 7"] {
        let all = labels_of(&whole, args);
        for rows in [201, 305, 333] {
            let cut: String = whole
                .lines()
                .take(rows + 1)
                .map(|l| format!("{l}\n"))
                .collect();
            assert_eq!(labels_of(&cut, args), all[..rows], "{args}, {rows} rows");
        }
    }
}

#[test]
fn neither_the_clock_nor_the_row_number_is_a_signal() {
    let all = labels_of(&wave(400, 0), "");
    assert_eq!(labels_of(&wave(400, 5000), ""), all);
    let timeless: String = wave(400, 0)
        .lines()
        .map(|l| format!("{}\n", l.split_once(';').unwrap().1))
        .collect();
    assert_eq!(labels_of(&timeless, ""), all);
    let numbered: String = wave(400, 0)
        .lines()
        .enumerate()
        .map(|(i, l)| {
            if i == 0 {
                format!("n;{l}\n")
            } else {
                format!("{i};{l}\n")
            }
        })
        .collect();
    assert_eq!(labels_of(&numbered, ""), all);
}

#[test]
fn a_judgement_stands_until_the_next() {
    let labels = labels_of(&wave(400, 0), "--batch 20");
    // Row 300 begins the fault and a batch; the batch is judged with its last row, 319.
    assert!(labels[300..319].iter().all(|l| l.0 == "0"));
    assert_eq!(labels[319].0, "1");
    assert!(labels[319..399].iter().all(|l| l.0 == "1"));
}

#[test]
fn mistakes_are_answered_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("input.csv"),
        "time,pressure\n2024-01-01,high\n",
    )
    .unwrap();
    let bad = "[profile]\nid = \"bad\"\nname = \"n\"\nversion = \"1\"\nsource = \"s\"\n\n\
        [validation]\nlamda = 1\n\n[[tag]]\nname = \"pressure\"\n";
    std::fs::write(folder.path().join("bad.toml"), bad).unwrap();
    for (line, words) in [
        ("--csv {}/none.csv", "cannot open"),
        ("--csv {}/input.csv", "no column of the CSV has numbers"),
        ("--csv {}/input.csv --time tine", "nearest name is \"time\""),
        (
            "--csv {}/input.csv --decimal ,",
            "cannot both separate columns",
        ),
        (
            "--csv {}/input.csv --profile {}/bad.toml",
            "unknown key `lamda`",
        ),
        ("--csv {}/input.csv --batch 0", "0 is not in 1..=1000000"),
        (
            "--csv {}/input.csv --delimiter ab",
            "expected one character",
        ),
    ] {
        let error = format!("{:#}", run_line(line, folder.path()).unwrap_err());
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[test]
fn odd_files_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.csv");
    for text in [
        "a\r1\r2\r3\r",
        "a,b\n1\n1,2,3,4\n\n,\n5,6\n",
        "\u{feff}a;b\n1,5;2\n",
        "a,a,a\n1,2,3\n",
        "a\n1\n\"unclosed\n2\n",
        "a\n1e308\n-1e308\ninf\nnan\n1e309\n",
    ] {
        std::fs::write(&input, text).unwrap();
        let (summary, labels) =
            run_line("--csv {}/input.csv --phase1-rows 1", folder.path()).unwrap();
        assert_eq!(labels.lines().count() as u64, summary.rows + 1, "{text:?}");
    }
    std::fs::write(&input, b"a\n1\n\xff\xfe\n2\n").unwrap();
    let (summary, _) = run_line("--csv {}/input.csv --phase1-rows 1", folder.path()).unwrap();
    assert_eq!((summary.rows, summary.cells_without_value), (3, 1));
}

#[test]
fn every_shipped_profile_loads() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/plugins/profiles");
    let mut profiles = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let profile = super::profile::Profile::read(&entry.unwrap().path()).unwrap();
        assert!(!profile.tags.is_empty());
        profiles += 1;
    }
    assert!(profiles > 0);
}
