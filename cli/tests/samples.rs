//! Networks that take tensors and not pictures: run, compared and calibrated on files of tensors.

mod running;

use dsconv::{FloatTensor, LayerFile};
use running::{dsconv, folder, json, onnx, text};
use std::fs;
use std::path::Path;

/// Its input x is (N, 5, H, 4).
const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../net/tests/data/small.onnx");
const COFFEE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pictures/coffee.jpg");

/// Random values for an input of the network.
fn values(rng: &mut fastrand::Rng, dims: [usize; 4]) -> Vec<f32> {
    (0..dims.iter().product()).map(|_| rng.f32() - 0.5).collect()
}

/// A file as numpy.save writes it.
fn save_npy(path: &str, dims: [usize; 4], values: &[f32]) {
    let [n, c, h, w] = dims;
    let header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, {c}, {h}, {w}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

fn save_safetensors(path: &str, dims: [usize; 4], values: &[f32]) {
    let tensor = FloatTensor { shape: dims.to_vec(), values: values.to_vec() };
    let mut file = LayerFile::default();
    file.tensors.insert("x".into(), tensor);
    file.save(path).unwrap();
}

fn refused(arguments: &[&str], words: &str) {
    let output = dsconv(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output));
    assert!(text(&output).contains(words), "{arguments:?}: {}", text(&output));
}

#[test]
fn networks_run_and_are_compared_on_tensors() {
    let folder = folder("tensors");
    let path = |name: &str| folder.join(name).display().to_string();
    let [npy, named, model] = ["x.npy", "x.safetensors", "model.safetensors"].map(path);
    let seed = fastrand::u64(..);
    let dims = [2, 5, 9, 4];
    let values = values(&mut fastrand::Rng::with_seed(seed), dims);
    save_npy(&npy, dims, &values);
    save_safetensors(&named, dims, &values);
    let run = |input: &str| {
        let output = path("y.safetensors");
        let printed =
            dsconv(&["run", SMALL, "--input", input, "--output", &output, "--device", "cpu"]);
        assert!(printed.status.success(), "{}", text(&printed));
        LayerFile::load(Path::new(&output)).unwrap().tensors["y"].values.clone()
    };
    let (from_npy, from_named) = (run(&npy), run(&named));
    assert!(from_npy == from_named && !from_npy.is_empty(), "seed {seed}");
    assert!(dsconv(&["quantize", SMALL, &model, "--block", "2"]).status.success());
    let compared =
        |input: &str| json(&["inspect", &model, "--against", SMALL, "--input", input, "--json"]);
    let rows = compared(&npy);
    assert_eq!(rows, compared(&named), "seed {seed}");
    assert_eq!(rows, json(&["compare", &model, SMALL, "--input", &npy, "--json"]), "seed {seed}");
    let snr = rows[0]["snr_db"].as_f64().unwrap();
    assert!((10.0..60.0).contains(&snr), "{rows}, seed {seed}");
    let words = "this network takes no pictures; expected tensors, *.safetensors or *.npy";
    refused(&["compare", &model, SMALL, "--input", COFFEE], words);
    refused(&["run", SMALL, "--input", COFFEE], words);
    fs::write(&npy, "no tensor").unwrap();
    refused(&["run", SMALL, "--input", &npy], "x.npy: expected a file of numpy.save");
}

#[test]
fn networks_are_calibrated_on_a_folder_of_tensors() {
    let folder = folder("calibrate-tensors");
    let path = |name: &str| folder.join(name).display().to_string();
    let (calibrated, sample) = (path("model.out.safetensors"), path("calib/a.npy"));
    let calib = path("calib");
    fs::create_dir(&calib).unwrap();
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let dims = [1, 5, 30, 4];
    save_npy(&sample, dims, &values(&mut rng, dims));
    save_safetensors(&path("calib/b.safetensors"), dims, &values(&mut rng, dims));
    fs::write(path("calib/README"), "what else lies there").unwrap();
    let quantize = |output: &str| {
        let options = ["--block", "2", "--bits", "3", "--calibrate", &calib, "--device", "cpu"];
        dsconv(&[&["quantize", SMALL, output][..], &options].concat())
    };
    let printed = quantize(&calibrated);
    assert!(printed.status.success(), "{}, seed {seed}", text(&printed));
    let plain = path("plain.safetensors");
    assert!(dsconv(&["quantize", SMALL, &plain, "--block", "2", "--bits", "3"]).status.success());
    assert!(fs::read(&plain).unwrap() != fs::read(&calibrated).unwrap(), "seed {seed}");
    // A sample is read, so it is not written over.
    let printed = quantize(&path("calib/b.safetensors"));
    assert!(text(&printed).contains("which the command reads"), "{}", text(&printed));
    let refused = |words: &str| {
        let printed = quantize(&calibrated);
        assert_eq!(printed.status.code(), Some(1), "{}", text(&printed));
        assert!(text(&printed).contains(words), "{}", text(&printed));
    };
    let other = [1, 5, 31, 4];
    save_npy(&path("calib/c.npy"), other, &values(&mut rng, other));
    refused("c.npy: expected dims [[1, 5, 30, 4]], as in ");
    fs::copy(COFFEE, path("calib/coffee.jpg")).unwrap();
    refused("expected pictures or tensors, got both: ");
    for tensors in ["a.npy", "b.safetensors", "c.npy"] {
        fs::remove_file(folder.join("calib").join(tensors)).unwrap();
    }
    refused("small.onnx: this network takes no pictures; expected tensors");
    fs::remove_file(path("calib/coffee.jpg")).unwrap();
    refused("calib: no *.png");
}

#[test]
fn widths_keep_to_a_size_and_to_a_mean() {
    let folder = folder("widths");
    let path = |name: &str| folder.join(name).display().to_string();
    let (model, calib) = (path("model.safetensors"), path("calib"));
    fs::create_dir(&calib).unwrap();
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let dims = [1, 5, 30, 4];
    for sample in 0..3 {
        save_npy(&path(&format!("calib/{sample}.npy")), dims, &values(&mut rng, dims));
    }
    let quantize = |options: &[&str]| {
        let all = ["quantize", SMALL, &model, "--block", "2", "--layer", "*=4", "--force"];
        dsconv(&[&all[..], &["--calibrate", &calib, "--device", "cpu", "--json"], options].concat())
    };
    let written = |options: &[&str]| {
        let printed = quantize(options);
        assert!(printed.status.success(), "{options:?}: {}, seed {seed}", text(&printed));
        (LayerFile::load(&model).unwrap(), fs::metadata(&model).unwrap().len())
    };
    // What is fitted, and how.
    let files =
        [&["--fit", "moments"][..], &[], &["--sweeps", "3"], &["--full-shifts"]].map(written);
    for (index, (file, _)) in files.iter().enumerate() {
        assert!(files[..index].iter().all(|(other, _)| other != file), "{index}, seed {seed}");
    }
    let (again, _) = written(&["--fit", "gptq", "--views", "5"]);
    assert!(again == files[1].0, "tensors have no views, seed {seed}");
    let rows: serde_json::Value = serde_json::from_slice(&quantize(&[]).stdout).unwrap();
    let [before, after] = [0, 1].map(|at| rows[0]["output_error"][at].as_f64().unwrap());
    assert!(0.0 < after && after <= before && before < 0.1, "{rows}, seed {seed}");
    // A bound that is met leaves little of it.
    let size = files[1].1 + 100;
    let (_, got) = written(&["--target-size", &size.to_string()]);
    assert!(got <= size && got + 1300 > size, "{got} of {size}, seed {seed}");
    for (options, words) in [
        (["--target-size", "900"], "target size: expected more than the"),
        (["--mean-bits", "1.5"], "mean bits: expected 2 to 8, got 1.5"),
        (["--views", "0"], "--views"),
        (["--fit", "nothing"], "gptq"),
    ] {
        let printed = quantize(&options);
        assert!(!printed.status.success(), "{options:?}");
        assert!(text(&printed).contains(words), "{options:?}: {}", text(&printed));
    }
    let printed = quantize(&["--mean-bits", "3", "--target-size", "1MB"]);
    assert_eq!(printed.status.code(), Some(2), "{}", text(&printed));
}

/// A network of bytes, whose output is its input.
fn identity(dims: [u64; 4]) -> Vec<u8> {
    let dims = dims.map(Some);
    onnx::file(&[
        onnx::node("y", "Identity", &["x"], "y"),
        onnx::bytes("x", &dims),
        onnx::output("y"),
    ])
}

#[test]
fn networks_of_integers_take_pixels_from_0_to_255_and_whole_numbers_only() {
    let folder = folder("integers");
    let path = |name: &str| folder.join(name).display().to_string();
    let [network, picture, output, npy] = ["net.onnx", "p.png", "y.safetensors", "x.npy"].map(path);
    let mut rng = fastrand::Rng::with_seed(fastrand::u64(..));
    let pixels = image::RgbImage::from_fn(6, 5, |_, _| image::Rgb([(); 3].map(|()| rng.u8(..))));
    pixels.save(&picture).unwrap();
    fs::write(&network, identity([1, 5, 6, 3])).unwrap();
    let run = |input: &str| {
        dsconv(&["run", &network, "--input", input, "--output", &output, "--device", "cpu"])
    };
    let printed = run(&picture);
    assert!(printed.status.success(), "{}", text(&printed));
    let expected: Vec<f32> = pixels.as_raw().iter().map(|&level| f32::from(level)).collect();
    assert_eq!(LayerFile::load(Path::new(&output)).unwrap().tensors["y"].values, expected);
    let mut values = expected.clone();
    save_npy(&npy, [1, 5, 6, 3], &values);
    assert!(run(&npy).status.success());
    values[7] = 0.5;
    save_npy(&npy, [1, 5, 6, 3], &values);
    let words = "input \"x\": expected integers, got 0.5 as element 7";
    refused(&["run", &network, "--input", &npy, "--device", "cpu"], words);
}
