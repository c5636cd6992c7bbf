//! Objects on pictures: what the output of a detection network says.
//!
//! A [`Detector`] decodes the output of a [`Head`], drops what scores too little, and of boxes of one class that
//! overlap keeps the best (non-maximum suppression). [`Detection::on_picture`] takes the boxes back to the picture.
//!
//! ```
//! use dsconv_net::detect::{Detector, Head};
//!
//! // One image of 32 x 32 pixels: 16 + 4 + 1 anchors, each with a box and the score of one class.
//! let (anchors, size) = (21, [32, 32]);
//! let mut output = vec![0.0; 5 * anchors];
//! for (row, value) in [16.0, 12.0, 8.0, 4.0, 0.75].into_iter().enumerate() {
//!     output[row * anchors + 7] = value;
//! }
//! let found = Detector::new(Head::Yolov9).detect(&output, &[1, 5, anchors], size)?;
//! assert_eq!((found[0][0].score, found[0][0].bbox), (0.75, [12.0, 10.0, 20.0, 14.0]));
//! # Ok::<(), dsconv_net::Error>(())
//! ```

use super::placement::Placement;
use super::preprocessing::{ChannelOrder, Fit, Preprocessing};
use crate::ir::tensor::elements;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Input pixels between neighbouring anchors, in the order of the output.
const STRIDES: [u32; 3] = [8, 16, 32];

/// The most candidates: with more of them suppression takes many seconds.
const MOST: usize = 30_000;

/// The grey that public YOLO code pads pictures with.
const GREY: f32 = 114.0 / 255.0;

/// An object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// The index of its class.
    pub class: usize,
    /// The network's confidence, 0 to 1.
    pub score: f32,
    /// Left, top, right and bottom in pixels.
    pub bbox: [f32; 4],
}

impl Detection {
    /// The detection with its box in the picture's pixels, clipped; `None` where nothing of it lies on the picture.
    pub fn on_picture(self, placement: &Placement) -> Option<Self> {
        let bbox = placement.to_picture(self.bbox);
        (area(&bbox) > 0.0).then_some(Self { bbox, ..self })
    }
}

/// The meaning of an output's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Head {
    /// (N, 4 + classes, anchors): centre x, centre y, width and height in input pixels, then a score per class.
    /// Exports of YOLOv8 have it too.
    Yolov9,
    /// (N, anchors, 5 + classes): the centre from the anchor's cell in cells, the logarithm of width and height in
    /// cells, the score of there being an object, then a score per class given that there is one. Anchors are the
    /// cells of 8, 16 and 32 pixels, row by row.
    Yolox,
}

impl Head {
    /// Tells the head by the dims of an output for inputs of `size` (height, width), if it is one.
    pub fn of(dims: &[usize], size: [u32; 2]) -> Option<Self> {
        let cells = cells(size);
        match *dims {
            [_, rows, anchors] if rows > 4 && anchors as u64 == cells => Some(Self::Yolov9),
            [_, anchors, rows] if rows > 5 && anchors as u64 == cells => Some(Self::Yolox),
            _ => None,
        }
    }

    /// The preprocessing of these networks' public code, for an input of `size` (height, width).
    pub fn preprocessing(self, size: [u32; 2]) -> Preprocessing {
        let (fit, channels, std) = match self {
            Self::Yolov9 => (Fit::Pad(GREY), ChannelOrder::Rgb, 1.0),
            // Levels as they are, 0 to 255.
            Self::Yolox => (Fit::PadBottomRight(GREY), ChannelOrder::Bgr, 1.0 / 255.0),
        };
        Preprocessing {
            size,
            fit,
            mean: vec![0.0; 3],
            std: vec![std; 3],
            channels,
            channels_last: false,
        }
    }

    /// The number of classes that an output of these dims tells apart.
    ///
    /// # Errors
    /// Dims of another head.
    pub fn classes(self, dims: &[usize]) -> Result<usize> {
        let (rows, boxes, expected) = match self {
            Self::Yolov9 => (1, 4, "(N, 4 + classes, anchors)"),
            Self::Yolox => (2, 5, "(N, anchors, 5 + classes)"),
        };
        match dims.get(rows) {
            Some(&count) if dims.len() == 3 && count > boxes => Ok(count - boxes),
            _ => Err(Error::invalid("detections", expected, format!("{dims:?}"))),
        }
    }
}

/// The way from an output to detections: the head, and what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    /// The meaning of the output's numbers.
    pub head: Head,
    /// Detections score more than this, 0 to 1.
    pub confidence: f32,
    /// The share of their union, 0 to 1, that the intersection of two boxes of one class may have; beyond it only the
    /// better box stays.
    pub iou: f32,
    /// Whether an anchor can be an object of every class that scores enough, and not only of its best.
    pub multi_label: bool,
    /// The most candidates of an image that suppression looks at, the best ones; at most 30,000.
    pub max_candidates: usize,
    /// The most detections of an image, the best ones; at most 30,000.
    pub max_detections: usize,
}

impl Detector {
    /// A detector with the usual limits: confidence 0.25, IoU 0.45, one class an anchor, 300 of at most 30,000
    /// candidates.
    pub fn new(head: Head) -> Self {
        Self {
            head,
            confidence: 0.25,
            iou: 0.45,
            multi_label: false,
            max_candidates: MOST,
            max_detections: 300,
        }
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field.
    pub fn validate(&self) -> Result<()> {
        for (field, share) in [("confidence", self.confidence), ("IoU", self.iou)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::invalid(format!("detection {field}"), "0 to 1", share));
            }
        }
        for (field, count) in
            [("candidates", self.max_candidates), ("detections", self.max_detections)]
        {
            if count > MOST {
                return Err(Error::invalid(
                    format!("most {field}"),
                    format!("at most {MOST}"),
                    count,
                ));
            }
        }
        Ok(())
    }

    /// The detections of each image, the best first, with boxes in input pixels; equal scores in the order of anchors,
    /// then classes. Boxes without an area, and what is not finite, are none.
    ///
    /// `dims` are the output's, `size` is the input's height and width.
    ///
    /// # Errors
    /// [`Error::Invalid`] for limits out of range and for an output that the head does not have.
    pub fn detect(
        &self,
        output: &[f32],
        dims: &[usize],
        size: [u32; 2],
    ) -> Result<Vec<Vec<Detection>>> {
        self.validate()?;
        self.head.classes(dims)?;
        let expected = elements("detections", dims)?;
        if output.len() != expected {
            return Err(Error::invalid("detections", format!("{expected} numbers"), output.len()));
        }
        if expected == 0 {
            return Err(Error::invalid("detections", "at least one anchor", format!("{dims:?}")));
        }
        if self.head == Head::Yolox && dims[1] as u64 != cells(size) {
            let expected = format!("{} anchors for an input of {size:?}", cells(size));
            return Err(Error::invalid("detections", expected, dims[1]));
        }
        let images = output.chunks_exact(dims[1] * dims[2]);
        let candidates = |image| match self.head {
            Head::Yolov9 => self.yolov9(image, dims[2]),
            Head::Yolox => self.yolox(image, dims[2], size),
        };
        Ok(images.map(|image| self.suppress(candidates(image))).collect())
    }

    fn yolov9(&self, image: &[f32], anchors: usize) -> Vec<Detection> {
        let rows: Vec<&[f32]> = image.chunks_exact(anchors).collect();
        let (boxes, classes) = rows.split_at(4);
        let mut found = Vec::new();
        for anchor in 0..anchors {
            let [x, y, width, height] = [0, 1, 2, 3].map(|row| boxes[row][anchor]);
            let scores = classes.iter().map(|row| row[anchor]);
            self.collect(scores, [x, y, width, height], &mut found);
        }
        found
    }

    fn yolox(&self, image: &[f32], row: usize, size: [u32; 2]) -> Vec<Detection> {
        let mut found = Vec::new();
        for (row, [column, line, stride]) in image.chunks_exact(row).zip(grid(size)) {
            let [x, y] = [(row[0] + column) * stride, (row[1] + line) * stride];
            let [width, height] = [row[2].exp() * stride, row[3].exp() * stride];
            let scores = row[5..].iter().map(|score| score * row[4]);
            self.collect(scores, [x, y, width, height], &mut found);
        }
        found
    }

    /// Takes what an anchor says, if it is an object.
    fn collect(
        &self,
        scores: impl Iterator<Item = f32>,
        [x, y, width, height]: [f32; 4],
        found: &mut Vec<Detection>,
    ) {
        let bbox = [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0];
        // Comparisons with NaN are false.
        let enough = scores
            .enumerate()
            .filter(|(_, score)| *score > self.confidence && score.is_finite())
            .map(|(class, score)| Detection { class, score, bbox });
        if !bbox.iter().all(|side| side.is_finite()) || area(&bbox) <= 0.0 {
            return;
        }
        if self.multi_label {
            found.extend(enough);
        } else {
            found.extend(
                enough.reduce(|best, next| if next.score > best.score { next } else { best }),
            );
        }
    }

    fn suppress(&self, mut candidates: Vec<Detection>) -> Vec<Detection> {
        // Stable, so that equal scores stay in their order.
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        candidates.truncate(self.max_candidates);
        let mut kept: Vec<Detection> = Vec::new();
        for candidate in candidates {
            if kept.len() >= self.max_detections {
                break;
            }
            let apart = |better: &Detection| {
                better.class != candidate.class
                    || iou(&better.bbox, &candidate.bbox) <= f64::from(self.iou)
            };
            if kept.iter().all(apart) {
                kept.push(candidate);
            }
        }
        kept
    }
}

/// The number of anchors of an input.
fn cells(size: [u32; 2]) -> u64 {
    let of = |stride: u32| size.map(|side| u64::from(side / stride)).iter().product::<u64>();
    STRIDES.into_iter().map(of).sum()
}

/// Each anchor's column, row and stride.
fn grid([height, width]: [u32; 2]) -> impl Iterator<Item = [f32; 3]> {
    STRIDES.into_iter().flat_map(move |stride| {
        let row = move |y| (0..width / stride).map(move |x| [x, y, stride].map(|n| n as f32));
        (0..height / stride).flat_map(row)
    })
}

/// The area of a box, which is 0 for one that is none.
fn area(bbox: &[f32; 4]) -> f64 {
    let [x0, y0, x1, y1] = bbox.map(f64::from);
    (x1 - x0).max(0.0) * (y1 - y0).max(0.0)
}

/// Intersection over union.
fn iou(a: &[f32; 4], b: &[f32; 4]) -> f64 {
    let common = area(&[a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    common / (area(a) + area(b) - common)
}
