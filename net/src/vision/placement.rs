//! The place of a picture in an input.

use super::preprocessing::{Fit, Preprocessing};

/// The part of a picture that an input shows, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The picture's width and height in pixels.
    pub picture: [u32; 2],
    /// The part that is cut out of the picture: left, top, width and height in its pixels.
    pub cut: [u32; 4],
    /// The place of that part in the input, resized: left, top, width and height in input pixels.
    pub place: [u32; 4],
}

impl Placement {
    /// Places a picture of this width and height. One that has the input's size is taken whole.
    pub fn new(picture: [u32; 2], preprocessing: &Preprocessing) -> Self {
        let [height, width] = preprocessing.size;
        let [w, h] = picture.map(|side| side.max(1));
        let (mut cut, mut place) = ([0, 0, w, h], [0, 0, width, height]);
        let scale = [f64::from(width) / f64::from(w), f64::from(height) / f64::from(h)];
        match preprocessing.fit {
            _ if [w, h] == [width, height] => {}
            Fit::Stretch => {}
            Fit::Crop(share) => {
                let scale = scale[0].max(scale[1]) / f64::from(share);
                let side = |length: u32, of: u32| {
                    ((f64::from(length) / scale).round() as u32).clamp(1, of)
                };
                let (cut_w, cut_h) = (side(width, w), side(height, h));
                cut = [(w - cut_w) / 2, (h - cut_h) / 2, cut_w, cut_h];
            }
            Fit::Pad(_) | Fit::PadBottomRight(_) => {
                let scale = scale[0].min(scale[1]);
                let side = |length: u32, of: u32| {
                    ((f64::from(length) * scale).round() as u32).clamp(1, of)
                };
                let (place_w, place_h) = (side(w, width), side(h, height));
                place = [0, 0, place_w, place_h];
                if matches!(preprocessing.fit, Fit::Pad(_)) {
                    place[..2].copy_from_slice(&[(width - place_w) / 2, (height - place_h) / 2]);
                }
            }
        }
        Self { picture, cut, place }
    }

    /// A box (left, top, right, bottom) in input pixels becomes one in the picture's, clipped to it.
    pub fn to_picture(&self, bbox: [f32; 4]) -> [f32; 4] {
        let side = |value: f32, axis: usize| {
            let [cut, place] = [self.cut, self.place];
            let scale = f64::from(cut[axis + 2]) / f64::from(place[axis + 2]);
            let value = (f64::from(value) - f64::from(place[axis])) * scale + f64::from(cut[axis]);
            value.clamp(0.0, f64::from(self.picture[axis])) as f32
        };
        [side(bbox[0], 0), side(bbox[1], 1), side(bbox[2], 0), side(bbox[3], 1)]
    }
}
