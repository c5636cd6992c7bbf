//! The description of a network, as the yaml has it.

use crate::{Error, Result};
use serde::Deserialize;
use std::fmt;

/// The description of YOLOv9's network c with two DSConv convolutions in its auxiliary branch (layers 26 and 27), in
/// yaml.
pub const YOLOV9_C_DSCONV: &str = include_str!("../../models/yolov9-c-dsconv.yaml");

/// The longest description, in bytes: the largest public one has 4 KiB.
const MAX_BYTES: usize = 1 << 20;
/// The most layers.
const MAX_LAYERS: usize = 1000;
/// The most classes.
const MAX_CLASSES: usize = 10_000;
/// The most copies of a module in a row.
const MAX_NUMBER: usize = 100;
/// The greatest multiple of depth or width.
const MAX_MULTIPLE: f64 = 100.0;

/// A network's description: classes, multiples, and a list of modules with where they read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Number of classes.
    pub classes: usize,
    /// Factor on the number of copies of a module, where there are several.
    pub depth_multiple: f64,
    /// Factor on a module's output channels.
    pub width_multiple: f64,
    pub(super) rows: Vec<Row>,
    /// The number of rows that are the backbone; the others are the head.
    pub(super) backbone: usize,
}

/// A row: from, number, module, arguments.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Row(
    pub(super) Sources,
    pub(super) usize,
    pub(super) String,
    pub(super) Vec<Argument>,
);

/// The layers that a module reads: indices, negative ones from its own.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Sources {
    One(i64),
    Several(Vec<i64>),
}

/// An argument of a module.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Argument {
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<i64>),
}

#[derive(Deserialize)]
struct File {
    nc: usize,
    #[serde(default = "one")]
    depth_multiple: f64,
    #[serde(default = "one")]
    width_multiple: f64,
    backbone: Vec<Row>,
    head: Vec<Row>,
}

fn one() -> f64 {
    1.0
}

impl Description {
    /// Parses a description in yaml, which may come from anybody.
    ///
    /// # Errors
    /// [`Error::Format`] with the line for what is no such yaml, [`Error::Invalid`] for a number out of its range.
    pub fn parse(yaml: &str) -> Result<Self> {
        if yaml.len() > MAX_BYTES {
            let expected = format!("at most {MAX_BYTES} bytes");
            return Err(Error::invalid("network description", expected, yaml.len()));
        }
        let file: File = serde_saphyr::from_str(yaml)
            .map_err(|e| Error::format("network description", e.to_string().trim_end()))?;
        let backbone = file.backbone.len();
        let rows = [file.backbone, file.head].concat();
        let description = Self {
            classes: file.nc,
            depth_multiple: file.depth_multiple,
            width_multiple: file.width_multiple,
            rows,
            backbone,
        };
        description.validate()?;
        Ok(description)
    }

    /// The same network for another number of classes.
    ///
    /// # Errors
    /// A number out of its range.
    pub fn with_classes(self, classes: usize) -> Result<Self> {
        let description = Self { classes, ..self };
        description.validate()?;
        Ok(description)
    }

    fn validate(&self) -> Result<()> {
        let out =
            |field: &str, expected: String, got: String| Err(Error::invalid(field, expected, got));
        if !(1..=MAX_CLASSES).contains(&self.classes) {
            return out("nc", format!("1 to {MAX_CLASSES} classes"), self.classes.to_string());
        }
        for (field, multiple) in
            [("depth_multiple", self.depth_multiple), ("width_multiple", self.width_multiple)]
        {
            if !(multiple > 0.0 && multiple <= MAX_MULTIPLE) {
                return out(
                    field,
                    format!("above 0, at most {MAX_MULTIPLE}"),
                    multiple.to_string(),
                );
            }
        }
        if !(1..=MAX_LAYERS).contains(&self.rows.len()) {
            let expected = format!("1 to {MAX_LAYERS} layers");
            return out("backbone and head", expected, self.rows.len().to_string());
        }
        for (index, Row(_, number, module, _)) in self.rows.iter().enumerate() {
            if *number == 0 || self.copies(*number) > MAX_NUMBER {
                let field = format!("number of layer {index} ({module})");
                let expected = format!("1 to {MAX_NUMBER}, times the depth multiple");
                return out(&field, expected, number.to_string());
            }
        }
        Ok(())
    }

    /// The number of copies of a module that a row means.
    pub(super) fn copies(&self, number: usize) -> usize {
        match number {
            1 => 1,
            // Half to even, as Python rounds.
            number => ((number as f64 * self.depth_multiple).round_ties_even() as usize).max(1),
        }
    }

    /// The output channels that a row means.
    pub(super) fn width(&self, channels: usize) -> usize {
        (channels as f64 * self.width_multiple / 8.0).ceil() as usize * 8
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(index) => write!(f, "{index}"),
            Self::Several(indices) => write!(f, "{indices:?}"),
        }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text}"),
            Self::List(list) => write!(f, "{list:?}"),
        }
    }
}
