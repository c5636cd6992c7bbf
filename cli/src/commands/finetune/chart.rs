//! What `dsconv finetune --plot` draws: the losses and the share of right answers after each epoch.

use crate::plot::{self, BLUE, Drawn, FONT, GREY, ORANGE};
use dsconv_net::train::Epoch;
use plotters::coord::Shift;
use plotters::prelude::*;

/// The course of a training.
pub(super) struct Chart<'a> {
    pub(super) epochs: &'a [Epoch],
    /// The pictures that were held out.
    pub(super) held_out: usize,
}

impl plot::Chart for Chart<'_> {
    fn size(&self) -> (u32, u32) {
        (760, 480)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let losses = self.epochs.iter().flat_map(|epoch| [epoch.loss, epoch.held_out_loss]);
        let highest = losses.fold(0.01f32, f32::max) * 1.05;
        let last = self.epochs.len().max(2) as f32;
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .caption("Loss, and right answers on held-out pictures", (FONT, 18))
            .x_label_area_size(48)
            .y_label_area_size(64)
            .right_y_label_area_size(64)
            .build_cartesian_2d(1.0..last, 0.0..highest)?
            .set_secondary_coord(1.0..last, 0.0..100.0f32);
        chart
            .configure_mesh()
            .light_line_style(BLACK.mix(0.04))
            .bold_line_style(BLACK.mix(0.12))
            .x_desc("epoch")
            .y_desc("loss")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.2}"))
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 14))
            .draw()?;
        chart
            .configure_secondary_axes()
            .y_desc(format!("% right of {}", self.held_out))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 14))
            .draw()?;
        let line = |of: fn(&Epoch) -> f32| -> Vec<(f32, f32)> {
            (1u16..).zip(self.epochs).map(|(at, epoch)| (f32::from(at), of(epoch))).collect()
        };
        let losses = [
            ("loss, learned", line(|epoch| epoch.loss), BLUE),
            ("loss, held out", line(|epoch| epoch.held_out_loss), GREY),
        ];
        let legend = |color: RGBColor| {
            move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2))
        };
        for (name, points, color) in losses {
            let drawn = LineSeries::new(points, color.stroke_width(2)).point_size(3);
            chart.draw_series(drawn)?.label(name).legend(legend(color));
        }
        let share = 100.0 / self.held_out.max(1) as f32;
        let right = line(|epoch| epoch.right as f32);
        let right: Vec<(f32, f32)> = right.into_iter().map(|(x, y)| (x, y * share)).collect();
        let drawn = LineSeries::new(right, ORANGE.stroke_width(2)).point_size(3);
        chart.draw_secondary_series(drawn)?.label("right, held out").legend(legend(ORANGE));
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::MiddleRight)
            .legend_area_size(22)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, 13))
            .draw()?;
        Ok(())
    }
}
