//! What `dsconv inspect --plot` draws: bits, memory and error of each layer, side by side.

use crate::display::bytes;
use crate::plot::{BLUE, Chart, Drawn, FONT, GREY, Label, ORANGE};
use dsconv::shown;
use dsconv_net::LayerReport;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

const NAMES_WIDTH: u32 = 220;
const BITS_WIDTH: u32 = 220;
const BYTES_WIDTH: u32 = 480;
const ERROR_WIDTH: u32 = 360;
const TITLE_HEIGHT: u32 = 48;
const ROW_HEIGHT: u32 = 16;
const AXES_HEIGHT: u32 = 80;

/// The colour of memory that floats would take.
const PALE: RGBColor = RGBColor(206, 212, 220);

/// A chart of the layers of a model's file.
pub(crate) struct LayerChart<'a> {
    pub(crate) model: &'a Path,
    pub(crate) layers: &'a [LayerReport],
}

impl Chart for LayerChart<'_> {
    fn size(&self) -> (u32, u32) {
        let error = if self.has_errors() { ERROR_WIDTH } else { 0 };
        let rows = ROW_HEIGHT * self.layers.len() as u32;
        (NAMES_WIDTH + BITS_WIDTH + BYTES_WIDTH + error, TITLE_HEIGHT + rows + AXES_HEIGHT)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let name = self.model.file_name().unwrap_or_default().to_string_lossy();
        let sum = |of: fn(&LayerReport) -> u64| bytes(self.layers.iter().map(of).sum());
        let (floats, now) = (sum(|layer| layer.float_bytes), sum(|layer| layer.bytes));
        let title = format!("{name}: {now} of weights, {floats} in f32");
        area.draw(&Text::new(title, (20, 16), (FONT, 20).into_font()))?;
        let (_, below) = area.split_vertically(TITLE_HEIGHT);
        let (bits, right) = below.split_horizontally(NAMES_WIDTH + BITS_WIDTH);
        let (memory, error) = right.split_horizontally(BYTES_WIDTH);
        let kib = |bytes: u64| bytes as f64 / 1024.0;
        let bits_of = |layer: &LayerReport| layer.bits.map_or(32.0, f64::from);
        let color = |layer: &LayerReport| if layer.bits.is_some() { BLUE } else { GREY };
        let bar = |value: f64, color: RGBColor| Bar { value, color };
        self.bars(&bits, "bits of a weight", NAMES_WIDTH, |layer| {
            vec![bar(bits_of(layer), color(layer))]
        })?;
        self.bars(&memory, "KiB; pale: in f32", 20, |layer| {
            vec![bar(kib(layer.float_bytes), PALE), bar(kib(layer.bytes), color(layer))]
        })?;
        if self.has_errors() {
            self.bars(&error, "signal to noise of the weights, dB", 20, |layer| {
                layer.weight_snr.map(|snr| bar(snr, ORANGE)).into_iter().collect()
            })?;
        }
        Ok(())
    }
}

struct Bar {
    value: f64,
    color: RGBColor,
}

impl LayerChart<'_> {
    fn has_errors(&self) -> bool {
        self.layers.iter().any(|layer| layer.weight_snr.is_some())
    }

    /// A chart with a row for each layer, whose bars lie over each other; names where there is room for them.
    fn bars<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        what: &str,
        left: u32,
        of: impl Fn(&LayerReport) -> Vec<Bar>,
    ) -> Drawn<B> {
        let rows: Vec<Vec<Bar>> = self.layers.iter().map(of).collect();
        // Weights without any error have an infinite ratio: such bars fill the row.
        let values = rows.iter().flatten().map(|bar| bar.value).filter(|value| value.is_finite());
        let most = 1.05 * values.fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(area)
            .margin_right(20)
            .x_label_area_size(50)
            .y_label_area_size(left)
            .build_cartesian_2d(0.0..most, rows.len() as f64..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .x_labels(6)
            .x_desc(what)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 14))
            .draw()?;
        for (i, (bars, layer)) in rows.iter().zip(self.layers).enumerate() {
            let y = i as f64;
            chart.draw_series(bars.iter().map(|bar| {
                Rectangle::new(
                    [(0.0, y + 0.15), (bar.value.min(most), y + 0.85)],
                    bar.color.filled(),
                )
            }))?;
            if left >= NAMES_WIDTH {
                chart.draw_series([Label::new((0.0, y + 0.5), (-8, 0), &shown(&layer.name))])?;
            }
        }
        Ok(())
    }
}
