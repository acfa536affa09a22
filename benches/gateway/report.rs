//! What comes of a part: JSON lines in target/bench, and its tables between the markers of docs/performance.md, so that
//! the prose around them stays.

use super::load::Measured;
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const DOCUMENT: &str = "docs/performance.md";
/// Between which the goals of all parts stand.
const GOALS: &str = "goals";

/// One line of a part's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    /// Where and when, and of which versions.
    Machine(String),
    /// One server's share of one round.
    Round { work: String, server: String, round: usize, measured: Measured },
    /// As it stands in the document.
    Table { head: Vec<String>, lines: Vec<Vec<String>> },
    /// A sentence below the table.
    Note(String),
    /// What was to be reached.
    Goal { work: String, limit: String, measured: String, met: bool },
}

/// What a part has to say.
pub struct Report {
    part: String,
    records: Vec<Record>,
}

impl Report {
    pub fn new(part: &str) -> Self {
        Self { part: part.to_owned(), records: vec![Record::Machine(machine())] }
    }

    pub fn round(&mut self, work: &str, server: &str, round: usize, measured: &Measured) {
        let (work, server) = (work.to_owned(), server.to_owned());
        self.records.push(Record::Round { work, server, round, measured: measured.clone() });
    }

    pub fn table(&mut self, head: &[&str], lines: Vec<Vec<String>>) {
        let head = head.iter().map(ToString::to_string).collect();
        self.records.push(Record::Table { head, lines });
    }

    pub fn note(&mut self, sentence: impl Into<String>) {
        self.records.push(Record::Note(sentence.into()));
    }

    /// `measured` in the `unit` of the `limit` that it should not pass.
    pub fn at_most(&mut self, work: &str, measured: f64, limit: f64, unit: &str) {
        self.goal(
            work,
            format!("≤ {}{unit}", short(limit)),
            format!("{}{unit}", short(measured)),
            measured <= limit,
        );
    }

    /// `measured` in the `unit` of the `limit` that it should reach.
    pub fn at_least(&mut self, work: &str, measured: f64, limit: f64, unit: &str) {
        self.goal(
            work,
            format!("≥ {}{unit}", short(limit)),
            format!("{}{unit}", short(measured)),
            measured >= limit,
        );
    }

    fn goal(&mut self, work: &str, limit: String, measured: String, met: bool) {
        eprintln!("  {work}: {measured} (goal {limit}){}", if met { "" } else { ", missed" });
        self.records.push(Record::Goal { work: work.to_owned(), limit, measured, met });
    }

    /// Writes the part's file, and the document anew.
    pub fn save(&self) -> anyhow::Result<()> {
        fs::create_dir_all(folder())?;
        let lines: Result<Vec<String>, _> = self.records.iter().map(serde_json::to_string).collect();
        fs::write(folder().join(format!("{}.json", self.part)), lines?.join("\n") + "\n")?;
        let path = root().join(DOCUMENT);
        let document = fs::read_to_string(&path).context(DOCUMENT)?;
        let section = render(&self.records);
        eprintln!("\n{section}");
        let document = replaced(&document, &self.part, &section)?;
        fs::write(&path, replaced(&document, GOALS, &goals()?)?)?;
        Ok(())
    }
}

/// The machine, the tables, the notes.
fn render(records: &[Record]) -> String {
    let mut text = String::new();
    for record in records {
        match record {
            Record::Machine(machine) => text.push_str(&format!("{machine}\n")),
            Record::Table { head, lines } => text.push_str(&format!("\n{}", table(head, lines))),
            Record::Note(sentence) => text.push_str(&format!("\n{sentence}\n")),
            Record::Round { .. } | Record::Goal { .. } => {}
        }
    }
    text
}

fn table(head: &[String], lines: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|---|{}\n", "---:|".repeat(head.len() - 1));
    let lines: String = lines.iter().map(|cells| line(cells)).collect();
    format!("{}{rule}{lines}", line(head))
}

/// Of every part that was ever run here.
fn goals() -> anyhow::Result<String> {
    let mut lines = Vec::new();
    for (part, _) in super::parts::ALL {
        let Ok(text) = fs::read_to_string(folder().join(format!("{part}.json"))) else { continue };
        for line in text.lines() {
            if let Record::Goal { work, limit, measured, met } = serde_json::from_str(line)? {
                let met = if met { "yes" } else { "**no**" };
                lines.push(vec![work, limit, measured, met.to_owned()]);
            }
        }
    }
    let head = ["work", "goal", "measured", "met"].map(String::from);
    Ok(table(&head, &lines))
}

/// The document with another text between a part's markers.
fn replaced(document: &str, part: &str, text: &str) -> anyhow::Result<String> {
    let (begin, end) = (format!("<!-- bench {part} -->\n"), format!("<!-- end of bench {part} -->"));
    let (before, rest) = document.split_once(&begin).with_context(|| format!("{DOCUMENT} has no {begin}"))?;
    let (old, after) = rest.split_once(&end).with_context(|| format!("{DOCUMENT} has no {end}"))?;
    ensure!(!old.contains("<!-- bench"), "{DOCUMENT}: {part} does not end");
    let mut document = String::new();
    write!(document, "{before}{begin}{text}{end}{after}")?;
    Ok(document)
}

/// Below which everything of a run lies.
pub fn folder() -> PathBuf {
    root().join("target/bench")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The middle one, and from where to where: `17 [16–29]`.
pub fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (values.first(), values.last()) else { return "–".into() };
    format!("{} [{}–{}]", short(values[values.len() / 2]), short(*least), short(*most))
}

/// The middle one.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Three digits that count, and no more.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), ""), |(whole, rest)| (whole, rest));
    let grouped: Vec<&str> =
        whole.as_bytes().rchunks(3).rev().map(|three| std::str::from_utf8(three).unwrap_or("")).collect();
    // A space between thousands, as everywhere in this document.
    let whole = grouped.join(" ");
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { whole } else { format!("{whole}.{fraction}") }
}

/// Processor, kernel, versions, moment.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_start_matches(['\t', ':', ' ']));
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let nginx =
        super::servers::nginx_program().map_or_else(|_| "no nginx".into(), |nginx| said(&nginx, &["-v"]));
    // Of another build than that of `make dist` nobody knows what it was made of.
    let build = std::env::var("KEYHOUSE_BIN").ok().filter(|program| program != "target/keyhouse");
    let build = build.unwrap_or_else(|| said("git", &["describe", "--always", "--dirty", "--exclude=*"]));
    format!(
        "{processor}, {cores} cores; Linux {}; {}; {}; Keyhouse at {}; {}.",
        kernel.trim(),
        said("rustc", &["--version"]).split(" (").next().unwrap_or_default(),
        nginx.trim_start_matches("nginx version: ").replace('/', " "),
        build,
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
    )
}

/// The first line that a program prints.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root()).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").to_owned()
}
