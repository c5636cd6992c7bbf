//! Detections: hand-made outputs, degenerate ones, and random ones against an oracle.

mod common;

use dsconv_net::detect::{Detection, Detector, Head};
use dsconv_net::model::{ChannelOrder, Fit, Preprocessing};
use dsconv_net::{Error, Placement};

/// A box as (centre x, centre y, width, height) and its scores.
type Anchor = ([f32; 4], Vec<f32>);

/// The output (1, 4 + classes, anchors) that says so, with its dims.
fn yolov9(anchors: &[Anchor]) -> (Vec<f32>, [usize; 3]) {
    let rows = 4 + anchors[0].1.len();
    let all = |(bbox, scores): &Anchor| [&bbox[..], scores].concat();
    let all: Vec<Vec<f32>> = anchors.iter().map(all).collect();
    let output = (0..rows).flat_map(|row| all.iter().map(move |anchor| anchor[row])).collect();
    (output, [1, rows, anchors.len()])
}

/// The output (1, anchors, 5 + classes) for inputs of 64 x 96 whose first cells of 8 pixels say so.
fn yolox(anchors: &[Anchor]) -> (Vec<f32>, [usize; 3]) {
    let classes = anchors[0].1.len();
    let cells = 8 * 12 + 4 * 6 + 2 * 3;
    let mut output = vec![0.0; cells * (5 + classes)];
    for (index, ([x, y, width, height], scores)) in anchors.iter().enumerate() {
        let (column, line) = ((index % 12) as f32, (index / 12) as f32);
        let row = &mut output[index * (5 + classes)..][..5 + classes];
        row[..5].copy_from_slice(&[
            x / 8.0 - column,
            y / 8.0 - line,
            (width / 8.0).ln(),
            (height / 8.0).ln(),
            0.5,
        ]);
        row[5..].copy_from_slice(scores);
    }
    (output, [1, cells, 5 + classes])
}

/// The detections of one image.
fn found(detector: &Detector, (output, dims): &(Vec<f32>, [usize; 3])) -> Vec<Detection> {
    let mut images = detector.detect(output, dims, [64, 96]).unwrap();
    assert_eq!(images.len(), 1);
    images.remove(0)
}

fn classes_and_scores(detections: &[Detection]) -> Vec<(usize, f32)> {
    detections.iter().map(|d| (d.class, d.score)).collect()
}

#[test]
fn known_boxes_come_out_of_both_heads() {
    let anchors = [
        ([20.0, 16.0, 16.0, 8.0], vec![0.125, 0.875]),
        // The same object once more: 3/4 of it are the first one's.
        ([21.0, 16.0, 14.0, 8.0], vec![0.125, 0.75]),
        // Another class at the same place.
        ([20.0, 16.0, 16.0, 8.0], vec![0.625, 0.0]),
        ([70.0, 50.0, 32.0, 24.0], vec![0.0, 0.5625]),
        ([40.0, 40.0, 8.0, 8.0], vec![0.125, 0.0]),
    ];
    let expected = [(1, 0.875), (0, 0.625), (1, 0.5625)];
    let boxes = [[12.0, 12.0, 28.0, 20.0], [12.0, 12.0, 28.0, 20.0], [54.0, 38.0, 86.0, 62.0]];
    let detections = found(&Detector::new(Head::Yolov9), &yolov9(&anchors));
    assert_eq!(classes_and_scores(&detections), expected);
    assert_eq!(detections.iter().map(|d| d.bbox).collect::<Vec<_>>(), boxes);

    // A YOLOX score is that of an object, here 1/2, times the class's.
    let half = Detector { confidence: 0.125, ..Detector::new(Head::Yolox) };
    let detections = found(&half, &yolox(&anchors));
    assert_eq!(classes_and_scores(&detections), expected.map(|(class, s)| (class, s / 2.0)));
    for (detection, bbox) in detections.iter().zip(boxes) {
        let close = |(a, b): (f32, f32)| (a - b).abs() < 1e-4;
        assert!(detection.bbox.into_iter().zip(bbox).all(close), "{detection:?}");
    }
}

#[test]
fn yolox_anchors_are_the_cells_of_three_sizes() {
    // One anchor in the last cell of each size, at the cell's corner and of the cell's size.
    let mut output = vec![0.0; 126 * 6];
    for (order, anchor) in [95, 119, 125].into_iter().enumerate() {
        output[anchor * 6 + 4..][..2].copy_from_slice(&[1.0, 0.9 - 0.1 * order as f32]);
    }
    let detections = found(&Detector::new(Head::Yolox), &(output, [1, 126, 6]));
    let boxes: Vec<_> = detections.iter().map(|d| d.bbox).collect();
    let cell = |x: f32, y: f32, side: f32| {
        [x - side / 2.0, y - side / 2.0, x + side / 2.0, y + side / 2.0]
    };
    assert_eq!(boxes, [cell(88.0, 56.0, 8.0), cell(80.0, 48.0, 16.0), cell(64.0, 32.0, 32.0)]);
}

#[test]
fn an_anchor_is_one_object_or_several() {
    let anchors = [([8.0, 8.0, 8.0, 8.0], vec![0.5, 0.25, 0.75, 0.5])];
    let one = Detector::new(Head::Yolov9);
    assert_eq!(classes_and_scores(&found(&one, &yolov9(&anchors))), [(2, 0.75)]);
    let several = Detector { multi_label: true, ..one };
    // A score must be above the threshold, 0.25; equal ones are in the order of classes.
    let expected = [(2, 0.75), (0, 0.5), (3, 0.5)];
    assert_eq!(classes_and_scores(&found(&several, &yolov9(&anchors))), expected);
}

#[test]
fn what_is_no_box_or_no_number_is_no_detection() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let good = ([40.0, 20.0, 8.0, 8.0], vec![0.5, nan]);
    let mut anchors = vec![
        ([10.0, 10.0, 0.0, 5.0], vec![0.9, 0.0]),
        ([10.0, 10.0, 5.0, -1.0], vec![0.9, 0.0]),
        ([nan, 10.0, 5.0, 5.0], vec![0.9, 0.0]),
        ([10.0, 10.0, inf, 5.0], vec![0.9, 0.0]),
        ([10.0, f32::MAX, 5.0, f32::MAX], vec![0.9, 0.0]),
        // So far away that its width vanishes.
        ([1e9, 10.0, 1.0, 5.0], vec![0.9, 0.0]),
        ([10.0, 10.0, 5.0, 5.0], vec![nan, nan]),
        ([10.0, 10.0, 5.0, 5.0], vec![inf, -inf]),
        good.clone(),
        // Large, but a box.
        ([0.0, 0.0, 1e30, 1e30], vec![0.4, 0.0]),
    ];
    let detections = found(&Detector::new(Head::Yolov9), &yolov9(&anchors));
    assert_eq!(classes_and_scores(&detections), [(0, 0.5), (0, 0.4)]);
    assert_eq!(detections[0].bbox, [36.0, 16.0, 44.0, 24.0]);

    // An exponential that overflows or vanishes, an objectness that is no number.
    let (mut output, dims) = yolox(&[good.clone(), good.clone(), good.clone(), good]);
    output[2] = 1000.0;
    output[7 + 3] = -1000.0;
    output[2 * 7 + 4] = nan;
    let low = Detector { confidence: 0.1, ..Detector::new(Head::Yolox) };
    assert_eq!(classes_and_scores(&found(&low, &(output, dims))), [(0, 0.25)]);

    for (_, scores) in &mut anchors {
        *scores = vec![nan, nan];
    }
    assert!(found(&Detector::new(Head::Yolov9), &yolov9(&anchors)).is_empty());
}

#[test]
fn equal_scores_are_in_the_order_of_anchors() {
    let anchors: Vec<Anchor> =
        (0..8).map(|i| ([8.0 + 10.0 * i as f32, 8.0, 8.0, 8.0], vec![0.5])).collect();
    let detections = found(&Detector::new(Head::Yolov9), &yolov9(&anchors));
    assert_eq!(detections.len(), 8);
    assert!(detections.is_sorted_by(|a, b| a.bbox[0] < b.bbox[0]));
    // Of equal boxes the first stays.
    let anchors: Vec<Anchor> =
        (0..8).map(|i| ([8.0 + i as f32, 8.0, 64.0, 8.0], vec![0.5])).collect();
    let detections = found(&Detector::new(Head::Yolov9), &yolov9(&anchors));
    assert_eq!(detections.iter().map(|d| d.bbox[0]).collect::<Vec<_>>(), [-24.0]);
}

#[test]
fn a_threshold_is_passed_only_by_what_is_above_it() {
    // The second box is half of the first: an IoU of exactly 1/2.
    let anchors = [([8.0, 8.0, 16.0, 8.0], vec![0.75]), ([4.0, 8.0, 8.0, 8.0], vec![0.5])];
    let at = |iou| Detector { iou, ..Detector::new(Head::Yolov9) };
    assert_eq!(found(&at(0.5), &yolov9(&anchors)).len(), 2);
    assert_eq!(found(&at(0.4999), &yolov9(&anchors)).len(), 1);
    let at = |confidence| Detector { confidence, iou: 1.0, ..Detector::new(Head::Yolov9) };
    assert_eq!(found(&at(0.5), &yolov9(&anchors)).len(), 1);
    assert_eq!(found(&at(0.4999), &yolov9(&anchors)).len(), 2);
}

#[test]
fn thousands_of_candidates_end_at_the_limits() {
    let count = 40_000;
    let score = |index: usize| 0.3 + 0.6 * index as f32 / count as f32;
    // All apart from each other: the best 300.
    let apart: Vec<Anchor> =
        (0..count).map(|i| ([8.0 * i as f32, 8.0, 4.0, 4.0], vec![score(i), 0.0])).collect();
    let usual = Detector::new(Head::Yolov9);
    let detections = found(&usual, &yolov9(&apart));
    assert_eq!(detections.len(), 300);
    assert_eq!((detections[0].score, detections[299].score), (score(39_999), score(39_700)));
    // All at one place: one, and only the best candidates are looked at.
    let mut together: Vec<Anchor> =
        (0..count).map(|i| ([8.0, 8.0, 4.0, 4.0], vec![score(i), 0.0])).collect();
    together[9_999].0[0] = 80.0;
    assert_eq!(found(&usual, &yolov9(&together)).len(), 1);
    together[10_000].0[0] = 80.0;
    assert_eq!(found(&usual, &yolov9(&together)).len(), 2);
    let none = Detector { max_detections: 0, ..usual };
    assert!(found(&none, &yolov9(&apart)).is_empty());
}

#[test]
fn images_of_a_batch_are_apart() {
    let one = yolov9(&[([8.0, 8.0, 8.0, 8.0], vec![0.5]), ([40.0, 8.0, 8.0, 8.0], vec![0.1])]);
    let other = yolov9(&[([8.0, 8.0, 8.0, 8.0], vec![0.1]), ([40.0, 8.0, 8.0, 8.0], vec![0.9])]);
    let detector = Detector::new(Head::Yolov9);
    let both = detector.detect(&[one.0, other.0].concat(), &[2, 5, 2], [64, 96]).unwrap();
    assert_eq!(both.len(), 2);
    assert_eq!(both[0].iter().map(|d| d.bbox[0]).collect::<Vec<_>>(), [4.0]);
    assert_eq!(both[1].iter().map(|d| d.bbox[0]).collect::<Vec<_>>(), [36.0]);
}

#[test]
fn outputs_of_another_kind_are_refused() {
    assert_eq!(Head::of(&[1, 84, 8400], [640, 640]), Some(Head::Yolov9));
    assert_eq!(Head::of(&[1, 3549, 6], [416, 416]), Some(Head::Yolox));
    for dims in [&[1, 84, 8401][..], &[1, 4, 8400], &[1, 8400, 5], &[84, 8400], &[1, 1000]] {
        assert_eq!(Head::of(dims, [640, 640]), None, "{dims:?}");
    }
    let [v9, x] = [Head::Yolov9, Head::Yolox].map(Detector::new);
    let refused = |detector: &Detector, length: usize, dims: &[usize], words: &str| {
        let error = detector.detect(&vec![0.0; length], dims, [64, 96]).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }));
        assert!(error.to_string().contains(words), "{error}");
    };
    refused(&v9, 10, &[1, 10], "(N, 4 + classes, anchors), got [1, 10]");
    refused(&v9, 8, &[1, 4, 2], "(N, 4 + classes, anchors)");
    refused(&v9, 11, &[1, 5, 2], "expected 10 numbers, got 11");
    refused(&v9, 0, &[usize::MAX, 5, usize::MAX], "elements");
    refused(&v9, 0, &[usize::MAX, 5, 0], "at least one anchor");
    refused(&x, 60, &[1, 10, 6], "126 anchors for an input of [64, 96]");
    refused(&x, 50, &[1, 10, 5], "(N, anchors, 5 + classes)");
    refused(&Detector { iou: f32::NAN, ..x }, 756, &[1, 126, 6], "detection IoU: expected 0 to 1");
    refused(&Detector { confidence: 1.5, ..x }, 756, &[1, 126, 6], "detection confidence");
    refused(&Detector { max_candidates: 30_001, ..x }, 756, &[1, 126, 6], "most candidates");
    refused(&Detector { max_detections: 30_001, ..x }, 756, &[1, 126, 6], "most detections");
}

/// Suppression as its definition has it: the best of those that are left goes to the result and takes all that it
/// covers, again and again.
fn oracle(detector: &Detector, anchors: &[Anchor]) -> Vec<Detection> {
    let mut left = Vec::new();
    for ([x, y, width, height], scores) in anchors {
        let best = scores.iter().fold(f32::MIN, |m, &s| m.max(s));
        let first = scores.iter().position(|&s| s == best);
        for (class, &score) in scores.iter().enumerate() {
            let counts = detector.multi_label || first == Some(class);
            if counts && score > detector.confidence && *width > 0.0 && *height > 0.0 {
                let (w, h) = (width / 2.0, height / 2.0);
                left.push(Detection { class, score, bbox: [x - w, y - h, x + w, y + h] });
            }
        }
    }
    while left.len() > detector.max_candidates {
        let least = left.iter().fold(f32::MAX, |m, d| m.min(d.score));
        let last = left.iter().rposition(|d| d.score == least).unwrap();
        left.remove(last);
    }
    let mut kept = Vec::new();
    while !left.is_empty() && kept.len() < detector.max_detections {
        let best = left.iter().fold(f32::MIN, |m, d| m.max(d.score));
        let best = left.remove(left.iter().position(|d| d.score == best).unwrap());
        left.retain(|d| {
            // Shared and own pixels, with sides in halves: exact in f64.
            let side = |d: &Detection, axis: usize| f64::from(d.bbox[axis + 2] - d.bbox[axis]);
            let shared = |axis: usize| {
                let end = d.bbox[axis + 2].min(best.bbox[axis + 2]);
                f64::from((end - d.bbox[axis].max(best.bbox[axis])).max(0.0))
            };
            let both = shared(0) * shared(1);
            let all = side(d, 0) * side(d, 1) + side(&best, 0) * side(&best, 1) - both;
            d.class != best.class || both / all <= f64::from(detector.iou)
        });
        kept.push(best);
    }
    kept
}

#[test]
fn random_outputs_give_what_the_oracle_gives() {
    let mut rng = fastrand::Rng::with_seed(common::seed());
    let (mut candidates, mut suppressed) = (0, 0);
    for _ in 0..500 {
        let classes = rng.usize(1..4);
        let mut anchor = || {
            let half = |rng: &mut fastrand::Rng, end: u32| rng.u32(0..end) as f32 / 2.0;
            let bbox = [128, 128, 60, 60].map(|end| half(&mut rng, end));
            // Few levels, so that there are ties.
            (bbox, (0..classes).map(|_| rng.u32(0..20) as f32 / 20.0).collect())
        };
        let anchors: Vec<Anchor> = (0..120).map(|_| anchor()).collect();
        let detector = Detector {
            head: Head::Yolov9,
            confidence: rng.f32() * 0.8,
            iou: [0.0, 0.2, 0.45, 0.5, 0.7, 1.0][rng.usize(..6)],
            multi_label: rng.bool(),
            max_candidates: rng.usize(1..250),
            max_detections: rng.usize(1..80),
        };
        let expected = oracle(&detector, &anchors);
        assert_eq!(found(&detector, &yolov9(&anchors)), expected, "{detector:?}");
        let all = Detector { iou: 1.0, max_detections: 1000, ..detector };
        candidates += found(&all, &yolov9(&anchors)).len();
        suppressed += candidates - expected.len().min(candidates);
    }
    assert!(candidates > 10_000 && suppressed > 1000, "{candidates} {suppressed}");
}

#[test]
fn random_yolox_outputs_are_decoded_as_in_f64() {
    let mut rng = fastrand::Rng::with_seed(common::seed());
    let size = [96u32, 160];
    let cells: Vec<[f64; 3]> = [8, 16, 32]
        .into_iter()
        .flat_map(|s| (0..96 / s).flat_map(move |y| (0..160 / s).map(move |x| [x, y, s])))
        .map(|cell| cell.map(f64::from))
        .collect();
    let row = |rng: &mut fastrand::Rng| {
        let normal = |rng: &mut fastrand::Rng| rng.f32() * 6.0 - 3.0;
        [normal(rng), normal(rng), normal(rng), normal(rng), rng.f32(), rng.f32(), rng.f32()]
    };
    let output: Vec<[f32; 7]> = cells.iter().map(|_| row(&mut rng)).collect();
    let all =
        Detector { confidence: 0.0, iou: 1.0, max_detections: 1000, ..Detector::new(Head::Yolox) };
    let got = &all.detect(output.as_flattened(), &[1, cells.len(), 7], size).unwrap()[0];
    let mut expected: Vec<(f64, [f64; 4])> = output
        .iter()
        .zip(&cells)
        .map(|(row, [column, line, stride])| {
            let [x, y, w, h, object, a, b] = row.map(f64::from);
            let (x, y) = ((x + column) * stride, (y + line) * stride);
            let (w, h) = (w.exp() * stride / 2.0, h.exp() * stride / 2.0);
            (object * a.max(b), [x - w, y - h, x + w, y + h])
        })
        .filter(|(score, _)| *score > 0.0)
        .collect();
    expected.sort_by(|a, b| b.0.total_cmp(&a.0));
    assert_eq!(got.len(), expected.len());
    for (got, (score, bbox)) in got.iter().zip(expected) {
        assert!((f64::from(got.score) - score).abs() < 1e-6, "{got:?} {score}");
        for (got, expected) in got.bbox.into_iter().zip(bbox) {
            assert!((f64::from(got) - expected).abs() < 1e-3, "{got} {expected}");
        }
    }
}

fn how(size: [u32; 2], fit: Fit) -> Preprocessing {
    let (mean, std) = (vec![0.0; 3], vec![1.0; 3]);
    Preprocessing { size, fit, mean, std, channels: ChannelOrder::Rgb, channels_last: false }
}

#[test]
fn boxes_go_back_to_where_the_picture_was() {
    // 200 wide, 100 high; inputs 64 high, 32 wide.
    let to_picture = |fit| Placement::new([200, 100], &how([64, 32], fit));
    let all = [0.0, 0.0, 200.0, 100.0];
    assert_eq!(to_picture(Fit::Stretch).to_picture([0.0, 0.0, 32.0, 64.0]), all);
    assert_eq!(
        to_picture(Fit::Stretch).to_picture([16.0, 16.0, 32.0, 32.0]),
        [100.0, 25.0, 200.0, 50.0]
    );
    // 16 rows of the input show it, those from 24 to 40, or the first.
    let padded = to_picture(Fit::Pad(0.5));
    assert_eq!(padded.place, [0, 24, 32, 16]);
    assert_eq!(padded.to_picture([0.0, 24.0, 32.0, 40.0]), all);
    assert_eq!(padded.to_picture([8.0, 28.0, 16.0, 32.0]), [50.0, 25.0, 100.0, 50.0]);
    assert_eq!(padded.to_picture([-50.0, -1e9, 1e9, 70.0]), all);
    // What lies in the padding is cut off.
    let detection = |bbox| Detection { class: 0, score: 0.5, bbox };
    assert_eq!(detection([0.0, 2.0, 10.0, 22.0]).on_picture(&padded), None);
    assert_eq!(
        detection([0.0, 2.0, 16.0, 32.0]).on_picture(&padded),
        Some(detection([0.0, 0.0, 100.0, 50.0]))
    );
    let corner = to_picture(Fit::PadBottomRight(0.5));
    assert_eq!(corner.place, [0, 0, 32, 16]);
    assert_eq!(corner.to_picture([8.0, 4.0, 16.0, 8.0]), [50.0, 25.0, 100.0, 50.0]);
    // 50 of 200 columns.
    let cut = to_picture(Fit::Crop(1.0));
    assert_eq!((cut.cut, cut.place), ([75, 0, 50, 100], [0, 0, 32, 64]));
    assert_eq!(cut.to_picture([0.0, 0.0, 16.0, 32.0]), [75.0, 0.0, 100.0, 50.0]);
    // As it is.
    let same = Placement::new([32, 64], &how([64, 32], Fit::Crop(0.5)));
    assert_eq!(same.to_picture([1.0, 2.0, 3.0, 4.0]), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn placements_lie_inside() {
    let mut rng = fastrand::Rng::with_seed(common::seed());
    for _ in 0..20_000 {
        let mut side = || {
            let bits = rng.u32(1..15);
            rng.u32(1..1 << bits)
        };
        let (picture, size) = ([side(), side()], [side(), side()]);
        let level = rng.f32();
        let fit =
            [Fit::Stretch, Fit::Crop(level.max(0.01)), Fit::Pad(level), Fit::PadBottomRight(level)]
                [rng.usize(..4)];
        let placement = Placement::new(picture, &how(size, fit));
        let inside = |[x, y, w, h]: [u32; 4], [width, height]: [u32; 2]| {
            w > 0 && h > 0 && x + w <= width && y + h <= height
        };
        let Placement { cut, place, .. } = placement;
        assert!(inside(cut, picture) && inside(place, [size[1], size[0]]), "{placement:?} {fit:?}");
        let corners = |[x, y, w, h]: [u32; 4]| [x, y, x + w, y + h].map(|side| side as f32);
        for (got, expected) in placement.to_picture(corners(place)).into_iter().zip(corners(cut)) {
            assert!((got - expected).abs() < 0.01, "{placement:?}: {got} {expected}");
        }
    }
    // A picture of no size is no reason to panic.
    Placement::new([0, 0], &how([8, 8], Fit::Crop(0.5))).to_picture([0.0; 4]);
}
