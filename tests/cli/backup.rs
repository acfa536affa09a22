//! `backup` and `restore`: what was there is there again, in either engine, or nothing is.

use crate::actor::Operator;
use crate::database::{Engine, engines};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// A house with something of everything that the command line makes, and two calls; and its backup.
fn house(engine: Engine) -> (Operator, String, PathBuf) {
    let operator = Operator::new(engine);
    let key = operator.furnish();
    let secret = key["secret"].as_str().expect("text").to_owned();
    operator.json(&["group", "create", "gold", "--multiplier", "1.5"]);
    operator.create_user("grace");
    operator.json(&["user", "grant", "grace", "3"]);
    operator.json(&["group", "allow", "gold", "grace"]);
    operator.json_with(
        &[
            "upstream",
            "create",
            "far",
            "--dialect",
            "openai",
            "--base-url",
            "https://far.example/v1",
            "--secret-stdin",
        ],
        "of-the-provider",
    );
    let fine = ["--group", "gold", "--ip", "10.0.0.0/8", "--model", "parr*", "--credit-limit", "2"];
    let made = [
        &["key", "create", "--user", "grace", "--name", "Zoë \"\\ 😀", "--expires", "2031-05-06"],
        &fine[..],
    ];
    operator.json(&made.concat());
    let gone = operator.json(&["key", "create", "--user", "ada", "--name", "gone"]);
    operator.json(&["key", "delete", gone["id"].as_str().expect("text")]);

    let server = operator.serve(&[]);
    for _ in 0..2 {
        assert_eq!(server.chat(&secret, "parrot").0, 200);
    }
    // Beside the server that runs.
    let file = operator.folder().join("house.jsonl.gz");
    let made = operator.json(&["backup", "house.jsonl.gz"]);
    assert_eq!(made["rows"]["charges"], 2, "{made}");
    assert_eq!(made["bytes"].as_u64(), fs::metadata(&file).ok().map(|it| it.len()));
    assert_eq!(server.terminate(), 0);
    (operator, secret, file)
}

fn lists(operator: &Operator) -> Vec<Value> {
    let lists =
        [&["user", "list"], &["group", "list"], &["upstream", "list"], &["model", "list"], &["key", "list"]];
    lists.iter().map(|list| operator.json(&list[..])).collect()
}

fn unzipped(file: &Path) -> String {
    let mut text = String::new();
    let file = fs::File::open(file).expect("a file");
    flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).expect("unzipped");
    text
}

fn zipped(text: &str, file: &Path) {
    let file = fs::File::create(file).expect("a file");
    let mut to = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    to.write_all(text.as_bytes()).expect("written");
    to.finish().expect("written");
}

#[test]
fn what_was_there_is_there_again_in_either_engine() {
    for from in engines() {
        let (old, secret, file) = house(from);
        for to in engines() {
            let new = Operator::at_a_new_place(to);
            let answer = new.run(&["restore", file.to_str().expect("text")]);
            assert_eq!(answer.status, 0, "{from:?} to {to:?}: {answer:?}");
            assert!(answer.stderr.contains("master.key"), "what to bring: {answer:?}");
            assert!(!new.folder().join("master.key").exists(), "made in place of the right one");
            fs::copy(old.folder().join("master.key"), new.folder().join("master.key")).expect("copied");
            assert_eq!(lists(&new), lists(&old), "{from:?} to {to:?}");

            // All of it, and nothing else: but for how an engine says yes.
            let again = new.folder().join("again.gz");
            assert_eq!(new.run(&["backup", "again.gz"]).status, 0);
            let rows = |file: &Path| {
                let text = unzipped(file).replace(":true", ":1").replace(":false", ":0");
                let rows = text.lines().filter(|line| !line.starts_with(r#"{"keyhouse":"backup""#));
                rows.map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(rows(&again), rows(&file), "{from:?} to {to:?}");

            // It goes on where it stood.
            let server = new.serve(&[]);
            assert_eq!(server.chat(&secret, "parrot").0, 200, "{from:?} to {to:?}");
            assert_eq!(server.terminate(), 0);
            let made = new.json(&["key", "create", "--user", "ada", "--name", "new"]);
            assert_eq!(made["id"], "4", "the number of a deleted key is not used again");
            let diagnosis = new.json(&["doctor"]);
            assert_eq!(diagnosis["charges"], 3, "{diagnosis}");
        }
    }
}

#[test]
fn a_backup_of_an_earlier_release_is_brought_up_to_this_one() {
    let (_old, _, file) = house(Engine::Sqlite);
    let text = unzipped(&file);
    let newest = "00000000000016";
    assert!(
        text.lines().next().is_some_and(|line| line.contains(newest)),
        "another migration: what did it change?"
    );
    for to in engines() {
        let new = Operator::at_a_new_place(to);
        let earlier = new.folder().join("earlier.gz");
        // The last migration changed nothing that is backed up.
        zipped(&text.replacen(newest, "00000000000015", 1), &earlier);
        let answer = new.run(&["restore", "earlier.gz"]);
        assert_eq!(answer.status, 0, "{answer:?}");
        assert_eq!(new.json(&["migrate"])["applied"], Value::Array(Vec::new()));
        let refused = Operator::new(to).run(&["restore", earlier.to_str().expect("text")]);
        assert!(refused.status == 1 && refused.stderr.contains("newer release"), "{refused:?}");
    }
}

#[test]
fn a_backup_that_is_none_or_not_whole_restores_nothing() {
    let (_old, _, file) = house(Engine::Sqlite);
    let text = unzipped(&file);
    let without = |part: &str| {
        let lines = text.lines().filter(|line| !line.contains(part));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    };
    let cases = [
        ("empty", String::new()),
        ("another file", "root:x:0:0\n".to_owned()),
        ("newer", text.replacen("00000000000016", "00000000000099", 1)),
        ("no end", without(r#"{"keyhouse":"end""#)),
        ("cut within a line", text[..text.len() / 2].to_owned()),
        ("a row less", without(r#""name":"grace""#)),
        ("an unknown table", text.replacen(r#""name":"grants""#, r#""name":"sqlite_schema""#, 1)),
        ("a row before its table", without(r#""name":"users""#)),
        (
            "twice the beginning",
            text.lines().take(1).map(|line| format!("{line}\n")).collect::<String>() + &text,
        ),
        ("a row that is none", text.replacen(r#"{"id":1,"#, r#"{"id":"one","#, 1)),
        ("another's numbers", text.replacen(r#""last_ids":{"#, r#""last_ids":{"sessions":7,"#, 1)),
    ];
    for to in engines() {
        let new = Operator::at_a_new_place(to);
        let damaged = new.folder().join("damaged.gz");
        for (name, text) in &cases {
            zipped(text, &damaged);
            let answer = new.run(&["restore", "damaged.gz"]);
            assert_eq!(answer.status, 1, "{name}: {answer:?}");
            assert!(answer.stderr.contains("backup"), "{name}: {answer:?}");
            if *name != "newer" {
                continue;
            }
            assert!(answer.stderr.contains("newer release"), "{answer:?}");
        }
        // As it lies on the disk: cut, with something behind it, or with one bit of it another.
        let whole = fs::read(&file).expect("read");
        let cut =
            [0, 1, 600, whole.len() - 9, whole.len() - 4, whole.len() - 1].map(|end| whole[..end].to_vec());
        let longer = [&whole[..], b"x"].concat();
        let flipped = (0..whole.len()).step_by(whole.len() / 16).map(|place| {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << (place % 8);
            bytes
        });
        // What the head of a gzip file says of its making (bytes 4 to 9) changes nothing.
        let flipped = flipped.filter(|bytes| bytes[10..] != whole[10..] || bytes[..4] != whole[..4]);
        for bytes in cut.into_iter().chain([longer, b"not compressed".to_vec()]).chain(flipped) {
            fs::write(&damaged, &bytes).expect("written");
            let answer = new.run(&["restore", "damaged.gz"]);
            assert_eq!(answer.status, 1, "{answer:?}");
        }
        let answer = new.run(&["restore", "."]);
        assert!(answer.status == 1 && answer.stderr.contains("cannot be read"), "{answer:?}");
        assert!(!new.folder().join("master.key").exists(), "made in place of the right one");
        // Nothing of any of them is there, so that there is room for the right one.
        let answer = new.run(&["restore", file.to_str().expect("text")]);
        assert_eq!(answer.status, 0, "{answer:?}");
    }
}

#[test]
fn servers_start_where_others_ran_on_the_empty_database_before() {
    for engine in engines() {
        let (old, secret, file) = house(engine);
        let new = Operator::new(engine);
        new.instances_that_died(3);
        assert_eq!(new.run(&["restore", file.to_str().expect("text")]).status, 0);
        fs::copy(old.folder().join("master.key"), new.folder().join("master.key")).expect("copied");
        for _ in 0..3 {
            let server = new.serve(&[]);
            assert_eq!(server.chat(&secret, "parrot").0, 200);
            assert_eq!(server.terminate(), 0);
        }
    }
}

#[test]
fn neither_a_file_nor_a_database_is_overwritten() {
    for engine in engines() {
        let (operator, _, file) = house(engine);
        let refused = operator.run(&["backup", "house.jsonl.gz"]);
        assert!(refused.status == 1 && refused.stderr.contains("not replaced"), "{refused:?}");
        let refused = operator.run(&["backup", "nowhere/house.gz"]);
        assert!(refused.status == 1 && refused.stderr.contains("nowhere"), "{refused:?}");
        let before = lists(&operator);
        let refused = operator.run(&["restore", "house.jsonl.gz"]);
        assert!(refused.status == 1 && refused.stderr.contains("new place"), "{refused:?}");
        assert_eq!(lists(&operator), before);
        let new = Operator::new(engine);
        let server = new.serve(&[]);
        assert_eq!(server.get("/healthz").0, 200);
        let refused = new.run(&["restore", file.to_str().expect("text")]);
        assert!(refused.status == 1 && refused.stderr.contains("stop it"), "{refused:?}");
        let dangling = operator.folder().join("dangling.gz");
        std::os::unix::fs::symlink("nowhere/else.gz", &dangling).expect("a link");
        let refused = operator.run(&["backup", "dangling.gz"]);
        assert!(refused.status == 1 && refused.stderr.contains("not replaced"), "{refused:?}");
        assert_eq!(server.terminate(), 0);
    }
}
