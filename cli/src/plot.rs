//! Pictures of what commands measured, as SVG or PNG.

use crate::overwrite::{Kind, Overwrite};
use anyhow::{anyhow, bail, ensure};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use plotters::coord::Shift;
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use plotters_backend::{BackendCoord, DrawingErrorKind};
use std::path::{Path, PathBuf};

/// A drawing of something measured.
pub(crate) trait Chart {
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// Draws on an area of that size, filled with white.
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B>;
}

/// `Ok`, or what the backend says.
pub(crate) type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// The most pixels of height: no program shows taller pictures, and their pixels take memory.
const MAX_HEIGHT: u32 = 1 << 15;

/// The font that everything is written in. It comes with the program: there may be none on the machine.
pub(crate) const FONT: &str = "sans-serif";

pub(crate) const BLUE: RGBColor = RGBColor(31, 96, 180);
pub(crate) const ORANGE: RGBColor = RGBColor(214, 96, 16);
/// The colour of what is only there to compare with.
pub(crate) const GREY: RGBColor = RGBColor(120, 120, 120);

/// A point: a circle, or a triangle.
pub(crate) struct Mark<C> {
    pub(crate) at: C,
    pub(crate) color: RGBAColor,
    pub(crate) triangle: bool,
}

impl<'a, C> PointCollection<'a, C> for &'a Mark<C> {
    type Point = &'a C;
    type IntoIter = std::iter::Once<&'a C>;

    fn point_iter(self) -> Self::IntoIter {
        std::iter::once(&self.at)
    }
}

impl<C, B: DrawingBackend> Drawable<B> for Mark<C> {
    fn draw<I: Iterator<Item = BackendCoord>>(
        &self,
        mut at: I,
        backend: &mut B,
        _: (u32, u32),
    ) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        let Some((x, y)) = at.next() else { return Ok(()) };
        match self.triangle {
            false => backend.draw_circle((x, y), 4, &self.color, true),
            true => backend.fill_polygon([(x, y - 6), (x + 5, y + 4), (x - 5, y + 4)], &self.color),
        }
    }
}

/// A line of text beside a point of a chart.
pub(crate) struct Label {
    at: (f64, f64),
    /// Pixels from the point to where the text ends, half way up.
    offset: (i32, i32),
    text: String,
}

impl Label {
    pub(crate) fn new(at: (f64, f64), offset: (i32, i32), text: &str) -> Self {
        Self { at, offset, text: text.into() }
    }
}

impl<'a> PointCollection<'a, (f64, f64)> for &'a Label {
    type Point = &'a (f64, f64);
    type IntoIter = std::iter::Once<&'a (f64, f64)>;

    fn point_iter(self) -> Self::IntoIter {
        std::iter::once(&self.at)
    }
}

impl<B: DrawingBackend> Drawable<B> for Label {
    fn draw<I: Iterator<Item = BackendCoord>>(
        &self,
        mut at: I,
        backend: &mut B,
        _: (u32, u32),
    ) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        let Some((x, y)) = at.next() else { return Ok(()) };
        let style = (FONT, 13).into_font().color(&BLACK.mix(0.8));
        let style = style.pos(Pos::new(HPos::Right, VPos::Center));
        backend.draw_text(&self.text, &style, (x + self.offset.0, y + self.offset.1))
    }
}

/// A file to draw in: a name that ends in .svg or .png.
#[derive(Clone, Debug)]
pub(crate) struct PlotFile {
    path: PathBuf,
    png: bool,
}

impl std::str::FromStr for PlotFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        let is = |name: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(name));
        match (is("svg"), is("png")) {
            (false, false) => {
                Err(format!("expected a name that ends in .svg or .png, got {text:?}"))
            }
            (_, png) => Ok(Self { path, png }),
        }
    }
}

impl std::fmt::Display for PlotFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.display().fmt(f)
    }
}

impl PlotFile {
    /// Refuses to draw over a file that must stay.
    pub(crate) fn check<'a>(
        &self,
        overwrite: &Overwrite,
        inputs: impl IntoIterator<Item = &'a Path>,
    ) -> anyhow::Result<()> {
        overwrite.check(&self.path, if self.png { Kind::Png } else { Kind::Svg }, inputs)
    }

    /// Draws and writes, beside its place and then renamed.
    pub(crate) fn write(&self, chart: &impl Chart) -> anyhow::Result<()> {
        if register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).is_err()
            || register_font(FONT, FontStyle::Bold, dejavu::sans::bold()).is_err()
        {
            bail!("the font that comes with the program can't be read");
        }
        let (width, height) = chart.size();
        ensure!(
            height <= MAX_HEIGHT,
            "{self}: expected at most {MAX_HEIGHT} pixels of height, got {height}: these are too many layers"
        );
        let bytes = if self.png {
            let mut pixels = vec![0; 3 * width as usize * height as usize];
            draw(chart, BitMapBackend::with_buffer(&mut pixels, (width, height)))?;
            let mut bytes = Vec::new();
            PngEncoder::new(&mut bytes).write_image(
                &pixels,
                width,
                height,
                ExtendedColorType::Rgb8,
            )?;
            bytes
        } else {
            let mut text = String::new();
            draw(chart, SVGBackend::with_string(&mut text, (width, height)))?;
            text.into_bytes()
        };
        Ok(dsconv::file::write(&self.path, &bytes)?)
    }
}

fn draw<B: DrawingBackend>(chart: &impl Chart, backend: B) -> anyhow::Result<()> {
    let area = backend.into_drawing_area();
    let drawn = area.fill(&WHITE).and_then(|()| chart.draw(&area)).and_then(|()| area.present());
    // The backends' errors are not Send; their text is what matters.
    drawn.map_err(|e| anyhow!("drawing: {e}"))
}
