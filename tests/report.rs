//! The evaluation's report in a real Chromium: its plots are drawn, its pictures load, and nothing
//! is asked of a network.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers included"
)]

use std::fs;
use std::io::Cursor;
use std::process::Command;

use outlierd::evaluate::{LabeledImage, LabeledSequence, figures, report};
use outlierd::record::EventTime;

fn sequence(name: &str, independent: bool) -> LabeledSequence {
    let labels: Vec<bool> = (0..400).map(|at| at >= 350).collect();
    LabeledSequence {
        name: name.into(),
        times: (0..400)
            .map(|second| EventTime(second * 1_000_000))
            .collect(),
        scores: labels
            .iter()
            .enumerate()
            .map(|(at, &bad)| Some(if bad { 5.0 } else { 1.0 + at as f64 / 400.0 }))
            .collect(),
        threshold: 2.5,
        adaptive: vec![Some(2.6); 400],
        alerting: labels.clone(),
        labels,
        independent,
        ..LabeledSequence::default()
    }
}

fn picture(name: &str, anomalous: bool) -> LabeledImage {
    let mut png = Cursor::new(Vec::new());
    image::RgbImage::new(24, 16)
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    LabeledImage {
        name: name.into(),
        score: 7.0,
        anomalous,
        png: png.into_inner(),
    }
}

/// The page as Chromium has it once its scripts have run.
fn rendered(page: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    fs::write(&path, page).unwrap();
    let browser = ["chromium", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok())
        .expect("scripts/setup --test installs chromium");
    let profile = format!(
        "--user-data-dir={}",
        folder.path().join("profile").display()
    );
    // No network: a script from elsewhere would not come.
    let flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--virtual-time-budget=20000",
    ];
    let out = Command::new(browser)
        .args(flags)
        .arg(profile)
        .arg("--dump-dom")
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn the_report_opens_with_its_plots_and_pictures_and_without_a_network() {
    let images = LabeledSequence {
        pictures: vec![picture("hole/003", true), picture("good/007", false)],
        ..sequence("stone", true)
    };
    let (all, sequences) = figures(vec![sequence("pump & valve", false), images], 20);
    // Whether a picture was drawn only the browser knows.
    let check = "<script>addEventListener('load',()=>{document.title='sizes:'+[...document.querySelectorAll('figure img')]\
                 .map(i=>i.naturalWidth+'x'+i.naturalHeight).join(',')})</script></body>";
    let page = report::html("a report", &all, &sequences).replacen("</body>", check, 1);
    let dom = rendered(&page);
    assert!(
        dom.contains("<title>sizes:24x16,24x16</title>"),
        "both pictures are drawn"
    );
    for number in 0..3 {
        let start = dom.find(&format!("<div id=\"plot-{number}\"")).unwrap();
        let end = dom[start..]
            .find("<h2>")
            .map_or(dom.len(), |end| start + end);
        assert!(
            dom[start..end].contains("class=\"main-svg\""),
            "plot {number} is drawn"
        );
        assert!(
            dom[start..end].contains("class=\"trace"),
            "and has something on it"
        );
    }
    assert!(dom.contains("good/007 (false alarm): 7.0"));
}
