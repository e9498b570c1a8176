"""The data sets: files, how many rows train the model, and the labels of the others.

Public sets are read from a folder that the caller names (SKAB, Tennessee Eastman, NAB, ECG5000; the folders are described in
docs/accuracy.md). The others are made here, from a seed.
"""
import csv
import dataclasses
import datetime
import json
import pathlib

import numpy as np

MINUTE = 60.0


@dataclasses.dataclass
class Case:
    """One file: a series."""
    group: str  # what its figures are counted with
    path: pathlib.Path
    values: np.ndarray  # rows x fields
    train: int  # training rows
    period: float  # seconds between two rows
    labels: np.ndarray | None = None  # of each row, whether it is a fault
    windows: list = dataclasses.field(default_factory=list)  # first and last row of each labelled window
    arguments: list = dataclasses.field(default_factory=list)  # of `outlierd replay`


def skab(data, _work):
    """SKAB's valve files: 400 training rows, one second apart."""
    cases = []
    for path in sorted(data.glob("skab/valve*/*.csv")):
        with open(path) as file:
            rows = list(csv.DictReader(file, delimiter=";"))
        fields = [name for name in rows[0] if name not in ("datetime", "anomaly", "changepoint")]
        values = np.array([[float(row[name]) for name in fields] for row in rows])
        labels = np.array([float(row["anomaly"]) > 0.5 for row in rows])
        arguments = ["--time-column", "datetime", "--delimiter", ";", "--ignore", "anomaly,changepoint"]
        cases.append(Case(path.parent.name, path, values, 400, 1.0, labels, arguments=arguments))
    return cases


def tep(data, work):
    """Tennessee Eastman: the 500 rows of d00 train the model, then the rows of a test file, three minutes apart."""
    normal = np.loadtxt(data / "tep/d00.dat").T
    fault_from = 160
    cases = []
    for path in sorted(data.glob("tep/d*_te.dat")):
        test = np.loadtxt(path)
        fault = path.stem[1:3]
        values = np.vstack([normal, test])
        labels = np.zeros(len(values), bool)
        if fault != "00":
            labels[len(normal) + fault_from:] = True
        target = write(work / f"tep/{fault}.csv", values, 3 * MINUTE)
        cases.append(Case(fault, target, values, len(normal), 3 * MINUTE, labels, arguments=["--time-column", "time"]))
    return cases


def nab(data, _work):
    """NAB: the first 15 % of a file, at most 750 rows, train the model."""
    marked = json.loads((data / "nab/windows.json").read_text())
    cases = []
    for path in sorted(data.glob("nab/data/*/*.csv")):
        with open(path) as file:
            rows = list(csv.DictReader(file))
        times = [datetime.datetime.fromisoformat(row["timestamp"]) for row in rows]
        windows = []
        for first, last in marked[f"{path.parent.name}/{path.name}"]:
            ends = [datetime.datetime.fromisoformat(text) for text in (first, last)]
            inside = [at for at, time in enumerate(times) if ends[0] <= time <= ends[1]]
            windows.append((inside[0], inside[-1]))
        values = np.array([[float(row["value"])] for row in rows])
        steps = np.diff([time.timestamp() for time in times])
        train = min(750, int(0.15 * len(rows)))
        cases.append(Case(path.parent.name, path, values, train, max(float(np.median(steps)), 1.0), windows=windows,
                          arguments=["--time-column", "timestamp"]))
    return cases


def budget(train, days=28, each=5):
    """Normal series of three fields a minute, of six kinds of movement; every alert is false."""
    def of(_data, work):
        cases = []
        for kind in KINDS:
            for number in range(each):
                rng = np.random.default_rng([sum(map(ord, kind)), number])
                common = KINDS[kind](days * 1440, rng)
                fields = [20 + 1.4 * (common + KINDS[kind](days * 1440, rng)) for _ in range(3)]
                values = np.round(np.stack(fields, axis=1), 5)
                path = work / f"budget/{kind}-{number}.csv"
                target = path if path.exists() else write(path, values, MINUTE)
                cases.append(Case(kind, target, values, train, MINUTE, np.zeros(len(values), bool),
                                  arguments=["--time-column", "time"]))
        return cases
    return of


def autoregressive(n, rng, factor):
    """Noise of variance 1 that remembers `factor` of its last value."""
    noise = rng.standard_normal(n) * np.sqrt(1 - factor * factor)
    found = np.empty(n)
    last = 0.0
    for at in range(n):
        last = factor * last + noise[at]
        found[at] = last
    return found


def seasonal(n, rng):
    day = np.arange(n) / 1440
    waves = 2 * np.sin(2 * np.pi * (day + rng.random())) + 0.5 * np.sin(4 * np.pi * (day + rng.random()))
    return waves + 0.5 * autoregressive(n, rng, 0.5)


def bursts(n, rng):
    scale = np.ones(n)
    for start in rng.choice(n - 20, n // 240, replace=False):
        scale[start:start + 20] = 3.0
    return rng.standard_normal(n) * scale


KINDS = {
    "white": lambda n, rng: rng.standard_normal(n),
    "heavy tails": lambda n, rng: rng.standard_t(3, n) / np.sqrt(3),
    "bursts": bursts,
    "AR(1) 0.9": lambda n, rng: autoregressive(n, rng, 0.9),
    "seasonal": seasonal,
    "slow walk": lambda n, rng: autoregressive(n, rng, 1 - 1 / 1440) + 0.3 * rng.standard_normal(n),
}


def write(path, values, period):
    """A CSV file of rows that are `period` seconds apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = datetime.datetime(2026, 1, 5, tzinfo=datetime.timezone.utc)
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["time", *(f"f{at + 1}" for at in range(values.shape[1]))])
        for at, row in enumerate(values):
            time = start + datetime.timedelta(seconds=at * period)
            table.writerow([time.isoformat().replace("+00:00", "Z"), *(repr(float(value)) for value in row)])
    return path
