//! Finds Mesa's drivers, and starts a program on one of them as if a chip were there.
//!
//! Mesa's DRM shims are libraries that, loaded before a program, answer a driver in the place of the kernel: the driver
//! opens the chip and compiles for it, and nothing runs. Older versions of RADV do without, by their null device.

use super::chips::{Chip, Maker};
use anyhow::{Context, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names a folder that `tools/gpu-drivers` unpacked; empty, it says to look into none.
const FOLDER_VARIABLE: &str = "DSCONV_GPU_DRIVERS";

/// How to get drivers.
pub(super) const INSTALL: &str = "run tools/gpu-drivers in a checkout of dsconv, which unpacks Debian's into target/gpu-drivers \
                       (another folder: tools/gpu-drivers FOLDER, then DSCONV_GPU_DRIVERS=FOLDER dsconv isa), or \
                       install them, in Debian 13 and later: apt install mesa-vulkan-drivers mesa-drm-shim libvulkan1";

/// A driver of one maker.
#[derive(Clone, Debug)]
pub(super) enum Driver {
    /// An installed driver, and its shim.
    Installed { icd: PathBuf, shim: PathBuf },
    /// A driver in a folder, which has its own C library and therefore its own loader of programs.
    Unpacked { icd: PathBuf, shim: PathBuf, loader: PathBuf, libraries: PathBuf },
    /// RADV with a null device.
    NullDevice { icd: PathBuf },
}

impl Driver {
    /// Finds the driver of a maker: in the folder that the environment names, among what is installed, in the default
    /// folder, and for AMD an older RADV.
    pub(super) fn find(maker: Maker) -> anyhow::Result<Self> {
        ensure!(cfg!(target_os = "linux"), "Mesa's drivers compile without a GPU on Linux only");
        let named = std::env::var_os(FOLDER_VARIABLE);
        if let Some(folder) = named.as_ref().filter(|folder| !folder.is_empty()) {
            let missing = || {
                let folder = Path::new(folder).display();
                format!("no driver of {} in {folder} ({FOLDER_VARIABLE}); {INSTALL}", maker.name())
            };
            return Self::unpacked(Path::new(folder), maker).with_context(missing);
        }
        // An empty name is that of no folder.
        let defaults = if named.is_none() { default_folders() } else { Vec::new() };
        let unpacked = || defaults.iter().find_map(|folder| Self::unpacked(folder, maker));
        let null = || (maker == Maker::Amd).then(|| Self::null_device(maker)).flatten();
        let found = Self::installed(maker).or_else(unpacked).or_else(null);
        found.with_context(|| format!("no driver of {} is found; {INSTALL}", maker.name()))
    }

    fn installed(maker: Maker) -> Option<Self> {
        let arch = std::env::consts::ARCH;
        let folders = [
            format!("/usr/local/lib/{arch}-linux-gnu"),
            "/usr/local/lib64".into(),
            "/usr/local/lib".into(),
            format!("/usr/lib/{arch}-linux-gnu"),
            "/usr/lib64".into(),
            "/usr/lib".into(),
        ];
        let mut shims = folders.iter().map(|folder| Path::new(folder).join(maker.shim()));
        let shim = shims.find(|shim| shim.is_file())?;
        Some(Self::Installed { icd: installed_icd(maker)?, shim })
    }

    /// The driver in a folder that `tools/gpu-drivers` made.
    fn unpacked(folder: &Path, maker: Maker) -> Option<Self> {
        // The loader is given paths, which a change of folder must not break.
        let root = std::path::absolute(folder.join("root")).ok()?;
        let icd = icd_in(&root.join("usr/share/vulkan/icd.d"), maker)?;
        let libraries = root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
        let shim = libraries.join(maker.shim());
        let is_loader = |path: &PathBuf| {
            path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"ld-linux"))
        };
        let mut files = libraries.read_dir().ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let loader = files.find(is_loader)?;
        shim.is_file().then_some(Self::Unpacked { icd, shim, loader, libraries })
    }

    fn null_device(maker: Maker) -> Option<Self> {
        Some(Self::NullDevice { icd: installed_icd(maker)? })
    }

    /// Says whether it is a null device, which takes a chip by its name in Mesa, one of several.
    pub(super) fn is_null_device(&self) -> bool {
        matches!(self, Self::NullDevice { .. })
    }

    /// The command that starts this same program on the chip. `name` is the chip's for a null device.
    pub(super) fn command(&self, chip: &Chip, name: &str) -> anyhow::Result<Command> {
        let program = std::env::current_exe().context("the path of this program")?;
        let (mut command, icd) = match self {
            Self::Installed { icd, shim } => {
                let mut command = Command::new(program);
                command.env("LD_PRELOAD", shim);
                (command, icd)
            }
            Self::Unpacked { icd, shim, loader, libraries } => {
                let mut command = Command::new(loader);
                command.arg("--library-path").arg(libraries).arg("--preload").arg(shim);
                command.arg(program);
                (command, icd)
            }
            Self::NullDevice { icd } => {
                let mut command = Command::new(program);
                // Later versions of Mesa call it by the second name.
                command.env("RADV_FORCE_FAMILY", name).env("AMD_FORCE_FAMILY", name);
                (command, icd)
            }
        };
        if let (false, Some(variable)) = (self.is_null_device(), chip.maker.shim_variable()) {
            command.env(variable, chip.shim_value);
        }
        if chip.maker.prints_code() {
            command.env("AGX_MESA_DEBUG", "shaders");
        }
        // Loaders before 1.3.207 know only the second.
        command.env("VK_DRIVER_FILES", icd).env("VK_ICD_FILENAMES", icd);
        // Nothing to choose between, and no cache to fill.
        command.env("NODEVICE_SELECT", "1").env("MESA_SHADER_CACHE_DISABLE", "true");
        Ok(command)
    }
}

/// The folders that `tools/gpu-drivers` fills without being told another: that of the checkout that the command is
/// called in, and that of the checkout that this program was built in.
fn default_folders() -> Vec<PathBuf> {
    let built = std::env::current_exe().ok();
    let built = built.as_deref().and_then(Path::parent).and_then(Path::parent);
    let called = PathBuf::from("target/gpu-drivers");
    std::iter::once(called).chain(built.map(|target| target.join("gpu-drivers"))).collect()
}

/// The file that tells the Vulkan loader of an installed driver.
fn installed_icd(maker: Maker) -> Option<PathBuf> {
    const FOLDERS: [&str; 4] = [
        "/etc/vulkan/icd.d",
        "/usr/local/share/vulkan/icd.d",
        "/usr/share/vulkan/icd.d",
        "/run/opengl-driver/share/vulkan/icd.d",
    ];
    FOLDERS.iter().find_map(|folder| icd_in(Path::new(folder), maker))
}

fn icd_in(folder: &Path, maker: Maker) -> Option<PathBuf> {
    let own = format!("{}.{}.json", maker.icd(), std::env::consts::ARCH);
    let names = [own, format!("{}.json", maker.icd())];
    names.into_iter().map(|name| folder.join(name)).find(|file| file.is_file())
}

/// The makers whose driver is found.
pub(crate) fn found() -> anyhow::Result<Vec<Maker>> {
    let makers: Vec<_> = Maker::ALL.into_iter().filter(|m| Driver::find(*m).is_ok()).collect();
    if makers.is_empty() {
        Driver::find(Maker::Amd)?;
        bail!("no driver is found; {INSTALL}");
    }
    Ok(makers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn variable<'a>(command: &'a Command, name: &str) -> Option<&'a OsStr> {
        command.get_envs().find(|(known, _)| *known == name)?.1
    }

    #[test]
    fn an_unpacked_driver_runs_by_its_own_loader() {
        let folder = std::env::temp_dir().join(format!("dsconv-drivers-{}", std::process::id()));
        let libraries = folder.join(format!("root/usr/lib/{}-linux-gnu", std::env::consts::ARCH));
        let icds = folder.join("root/usr/share/vulkan/icd.d");
        std::fs::create_dir_all(&libraries).unwrap();
        std::fs::create_dir_all(&icds).unwrap();
        let chip = Chip::find("ampere").unwrap();
        assert!(Driver::unpacked(&folder, chip.maker).is_none());
        std::fs::write(icds.join("nouveau_icd.json"), "{}").unwrap();
        std::fs::write(libraries.join("ld-linux-x86-64.so.2"), "").unwrap();
        assert!(Driver::unpacked(&folder, chip.maker).is_none());
        std::fs::write(libraries.join("libnouveau_noop_drm_shim.so"), "").unwrap();
        let driver = Driver::unpacked(&folder, chip.maker).unwrap();
        assert!(Driver::unpacked(&folder, Maker::Apple).is_none());
        let command = driver.command(chip, chip.name).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(command.get_program(), libraries.join("ld-linux-x86-64.so.2"));
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(
            arguments[..3],
            ["--library-path".as_ref(), libraries.as_os_str(), "--preload".as_ref()]
        );
        assert_eq!(variable(&command, "NOUVEAU_CHIPSET"), Some("172".as_ref()));
        assert_eq!(variable(&command, "LD_PRELOAD"), None);
    }

    #[test]
    fn an_installed_driver_has_its_shim_preloaded_and_a_null_device_has_none() {
        let (icd, shim) = (PathBuf::from("radeon_icd.json"), PathBuf::from("shim.so"));
        let chip = Chip::find("gfx1100").unwrap();
        let installed = Driver::Installed { icd: icd.clone(), shim };
        let command = installed.command(chip, chip.name).unwrap();
        assert_eq!(variable(&command, "LD_PRELOAD"), Some("shim.so".as_ref()));
        assert_eq!(variable(&command, "AMDGPU_GPU_ID"), Some("navi31".as_ref()));
        let command = Driver::NullDevice { icd }.command(chip, "gfx1100").unwrap();
        assert_eq!(variable(&command, "LD_PRELOAD"), None);
        assert_eq!(variable(&command, "AMDGPU_GPU_ID"), None);
        assert_eq!(variable(&command, "RADV_FORCE_FAMILY"), Some("gfx1100".as_ref()));
        assert_eq!(variable(&command, "VK_DRIVER_FILES"), Some("radeon_icd.json".as_ref()));
    }
}
