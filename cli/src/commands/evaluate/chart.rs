//! What `dsconv evaluate --plot` draws: how far networks are from the float network, against the sizes of their files.

use crate::plot::{self, BLUE, Drawn, FONT, GREY, Label, Mark, ORANGE};
use plotters::coord::Shift;
use plotters::prelude::*;

/// The least divergence that is drawn; logarithms have no 0.
const LEAST: f64 = 1e-6;
const MIB: f64 = (1 << 20) as f64;

/// A network.
pub(super) struct Point {
    /// The networks of a series are on one line.
    pub(super) series: String,
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) divergence: f64,
}

/// A chart of networks.
pub(super) struct Chart {
    pub(super) pictures: usize,
    pub(super) points: Vec<Point>,
}

impl plot::Chart for Chart {
    fn size(&self) -> (u32, u32) {
        (760, 480)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let at = |point: &Point| (point.bytes as f64 / MIB, point.divergence.max(LEAST));
        let fold = |of: fn(f64, f64) -> f64, from: (f64, f64)| {
            let all = self.points.iter().map(at);
            all.fold(from, |a, b| (of(a.0, b.0), of(a.1, b.1)))
        };
        let (low, high) = (fold(f64::min, (f64::MAX, f64::MAX)), fold(f64::max, (0.0, LEAST)));
        let room = 0.08 * high.0;
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_right(28)
            .caption("Divergence from the float network", (FONT, 18))
            .x_label_area_size(48)
            .y_label_area_size(72)
            .build_cartesian_2d(
                (low.0 - room).max(0.0)..high.0 + room,
                (low.1 / 2.0..high.1 * 2.0).log_scale(),
            )?;
        chart
            .configure_mesh()
            .light_line_style(BLACK.mix(0.04))
            .bold_line_style(BLACK.mix(0.12))
            .x_desc("file, MiB")
            .y_desc(format!("mean KL divergence of {} pictures", self.pictures))
            .x_label_formatter(&|x| format!("{x:.1}"))
            .y_label_formatter(&|y| format!("{y}"))
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 14))
            .draw()?;
        let mut series: Vec<&str> = Vec::new();
        for point in &self.points {
            if !series.contains(&point.series.as_str()) {
                series.push(&point.series);
            }
        }
        for (name, color) in series.iter().zip([BLUE, ORANGE, GREY].into_iter().cycle()) {
            let mut points: Vec<&Point> =
                self.points.iter().filter(|point| point.series == *name).collect();
            points.sort_by_key(|point| point.bytes);
            let line: Vec<(f64, f64)> = points.iter().map(|point| at(point)).collect();
            let drawn = chart.draw_series([PathElement::new(line, color.stroke_width(2))])?;
            if series.len() > 1 {
                drawn.label(*name).legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2))
                });
            }
            let mark =
                |point: &&Point| Mark { at: at(point), color: color.into(), triangle: false };
            chart.draw_series(points.iter().map(mark))?;
            let label = |point: &&Point| Label::new(at(point), (-9, 9), &point.name);
            chart.draw_series(points.iter().map(label))?;
        }
        if series.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .legend_area_size(22)
                .background_style(WHITE.mix(0.85))
                .border_style(BLACK.mix(0.3))
                .label_font((FONT, 13))
                .draw()?;
        }
        Ok(())
    }
}
