//! The metrics of a daemon by Prometheus' own tools: a lint of its page, the alerting rules, and a
//! Prometheus that scrapes it and answers every query of the dashboard.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use serde_json::Value;

use crate::support::stream::{Stream, TRAIN, steady};
use crate::support::{Daemon, program, wait_for};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn promtool(arguments: &[&str], input: Option<&Path>) -> Output {
    let mut command = program("promtool");
    command.args(arguments);
    if let Some(input) = input {
        command.stdin(fs::File::open(input).unwrap());
    }
    let found = command.output();
    found.expect("promtool is installed (scripts/setup --test)")
}

fn assert_passes(out: &Output) {
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}{errors}");
}

#[test]
fn the_rules_fire_on_what_they_are_for_and_have_a_section_each() {
    let rules = repository("config/prometheus/rules.yml");
    assert_passes(&promtool(
        &["check", "rules", rules.to_str().unwrap()],
        None,
    ));
    let tests = repository("tests/prometheus/rules.yml");
    assert_passes(&promtool(&["test", "rules", tests.to_str().unwrap()], None));
    let rules = fs::read_to_string(rules).unwrap();
    let tests = fs::read_to_string(tests).unwrap();
    let docs = fs::read_to_string(repository("docs/monitoring.md")).unwrap();
    let names = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    assert!(names.clone().count() > 10);
    for name in names {
        assert!(docs.contains(&format!("\n### {name}\n")), "{name} in docs");
        let link = format!("docs/monitoring.md#{}\n", name.to_lowercase());
        assert!(rules.contains(&link), "{link}");
        let fires = format!("alertname: {name}\n        exp_alerts:\n");
        assert!(tests.contains(&fires), "{name} fires in a test");
    }
}

/// A Prometheus that scrapes one address each second.
struct Prometheus {
    url: String,
    child: Child,
}

impl Prometheus {
    fn start(folder: &Path, scraped: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let config = folder.join("prometheus.yml");
        let rules = repository("config/prometheus/rules.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{rules:?}]\n\
             scrape_configs: [{{ job_name: outlierd, static_configs: [{{ targets: [\"{scraped}\"] }}] }}]\n"
        );
        fs::write(&config, text).unwrap();
        let child = program("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("tsdb").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("prometheus.log")).unwrap())
            .spawn()
            .expect("prometheus is installed (scripts/setup --test)");
        let url = format!("http://{address}/api/v1");
        Self { url, child }
    }

    fn get(&self, path: &str) -> Option<Value> {
        let mut answer = ureq::get(format!("{}/{path}", self.url)).call().ok()?;
        serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()
    }

    /// How many results a query has.
    fn results(&self, query: &str) -> usize {
        let mut answer = ureq::post(format!("{}/query", self.url))
            .send_form([("query", query)])
            .unwrap_or_else(|error| panic!("{query}: {error}"));
        let answer: Value =
            serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        answer["data"]["result"].as_array().map_or(0, Vec::len)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Its query has data once there are hours of scores, which a comparison of distributions takes.
const AFTER_HOURS: &str = "outlierd_drift_distance";

/// The queries of the dashboard, for all instances and streams, over spans that a test can wait for.
fn queries() -> Vec<String> {
    let board = fs::read_to_string(repository("config/grafana/outlierd.json")).unwrap();
    let board: Value = serde_json::from_str(&board).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    targets
        .map(|target| {
            let query = target["expr"].as_str().unwrap();
            let query = query.replace("$instance", ".*").replace("$stream", ".*");
            query.replace("[5m]", "[10s]")
        })
        .filter(|query| !query.contains(AFTER_HOURS))
        .collect()
}

#[test]
fn prometheus_scrapes_a_daemon_and_each_query_of_the_dashboard_has_data() {
    let stream = Stream::delivered("monitored", "exactly_once");
    // The self-test and the look for drift come by the time of the records.
    let text = fs::read_to_string(&stream.config).unwrap();
    let retrain =
        "retrain = { guard = \"20s\", records = 2000, every = \"0s\", self_test = \"1m\" }\n";
    fs::write(&stream.config, text + retrain).unwrap();
    let normal = TRAIN + 1_600;
    stream.send(&(0..normal).map(|i| steady(i, 0.0)).collect::<Vec<_>>());
    let mut daemon = Daemon::start(&stream.config, "daemon");
    let address = wait_for("the address", || daemon.address());
    let prometheus = Prometheus::start(stream.folder.path(), &address);
    wait_for("a first scrape", || {
        let up = prometheus.get("query?query=up")?;
        (up["data"]["result"][0]["value"][1] == "1").then_some(())
    });
    stream.await_count(normal);
    let fault = normal..normal + 100;
    stream.send(&fault.clone().map(|i| steady(i, 8.0)).collect::<Vec<_>>());
    stream.await_count(fault.end);

    let page = daemon.page("/metrics").unwrap();
    let page = page
        .split_once("\r\n\r\n")
        .map_or(page.as_str(), |(_, page)| page);
    let file = stream.folder.path().join("metrics.txt");
    fs::write(&file, page).unwrap();
    let checked = promtool(&["check", "metrics"], Some(&file));
    assert_passes(&checked);
    let remarks = [checked.stdout, checked.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&remarks), "");

    let mut left = queries();
    assert!(left.len() > 20);
    let mut next = fault.end;
    wait_for("all queries of the dashboard to have data", || {
        stream.send(
            &(next..next + 61)
                .map(|i| steady(i, 0.0))
                .collect::<Vec<_>>(),
        );
        next += 61;
        stream.await_count(next);
        left.retain(|query| prometheus.results(query) == 0);
        println!("without data: {left:#?}");
        left.is_empty().then_some(())
    });
    let rules = prometheus.get("rules").unwrap();
    for rule in rules["data"]["groups"][0]["rules"].as_array().unwrap() {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_ne!(rule["state"], "firing", "{rule}");
    }
    daemon.stop();
}
