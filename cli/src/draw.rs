//! Detections drawn on their picture.

use ab_glyph::{Font, FontRef, Glyph, PxScaleFont, ScaleFont, point};
use image::{Rgb, RgbImage};

/// Left, top, right and bottom in pixels; right and bottom lie outside.
type Area = [i64; 4];

/// A box to draw.
pub(crate) struct Boxed {
    /// Decides the colour.
    pub(crate) class: usize,
    /// Left, top, right and bottom in pixels.
    pub(crate) bbox: [f32; 4],
    pub(crate) label: String,
}

/// Draws a frame in the class's colour and a label for each box, the first ones on top.
pub(crate) fn draw(picture: &mut RgbImage, boxes: impl DoubleEndedIterator<Item = Boxed>) {
    // As wide and as tall as the picture lets them be seen.
    let side = picture.width().min(picture.height()) as f32;
    let line = (side / 250.0).round().clamp(2.0, 12.0) as i64;
    let font = FontRef::try_from_slice(dejavu::sans::regular());
    let font = font.ok().map(|font| font.into_scaled((side / 24.0).clamp(13.0, 80.0)));
    for Boxed { class, bbox, label } in boxes.rev() {
        let colour = colour(class);
        let frame = bbox.map(|side| side.round().clamp(-1e6, 1e6) as i64);
        // A dark edge on both sides keeps the colour apart from any picture.
        outline(picture, grown(frame, line / 2 + 1), line + 2, Rgb([0; 3]));
        outline(picture, grown(frame, line / 2), line, colour);
        if let Some(font) = &font {
            write(picture, font, frame, &label, colour);
        }
    }
}

/// A colour of the class's own: hues as far apart as can be, however many there are.
fn colour(class: usize) -> Rgb<u8> {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let hue = (0.02 + class as f64 * GOLDEN).fract() * 6.0;
    let channel = |shift: f64| {
        let distance = ((hue + shift) % 6.0 - 3.0).abs() - 1.0;
        (255.0 * (0.15 + 0.85 * distance.clamp(0.0, 1.0))) as u8
    };
    Rgb([channel(0.0), channel(4.0), channel(2.0)])
}

fn grown([x0, y0, x1, y1]: Area, by: i64) -> Area {
    [x0 - by, y0 - by, x1 + by, y1 + by]
}

fn outline(picture: &mut RgbImage, [x0, y0, x1, y1]: Area, line: i64, colour: Rgb<u8>) {
    fill(picture, [x0, y0, x1, y0 + line], colour);
    fill(picture, [x0, y1 - line, x1, y1], colour);
    fill(picture, [x0, y0, x0 + line, y1], colour);
    fill(picture, [x1 - line, y0, x1, y1], colour);
}

/// Fills what lies in the picture.
fn fill(picture: &mut RgbImage, [x0, y0, x1, y1]: Area, colour: Rgb<u8>) {
    let (width, height) = picture.dimensions();
    let within = |from: i64, to: i64, side: u32| {
        let [from, to] = [from, to].map(|at| at.clamp(0, side.into()) as u32);
        from..to
    };
    for y in within(y0, y1, height) {
        for x in within(x0, x1, width) {
            picture.put_pixel(x, y, colour);
        }
    }
}

/// Writes a label above its frame, or inside where the picture ends, on a ground of the frame's colour.
fn write(
    picture: &mut RgbImage,
    font: &PxScaleFont<FontRef<'_>>,
    [x0, y0, ..]: Area,
    label: &str,
    ground: Rgb<u8>,
) {
    let margin = font.height() / 6.0;
    let mut glyphs: Vec<Glyph> = Vec::new();
    let mut end = margin;
    for character in label.chars() {
        let mut glyph = font.scaled_glyph(character);
        glyph.position = point(end, font.ascent());
        end += font.h_advance(glyph.id);
        glyphs.push(glyph);
    }
    let (width, height) = ((end + margin).ceil() as i64, font.height().ceil() as i64);
    let left = x0.min(i64::from(picture.width()) - width).max(0);
    let top = if y0 >= height { y0 - height } else { y0.max(0) };
    fill(picture, grown([left, top, left + width, top + height], 1), Rgb([0; 3]));
    fill(picture, [left, top, left + width, top + height], ground);
    let Rgb([r, g, b]) = ground.0.map(f32::from).into();
    let ink = if 0.299 * r + 0.587 * g + 0.114 * b > 128.0 { 0.0 } else { 255.0 };
    for outlined in glyphs.into_iter().filter_map(|glyph| font.outline_glyph(glyph)) {
        let corner = outlined.px_bounds().min;
        outlined.draw(|x, y, coverage| {
            let at = [left + corner.x as i64 + i64::from(x), top + corner.y as i64 + i64::from(y)];
            let [Ok(x), Ok(y)] = at.map(u32::try_from) else { return };
            if let Some(Rgb(levels)) = picture.get_pixel_mut_checked(x, y) {
                let mixed = |level: u8| f32::from(level) + coverage * (ink - f32::from(level));
                *levels = levels.map(|level| mixed(level).round() as u8);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(class: usize, bbox: [f32; 4], label: &str) -> Boxed {
        Boxed { class, bbox, label: label.into() }
    }

    #[test]
    fn frames_and_labels_are_where_they_belong() {
        let grey = Rgb([90; 3]);
        let mut picture = RgbImage::from_pixel(200, 120, grey);
        draw(&mut picture, [of(3, [40.0, 60.0, 160.0, 100.0], "a dog 0.50")].into_iter());
        let at = |x, y| *picture.get_pixel(x, y);
        for edge in [at(40, 80), at(159, 80), at(100, 99), at(150, 60)] {
            assert_eq!(edge, colour(3));
        }
        for beside in [at(38, 80), at(41, 80), at(100, 101)] {
            assert_eq!(beside, Rgb([0; 3]));
        }
        for untouched in [at(100, 80), at(10, 10), at(190, 80), at(100, 110)] {
            assert_eq!(untouched, grey);
        }
        // The label stands above: its ground, and letters on it.
        let above = |wanted: &dyn Fn(Rgb<u8>) -> bool| {
            (42..100)
                .flat_map(|x| (48..58).map(move |y| (x, y)))
                .filter(|&(x, y)| wanted(at(x, y)))
                .count()
        };
        assert!(above(&|p| p == colour(3)) > 200);
        assert!(above(&|p| p != colour(3) && p != grey) > 60);
    }

    #[test]
    fn nothing_leaves_the_picture() {
        for (width, height) in [(1, 1), (3, 200), (64, 20)] {
            let mut picture = RgbImage::new(width, height);
            draw(
                &mut picture,
                [
                    of(
                        0,
                        [0.0, 0.0, width as f32, height as f32],
                        "the whole picture with a long name",
                    ),
                    of(usize::MAX, [-1e30, f32::NAN, 1e30, 5.0], "文字 \u{1F600}\n"),
                    of(7, [5.0, 5.0, 5.0, 5.0], ""),
                ]
                .into_iter(),
            );
        }
    }

    #[test]
    fn neighbouring_classes_differ_in_colour() {
        let distance = |a: Rgb<u8>, b: Rgb<u8>| {
            a.0.iter().zip(b.0).map(|(&a, b)| u32::from(a.abs_diff(b))).sum::<u32>()
        };
        for class in 0..80 {
            for other in class + 1..class + 5 {
                assert!(distance(colour(class), colour(other)) > 60, "{class} {other}");
            }
        }
    }
}
