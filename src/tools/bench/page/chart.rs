//! A line chart as SVG: latencies upwards, on a logarithmic scale.

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 30.0;

/// One curve.
#[derive(Debug)]
pub(super) struct Line {
    /// Escaped already.
    pub name: String,
    /// Place on the axis, and microseconds.
    pub points: Vec<(f64, f64)>,
    /// Belongs to the next line, with which it shares the colour.
    pub is_dashed: bool,
}

/// The axis to the right: from 0 to `end`, with labels.
#[derive(Debug)]
pub(super) struct Axis {
    pub end: f64,
    pub ticks: Vec<(f64, String)>,
}

/// Draws `lines`.
pub(super) fn chart(title: &str, lines: &[Line], axis: &Axis) -> String {
    let latencies = || lines.iter().flat_map(|line| &line.points).map(|point| point.1.max(1.0));
    let (low, high) = (latencies().fold(f64::MAX, f64::min), latencies().fold(1.0, f64::max));
    let (low, high) = (low.log10().floor(), high.log10().ceil().max(low.log10().floor() + 1.0));
    let right = |place: f64| LEFT + place / axis.end * (WIDTH - LEFT - RIGHT);
    let down = |latency_us: f64| TOP + (high - latency_us.max(1.0).log10()) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let mut text = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">");
    for exponent in low as i32..=high as i32 {
        for step in [1.0, 2.0, 5.0].map(|step| step * 10.0_f64.powi(exponent)) {
            if step <= 10.0_f64.powf(high) {
                let y = down(step);
                text += &format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/>", WIDTH - RIGHT);
                text +=
                    &format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{step:.0}</text>", LEFT - 8.0, y + 4.0);
            }
        }
    }
    for (place, name) in &axis.ticks {
        let x = right(*place);
        text += &format!("<path class=\"grid\" d=\"M{x:.1} {TOP}V{:.1}\"/>", HEIGHT - BOTTOM);
        text += &format!("<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>", HEIGHT - 8.0);
    }
    let mut colour = 0;
    for line in lines {
        let points: String =
            line.points.iter().map(|(place, latency)| format!("{:.1},{:.1} ", right(*place), down(*latency))).collect();
        let dash = if line.is_dashed { " dashed" } else { "" };
        let class = format!("line c{}{dash}", colour % 6);
        text += &format!("<polyline class=\"{class}\" points=\"{points}\"><title>{}</title></polyline>", line.name);
        colour += usize::from(!line.is_dashed);
    }
    text + "</svg>"
}
