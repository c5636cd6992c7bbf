//! Geometry: convolutions, shapes of tensors and their layouts in memory.

use crate::{Error, Result};

/// The largest extent (channels, height, width, kernel, padding, …) that the kernels take: products
/// of a coordinate and a stride stay inside `i32`.
const MAX_EXTENT: u32 = 1 << 24;

/// The geometry of a two-dimensional convolution, apart from its data.
///
/// Stride, dilation and groups mean what they mean in PyTorch's `Conv2d` and ONNX's `Conv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "storage", derive(serde::Serialize, serde::Deserialize))]
pub struct ConvDescriptor {
    /// Channels of the input, over all groups.
    pub in_channels: u32,
    /// Channels of the output, over all groups.
    pub out_channels: u32,
    /// Kernel size, `[height, width]`.
    pub kernel: [u32; 2],
    /// Stride, `[vertical, horizontal]`.
    pub stride: [u32; 2],
    /// Dilation, `[vertical, horizontal]`; 1 is none.
    pub dilation: [u32; 2],
    /// Zero padding in pixels, `[top, left, bottom, right]`, as in ONNX.
    pub padding: [u32; 4],
    /// Groups; `groups == in_channels` is a depthwise convolution.
    pub groups: u32,
}

impl ConvDescriptor {
    /// A convolution with stride 1, no padding, no dilation and one group.
    pub const fn new(in_channels: u32, out_channels: u32, kernel: [u32; 2]) -> Self {
        Self {
            in_channels,
            out_channels,
            kernel,
            stride: [1, 1],
            dilation: [1, 1],
            padding: [0; 4],
            groups: 1,
        }
    }

    /// The same with another stride, `[vertical, horizontal]`.
    pub const fn with_stride(self, stride: [u32; 2]) -> Self {
        Self { stride, ..self }
    }

    /// The same with another dilation, `[vertical, horizontal]`.
    pub const fn with_dilation(self, dilation: [u32; 2]) -> Self {
        Self { dilation, ..self }
    }

    /// The same with another padding, `[top, left, bottom, right]`.
    pub const fn with_padding(self, padding: [u32; 4]) -> Self {
        Self { padding, ..self }
    }

    /// The same with another number of groups.
    pub const fn with_groups(self, groups: u32) -> Self {
        Self { groups, ..self }
    }

    /// Input channels that one output channel sees: `in_channels / groups`.
    pub const fn channels_per_group(&self) -> u32 {
        match self.in_channels.checked_div(self.groups) {
            Some(channels) => channels,
            None => 0,
        }
    }

    /// Output channels of one group: `out_channels / groups`.
    pub const fn outputs_per_group(&self) -> u32 {
        match self.out_channels.checked_div(self.groups) {
            Some(channels) => channels,
            None => 0,
        }
    }

    /// Kernel taps: height times width.
    pub const fn taps(&self) -> u32 {
        self.kernel[0].saturating_mul(self.kernel[1])
    }

    /// Weights of the kernel: `out_channels * in_channels / groups * taps`.
    pub const fn weight_count(&self) -> usize {
        (self.out_channels as usize)
            .saturating_mul(self.channels_per_group() as usize)
            .saturating_mul(self.taps() as usize)
    }

    /// Multiply-adds for an output of that shape.
    pub const fn multiply_adds(&self, output: Shape) -> u64 {
        (output.pixels() as u64).saturating_mul(self.weight_count() as u64)
    }

    /// Checks that every extent is positive and small enough, and that the groups divide the channels.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field; [`Error::Overflow`] if the weights can't be counted in 32 bits.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("kernel height", self.kernel[0]),
            ("kernel width", self.kernel[1]),
            ("vertical stride", self.stride[0]),
            ("horizontal stride", self.stride[1]),
            ("vertical dilation", self.dilation[0]),
            ("horizontal dilation", self.dilation[1]),
            ("groups", self.groups),
        ];
        for (field, value) in positive {
            check_extent(field, value)?;
        }
        for (side, value) in ["top", "left", "bottom", "right"].into_iter().zip(self.padding) {
            if value > MAX_EXTENT {
                return Err(Error::invalid(
                    format!("{side} padding"),
                    format!("0..={MAX_EXTENT}"),
                    value,
                ));
            }
        }
        for (field, channels) in
            [("in_channels", self.in_channels), ("out_channels", self.out_channels)]
        {
            if !channels.is_multiple_of(self.groups) {
                return Err(Error::invalid(
                    field,
                    format!("a multiple of groups = {}", self.groups),
                    channels,
                ));
            }
        }
        let factors =
            [self.out_channels, self.channels_per_group(), self.kernel[0], self.kernel[1]];
        checked_product("weight count", &factors)?;
        Ok(())
    }

    /// The shape of the output for an input of that shape.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the channels differ, an extent is zero or the kernel does not fit into
    /// the padded input; [`Error::Overflow`] if the output can't be counted in 32 bits.
    pub fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.validate()?;
        input.validate("input")?;
        if input.channels != self.in_channels {
            return Err(Error::invalid(
                "input channels",
                self.in_channels.to_string(),
                input.channels,
            ));
        }
        let extent = |axis: usize, name: &str, size: u32| {
            let padded =
                u64::from(size) + u64::from(self.padding[axis]) + u64::from(self.padding[axis + 2]);
            let reach = u64::from(self.dilation[axis]) * u64::from(self.kernel[axis] - 1) + 1;
            if reach > padded {
                return Err(Error::invalid(
                    format!("input {name}"),
                    format!("at least {reach} with padding, to hold the dilated kernel"),
                    padded,
                ));
            }
            u32::try_from((padded - reach) / u64::from(self.stride[axis]) + 1)
                .map_err(|_| overflow(&format!("output {name}"), &[size]))
        };
        let output = Shape {
            batch: input.batch,
            channels: self.out_channels,
            height: extent(0, "height", input.height)?,
            width: extent(1, "width", input.width)?,
        };
        output.validate("output")?;
        Ok(output)
    }
}

/// The shape of an input or output tensor. The order of its elements is a [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Images, N.
    pub batch: u32,
    /// Channels, C.
    pub channels: u32,
    /// Rows, H.
    pub height: u32,
    /// Columns, W.
    pub width: u32,
}

impl Shape {
    /// A shape from N, C, H and W.
    pub const fn new(batch: u32, channels: u32, height: u32, width: u32) -> Self {
        Self { batch, channels, height, width }
    }

    /// Elements of the tensor.
    pub const fn elements(&self) -> usize {
        self.pixels().saturating_mul(self.channels as usize)
    }

    /// Pixels of the tensor, over all images.
    pub const fn pixels(&self) -> usize {
        (self.batch as usize)
            .saturating_mul(self.height as usize)
            .saturating_mul(self.width as usize)
    }

    pub(crate) fn validate(&self, name: &str) -> Result<()> {
        let extents = [
            ("batch", self.batch),
            ("channels", self.channels),
            ("height", self.height),
            ("width", self.width),
        ];
        for (field, value) in extents {
            check_extent(&format!("{name} {field}"), value)?;
        }
        checked_product(&format!("{name} elements"), &extents.map(|(_, value)| value))?;
        Ok(())
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}x{}", self.batch, self.channels, self.height, self.width)
    }
}

/// The order of a tensor's elements in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Channels outside, pixels inside: PyTorch's and ONNX's order.
    #[default]
    Nchw,
    /// Pixels outside, channels inside ("channels last").
    Nhwc,
}

impl Layout {
    /// Distance in elements between neighbours along N, C, H and W of a validated shape.
    #[cfg(feature = "gpu")]
    pub(crate) const fn strides(self, shape: Shape) -> [u32; 4] {
        let Shape { channels: c, height: h, width: w, .. } = shape;
        match self {
            Self::Nchw => [c * h * w, h * w, w, 1],
            Self::Nhwc => [h * w * c, 1, w * c, c],
        }
    }
}

fn check_extent(field: &str, value: u32) -> Result<()> {
    if (1..=MAX_EXTENT).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("1..={MAX_EXTENT}"), value))
}

/// The product, if elements of four bytes can be addressed with 32 bits.
fn checked_product(what: &str, factors: &[u32]) -> Result<u32> {
    factors
        .iter()
        .try_fold(4u32, |product, &factor| product.checked_mul(factor))
        .map(|bytes| bytes / 4)
        .ok_or_else(|| overflow(what, factors))
}

fn overflow(what: &str, factors: &[u32]) -> Error {
    let factors: Vec<_> = factors.iter().map(u32::to_string).collect();
    Error::Overflow {
        what: what.into(),
        detail: format!("{} x 4 bytes pass 32 bits", factors.join(" x ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_shapes_follow_the_convolution_formula() {
        let descriptor = ConvDescriptor::new(3, 8, [3, 5])
            .with_stride([2, 1])
            .with_dilation([1, 2])
            .with_padding([0, 4, 1, 4]);
        let output = descriptor.output_shape(Shape::new(2, 3, 16, 11)).unwrap();
        assert_eq!(output, Shape::new(2, 8, 8, 11));
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn strides_reach_every_element_once() {
        let shape = Shape::new(2, 3, 4, 5);
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let [n, c, h, w] = layout.strides(shape);
            let mut seen = vec![false; shape.elements()];
            for i in 0..shape.elements() as u32 {
                let at = i / 60 * n + i / 20 % 3 * c + i / 5 % 4 * h + i % 5 * w;
                assert!(!std::mem::replace(&mut seen[at as usize], true));
            }
        }
    }
}
