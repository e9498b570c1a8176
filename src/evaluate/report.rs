//! The report: one HTML page with the figures, a plot of each sequence and the two distributions of
//! the scores. It holds the plotting library too, so that it opens without a network.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotly::common::{DashType, Line, LineShape, Marker, Mode, Title};
use plotly::histogram::Bins;
use plotly::layout::{Axis, AxisType, BarMode, Shape, ShapeLayer, ShapeLine, ShapeType};
use plotly::{Histogram, Layout, Plot, Scatter};

use super::counts::{Counts, ranges};
use super::{EvaluationFigures, LabeledSequence};

/// Points of a plot; longer sequences are shown by the highest score of each of as many stretches.
const POINTS: usize = 4_000;
/// Sequences that are drawn; all of them are in the figures.
const PLOTS: usize = 40;

/// Heat maps of defects that are shown for each sequence, and of false alarms.
const PICTURES: usize = 12;
/// Lower scores are drawn as this part of the fixed threshold.
const SCORE_MIN: f64 = 1e-2;

const NORMAL: &str = "#4477aa";
const ANOMALY: &str = "#cc3311";

const STYLE: &str = "body{font-family:sans-serif;max-width:90em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}\
    td{white-space:nowrap}td,th{padding:.2em .6em;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}\
    .plot{height:22em}.pictures{display:flex;flex-wrap:wrap;gap:1em}figure{margin:0}figure img{width:16em;image-rendering:pixelated}";

/// The page about `sequences`: their figures together and one by one.
pub fn html(
    title: &str,
    all: &EvaluationFigures,
    sequences: &[(LabeledSequence, EvaluationFigures)],
) -> String {
    let scores = (
        "Scores, in units of the fixed threshold",
        histogram(sequences),
    );
    let courses = sequences
        .iter()
        .take(PLOTS)
        .map(|(sequence, _)| (sequence.name.as_str(), course(sequence)));
    let undrawn = sequences.len().saturating_sub(PLOTS);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) }
                style { (PreEscaped(STYLE)) }
                (PreEscaped(Plot::offline_js_sources()))
            }
            body {
                h1 { (title) }
                p {
                    "No point adjustment: each record counts once. The fixed threshold was set before the evaluated part; "
                    "the alerts are those of the running daemon, with adaptive thresholds."
                }
                (table(all, sequences))
                @for (number, (heading, plot)) in std::iter::once(scores).chain(courses).enumerate() {
                    h2 { (heading) }
                    div class="plot" {
                        (PreEscaped(plot.to_inline_html(Some(&format!("plot-{number}")))))
                    }
                }
                @if undrawn > 0 {
                    p { (undrawn) " more are not drawn." }
                }
                @for (sequence, _) in sequences {
                    (pictures(sequence))
                }
            }
        }
    };
    page.into_string()
}

/// Names and texts of all figures, in the order of a table's columns.
pub fn columns(figures: &EvaluationFigures) -> Vec<(&'static str, String)> {
    let ratio = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let part = |value: Option<f64>| {
        value.map_or("-".to_owned(), |value| format!("{:.1} %", 100.0 * value))
    };
    let delay = |counts: &Counts| match &counts.delay {
        Some(delay) => {
            let seconds = delay
                .median_seconds
                .map_or(String::new(), |seconds| format!(", {seconds:.0} s"));
            format!("{}/{}{seconds}", delay.found, delay.anomalies)
        }
        None => "-".to_owned(),
    };
    let fixed = &figures.fixed;
    let alerts = &figures.alerts;
    let located = figures.located.map(|located| {
        let overlapping = 100.0 * located.overlapping as f64 / located.caught as f64;
        (
            "highest region overlaps",
            format!(
                "{}/{}, {overlapping:.1} %",
                located.overlapping, located.caught
            ),
        )
    });
    let mut columns = vec![
        ("records", figures.records.to_string()),
        ("anomalous", figures.anomalous.to_string()),
        ("ROC AUC", ratio(figures.roc_auc)),
        ("AP", ratio(figures.average_precision)),
        ("VUS-PR", ratio(figures.vus_pr)),
        ("accuracy", ratio(fixed.accuracy)),
        ("F1", ratio(fixed.f1)),
        ("FAR", part(fixed.false_alarm_rate)),
        ("MAR", part(fixed.missed_alarm_rate)),
        ("found, delay", delay(fixed)),
        ("F1 of alerts", ratio(alerts.f1)),
        ("FAR of alerts", part(alerts.false_alarm_rate)),
        ("MAR of alerts", part(alerts.missed_alarm_rate)),
        ("detected by alerts, delay", delay(alerts)),
    ];
    columns.extend(located);
    columns
}

fn table(all: &EvaluationFigures, sequences: &[(LabeledSequence, EvaluationFigures)]) -> Markup {
    let each = sequences
        .iter()
        .map(|(sequence, figures)| (sequence.name.as_str(), figures));
    html! {
        table {
            tr {
                th {}
                @for (name, _) in columns(all) {
                    th { (name) }
                }
            }
            @for (name, figures) in std::iter::once(("all", all)).chain(each) {
                tr {
                    td { (name) }
                    @for (_, value) in columns(figures) {
                        td { (value) }
                    }
                }
            }
        }
    }
}

/// Heat maps of images that raised an alert: some defects and all false alarms, as far as there is
/// room.
fn pictures(sequence: &LabeledSequence) -> Markup {
    let of = |anomalous: bool| {
        sequence
            .pictures
            .iter()
            .filter(move |picture| picture.anomalous == anomalous)
    };
    let step = of(true).count().div_ceil(PICTURES).max(1);
    let shown = of(false).take(PICTURES).chain(of(true).step_by(step));
    html! {
        @if !sequence.pictures.is_empty() {
            h2 { (sequence.name) ": error maps" }
            div class="pictures" {
                @for picture in shown {
                    figure {
                        img alt=(picture.name)
                            src={ "data:image/png;base64," (BASE64_STANDARD.encode(&picture.png)) };
                        figcaption {
                            (picture.name)
                            @if !picture.anomalous { " (false alarm)" }
                            ": " (format!("{:.1}", picture.score))
                        }
                    }
                }
            }
        }
    }
}

/// Scores of normal records and of anomalies.
fn histogram(sequences: &[(LabeledSequence, EvaluationFigures)]) -> Plot {
    let of = |anomalous: bool| -> Vec<f64> {
        let all = sequences.iter().flat_map(|(sequence, _)| {
            let scored = sequence.scores.iter().zip(&sequence.labels);
            let own = scored.filter(move |(_, label)| **label == anomalous);
            own.filter_map(|(score, _)| {
                Some(
                    (score.as_ref()? / sequence.threshold)
                        .max(SCORE_MIN)
                        .log10(),
                )
            })
        });
        all.collect()
    };
    let mut plot = Plot::new();
    for (anomalous, name, colour) in [(false, "normal", NORMAL), (true, "anomaly", ANOMALY)] {
        let marker = Marker::new().color(colour);
        plot.add_trace(
            Histogram::new(of(anomalous))
                .name(name)
                .opacity(0.6)
                .x_bins(Bins::new(-2.0, 3.0, 0.05))
                .marker(marker),
        );
    }
    let x = Axis::new().title(Title::with_text(
        "logarithm (base 10) of score / fixed threshold",
    ));
    let y = Axis::new().title(Title::with_text("records"));
    plot.set_layout(
        Layout::new()
            .bar_mode(BarMode::Overlay)
            .x_axis(x)
            .y_axis(y)
            .shapes(vec![vertical(0.0)]),
    );
    plot
}

fn vertical(at: f64) -> Shape {
    let line = ShapeLine::new().color("#000").width(1.0);
    Shape::new()
        .shape_type(ShapeType::Line)
        .y_ref("paper")
        .x0(at)
        .x1(at)
        .y0(0.0)
        .y1(1.0)
        .line(line)
}

/// Score over time, with both thresholds, and the anomalies as a coloured ground.
fn course(sequence: &LabeledSequence) -> Plot {
    let shown = shown(sequence);
    let times: Vec<String> = shown
        .iter()
        .map(|&at| sequence.times[at].to_string())
        .collect();
    // A chart begins at 0, which a logarithmic axis would have to go down to.
    let drawn =
        |at: usize| sequence.scores[at].map(|score| score.max(sequence.threshold * SCORE_MIN));
    let scores: Vec<Option<f64>> = shown.iter().map(|&at| drawn(at)).collect();
    let mut plot = Plot::new();
    if sequence.independent {
        for (anomalous, name, colour) in [(false, "normal", NORMAL), (true, "anomaly", ANOMALY)] {
            let own = shown
                .iter()
                .zip(&times)
                .filter(|(at, _)| sequence.labels[**at] == anomalous);
            let (times, scores) = own.map(|(&at, time)| (time.clone(), drawn(at))).unzip();
            plot.add_trace(
                points(times, scores)
                    .name(name)
                    .marker(Marker::new().color(colour)),
            );
        }
    } else {
        plot.add_trace(line(times.clone(), scores, NORMAL).name("score"));
        let adaptive = shown.iter().map(|&at| sequence.adaptive[at]).collect();
        plot.add_trace(line(times.clone(), adaptive, "#ee7733").name("adaptive threshold"));
    }
    let fixed = vec![Some(sequence.threshold); times.len()];
    let dashed = Line::new().color("#000000").width(1.0).dash(DashType::Dash);
    plot.add_trace(
        Scatter::new(times, fixed)
            .mode(Mode::Lines)
            .line(dashed)
            .name("fixed threshold"),
    );
    let shapes = if sequence.independent {
        Vec::new()
    } else {
        grounds(sequence)
    };
    let y = Axis::new()
        .type_(AxisType::Log)
        .title(Title::with_text("score"));
    plot.set_layout(Layout::new().y_axis(y).shapes(shapes));
    plot
}

/// The anomalies as a coloured ground.
fn grounds(sequence: &LabeledSequence) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for range in ranges(&sequence.labels).into_iter().take(POINTS) {
        let from = sequence.times[range.start].to_string();
        let until = sequence.times[range.end - 1].to_string();
        let rectangle = Shape::new()
            .shape_type(ShapeType::Rect)
            .y_ref("paper")
            .x0(from)
            .x1(until)
            .y0(0.0)
            .y1(1.0);
        let ground = rectangle
            .fill_color(ANOMALY)
            .opacity(0.15)
            .layer(ShapeLayer::Below);
        shapes.push(ground.line(ShapeLine::new().width(0.0)));
    }
    shapes
}

fn line(
    x: Vec<String>,
    y: Vec<Option<f64>>,
    colour: &'static str,
) -> Box<Scatter<String, Option<f64>>> {
    Scatter::new(x, y).mode(Mode::Lines).line(
        Line::new()
            .color(colour)
            .width(1.0)
            .shape(LineShape::Linear),
    )
}

fn points(x: Vec<String>, y: Vec<Option<f64>>) -> Box<Scatter<String, Option<f64>>> {
    Scatter::new(x, y).mode(Mode::Markers)
}

/// The records that are drawn: the one with the highest score of each stretch.
fn shown(sequence: &LabeledSequence) -> Vec<usize> {
    let all: Vec<usize> = (0..sequence.labels.len()).collect();
    let score = |at: usize| sequence.scores[at].unwrap_or(-1.0);
    let highest = |stretch: &[usize]| {
        stretch
            .iter()
            .copied()
            .max_by(|&a, &b| score(a).total_cmp(&score(b)))
    };
    all.chunks(all.len().div_ceil(POINTS).max(1))
        .filter_map(highest)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::figures;
    use crate::record::EventTime;

    #[test]
    fn a_page_names_its_sequences_without_running_them() {
        let labels: Vec<bool> = (0..10_000).map(|at| (5_000..5_100).contains(&at)).collect();
        let sequence = LabeledSequence {
            name: "<script>alert(1)</script>".into(),
            times: (0..10_000)
                .map(|second| EventTime(second * 1_000_000))
                .collect(),
            scores: labels
                .iter()
                .map(|&label| Some(if label { 4.0 } else { 1.0 }))
                .collect(),
            threshold: 2.0,
            adaptive: vec![None; 10_000],
            alerting: labels.clone(),
            labels,
            independent: false,
            ..LabeledSequence::default()
        };
        let (all, sequences) = figures(vec![sequence], 20);
        assert_eq!((all.fixed.f1, all.roc_auc), (Some(1.0), Some(1.0)));
        assert!(shown(&sequences[0].0).len() <= POINTS);
        let page = html("pumps & valves", &all, &sequences);
        assert!(
            page.contains("<h1>pumps &amp; valves</h1>") && page.contains("&lt;script&gt;alert(1)")
        );
        assert!(!page.contains("<script>alert(1)"), "a name is text");
        assert!(page.contains("Plotly.newPlot(\"plot-1\""));
    }
}
