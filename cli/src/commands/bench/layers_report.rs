//! Measured layers: what `--json` and records hold of them, and their tables.

use super::numbers::positive;
use super::roofline::Roofline;
use crate::display::table;
use anyhow::ensure;
use comfy_table::Table;
use serde::de::{DeserializeOwned, Deserializer, Error};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A run over layers.
#[derive(Serialize, Deserialize)]
pub(super) struct LayersReport {
    pub(super) device: String,
    pub(super) clock: Clock,
    pub(super) roofline: Roofline,
    /// Channels of a block.
    pub(super) block: u32,
    /// A row for each layer with weights of one width.
    pub(super) layers: Vec<Row>,
    /// The means over all of `layers`.
    geomean: Ratios,
    /// The means for each width.
    pub(super) widths: Vec<Width>,
}

/// The clock that times come from.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum Clock {
    #[serde(rename = "gpu timestamps")]
    GpuTimestamps,
    #[serde(rename = "wall")]
    Wall,
}

/// Geometric means of f32 time over DSConv time.
#[derive(Serialize, Deserialize)]
struct Ratios {
    #[serde(deserialize_with = "positive")]
    weight_only: f64,
    #[serde(deserialize_with = "positive")]
    int8: f64,
    /// The same with the time of making integer activations added.
    #[serde(deserialize_with = "positive")]
    int8_and_quantize: f64,
}

/// The layers with weights of one width.
#[derive(Serialize, Deserialize)]
pub(super) struct Width {
    pub(super) bits: u8,
    // Those of `Ratios`, written out: a flattened struct's errors name no field.
    #[serde(deserialize_with = "positive")]
    weight_only: f64,
    #[serde(deserialize_with = "positive")]
    int8: f64,
    #[serde(deserialize_with = "positive")]
    int8_and_quantize: f64,
    /// Bytes of all weights in f32 over those of DSConv.
    #[serde(deserialize_with = "positive")]
    smaller: f64,
}

/// A layer with weights of one width.
pub(super) struct Row {
    pub(super) layer: String,
    pub(super) bits: u8,
    pub(super) multiply_adds: u64,
    pub(super) f32: Measured,
    /// DSConv weights with float activations.
    pub(super) weight_only: Measured,
    /// DSConv weights with integer activations that are there already, as behind another layer.
    pub(super) int8: Measured,
    /// The time of making integer activations of floats.
    pub(super) quantize_ms: f64,
    /// Device memory of the weights in f32.
    pub(super) f32_bytes: u64,
    /// Device memory of the DSConv weights with their scales.
    pub(super) dsconv_bytes: u64,
}

/// One way to compute a layer.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) kernel: String,
    pub(super) ms: f64,
    /// Operations a second, two a multiply-add.
    pub(super) gops: f64,
    /// The least that has to be moved: weights, input and output once.
    pub(super) moved_bytes: u64,
    /// Operations per moved byte.
    pub(super) intensity: f64,
    /// `gops` over what the device gives at that intensity. Tensors that caches hold can bring it above 1.
    pub(super) roofline_share: f64,
}

impl Row {
    /// How many times faster than f32 this is.
    pub(super) fn ratio(&self, path: &Measured) -> f64 {
        self.f32.ms / path.ms
    }
}

impl Serialize for Row {
    /// Writes all fields flat: those of a [`Measured`] begin with its name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("layer", &self.layer)?;
        map.serialize_entry("bits", &self.bits)?;
        map.serialize_entry("multiply_adds", &self.multiply_adds)?;
        let paths = [("f32", &self.f32), ("weight_only", &self.weight_only), ("int8", &self.int8)];
        for (name, path) in paths {
            map.serialize_entry(&format!("{name}_ms"), &path.ms)?;
            map.serialize_entry(&format!("{name}_kernel"), &path.kernel)?;
            map.serialize_entry(&format!("{name}_gops"), &path.gops)?;
            map.serialize_entry(&format!("{name}_moved_bytes"), &path.moved_bytes)?;
            map.serialize_entry(&format!("{name}_intensity"), &path.intensity)?;
            map.serialize_entry(&format!("{name}_roofline_share"), &path.roofline_share)?;
            if name != "f32" {
                map.serialize_entry(&format!("{name}_ratio"), &self.ratio(path))?;
            }
        }
        map.serialize_entry("quantize_ms", &self.quantize_ms)?;
        map.serialize_entry("f32_bytes", &self.f32_bytes)?;
        map.serialize_entry("dsconv_bytes", &self.dsconv_bytes)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Row {
    /// Reads the flat fields; ratios are computed anew.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Map::deserialize(deserializer)?;
        let measured = |path: &str| {
            Ok(Measured {
                kernel: field(&fields, &format!("{path}_kernel"))?,
                ms: positive_field(&fields, &format!("{path}_ms"))?,
                gops: positive_field(&fields, &format!("{path}_gops"))?,
                moved_bytes: field(&fields, &format!("{path}_moved_bytes"))?,
                intensity: positive_field(&fields, &format!("{path}_intensity"))?,
                roofline_share: positive_field(&fields, &format!("{path}_roofline_share"))?,
            })
        };
        Ok(Self {
            layer: field(&fields, "layer")?,
            bits: field(&fields, "bits")?,
            multiply_adds: field(&fields, "multiply_adds")?,
            f32: measured("f32")?,
            weight_only: measured("weight_only")?,
            int8: measured("int8")?,
            quantize_ms: positive_field(&fields, "quantize_ms")?,
            f32_bytes: field(&fields, "f32_bytes")?,
            dsconv_bytes: field(&fields, "dsconv_bytes")?,
        })
    }
}

fn field<T: DeserializeOwned, E: Error>(fields: &Map<String, Value>, name: &str) -> Result<T, E> {
    let value = fields.get(name).ok_or_else(|| E::custom(format!("missing field `{name}`")))?;
    T::deserialize(value).map_err(|error| E::custom(format!("{name}: {error}")))
}

fn positive_field<E: Error>(fields: &Map<String, Value>, name: &str) -> Result<f64, E> {
    let number: Value = field(fields, name)?;
    positive(number).map_err(|error| E::custom(format!("{name}: {error}")))
}

impl Ratios {
    fn of(rows: &[&Row]) -> Self {
        let mean = |ratio: fn(&Row) -> f64| {
            (rows.iter().map(|row| ratio(row).ln()).sum::<f64>() / rows.len() as f64).exp()
        };
        Self {
            weight_only: mean(|row| row.ratio(&row.weight_only)),
            int8: mean(|row| row.ratio(&row.int8)),
            int8_and_quantize: mean(|row| row.f32.ms / (row.int8.ms + row.quantize_ms)),
        }
    }
}

/// The conditions that layers were measured under.
pub(super) struct Conditions<'a> {
    pub(super) device: String,
    pub(super) clock: Clock,
    pub(super) roofline: Roofline,
    pub(super) block: u32,
    /// Widths of the weights.
    pub(super) bits: &'a [u8],
}

impl LayersReport {
    /// Adds the means to the rows.
    pub(super) fn new(conditions: Conditions<'_>, layers: Vec<Row>) -> Self {
        let Conditions { device, clock, roofline, block, bits } = conditions;
        let width = |&bits: &u8| {
            let rows: Vec<&Row> = layers.iter().filter(|row| row.bits == bits).collect();
            let total =
                |bytes: fn(&Row) -> u64| rows.iter().map(|row| bytes(row)).sum::<u64>() as f64;
            let smaller = total(|row| row.f32_bytes) / total(|row| row.dsconv_bytes);
            let Ratios { weight_only, int8, int8_and_quantize } = Ratios::of(&rows);
            Width { bits, weight_only, int8, int8_and_quantize, smaller }
        };
        let widths = bits.iter().map(width).collect();
        let geomean = Ratios::of(&layers.iter().collect::<Vec<_>>());
        Self { device, clock, roofline, block, layers, geomean, widths }
    }

    /// Refuses a report without rows.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.layers.is_empty(), "layers: expected one row at least, got none");
        ensure!(!self.widths.is_empty(), "widths: expected one width at least, got none");
        Ok(())
    }

    /// The lines above the tables.
    pub(super) fn heading(&self) -> String {
        let Self { block, device, clock, roofline, .. } = self;
        let clock = match clock {
            Clock::GpuTimestamps => "gpu timestamps",
            Clock::Wall => "wall",
        };
        format!(
            "Blocks of {block}, on {device}, times by {clock}\n\
             Roofline: copies {:.1} GB/s; multiply-adds {:.1} GOP/s in f32, {:.1} GOP/s by dot4I8Packed",
            roofline.gb_per_s, roofline.f32_gops, roofline.int8_gops
        )
    }

    /// The tables: speed, with `wide` also work, and means.
    pub(super) fn tables(&self, wide: bool) -> Vec<Table> {
        let work = wide.then(|| self.work());
        [Some(self.speed()), work, Some(self.means())].into_iter().flatten().collect()
    }

    /// The rows, with whether the row before was the same layer with other bits.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Row, bool)> {
        let repeated = |i: usize| i > 0 && self.layers[i - 1].layer == self.layers[i].layer;
        self.layers.iter().enumerate().map(move |(i, row)| (row, repeated(i)))
    }

    fn speed(&self) -> Table {
        let mut out = table(&[
            "layer",
            "f32 ms",
            "of roof",
            "bits",
            "weight-only ms",
            "faster",
            "of roof",
            "int8 ms",
            "faster",
            "of roof",
            "quantise ms",
            "smaller",
        ]);
        for (row, repeated) in self.rows() {
            let once = |cell: String| if repeated { String::new() } else { cell };
            let ms = |path: &Measured| format!("{:.2}", path.ms);
            let Row { f32, weight_only, int8, .. } = row;
            out.add_row([
                once(row.layer.clone()),
                once(ms(f32)),
                once(percent(f32.roofline_share)),
                row.bits.to_string(),
                ms(weight_only),
                times(row.ratio(weight_only)),
                percent(weight_only.roofline_share),
                ms(int8),
                times(row.ratio(int8)),
                percent(int8.roofline_share),
                once(format!("{:.2}", row.quantize_ms)),
                times(row.f32_bytes as f64 / row.dsconv_bytes as f64),
            ]);
        }
        out
    }

    fn work(&self) -> Table {
        let mut out = table(&[
            "layer",
            "MOP",
            "f32 MB",
            "OP/B",
            "GOP/s",
            "bits",
            "weight-only MB",
            "OP/B",
            "GOP/s",
            "int8 MB",
            "OP/B",
            "GOP/s",
        ]);
        for (row, repeated) in self.rows() {
            let once = |cell: String| if repeated { String::new() } else { cell };
            let of = |path: &Measured| {
                let mb = format!("{:.2}", path.moved_bytes as f64 / 1e6);
                [mb, format!("{:.0}", path.intensity), format!("{:.1}", path.gops)]
            };
            let first = [row.layer.clone(), format!("{:.1}", 2e-6 * row.multiply_adds as f64)];
            let cells = first.into_iter().chain(of(&row.f32)).map(once);
            let cells = cells.chain([row.bits.to_string()]).chain(of(&row.weight_only));
            out.add_row(cells.chain(of(&row.int8)));
        }
        out
    }

    /// The table of means, by width.
    pub(super) fn means(&self) -> Table {
        let mut out = table(&[
            "geometric mean over f32",
            "weight-only",
            "int8",
            "int8 with quantising its input",
            "smaller",
        ]);
        for width in &self.widths {
            out.add_row([
                format!("{} bits", width.bits),
                times(width.weight_only),
                times(width.int8),
                times(width.int8_and_quantize),
                times(width.smaller),
            ]);
        }
        out
    }
}

fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2}x")
}
