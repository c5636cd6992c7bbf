//! The inputs of a network from files: pictures, or tensors.

// Counts and sizes here are strangers'.
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

use crate::foreign::has_extension;
use crate::output::tell;
use crate::{foreign, npy, picture};
use anyhow::{Context, bail, ensure};
use dsconv_net::Model;
use dsconv_net::graph::{Input, Kind};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

/// The names of files that are tensors.
const EXTENSIONS: [&str; 2] = ["safetensors", "npy"];

/// The dims and the elements of an input.
pub(crate) type Tensor = (Vec<usize>, Vec<f32>);

/// A network, and the file that it is of.
#[derive(Clone, Copy)]
pub(crate) struct Taker<'a> {
    pub(crate) model: &'a Model,
    pub(crate) file: &'a Path,
}

/// The inputs of one run: pictures as one batch, or one file of tensors.
pub(crate) fn of_files(taker: Taker<'_>, paths: &[PathBuf]) -> anyhow::Result<Vec<Tensor>> {
    match paths {
        [path] if is_tensors(path) => taker.tensors(path),
        paths => {
            if let Some(path) = paths.iter().find(|path| is_tensors(path)) {
                let (path, count) = (path.display(), paths.len());
                bail!(
                    "--input: expected pictures, or one file of tensors; got {count} files, {path} among them"
                );
            }
            Ok(vec![picture::batch(paths, &taker.picture_input()?)?])
        }
    }
}

/// The files of a folder that are samples: pictures, or tensors, in the order of their names.
pub(crate) struct Folder {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) tensors: bool,
}

/// Samples with the dims of the network's inputs, which they share.
pub(crate) struct Samples {
    pub(crate) dims: Vec<Vec<usize>>,
    /// The elements of each input, for each sample.
    pub(crate) inputs: Vec<Vec<Vec<f32>>>,
}

impl Folder {
    /// Lists a folder. Files that are neither pictures nor tensors are left out.
    ///
    /// # Errors
    /// A failure of the file system, no samples, or pictures beside tensors.
    pub(crate) fn list(folder: &Path) -> anyhow::Result<Self> {
        let (mut paths, tensors) = (
            picture::files_in(folder, &picture::EXTENSIONS)?,
            picture::files_in(folder, &EXTENSIONS)?,
        );
        let name = folder.display();
        if let (Some(picture), Some(tensor)) = (paths.first(), tensors.first()) {
            let (picture, tensor) = (picture.display(), tensor.display());
            bail!("{name}: expected pictures or tensors, got both: {picture} and {tensor}");
        }
        let of_tensors = !tensors.is_empty();
        paths.extend(tensors);
        let all = [&picture::EXTENSIONS[..], &EXTENSIONS].concat().join(", *.");
        ensure!(!paths.is_empty(), "{name}: no *.{all} in it");
        Ok(Self { paths, tensors: of_tensors })
    }

    /// Reads the files as samples of a network, and makes so many views of each picture.
    ///
    /// # Errors
    /// Pictures for a network that takes none, a file that can't be read, or tensors of other dims than those before.
    pub(crate) fn read(&self, taker: Taker<'_>, views: usize) -> anyhow::Result<Samples> {
        let mut samples = Samples { dims: Vec::new(), inputs: Vec::new() };
        let preprocessing = match self.tensors {
            true => None,
            false => Some(taker.picture_input()?),
        };
        for (seed, path) in self.paths.iter().enumerate() {
            if let Some(preprocessing) = &preprocessing {
                let picture = picture::read(path)?;
                let views =
                    dsconv_net::picture::views(&picture, preprocessing, views, seed as u64)?;
                samples.dims = vec![preprocessing.dims()];
                samples.inputs.extend(views.into_iter().map(|view| vec![view]));
                continue;
            }
            let (dims, inputs): (Vec<_>, Vec<_>) = taker.tensors(path)?.into_iter().unzip();
            if samples.inputs.is_empty() {
                samples.dims = dims;
            } else {
                ensure!(
                    dims == samples.dims,
                    "{}: expected dims {:?}, as in {}, got {dims:?}",
                    path.display(),
                    samples.dims,
                    self.paths.first().unwrap_or(path).display()
                );
            }
            samples.inputs.push(inputs);
        }
        Ok(samples)
    }
}

impl Samples {
    /// The dims of each input, as a network is specialised for.
    pub(crate) fn dims(&self) -> Vec<&[usize]> {
        self.dims.iter().map(Vec::as_slice).collect()
    }
}

impl Taker<'_> {
    /// The way from a picture to the input.
    fn picture_input(&self) -> anyhow::Result<dsconv_net::model::Preprocessing> {
        self.model.picture_input().with_context(|| {
            let file = self.file.display();
            format!(
                "{file}: this network takes no pictures; expected tensors, *.safetensors or *.npy"
            )
        })
    }

    /// The inputs in a file of tensors.
    fn tensors(&self, path: &Path) -> anyhow::Result<Vec<Tensor>> {
        let read = || {
            let bytes = std::fs::read(path)?;
            if let Some(what) = foreign::placeholder(&bytes) {
                bail!("{what}");
            }
            let inputs = self.model.graph.inputs();
            let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
            let tensors = match (has_extension(path, &["npy"]), &names[..]) {
                (false, names) => named(&bytes, names)?,
                (true, [_]) => vec![npy::parse(&bytes)?],
                (true, names) => bail!(
                    "a tensor for one input, but the network has {}; expected *.safetensors with tensors {names:?}",
                    names.len()
                ),
            };
            for (input, (_, values)) in inputs.iter().zip(&tensors) {
                check_kind(input, values)?;
                if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                    // WGSL leaves it open what becomes of them.
                    tell!(
                        "dsconv: {}: input {:?} holds {value}; devices differ in what they make of such numbers",
                        path.display(),
                        input.name
                    );
                }
            }
            Ok(tensors)
        };
        read().with_context(|| path.display().to_string())
    }
}

/// Refuses elements that are none of the input's kind.
fn check_kind(input: &Input, values: &[f32]) -> anyhow::Result<()> {
    let (kind, fits): (&str, fn(f32) -> bool) = match input.kind {
        Kind::Float => return Ok(()),
        Kind::Integer => ("integers", |value| value.trunc() == value),
        Kind::Bool => ("bools, 0 and 1", |value| value == 0.0 || value == 1.0),
    };
    let wrong = values.iter().enumerate().find(|&(_, &value)| !fits(value));
    wrong.map_or(Ok(()), |(at, value)| {
        bail!("input {:?}: expected {kind}, got {value} as element {at}", input.name)
    })
}

/// The named tensors of a safetensors file, as floats.
fn named(bytes: &[u8], names: &[&str]) -> anyhow::Result<Vec<Tensor>> {
    let file = SafeTensors::deserialize(bytes)?;
    let tensor = |name: &&str| -> anyhow::Result<Tensor> {
        let Ok(tensor) = file.tensor(name) else {
            let mut there = file.names();
            there.sort_unstable();
            bail!("no tensor {name:?}, which the network's input is called; there are {there:?}");
        };
        let values = dsconv_net::tensor::floats_of(&tensor, &format!("tensor {name:?}"))?;
        Ok((tensor.shape().to_vec(), values))
    };
    names.iter().map(tensor).collect()
}

fn is_tensors(path: &Path) -> bool {
    has_extension(path, &EXTENSIONS)
}
