//! Small line charts as SVG text.

use std::fmt::Write as _;

/// A chart: lines through points, axes from zero.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) lines: Vec<Line>,
}

/// A named line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
/// Left, top, right and bottom of the plotted area.
const AREA: [f64; 4] = [58.0, 34.0, 404.0, 216.0];
/// Told apart also by the colour-blind (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

impl Chart {
    /// The chart as an SVG document; readable on light and dark pages.
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let right = Axis::of(points().map(|point| point.0));
        let up = Axis::of(points().map(|point| point.1));
        let [left, top, end, bottom] = AREA;
        let place_x = |x: f64| left + (end - left) * x / right.end;
        let place_y = |y: f64| bottom - (bottom - top) * y / up.end;

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
        );
        text(&mut svg, (WIDTH / 2.0, 18.0), "middle", 13, &self.title);
        for tick in right.ticks() {
            let x = place_x(tick);
            stroke(&mut svg, (x, bottom), (x, bottom + 4.0), "#444444");
            text(&mut svg, (x, bottom + 16.0), "middle", 10, &label(tick));
        }
        for tick in up.ticks() {
            let y = place_y(tick);
            stroke(&mut svg, (left, y), (end, y), "#dddddd");
            text(&mut svg, (left - 5.0, y + 3.5), "end", 10, &label(tick));
        }
        stroke(&mut svg, (left, top), (left, bottom), "#444444");
        stroke(&mut svg, (left, bottom), (end, bottom), "#444444");
        text(&mut svg, (f64::midpoint(left, end), HEIGHT - 12.0), "middle", 11, &self.x);
        text(&mut svg, (left, top - 6.0), "middle", 11, &self.y);

        for (i, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let path: Vec<String> =
                line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", place_x(*x), place_y(*y))).collect();
            let path = path.join(" ");
            add(
                &mut svg,
                &format!(
                    "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
                ),
            );
            for (x, y) in &line.points {
                let (x, y) = (place_x(*x), place_y(*y));
                add(&mut svg, &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"));
            }
            let y = top + 12.0 + 15.0 * i as f64;
            add(
                &mut svg,
                &format!(
                    "<rect x=\"{}\" y=\"{}\" width=\"10\" height=\"3\" fill=\"{colour}\"/>",
                    left + 8.0,
                    y - 5.0
                ),
            );
            text(&mut svg, (left + 22.0, y), "start", 11, &line.name);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// From zero to a round number above all values.
struct Axis {
    end: f64,
    step: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        // Four to ten ticks of 1, 2 or 5 times a power of ten.
        let rough = most / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|f| f * power).find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        Self { end: (most / step).ceil() * step, step }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = (self.end / self.step).round() as usize;
        let step = self.step;
        (0..=count).map(move |i| i as f64 * step)
    }
}

/// A number without the digits that rounding left behind.
fn label(value: f64) -> String {
    let text = format!("{value:.3}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    short.to_owned()
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, size: u8, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    add(
        svg,
        &format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"#222222\">{content}</text>"
        ),
    );
}

fn stroke(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
    add(
        svg,
        &format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"),
    );
}

fn add(svg: &mut String, element: &str) {
    writeln!(svg, "{element}").expect("a string takes every line");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_a_round_number_above_every_value() {
        for (most, end, step) in [(9.3, 10.0, 2.0), (0.41, 0.5, 0.1), (4.0, 4.0, 1.0), (896.0, 1000.0, 200.0)]
        {
            let axis = Axis::of([0.0, most].into_iter());
            assert!((axis.end - end).abs() < 1e-9 && (axis.step - step).abs() < 1e-9, "{most}: {}", axis.end);
        }
        assert!(Axis::of(std::iter::empty()).end > 0.0);
    }

    #[test]
    fn a_chart_has_every_point_and_escapes_its_texts() {
        let line = Line { name: "a < b".to_owned(), points: vec![(0.0, 0.0), (1.0, 2.0), (2.0, 4.0)] };
        let chart = Chart { title: "t".into(), x: "x".into(), y: "y".into(), lines: vec![line] };
        let svg = chart.svg();
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("a &lt; b"), "{svg}");
        // The last point lies in the upper right corner of the area.
        assert!(svg.contains("cx=\"404.0\" cy=\"34.0\""), "{svg}");
    }
}
