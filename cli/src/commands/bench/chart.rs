//! What `dsconv bench --plot` draws: ratios by layer, and all layers below the device's roofline.

use super::layers_report::{LayersReport, Measured, Row};
use crate::plot::{BLUE, Chart, Drawn, FONT, GREY, Label, Mark, ORANGE};
use plotters::coord::Shift;
use plotters::prelude::*;

const WIDTH: u32 = 1400;
/// The width of the left part, with the ratios.
const RATIOS_WIDTH: u32 = 640;
const TITLE_HEIGHT: u32 = 48;
/// The height of a layer's row.
const ROW_HEIGHT: u32 = 18;
/// The height of an axis, its labels and margins.
const AXES_HEIGHT: u32 = 110;
const ROOFLINE_HEIGHT: u32 = 640;

/// A way to compute layers, with weights of one width.
struct Series {
    name: String,
    bits: u8,
    color: RGBAColor,
    integers: bool,
}

impl Series {
    fn of<'a>(&self, row: &'a Row) -> &'a Measured {
        if self.integers { &row.int8 } else { &row.weight_only }
    }
}

impl Chart for LayersReport {
    fn size(&self) -> (u32, u32) {
        let rows = self.names().len() as u32;
        (WIDTH, TITLE_HEIGHT + ROOFLINE_HEIGHT.max(ROW_HEIGHT * rows + AXES_HEIGHT))
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let title = format!("DSConv against f32, blocks of {}, on {}", self.block, self.device);
        area.draw(&Text::new(title, (20, 16), (FONT, 20).into_font()))?;
        let (_, below) = area.split_vertically(TITLE_HEIGHT);
        let (ratios, roofline) = below.split_horizontally(RATIOS_WIDTH);
        let rows = self.names().len() as u32;
        let (ratios, _) = ratios.split_vertically(ROW_HEIGHT * rows + AXES_HEIGHT);
        let (roofline, _) = roofline.split_vertically(ROOFLINE_HEIGHT);
        self.draw_ratios(&ratios)?;
        self.draw_roofline(&roofline)
    }
}

impl LayersReport {
    /// The layers, each once.
    fn names(&self) -> Vec<&str> {
        let rows = self.rows().filter(|(_, repeated)| !repeated);
        rows.map(|(row, _)| row.layer.as_str()).collect()
    }

    /// The series that are drawn: narrower weights are lighter.
    fn series(&self) -> Vec<Series> {
        let count = self.widths.len();
        let path = |base: RGBColor, name: &'static str, integers| {
            self.widths.iter().enumerate().map(move |(i, width)| Series {
                name: format!("{name}, {} bits", width.bits),
                bits: width.bits,
                color: base.mix(0.9 - 0.6 * i as f64 / count as f64),
                integers,
            })
        };
        path(BLUE, "weight-only", false).chain(path(ORANGE, "int8", true)).collect()
    }

    /// The colours are those of the roofline, where their legend is.
    fn draw_ratios<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let names = self.names();
        let ratios =
            self.layers.iter().flat_map(|row| [&row.weight_only, &row.int8].map(|p| row.ratio(p)));
        let most = 1.1 * ratios.fold(1.2, f64::max);
        let height = names.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(24)
            .x_label_area_size(50)
            .y_label_area_size(170)
            .build_cartesian_2d(0.0..most, height..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .x_desc("times faster than f32")
            .x_label_formatter(&|x| format!("{x:.1}"))
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 14))
            .draw()?;
        for (i, name) in names.iter().enumerate() {
            let y = i as f64 + 0.5;
            chart.draw_series([PathElement::new([(0.0, y), (most, y)], BLACK.mix(0.08))])?;
            chart.draw_series([Label::new((0.0, y), (-8, 0), name)])?;
        }
        chart.draw_series([PathElement::new([(1.0, 0.0), (1.0, height)], GREY.stroke_width(2))])?;
        for series in self.series() {
            let (color, integers) = (series.color, series.integers);
            let mut y = -0.5;
            let points: Vec<(f64, f64)> = self
                .rows()
                .filter_map(|(row, repeated)| {
                    y += if repeated { 0.0 } else { 1.0 };
                    (row.bits == series.bits).then(|| (row.ratio(series.of(row)), y))
                })
                .collect();
            chart.draw_series(points.into_iter().map(|at| Mark {
                at,
                color,
                triangle: integers,
            }))?;
        }
        Ok(())
    }

    fn draw_roofline<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let roofline = &self.roofline;
        let top = roofline.arithmetic(true);
        let all = || self.layers.iter().flat_map(|row| [&row.f32, &row.weight_only, &row.int8]);
        let range = |of: fn(&Measured) -> f64| {
            all().map(of).fold((f64::MAX, 0.0f64), |(low, high), v| (low.min(v), high.max(v)))
        };
        let (low, high) = range(|path| path.intensity);
        let (slowest, fastest) = range(|path| path.gops);
        // Both the slope and the level are seen.
        let ridge = top / roofline.gb_per_s;
        let (left, right) = (low.min(ridge) / 4.0, high.max(ridge) * 2.0);
        let bottom = slowest.min(roofline.at(left, true)) / 2.0;
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(24)
            .x_label_area_size(50)
            .y_label_area_size(70)
            .build_cartesian_2d(
                (left..right).log_scale(),
                (bottom..top.max(fastest) * 2.0).log_scale(),
            )?;
        let number = |v: &f64| if *v < 1.0 { format!("{v}") } else { format!("{v:.0}") };
        chart
            .configure_mesh()
            .light_line_style(BLACK.mix(0.04))
            .bold_line_style(BLACK.mix(0.12))
            .x_desc("operations per byte of weights, input and output")
            .y_desc("GOP/s")
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 14))
            .draw()?;
        for integers in [false, true] {
            let level = roofline.arithmetic(integers);
            if integers && level == roofline.f32_gops {
                continue;
            }
            let what = if integers { "dot4I8Packed" } else { "f32 multiply-adds" };
            let ridge = level / roofline.gb_per_s;
            let roof = [left, ridge, right].map(|x| (x, roofline.at(x, integers)));
            chart.draw_series([PathElement::new(roof, BLACK.mix(0.7).stroke_width(2))])?;
            let text = format!("{what}: {level:.1} GOP/s");
            chart.draw_series([Label::new((right, level), (-8, -12), &text)])?;
        }
        let text = format!("copies: {:.1} GB/s", roofline.gb_per_s);
        let middle = (left * ridge).sqrt();
        chart.draw_series([Label::new((middle, roofline.at(middle, true)), (-10, -10), &text)])?;

        let floats = self.rows().filter(|(_, repeated)| !repeated).map(|(row, _)| &row.f32);
        let at = |path: &Measured| (path.intensity, path.gops);
        let points: Vec<_> = floats.map(at).collect();
        let grey = GREY.mix(0.8);
        chart
            .draw_series(points.into_iter().map(|at| Mark { at, color: grey, triangle: false }))?
            .label("f32")
            .legend(move |at| Mark { at, color: grey, triangle: false });
        for series in self.series() {
            let (color, integers) = (series.color, series.integers);
            let rows = self.layers.iter().filter(|row| row.bits == series.bits);
            let points: Vec<_> = rows.map(|row| at(series.of(row))).collect();
            chart
                .draw_series(points.into_iter().map(|at| Mark { at, color, triangle: integers }))?
                .label(series.name)
                .legend(move |at| Mark { at, color, triangle: integers });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .legend_area_size(18)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, 13))
            .draw()
    }
}
