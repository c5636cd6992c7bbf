//! A convolution as a product of matrices: a row for each output pixel, with what it reads and what it should give.

use dsconv::{ConvDescriptor, Shape};
use nalgebra::DMatrix;
use rayon::prelude::*;
use std::sync::Arc;

/// The most output pixels that are looked at, spread over all samples: more say hardly more of the weights.
const MOST: usize = 1 << 15;

/// Bytes of the rows that are made at a time.
const AT_ONCE: usize = 1 << 26;

/// An output pixel: where it is, and where its window begins.
struct Pixel {
    sample: usize,
    image: usize,
    /// The place in an output plane.
    place: usize,
    top: i64,
    left: i64,
}

/// The output pixels of a convolution on samples.
pub(super) struct Patches {
    descriptor: ConvDescriptor,
    input: Shape,
    plane: usize,
    pixels: Vec<Pixel>,
}

impl Patches {
    pub(super) fn new(
        descriptor: &ConvDescriptor,
        [input, output]: [Shape; 2],
        samples: usize,
    ) -> Self {
        let plane = output.height as usize * output.width as usize;
        let all = samples * output.batch as usize * plane;
        let count = all.min(MOST);
        // One of each stretch of pixels, at a place of its own, so that no column of a picture is preferred.
        let mut rng = fastrand::Rng::with_seed(0);
        let pixel = |index: usize| {
            let (from, to) = (index * all / count, (index + 1) * all / count);
            let at = rng.u64(from as u64..to as u64) as usize;
            let (place, image) = (at % plane, at / plane);
            let [y, x] = [place / output.width as usize, place % output.width as usize];
            let start = |axis: usize, at: usize| {
                at as i64 * i64::from(descriptor.stride[axis]) - i64::from(descriptor.padding[axis])
            };
            Pixel {
                sample: image / output.batch as usize,
                image: image % output.batch as usize,
                place,
                top: start(0, y),
                left: start(1, x),
            }
        };
        let pixels = (0..count).map(pixel).collect();
        Self { descriptor: *descriptor, input, plane, pixels }
    }

    /// The number of rows.
    pub(super) fn count(&self) -> usize {
        self.pixels.len()
    }

    /// Calls `each` with the rows of one group, as many at a time as fit into memory: what they read, (pixels, taps x
    /// channels), and what they should give, (pixels, output channels). `inputs` and `outputs` are NCHW, per sample.
    pub(super) fn for_each(
        &self,
        group: usize,
        inputs: &[Arc<Vec<f32>>],
        outputs: &[Vec<f32>],
        mut each: impl FnMut(DMatrix<f64>, DMatrix<f64>),
    ) {
        let columns = (self.descriptor.channels_per_group() * self.descriptor.taps()) as usize;
        let rows = (AT_ONCE / (8 * columns)).max(256);
        for pixels in self.pixels.chunks(rows) {
            each(self.read(pixels, group, inputs), self.given(pixels, group, outputs));
        }
    }

    fn read(&self, pixels: &[Pixel], group: usize, inputs: &[Arc<Vec<f32>>]) -> DMatrix<f64> {
        let Self { descriptor, input, .. } = self;
        let channels = descriptor.channels_per_group() as usize;
        let width = descriptor.kernel[1] as usize;
        let mut x = DMatrix::zeros(pixels.len(), channels * descriptor.taps() as usize);
        x.as_mut_slice().par_chunks_mut(pixels.len()).enumerate().for_each(|(index, column)| {
            let (tap, channel) = (index / channels, group * channels + index % channels);
            let along = |axis: usize, tap: usize| tap as i64 * i64::from(descriptor.dilation[axis]);
            let [down, right] = [along(0, tap / width), along(1, tap % width)];
            for (x, pixel) in column.iter_mut().zip(pixels) {
                let inside = |at: i64, extent: u32| (0..i64::from(extent)).contains(&at);
                let [row, at] = [pixel.top + down, pixel.left + right];
                if inside(row, input.height) && inside(at, input.width) {
                    let plane = pixel.image * input.channels as usize + channel;
                    let row = plane * input.height as usize + row as usize;
                    let at = row * input.width as usize + at as usize;
                    *x = f64::from(inputs[pixel.sample][at]);
                }
            }
        });
        x
    }

    fn given(&self, pixels: &[Pixel], group: usize, outputs: &[Vec<f32>]) -> DMatrix<f64> {
        let count = self.descriptor.outputs_per_group() as usize;
        let all = self.descriptor.out_channels as usize;
        DMatrix::from_fn(pixels.len(), count, |row, output| {
            let Pixel { sample, image, place, .. } = pixels[row];
            let plane = image * all + group * count + output;
            f64::from(outputs[sample][plane * self.plane + place])
        })
    }
}
