//! The pictures that a network learns from: read once, kept small, and handed out in batches.

use crate::picture;
use crate::progress::progress;
use dsconv::shown;
use dsconv_net::augment::{Augmentation, augmented};
use dsconv_net::model::Preprocessing;
use dsconv_net::train::mixed;
use image::RgbImage;
use image::imageops::{self, FilterType};
use std::path::PathBuf;

/// Pictures in memory.
pub(super) struct Pictures {
    pictures: Vec<RgbImage>,
    preprocessing: Preprocessing,
}

/// A picture is kept so much larger than the input, so that parts of it are sharp too.
const ROOM: f64 = 1.5;

impl Pictures {
    /// Reads the files. Larger pictures are made smaller.
    ///
    /// # Errors
    /// A file that is no picture is named.
    pub(super) fn read(paths: &[PathBuf], preprocessing: &Preprocessing) -> anyhow::Result<Self> {
        let least = ROOM * f64::from(preprocessing.size[0].max(preprocessing.size[1]));
        let bar = progress(paths.len())?;
        let mut pictures = Vec::new();
        for path in paths {
            bar.set_message(format!("reading {}", shown(&path.display().to_string())));
            let read = picture::read(path)?;
            let (width, height) = read.dimensions();
            let share = least / f64::from(width.min(height).max(1));
            let side = |side: u32| (f64::from(side) * share).round().max(1.0) as u32;
            pictures.push(match share < 1.0 {
                true => imageops::resize(&read, side(width), side(height), FilterType::CatmullRom),
                false => read,
            });
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(Self { pictures, preprocessing: preprocessing.clone() })
    }

    /// The input of these pictures, each changed by the seed and its place as far as `how` allows.
    pub(super) fn input(
        &self,
        places: &[usize],
        how: Augmentation,
        seed: u64,
    ) -> anyhow::Result<Vec<f32>> {
        let mut values = Vec::new();
        for &place in places {
            let seed = mixed(seed, place as u64);
            values.extend(augmented(&self.pictures[place], &self.preprocessing, how, seed)?);
        }
        Ok(values)
    }
}
