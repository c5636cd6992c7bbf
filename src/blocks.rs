//! How channels are cut into blocks that share a scale.

use crate::{ConvDescriptor, Error, Result};

/// How the input channels of a group are cut into blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "storage", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "storage", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Partition {
    /// Blocks of the block size, the last one shorter: the reading of DSConv's authors, and ONNX's.
    #[default]
    Fixed,
    /// Equal blocks of `floor(channels / blocks)`, the last one takes the rest and may exceed the block size.
    Even,
}

/// A weight format: the integers' width and the blocks that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "storage", derive(serde::Serialize, serde::Deserialize))]
pub struct BlockFormat {
    bits: u8,
    block_size: u32,
    partition: Partition,
}

impl BlockFormat {
    /// A format with [`Partition::Fixed`].
    ///
    /// # Errors
    /// [`Error::Invalid`] unless `bits` is 2 to 8 and `block_size` at least 1.
    pub fn new(bits: u8, block_size: u32) -> Result<Self> {
        let format = Self { bits, block_size, partition: Partition::Fixed };
        format.validate()?;
        Ok(format)
    }

    /// The same with another partition.
    pub const fn with_partition(self, partition: Partition) -> Self {
        Self { partition, ..self }
    }

    /// Bits of an integer, 2 to 8, two's complement.
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// Input channels of a block (the last one may differ, see [`Partition`]).
    pub const fn block_size(&self) -> u32 {
        self.block_size
    }

    /// How channels that the block size does not divide are cut.
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// Smallest integer, `-2^(bits-1)`.
    pub fn min(&self) -> i32 {
        -(1 << (self.bits - 1))
    }

    /// Largest integer, `2^(bits-1) - 1`.
    pub fn max(&self) -> i32 {
        (1 << (self.bits - 1)) - 1
    }

    /// The blocks that this format makes of the channels of a valid descriptor.
    pub(crate) fn blocks(&self, descriptor: &ConvDescriptor) -> Blocks {
        self.blocks_of(descriptor.channels_per_group())
    }

    /// The blocks that this format makes of a row of channels: the input channels of one group.
    pub fn blocks_of(&self, channels: u32) -> Blocks {
        // At least one, so that a descriptor that was not validated ends in an error and no panic.
        let count = channels.div_ceil(self.block_size).max(1);
        let size = match self.partition {
            Partition::Fixed => self.block_size.min(channels),
            Partition::Even => channels / count,
        };
        Blocks { channels, size, count }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if !(2..=8).contains(&self.bits) {
            return Err(Error::invalid("bits", "2..=8", self.bits));
        }
        if self.block_size == 0 {
            return Err(Error::invalid("block_size", "at least 1", self.block_size));
        }
        Ok(())
    }
}

/// The blocks of one row of channels: all of `size` channels but the last, which takes what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Blocks {
    /// Channels of the row: input channels per group.
    pub channels: u32,
    /// Channels of every block but the last.
    pub size: u32,
    /// Number of blocks.
    pub count: u32,
}

impl Blocks {
    /// The channels of block `index`.
    pub fn range(&self, index: u32) -> std::ops::Range<u32> {
        let start = index * self.size;
        start..if index + 1 == self.count { self.channels } else { start + self.size }
    }

    /// The block that a channel belongs to.
    pub fn of(&self, channel: u32) -> u32 {
        (channel / self.size).min(self.count - 1)
    }
}

/// Elements of alpha: one per output channel, block and tap.
pub(crate) fn scale_count(descriptor: &ConvDescriptor, format: &BlockFormat) -> usize {
    let blocks = format.blocks(descriptor).count as usize;
    descriptor.out_channels as usize * blocks * descriptor.taps() as usize
}

/// Calls `visit` with the index into alpha and the indices into the OIHW weights of every block.
pub(crate) fn for_each_block(
    descriptor: &ConvDescriptor,
    format: &BlockFormat,
    mut visit: impl FnMut(usize, BlockMembers),
) {
    for scale in 0..scale_count(descriptor, format) {
        visit(scale, block_members(descriptor, format, scale));
    }
}

/// Indices into the OIHW weights of one block, in channel order.
pub(crate) type BlockMembers = std::iter::StepBy<std::ops::Range<usize>>;

/// The weights that share the `scale`th element of alpha.
pub(crate) fn block_members(
    descriptor: &ConvDescriptor,
    format: &BlockFormat,
    scale: usize,
) -> BlockMembers {
    let taps = descriptor.taps() as usize;
    let blocks = format.blocks(descriptor);
    let (tap, row) = (scale % taps, scale / taps);
    let (block, output) = (row % blocks.count as usize, row / blocks.count as usize);
    let channels = blocks.range(block as u32);
    let row_start = output * blocks.channels as usize;
    let start = (row_start + channels.start as usize) * taps + tap;
    let end = (row_start + channels.end as usize) * taps;
    (start..end).step_by(taps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_cut_as_their_sources_do() {
        let cut = |channels, size, partition| {
            let format = BlockFormat::new(4, size).unwrap().with_partition(partition);
            let blocks = format.blocks(&ConvDescriptor::new(channels, 1, [1, 1]));
            (0..blocks.count).map(|j| blocks.range(j)).collect::<Vec<_>>()
        };
        assert_eq!(cut(70, 32, Partition::Fixed), [0..32, 32..64, 64..70]);
        assert_eq!(cut(70, 32, Partition::Even), [0..23, 23..46, 46..70]);
        assert_eq!(cut(11, 4, Partition::Even), [0..3, 3..6, 6..11]);
        assert_eq!(cut(32, 32, Partition::Fixed).len(), 1);
    }

    #[test]
    fn block_members_visit_every_weight_once_in_its_block() {
        let descriptor = ConvDescriptor::new(22, 3, [2, 3]);
        for partition in [Partition::Fixed, Partition::Even] {
            let format = BlockFormat::new(4, 4).unwrap().with_partition(partition);
            let blocks = format.blocks(&descriptor);
            let mut seen = vec![0; descriptor.weight_count()];
            for_each_block(&descriptor, &format, |scale, members| {
                for index in members {
                    seen[index] += 1;
                    let (tap, channel, output) = (index % 6, index / 6 % 22, index / 132);
                    let block = blocks.of(channel as u32) as usize;
                    assert_eq!(scale, (output * blocks.count as usize + block) * 6 + tap);
                }
            });
            assert!(seen.iter().all(|&n| n == 1));
        }
    }
}
