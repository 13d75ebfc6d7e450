// SPDX-License-Identifier: GPL-2.0
//! Drawings as SVG, in colours that all eyes can tell apart.

use std::fmt::Display;
use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

/// The palette of Okabe and Ito.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];
const SIZE: (u32, u32) = (760, 420);

/// A drawing of series over two axes.
#[derive(Debug)]
pub struct Plot {
    title: String,
    x: Axis,
    y: Axis,
    series: Vec<Series>,
    marks: Vec<(f64, String)>,
}

/// An axis.
#[derive(Debug)]
pub struct Axis {
    label: String,
    range: Range<f64>,
    log: bool,
}

impl Axis {
    /// A linear axis.
    pub fn new(label: &str, range: Range<f64>) -> Self {
        Axis {
            label: label.into(),
            range,
            log: false,
        }
    }

    /// A logarithmic axis; only the x axis of a drawing can be one.
    pub fn log(label: &str, range: Range<f64>) -> Self {
        Axis {
            log: true,
            ..Self::new(label, range)
        }
    }
}

#[derive(Debug)]
struct Series {
    label: String,
    style: Style,
    colour: usize,
    points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Style {
    Points,
    Line,
    Dashes,
}

impl Plot {
    /// Nothing yet.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Plot {
            title: title.into(),
            x,
            y,
            series: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Dots.
    pub fn points(self, label: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        self.series(label, Style::Points, points)
    }

    /// Dots joined by a line.
    pub fn line(self, label: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        self.series(label, Style::Line, points)
    }

    /// The part of `values` that is at most x.
    pub fn cdf(self, label: impl Into<String>, values: &[f64]) -> Self {
        self.series(label, Style::Line, steps(values))
    }

    /// As [`Plot::cdf`], dashed.
    pub fn dashed_cdf(self, label: impl Into<String>, values: &[f64]) -> Self {
        self.series(label, Style::Dashes, steps(values))
    }

    /// The last series gets colour `n` instead of its own.
    pub fn colour(mut self, n: usize) -> Self {
        if let Some(last) = self.series.last_mut() {
            last.colour = n;
        }
        self
    }

    /// A vertical line with a word on it.
    pub fn mark(mut self, x: f64, word: impl Into<String>) -> Self {
        self.marks.push((x, word.into()));
        self
    }

    fn series(mut self, label: impl Into<String>, style: Style, points: Vec<(f64, f64)>) -> Self {
        self.series.push(Series {
            label: label.into(),
            style,
            colour: self.series.len(),
            points,
        });
        self
    }

    /// Draw.
    pub fn svg(&self) -> Result<String> {
        let range = self.x.range.clone();
        if self.x.log {
            self.draw(range.log_scale())
        } else {
            self.draw(range)
        }
    }

    fn draw<X>(&self, x: X) -> Result<String>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d(x, self.y.range.clone())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .x_label_formatter(&|x| number(*x))
            .y_label_formatter(&|y| number(*y))
            .label_style(("sans-serif", 13))
            .draw()
            .map_err(failed)?;
        for series in &self.series {
            let colour = COLOURS[series.colour % COLOURS.len()];
            let stroke = colour.stroke_width(2);
            let drawn = match series.style {
                Style::Points => {
                    let points = self.thinned(&series.points).into_iter();
                    chart.draw_series(points.map(|at| Circle::new(at, 2, colour.filled())))
                }
                Style::Line => {
                    let points = series.points.iter().map(|&point| self.clipped(point));
                    chart.draw_series(LineSeries::new(points, stroke))
                }
                Style::Dashes => {
                    let points: Vec<_> = series.points.iter().map(|&p| self.clipped(p)).collect();
                    chart.draw_series(DashedLineSeries::new(points, 6, 4, stroke))
                }
            };
            let dashed = series.style == Style::Dashes;
            drawn
                .map_err(failed)?
                .label(&series.label)
                .legend(move |(x, y)| {
                    let points = if dashed {
                        vec![(x, y), (x + 8, y)]
                    } else {
                        vec![(x, y), (x + 20, y)]
                    };
                    PathElement::new(points, colour.stroke_width(3))
                });
        }
        let (bottom, top) = (self.y.range.start, self.y.range.end);
        for (x, word) in &self.marks {
            let line = [(*x, bottom), (*x, top)];
            let style = BLACK.mix(0.6).stroke_width(1);
            chart
                .draw_series([PathElement::new(line, style)])
                .map_err(failed)?;
            let word = Text::new(word.clone(), (*x, top), ("sans-serif", 12));
            chart.draw_series([word]).map_err(failed)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .label_font(("sans-serif", 13))
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)?;
        drop(chart);
        drop(area);
        Ok(svg)
    }

    /// A point at the edge instead of one outside.
    fn clipped(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let within = |value: f64, range: &Range<f64>| value.clamp(range.start, range.end);
        (within(x, &self.x.range), within(y, &self.y.range))
    }

    /// The points inside, one for each pixel.
    fn thinned(&self, points: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let part = |value: f64, range: &Range<f64>, size: u32| {
            ((value - range.start) / (range.end - range.start) * f64::from(size)) as i64
        };
        let pixel = |&(x, y): &(f64, f64)| {
            (
                part(x, &self.x.range, SIZE.0),
                part(y, &self.y.range, SIZE.1),
            )
        };
        let inside = |&&(x, y): &&(f64, f64)| {
            (self.x.range.start..=self.x.range.end).contains(&x)
                && (self.y.range.start..=self.y.range.end).contains(&y)
        };
        let mut points: Vec<_> = points.iter().filter(inside).copied().collect();
        points.dedup_by_key(|point| pixel(point));
        points
    }
}

/// The steps of a cumulative distribution.
fn steps(values: &[f64]) -> Vec<(f64, f64)> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let part = |n: usize| n as f64 / count;
    let corners = values.iter().enumerate();
    corners
        .flat_map(|(n, &value)| [(value, part(n)), (value, part(n + 1))])
        .collect()
}

fn number(value: f64) -> String {
    // Steps of axes are no multiples of less than a thousandth.
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn failed(error: impl Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_climbs_from_0_to_1() {
        let expected = [(1.0, 0.0), (1.0, 0.5), (3.0, 0.5), (3.0, 1.0)];
        assert_eq!(steps(&[3.0, 1.0]), expected);
    }

    #[test]
    fn a_drawing_has_its_words_and_points_once_a_pixel() {
        let axis = || Axis::new("seconds", 0.0..10.0);
        let points = vec![(1.0, 1.0), (1.001, 1.001), (5.0, 5.0), (11.0, 1.0)];
        let plot = Plot::new("title", axis(), axis()).points("label", points);
        let svg = plot.mark(2.0, "word").svg().unwrap();
        for word in ["title", "seconds", "label", "word"] {
            assert!(svg.contains(word), "{word}");
        }
        assert_eq!(svg.matches("<circle").count(), 2);
    }

    #[test]
    fn numbers_have_no_zeros_behind() {
        assert_eq!(number(0.1), "0.1");
        assert_eq!(number(20.0), "20");
    }
}
