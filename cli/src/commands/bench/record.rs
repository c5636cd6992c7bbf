//! Records of measurements: what was measured, with when, where and how it was, in one JSON file.

use super::layers_report::LayersReport;
use super::network_report::NetworkReport;
use anyhow::{Context, anyhow, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// A measurement, and its provenance.
pub(super) struct Record {
    pub(super) provenance: Provenance,
    pub(super) report: Report,
}

/// A measurement: of layers, or of a network.
pub(super) enum Report {
    Layers(LayersReport),
    Network(NetworkReport),
}

/// The provenance of a measurement: when, where and how it was made.
#[derive(Serialize, Deserialize)]
pub(super) struct Provenance {
    /// The time in UTC, as 2026-01-31T12:00:00Z.
    #[serde(deserialize_with = "date")]
    date: String,
    device: String,
    backend: String,
    driver: String,
    driver_version: String,
    /// The commit of this program's checkout, where the current folder is in it, with `-dirty` if its files were changed.
    commit: Option<String>,
    /// The version of this program.
    version: String,
    /// The command line.
    command: String,
}

/// The file of a record.
#[derive(Serialize)]
struct RecordFile<'a, R> {
    /// The kind of the report, `layers` or `network`.
    record: &'static str,
    #[serde(flatten)]
    provenance: &'a Provenance,
    report: &'a R,
}

const LAYERS: &str = "layers";
const NETWORK: &str = "network";

impl Provenance {
    /// Says that this command measures on that device now.
    pub(super) fn now(adapter: &wgpu::AdapterInfo) -> Self {
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            device: adapter.name.clone(),
            backend: format!("{:?}", adapter.backend),
            driver: adapter.driver.clone(),
            driver_version: adapter.driver_info.clone(),
            commit: commit(),
            version: env!("CARGO_PKG_VERSION").into(),
            command: command_line(std::env::args_os().skip(1)),
        }
    }

    /// The provenance in a line.
    pub(super) fn in_words(&self) -> String {
        format!("Measured {}, {}: {}", self.date, self.software(), self.command)
    }

    /// The provenance as two lines of markdown.
    pub(super) fn in_markdown(&self) -> String {
        let Self { date, device, backend, command, .. } = self;
        format!("`{command}`\non {device} ({backend}), {}, {date}:", self.software())
    }

    /// The driver, this program and its commit.
    fn software(&self) -> String {
        let Self { driver, driver_version, version, commit, .. } = self;
        let driver = format!("{driver} {driver_version}");
        let commit = commit.as_deref().map_or(String::new(), |commit| {
            // As many digits as tell commits apart.
            let (hash, dirty) = commit.split_at(commit.find('-').unwrap_or(commit.len()));
            format!(", commit {}{dirty}", hash.get(..12).unwrap_or(hash))
        });
        format!("driver {}, dsconv {version}{commit}", driver.trim())
    }
}

/// The commit of the current folder's checkout, if it is this program's; else `None`.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let root = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    let manifest = std::fs::read_to_string(root.join("cli/Cargo.toml")).ok()?;
    if !manifest.contains(concat!("name = \"", env!("CARGO_PKG_NAME"), "\"")) {
        return None;
    }
    let commit = git(&["rev-parse", "HEAD"])?;
    // New files, as other records are, change nothing that was measured.
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if changed { format!("{commit}-dirty") } else { commit })
}

/// The command line as a shell takes it.
fn command_line(arguments: impl Iterator<Item = std::ffi::OsString>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,@:+%".contains(c);
    let quoted = arguments.map(|argument| {
        let argument = argument.to_string_lossy().into_owned();
        match !argument.is_empty() && argument.chars().all(plain) {
            true => argument,
            false => format!("'{}'", argument.replace('\'', r"'\''")),
        }
    });
    ["dsconv".to_owned()].into_iter().chain(quoted).collect::<Vec<_>>().join(" ")
}

/// Reads a date, and refuses what is none.
fn date<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match humantime::parse_rfc3339(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(serde::de::Error::custom(format!(
            "expected a date, as 2026-01-31T12:00:00Z, got {text:?}: {error}"
        ))),
    }
}

/// A file of a record: a name that ends in .json.
#[derive(Clone, Debug)]
pub(super) struct RecordPath(PathBuf);

impl std::str::FromStr for RecordPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        match path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
            true => Ok(Self(path)),
            false => Err(format!("expected a name that ends in .json, got {text:?}")),
        }
    }
}

impl std::fmt::Display for RecordPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.display().fmt(f)
    }
}

impl RecordPath {
    /// Reads the record.
    pub(super) fn read(&self) -> anyhow::Result<Record> {
        let path = &self.0;
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        parse(&text).with_context(|| format!("{self}: no record of dsconv bench --record"))
    }

    /// Refuses a place where something else than a record is, before the work.
    pub(super) fn check_place(&self) -> anyhow::Result<()> {
        ensure!(
            !self.0.exists() || self.read().is_ok(),
            "--record {self}: there is a file that is no record; expected a new name, or the record to replace"
        );
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        ensure!(folder.is_dir(), "--record {self}: there is no folder {}", folder.display());
        Ok(())
    }

    /// Writes the record, beside its place and then renamed.
    pub(super) fn write(&self, record: &Record) -> anyhow::Result<()> {
        let provenance = &record.provenance;
        let mut text = match &record.report {
            Report::Layers(report) => {
                serde_json::to_vec_pretty(&RecordFile { record: LAYERS, provenance, report })
            }
            Report::Network(report) => {
                serde_json::to_vec_pretty(&RecordFile { record: NETWORK, provenance, report })
            }
        }?;
        text.push(b'\n');
        Ok(dsconv::file::write(&self.0, &text)?)
    }
}

/// Parses a record. Errors name the field.
fn parse(text: &[u8]) -> anyhow::Result<Record> {
    let value: Value = serde_json::from_slice(text).context("expected JSON")?;
    let Value::Object(fields) = &value else {
        bail!("expected an object of JSON with a field `record`");
    };
    let field = |name: &str| fields.get(name).with_context(|| format!("{name}: missing field"));
    let kind = field("record")?;
    let report = || field("report");
    let report = match kind.as_str() {
        Some(LAYERS) => {
            let layers: LayersReport = typed(report()?, "report.")?;
            layers.check().context("report")?;
            Report::Layers(layers)
        }
        Some(NETWORK) => {
            let network: NetworkReport = typed(report()?, "report.")?;
            network.check().context("report")?;
            Report::Network(network)
        }
        _ => bail!("record: expected \"{LAYERS}\" or \"{NETWORK}\", got {kind}"),
    };
    Ok(Record { provenance: typed(&value, "")?, report })
}

/// Reads a value of JSON as a type, and names the field that is wrong, below the field of that prefix.
fn typed<T: DeserializeOwned>(value: &Value, prefix: &str) -> anyhow::Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = match error.path().to_string().as_str() {
            "." => prefix.trim_end_matches('.').to_owned(),
            path => format!("{prefix}{path}"),
        };
        let error = error.into_inner();
        if field.is_empty() { anyhow!("{error}") } else { anyhow!("{field}: {error}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_for_shells() {
        let line = |arguments: &[&str]| command_line(arguments.iter().map(Into::into));
        assert_eq!(
            line(&["bench", "--conv", "8x8k1s1@4x4", "--bits", "8,4"]),
            "dsconv bench --conv 8x8k1s1@4x4 --bits 8,4"
        );
        assert_eq!(line(&["a b", "", "it's"]), r"dsconv 'a b' '' 'it'\''s'");
    }
}
