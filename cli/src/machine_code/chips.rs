//! The chips that machine code can be made for, and the makers' drivers in Mesa.

use ash::vk::DriverId;
use dsconv::gpu::{PackedDotProduct, TensorCores};
use serde::{Deserialize, Serialize};

/// A maker of GPUs, each with one Vulkan driver in Mesa.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Maker {
    #[serde(rename = "AMD")]
    Amd,
    #[serde(rename = "NVIDIA")]
    Nvidia,
    Qualcomm,
    Apple,
}

impl Maker {
    pub(crate) const ALL: [Self; 4] = [Self::Amd, Self::Nvidia, Self::Qualcomm, Self::Apple];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd => "AMD",
            Self::Nvidia => "NVIDIA",
            Self::Qualcomm => "Qualcomm",
            Self::Apple => "Apple",
        }
    }

    /// The name of the driver's file for the Vulkan loader, without its ending.
    pub(super) fn icd(self) -> &'static str {
        match self {
            Self::Amd => "radeon_icd",
            Self::Nvidia => "nouveau_icd",
            Self::Qualcomm => "freedreno_icd",
            Self::Apple => "asahi_icd",
        }
    }

    /// The library that answers the driver in the place of the kernel and the GPU.
    pub(super) fn shim(self) -> &'static str {
        match self {
            Self::Amd => "libamdgpu_noop_drm_shim.so",
            Self::Nvidia => "libnouveau_noop_drm_shim.so",
            Self::Qualcomm => "libfreedreno_noop_drm_shim.so",
            Self::Apple => "libasahi_noop_drm_shim.so",
        }
    }

    /// The environment variable that tells the shim the chip, if it has a choice.
    pub(super) fn shim_variable(self) -> Option<&'static str> {
        match self {
            Self::Amd => Some("AMDGPU_GPU_ID"),
            Self::Nvidia => Some("NOUVEAU_CHIPSET"),
            Self::Qualcomm => Some("FD_GPU_ID"),
            Self::Apple => None,
        }
    }

    /// Says whether the driver prints its code, and does not hand it over.
    pub(super) fn prints_code(self) -> bool {
        self == Self::Apple
    }

    /// What the library takes for granted of the maker's GPUs.
    pub(crate) fn packed_dot_product(self) -> PackedDotProduct {
        match self {
            Self::Amd | Self::Nvidia => PackedDotProduct::Signed,
            Self::Qualcomm => PackedDotProduct::Unsigned,
            Self::Apple => PackedDotProduct::None,
        }
    }

    /// The driver, as it names itself to Vulkan.
    pub(super) fn driver(self) -> DriverId {
        match self {
            Self::Amd => DriverId::MESA_RADV,
            Self::Nvidia => DriverId::MESA_NVK,
            Self::Qualcomm => DriverId::MESA_TURNIP,
            // VK_DRIVER_ID_MESA_HONEYKRISP, which is newer than these bindings.
            Self::Apple => DriverId::from_raw(26),
        }
    }

    /// The chip to compile for where none is asked for: one that is common, and compiled for fast.
    pub(crate) fn default_chip(self) -> &'static Chip {
        let name = match self {
            Self::Amd => "navi21",
            Self::Nvidia => "ampere",
            Self::Qualcomm => "adreno740",
            Self::Apple => "m1",
        };
        CHIPS.iter().find(|chip| chip.name == name).unwrap_or(&CHIPS[0])
    }
}

/// A chip.
#[derive(Debug)]
pub(crate) struct Chip {
    pub(crate) name: &'static str,
    /// Other names of it, and of what has the same instructions.
    pub(crate) aliases: &'static [&'static str],
    pub(crate) maker: Maker,
    /// The value of the shim's variable.
    pub(super) shim_value: &'static str,
    /// The sizes of subgroup that it can run.
    pub(crate) subgroup_sizes: &'static [u32],
    /// Its matrix units, by their driver.
    pub(crate) tensor_cores: Option<TensorCores>,
}

const fn amd(name: &'static str, aliases: &'static [&'static str]) -> Chip {
    Chip {
        name,
        aliases,
        maker: Maker::Amd,
        shim_value: name,
        subgroup_sizes: &[32, 64],
        tensor_cores: None,
    }
}

/// AMD's chips from RDNA 3 on: RADV has matrices multiplied by subgroups of 64.
const fn with_wmma(name: &'static str, aliases: &'static [&'static str]) -> Chip {
    Chip { tensor_cores: Some(TensorCores::new(16)), ..amd(name, aliases) }
}

/// AMD's chips before RDNA.
const fn gcn(name: &'static str) -> Chip {
    Chip { subgroup_sizes: &[64], ..amd(name, &[]) }
}

const fn nvidia(name: &'static str, aliases: &'static [&'static str], id: &'static str) -> Chip {
    Chip {
        name,
        aliases,
        maker: Maker::Nvidia,
        shim_value: id,
        subgroup_sizes: &[32],
        tensor_cores: Some(TensorCores::new(16)),
    }
}

const fn adreno(name: &'static str, aliases: &'static [&'static str], id: &'static str) -> Chip {
    Chip {
        name,
        aliases,
        maker: Maker::Qualcomm,
        shim_value: id,
        subgroup_sizes: &[64, 128],
        tensor_cores: None,
    }
}

/// Every chip that can be asked for. Mesa 26.1's shim for NVIDIA ends at Ampere.
pub(crate) static CHIPS: [Chip; 13] = [
    gcn("polaris10"),
    gcn("vega10"),
    gcn("vega20"),
    amd("navi10", &["gfx1010"]),
    amd("navi21", &["gfx1030"]),
    with_wmma("navi31", &["gfx1100"]),
    with_wmma("navi33", &["gfx1102"]),
    with_wmma("gfx1201", &["navi48"]),
    nvidia("turing", &["tu102"], "162"),
    nvidia("ampere", &["ga102"], "172"),
    adreno("adreno660", &["a660"], "660"),
    adreno("adreno740", &["a740"], "740"),
    Chip {
        name: "m1",
        aliases: &["g13g"],
        maker: Maker::Apple,
        shim_value: "",
        subgroup_sizes: &[32],
        tensor_cores: None,
    },
];

impl Chip {
    /// The chip of that name or alias.
    pub(crate) fn find(name: &str) -> anyhow::Result<&'static Self> {
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        let found = CHIPS.iter().find(|chip| is(chip.name) || chip.aliases.iter().any(|a| is(a)));
        found.ok_or_else(|| {
            let names: Vec<&str> = CHIPS.iter().map(|chip| chip.name).collect();
            anyhow::anyhow!("no chip {name:?} is known; there are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chips_are_found_by_names_that_differ() {
        let names = |chip: &Chip| [&[chip.name], chip.aliases].concat();
        let mut all: Vec<_> = CHIPS.iter().flat_map(names).collect();
        for name in &all {
            let found = Chip::find(&name.to_uppercase()).unwrap();
            assert!(names(found).contains(name));
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(Chip::find("no-such-chip").unwrap_err().to_string().contains("no-such-chip"));
    }

    #[test]
    fn every_maker_has_a_chip_of_its_own_to_begin_with() {
        for maker in Maker::ALL {
            assert_eq!(maker.default_chip().maker, maker);
        }
    }
}
