//! Reads the numbers that drivers give of a pipeline, each under names of its own.

use super::chips::Maker;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Numbers of a pipeline. What a driver does not tell is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Statistics {
    /// Vector registers: of 32 bits a thread for AMD and NVIDIA, of four times 32 for Qualcomm, of 16 for Apple.
    pub(crate) vgprs: Option<u64>,
    /// Scalar registers, which only AMD tells.
    pub(crate) sgprs: Option<u64>,
    /// Memory of a workgroup, which only AMD tells.
    pub(crate) lds_bytes: Option<u64>,
    /// Registers that are spilled to memory; for Qualcomm the instructions that do so.
    pub(crate) spills: Option<u64>,
    pub(crate) scratch_bytes: Option<u64>,
    /// The most subgroups at a time: of a SIMD for AMD, of a multiprocessor or core for others.
    pub(crate) waves: Option<u64>,
    pub(crate) code_bytes: Option<u64>,
}

impl Statistics {
    pub(super) fn of(maker: Maker, numbers: &BTreeMap<String, u64>, subgroup_size: u32) -> Self {
        let number = |name: &str| numbers.get(name).copied();
        let code_bytes = number("Code size");
        match maker {
            Maker::Amd => Self {
                vgprs: number("VGPRs"),
                sgprs: number("SGPRs"),
                lds_bytes: number("LDS size"),
                spills: number("Spilled SGPRs").zip(number("Spilled VGPRs")).map(|(s, v)| s + v),
                scratch_bytes: number("Scratch size"),
                waves: number("Subgroups per SIMD"),
                code_bytes,
            },
            Maker::Nvidia => Self {
                vgprs: number("Number of GPRs"),
                spills: number("Spills to memory"),
                scratch_bytes: number("SLM size"),
                waves: number("Max warps/SM"),
                code_bytes,
                ..Self::default()
            },
            Maker::Qualcomm => Self {
                vgprs: number("Registers used"),
                spills: number("STP Count"),
                waves: number("Max Waves Per Core"),
                // The driver counts words of 4 bytes.
                code_bytes: code_bytes.map(|words| 4 * words),
                ..Self::default()
            },
            Maker::Apple => Self {
                vgprs: number("GPRs"),
                spills: number("Spills"),
                scratch_bytes: number("Scratch"),
                waves: number("Threads").map(|threads| threads / u64::from(subgroup_size.max(1))),
                code_bytes,
                ..Self::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_does_not_tell_is_not_zero() {
        let numbers = [("Spills to memory", 0), ("Number of GPRs", 128), ("Code size", 148_192)];
        let numbers = numbers.map(|(name, number)| (name.to_string(), number)).into();
        let statistics = Statistics::of(Maker::Nvidia, &numbers, 32);
        let expected = Statistics {
            vgprs: Some(128),
            spills: Some(0),
            code_bytes: Some(148_192),
            ..Statistics::default()
        };
        assert_eq!(statistics, expected);
    }

    #[test]
    fn units_of_the_drivers_become_ours() {
        let of = |maker, name: &str, value| {
            Statistics::of(maker, &[(name.to_string(), value)].into(), 32)
        };
        assert_eq!(of(Maker::Qualcomm, "Code size", 13_186).code_bytes, Some(52_744));
        assert_eq!(of(Maker::Apple, "Threads", 384).waves, Some(12));
    }
}
