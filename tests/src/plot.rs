//! Figures of panels with lines in them, as SVG.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

/// Of one panel, in pixels.
const PANEL: (u32, u32) = (600, 320);
/// Above the panels, for the title and the line below it.
const HEAD: u32 = 66;
/// Room above the highest value, for the legend.
const HEADROOM: f64 = 1.45;
/// Okabe and Ito's colours, which are told apart by who sees few colours, and on white.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

/// Panels beside and below each other.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it shows.
    pub title: String,
    /// Where and how that was measured.
    pub subtitle: String,
    /// Panels in a row; at least 1.
    pub columns: usize,
    /// From the left, row by row.
    pub panels: Vec<Panel>,
}

/// Lines over one axis. The values begin at 0, so that a small difference does not look like a large one.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// What it is shown against.
    pub x: Axis,
    /// The values and their unit.
    pub y: String,
    /// At most four.
    pub series: Vec<Series>,
}

/// What values are shown against.
#[derive(Clone, Debug)]
pub enum Axis {
    /// A number, with its unit, from 0.
    Number(String),
    /// Steps at equal distances: the label, and the name of each. A point's first number is the index of a name.
    Steps(String, Vec<String>),
}

/// A line.
#[derive(Clone, Debug)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// In the order in which they are joined.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// The line through these points.
    pub fn new(name: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self {
            name: name.to_owned(),
            points: points.into_iter().collect(),
        }
    }
}

/// Draws a figure as the text of an SVG file.
///
/// # Errors
/// It has no panels, or a value in it is not finite.
pub fn svg(figure: &Figure) -> anyhow::Result<String> {
    let columns = figure.columns.clamp(1, figure.panels.len().max(1));
    let rows = figure.panels.len().div_ceil(columns);
    anyhow::ensure!(rows > 0, "there is nothing to draw");
    let values = figure.panels.iter().flat_map(|panel| &panel.series);
    let mut values = values.flat_map(|series| &series.points);
    anyhow::ensure!(
        values.all(|(x, y)| x.is_finite() && y.is_finite()),
        "a value is not finite"
    );
    let size = (
        PANEL.0 * u32::try_from(columns)?,
        PANEL.1 * u32::try_from(rows)? + HEAD,
    );
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(HEAD);
        let grey = RGBColor(90, 90, 90);
        let style = |size: i32, colour: &RGBColor| ("sans-serif", size).into_font().color(colour);
        head.draw_text(&figure.title, &style(24, &BLACK), (16, 12))?;
        head.draw_text(&figure.subtitle, &style(14, &grey), (16, 42))?;
        for (panel, area) in figure.panels.iter().zip(body.split_evenly((rows, columns))) {
            draw(panel, &area)?;
        }
        root.present()?;
    }
    Ok(text)
}

fn draw(panel: &Panel, area: &DrawingArea<SVGBackend<'_>, Shift>) -> anyhow::Result<()> {
    let points = || panel.series.iter().flat_map(|series| &series.points);
    let highest = points().map(|(_, y)| *y).fold(0.0, f64::max);
    let top = match highest > 0.0 {
        true => highest * HEADROOM,
        false => 1.0,
    };
    let (label, range, steps) = match &panel.x {
        Axis::Number(label) => {
            let from = points().map(|(x, _)| *x).fold(0.0, f64::min);
            let to = points().map(|(x, _)| *x).fold(from, f64::max);
            (label, span(from, to), None)
        }
        Axis::Steps(label, names) => {
            let last = names.len().saturating_sub(1) as f64;
            (label, -0.3..last + 0.3, Some(names))
        }
    };
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 17))
        .margin(12)
        .margin_right(24)
        .x_label_area_size(42)
        .y_label_area_size(66)
        .build_cartesian_2d(range, 0.0..top)?;
    let x_label = |x: &f64| match steps {
        None => short(*x),
        Some(names) => step(*x, names),
    };
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(label)
        .y_desc(&panel.y)
        .axis_desc_style(("sans-serif", 13))
        .label_style(("sans-serif", 12))
        .x_labels(steps.map_or(8, |names| names.len() + 1))
        .y_labels(6)
        .x_label_formatter(&x_label)
        .y_label_formatter(&|y: &f64| short(*y))
        .bold_line_style(RGBColor(225, 225, 225))
        .light_line_style(TRANSPARENT);
    if steps.is_some() {
        mesh.disable_x_mesh();
    }
    mesh.draw()?;
    for (series, colour) in panel.series.iter().zip(COLOURS) {
        let line = colour.stroke_width(2);
        let drawn = chart.draw_series(LineSeries::new(series.points.iter().copied(), line))?;
        drawn
            .label(&series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
        if steps.is_some() {
            let dots = series.points.iter();
            chart.draw_series(dots.map(|point| Circle::new(*point, 4, colour.filled())))?;
        }
    }
    // A line that is the only one has its name in the panel's title.
    if panel.series.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font(("sans-serif", 13))
            .background_style(WHITE.mix(0.85))
            .draw()?;
    }
    Ok(())
}

/// From the lowest to the highest, and never empty.
fn span(from: f64, to: f64) -> Range<f64> {
    if from < to {
        from..to
    } else {
        from..from + 1.0
    }
}

/// The name of a step, where the axis asks for a whole number.
fn step(x: f64, names: &[String]) -> String {
    let nearest = x.round();
    let is_step = (x - nearest).abs() < 0.01 && nearest >= 0.0;
    let name = is_step.then(|| names.get(nearest as usize)).flatten();
    name.cloned().unwrap_or_default()
}

/// A number as it is read: `0.25`, `12`, `1.5 k`, `3 M`.
#[must_use]
pub fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, " G"),
        size if size >= 1e6 => (value / 1e6, " M"),
        size if size >= 1e3 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{scaled:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (12.04, "12"),
            (100.0, "100"),
            (1_500.0, "1.5 k"),
            (60_000.0, "60 k"),
            (3e6, "3 M"),
            (-2e9, "-2 G"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn figure_says_what_is_in_it() {
        let panel = Panel {
            title: "memory".to_owned(),
            x: Axis::Steps("backlog".to_owned(), vec!["0".to_owned(), "1 k".to_owned()]),
            y: "MiB".to_owned(),
            series: vec![
                Series::new("broker", [(0.0, 1.0), (1.0, 2.0)]),
                Series::new("host <a>", [(0.0, 3.0), (1.0, 4.0)]),
            ],
        };
        let mut figure = Figure {
            title: "costs".to_owned(),
            subtitle: "two cores".to_owned(),
            columns: 2,
            panels: vec![panel],
        };
        let drawn = svg(&figure).expect("it can be drawn");
        for text in [
            "costs",
            "two cores",
            "memory",
            "backlog",
            "1 k",
            "MiB",
            "host &lt;a&gt;",
        ] {
            assert!(drawn.contains(text), "`{text}` is not in {drawn}");
        }
        figure.panels[0].series[0].points[0].1 = f64::NAN;
        assert!(svg(&figure).is_err());
    }
}
