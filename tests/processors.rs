//! Scores have the same bits on every processor and in every batch: `outlierd replay` with one
//! bundle, under instruction sets that libtorch, MKL, oneDNN, the C library and, by qemu, the whole
//! process are held down to.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers included"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use outlierd::sim::fault::{Direction, FaultSize, PlantFault, PlantFaultKind};
use outlierd::sim::fleet::{Fleet, FleetPlan};
use outlierd::sim::sensor::Sensor;

/// What holds the libraries down to an instruction set.
type Variables = &'static [(&'static str, &'static str)];

const SSE: Variables = &[
    ("ATEN_CPU_CAPABILITY", "default"),
    ("ONEDNN_MAX_CPU_ISA", "SSE41"),
    ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2"),
    (
        "GLIBC_TUNABLES",
        "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F,-AVX2_Usable,-FMA_Usable,-AVX512F_Usable",
    ),
];
const AVX2: Variables = &[
    ("ATEN_CPU_CAPABILITY", "avx2"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
    ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
    (
        "GLIBC_TUNABLES",
        "glibc.cpu.hwcaps=-AVX512F,-AVX512F_Usable",
    ),
];
/// What the processor has, AVX-512 included where it has that.
const ALL: Variables = &[];

/// Records of three simulated pumps, one of which gets a fault, as JSON lines.
fn records(steps: usize) -> String {
    let plan = FleetPlan {
        pumps: 3,
        ..FleetPlan::default()
    };
    let fault = PlantFault {
        pump: 1,
        kind: PlantFaultKind::Shift(Sensor::ALL[0], Direction::Up),
        size: FaultSize::Large,
        start: 600,
        end: 750,
    };
    let mut fleet = Fleet::new(plan, &[fault]);
    let mut lines = Vec::new();
    for _ in 0..steps {
        fleet.step();
        for reading in fleet.readings() {
            reading.write_json(&mut lines);
            lines.push(b'\n');
        }
    }
    String::from_utf8(lines).unwrap()
}

/// A plant with a trained bundle of one kind of model.
struct Plant {
    folder: tempfile::TempDir,
    bundle: PathBuf,
}

impl Plant {
    fn new(kind: &str, window: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fields: Vec<String> = Sensor::ALL
            .into_iter()
            .map(|sensor| {
                let name = sensor.as_str();
                format!("{{ name = \"{name}\", path = \"sensors.{name}.value\" }}")
            })
            .collect();
        let models = folder.path().join("models");
        let text = format!(
            "[service]\nmodel_dir = {models:?}\nstate_dir = {:?}\n\
             [kafka]\nbrokers = \"localhost:9092\"\n\
             [streams.plant]\nwindow = {window}\ninput = {{ topic = \"plant\" }}\n\
             [streams.plant.record]\ntime = \"field:time\"\nkey = \"field:pump\"\nfields = [{}]\n\
             [streams.plant.model]\nkind = \"{kind}\"\nhidden = {}\nlatent = 3\n\
             [streams.plant.training]\nepochs = 5\n",
            folder.path().join("state"),
            fields.join(", "),
            if kind == "linear" { "[]" } else { "[12]" },
        );
        fs::write(folder.path().join("outlierd.toml"), text).unwrap();
        let records = records(900);
        let (learned, new): (Vec<_>, Vec<_>) = records
            .lines()
            .enumerate()
            .partition(|(line, _)| *line < 1_200);
        let text = |lines: &[(usize, &str)]| {
            lines
                .iter()
                .flat_map(|(_, line)| [line, "\n"])
                .collect::<String>()
        };
        fs::write(folder.path().join("learned.jsonl"), text(&learned)).unwrap();
        fs::write(folder.path().join("new.jsonl"), text(&new)).unwrap();
        let mut plant = Self {
            bundle: PathBuf::new(),
            folder,
        };
        let learned = plant.path("learned.jsonl");
        plant.outlierd(None, ALL, &["train".as_ref(), &learned], &[]);
        let bundles = fs::read_dir(models.join("plant")).unwrap();
        let mut bundles = bundles.map(|entry| entry.unwrap().path());
        plant.bundle = bundles
            .find(|path| path.join("manifest.json").is_file())
            .unwrap();
        plant
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command on `emulator`, a processor for qemu, or on this machine's own.
    fn outlierd(
        &self,
        emulator: Option<&str>,
        variables: Variables,
        arguments: &[&Path],
        settings: &[String],
    ) {
        let program = env!("CARGO_BIN_EXE_outlierd");
        let mut command = match emulator {
            Some(processor) => {
                let mut command = Command::new("qemu-x86_64");
                command.args(["-cpu", processor, program]);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments).arg("--config");
        command.arg(self.path("outlierd.toml"));
        command.args(["--stream", "plant"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let output = command.envs(variables.iter().copied()).output();
        let output = output.expect("scripts/setup --test installs qemu-x86_64");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
    }

    /// All scores, thresholds and alerts of the new records, with all digits.
    fn replayed(&self, emulator: Option<&str>, variables: Variables, batch: usize) -> [String; 2] {
        let (scores, alerts) = (self.path("scores.csv"), self.path("alerts.jsonl"));
        let arguments = [
            "replay".as_ref(),
            "--bundle".as_ref(),
            self.bundle.as_path(),
            "--out".as_ref(),
            &scores,
            "--alerts".as_ref(),
            &alerts,
            &self.path("new.jsonl"),
        ];
        let batch = format!("defaults.input.batch_records={batch}");
        self.outlierd(emulator, variables, &arguments, &[batch]);
        [scores, alerts].map(|path| fs::read_to_string(path).unwrap())
    }
}

fn has_the_same_bits_everywhere(kind: &str, window: usize, emulated: bool) {
    let plant = Plant::new(kind, window);
    let expected = plant.replayed(None, ALL, 1_000);
    let scored = expected[0].lines().filter(|line| !line.contains(",,"));
    let scored = scored.count();
    assert!(scored > 1_000, "{kind}: {scored} records are scored");
    let open = expected[1].matches("\"event\":\"open\"").count();
    assert!(open > 0, "{kind}: no alert");
    for (variables, batch) in [(SSE, 7), (AVX2, 16), (ALL, 1), (SSE, 1_000)] {
        let found = plant.replayed(None, variables, batch);
        assert_eq!(found, expected, "{kind}: {variables:?}, batches of {batch}");
    }
    if emulated && cfg!(target_arch = "x86_64") {
        // No AVX, no fused multiply-add: a processor of 2008.
        let found = plant.replayed(Some("Nehalem"), ALL, 100);
        assert_eq!(found, expected, "{kind}: Nehalem");
    }
}

#[test]
fn dense_has_the_same_bits_everywhere() {
    has_the_same_bits_everywhere("dense", 1, true);
}

#[test]
fn linear_has_the_same_bits_everywhere() {
    has_the_same_bits_everywhere("linear", 3, false);
}

#[test]
fn vae_has_the_same_bits_everywhere() {
    has_the_same_bits_everywhere("vae", 1, false);
}

#[test]
fn conv_has_the_same_bits_everywhere() {
    has_the_same_bits_everywhere("conv", 8, false);
}

#[test]
fn lstm_has_the_same_bits_everywhere() {
    has_the_same_bits_everywhere("lstm", 8, true);
}

#[test]
fn conv_vae_has_the_same_bits_everywhere() {
    has_the_same_bits_everywhere("conv_vae", 8, false);
}

/// What std takes from the C library differs in its last bits between processors; `libm` does not.
#[test]
fn the_path_of_a_record_takes_no_function_from_the_c_library() {
    let functions = [
        "exp", "exp2", "exp_m1", "ln", "ln_1p", "log2", "log10", "powf", "sin", "cos", "tan",
        "tanh", "sinh", "cosh", "atan", "atan2", "atanh", "cbrt", "hypot",
    ];
    let rooms = [
        "cadence",
        "decode",
        "episode",
        "gate",
        "model",
        "pipeline",
        "record",
        "resample",
        "score",
        "threshold",
        "window",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().with_extension("");
            let name = name.to_string_lossy().into_owned();
            let room = name.split('/').next().unwrap();
            // Training agrees within a tolerance only.
            if !rooms.contains(&room) || name.starts_with("model/train") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let called = |function: &&str| code.contains(&format!(".{function}("));
            if !name.ends_with("/tests") && !name.ends_with("/golden") {
                wrong.extend(
                    functions
                        .iter()
                        .filter(|f| called(f))
                        .map(|f| format!("{name}: {f}")),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "use libm: {wrong:#?}");
}
