//! YOLOv9 from its description: what it counts, what it refuses, and that it runs.

use dsconv_net::yolov9::{Description, Form, Network, Part};

const YAML: &str = include_str!("../../cli/models/yolov9-c-dsconv.yaml");

fn network(classes: usize) -> Network {
    let description = Description::parse(YAML).unwrap().with_classes(classes).unwrap();
    Network::new(&description).unwrap()
}

#[test]
fn the_articles_network_counts_as_the_article_says() {
    let giga = |flops: u64| format!("{:.1}", flops as f64 / 1e9);
    for (classes, parameters, counted, flops) in
        [(1, 50_999_590, "234.7", "238.9"), (80, 51_182_080, "235.7", "239.9")]
    {
        let summary = network(classes).summary([640, 640]);
        println!("{classes} classes: {summary:?}");
        assert_eq!(summary.layers, 962);
        assert_eq!(summary.parameters, parameters);
        assert_eq!(summary.gradients, parameters - 32);
        assert_eq!(giga(summary.counted_flops), counted);
        assert_eq!(giga(summary.flops), flops);
        // What the two DSConv layers do.
        assert_eq!(summary.flops - summary.counted_flops, 4_128_768_000);
    }
}

#[test]
fn modules_have_the_parameters_that_a_rebuild_in_pytorch_has() {
    let expected = [
        (1, 1_856),
        (2, 73_984),
        (3, 212_864),
        (4, 164_352),
        (5, 847_616),
        (6, 656_384),
        (7, 2_857_472),
        (8, 656_384),
        (9, 2_857_472),
        (10, 656_896),
        (13, 3_119_616),
        (16, 912_640),
        (17, 164_352),
        (19, 2_988_544),
        (20, 656_384),
        (22, 3_119_616),
        (23, 131_328),
        (24, 393_984),
        (25, 656_640),
        (26, 1_856),
        (27, 73_984),
        (28, 212_864),
        (29, 164_352),
        (31, 847_616),
        (32, 656_384),
        (34, 2_857_472),
        (35, 656_384),
        (37, 2_857_472),
        (38, 21_542_822),
    ];
    for (classes, detection) in [(1, 21_542_822), (80, 21_725_312)] {
        let network = network(classes);
        for (index, layer) in network.layers().iter().enumerate() {
            let one = expected.iter().find(|(layer, _)| *layer == index).map_or(0, |found| found.1);
            let one = if index == 38 { detection } else { one };
            assert_eq!(layer.parameters, one, "layer {index}: {layer:?}");
        }
    }
}
