//! wgpu's pipeline cache through the library: round trip, and data that must be ignored.

mod common;

use common::gpu;
use dsconv::gpu::{Layer, LayerOptions, Pipelines};
use dsconv::{ConvDescriptor, FloatWeights, Shape};
use std::sync::Mutex;

/// What was logged, to see the warnings.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("dsconv")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LOG.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn caches_come_back_and_bad_ones_are_ignored_with_a_warning() {
    let Some((gpu, _)) = gpu() else { return };
    log::set_logger(&Log).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let works = |pipelines: &Pipelines| {
        let descriptor = ConvDescriptor::new(2, 2, [1, 1]);
        let weights = FloatWeights::new(descriptor, vec![1.0, 0.0, 0.0, 1.0]).unwrap();
        let layer = Layer::new(pipelines, &weights, LayerOptions::default()).unwrap();
        let run = layer.run(&gpu.queue, Shape::new(1, 2, 1, 1), &[3.0, 4.0], &[]);
        assert_eq!(pollster::block_on(run).unwrap(), [3.0, 4.0]);
    };
    let warnings = || std::mem::take(&mut *LOG.lock().unwrap());
    let first = Pipelines::new(&gpu.device).unwrap();
    works(&first);
    let Some(data) = first.cache_data() else {
        assert!(!gpu.device.features().contains(wgpu::Features::PIPELINE_CACHE));
        return;
    };
    works(&Pipelines::with_cache(&gpu.device, &data).unwrap());
    assert_eq!(warnings(), [""; 0]);

    let mut damaged = data.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut foreign = data.clone();
    foreign[8] ^= 1;
    let cases = [
        (damaged, "damaged"),
        (foreign, "another adapter"),
        (data[..20].to_vec(), "not a cache"),
        (vec![], "not a cache"),
        (b"something else entirely, and longer".to_vec(), "not a cache"),
    ];
    for (bad, reason) in cases {
        works(&Pipelines::with_cache(&gpu.device, &bad).unwrap());
        let warnings = warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(reason), "{warnings:?}");
    }

    let path = std::env::temp_dir().join(format!("dsconv-cache-{}", std::process::id()));
    works(&Pipelines::with_cache_file(&gpu.device, &path).unwrap());
    assert_eq!(warnings(), [""; 0], "a first run has no cache, and that is fine");
    first.save_cache_file(&path).unwrap();
    works(&Pipelines::with_cache_file(&gpu.device, &path).unwrap());
    assert_eq!(warnings(), [""; 0]);
    std::fs::write(&path, b"truncated").unwrap();
    works(&Pipelines::with_cache_file(&gpu.device, &path).unwrap());
    assert_eq!(warnings().len(), 1);
    std::fs::remove_file(&path).unwrap();
}
