//! A measured network: what `--json` and records hold of it, and its table.

use super::numbers::positive;
use crate::display::{bytes, table};
use anyhow::ensure;
use comfy_table::Table;
use serde::{Deserialize, Serialize};

/// A run over all forms of a network at all sizes.
#[derive(Serialize, Deserialize)]
pub(super) struct NetworkReport {
    pub(super) device: String,
    pub(super) model: String,
    /// Pictures in a run.
    pub(super) batch: u32,
    pub(super) rows: Vec<Row>,
}

/// One form of the network at one size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    /// Side of the picture.
    pub(super) size: u32,
    /// `f32`, `weight-only`, `int8` or `tensor cores`.
    pub(super) form: String,
    /// The time of a run, with upload and download.
    #[serde(deserialize_with = "positive")]
    pub(super) ms: f64,
    /// Operations of convolutions over that time.
    #[serde(deserialize_with = "positive")]
    pub(super) gops: f64,
    /// How many times faster than f32 this is.
    #[serde(deserialize_with = "positive")]
    pub(super) ratio: f64,
    /// Device memory of weights and constants.
    pub(super) weights: u64,
    /// Device memory of tensors.
    pub(super) tensors: u64,
    /// All device memory, parameters among it.
    pub(super) total: u64,
    pub(super) pipelines: usize,
    /// The time from the model in host memory to the first result, with an empty pipeline cache.
    #[serde(deserialize_with = "positive")]
    pub(super) cold_ms: f64,
    /// The same with the cache that the first run left; `None` where the backend has none.
    pub(super) warm_ms: Option<f64>,
}

impl NetworkReport {
    /// Refuses a report without rows.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.rows.is_empty(), "rows: expected one at least, got none");
        Ok(())
    }

    /// The line above the table.
    pub(super) fn heading(&self) -> String {
        format!("{}, batch {}, on {}", self.model, self.batch, self.device)
    }

    /// The line below the table.
    pub(super) fn note(&self) -> &'static str {
        "First: from the weights in host memory to the first result. Drivers keep caches of their own besides."
    }

    /// The table, a row for each form and size.
    pub(super) fn table(&self) -> Table {
        let header = [
            "picture",
            "form",
            "ms",
            "GOP/s",
            "faster",
            "memory",
            "weights",
            "tensors",
            "pipelines",
            "first ms, cold",
            "warm",
        ];
        let mut out = table(&header);
        for row in &self.rows {
            out.add_row([
                format!("{0}x{0}", row.size),
                row.form.clone(),
                format!("{:.1}", row.ms),
                format!("{:.1}", row.gops),
                format!("{:.2}x", row.ratio),
                bytes(row.total),
                bytes(row.weights),
                bytes(row.tensors),
                row.pipelines.to_string(),
                format!("{:.0}", row.cold_ms),
                row.warm_ms.map_or("-".into(), |ms| format!("{ms:.0}")),
            ]);
        }
        out
    }
}
