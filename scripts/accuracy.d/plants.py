"""Simulated plants of which outlierd decides when it has learned enough: pumps read with config/example.toml, and the plant of `outlierd demo`."""
import datetime
import json
import statistics

import numpy as np

import figures

PUMPS = 6
FAULTY = "p2"
HOURS = 2.5
FAULT_AT = 7920  # s: behind the first two hours, in which every alert is false
HEALTHY = 7200
LOAD_STEP = 120  # s
START = datetime.datetime(2026, 6, 1, tzinfo=datetime.timezone.utc)


def lag(values, records):
    """A first-order lag."""
    found = np.empty(len(values))
    last = values[0]
    for at, value in enumerate(values):
        last += (value - last) / records
        found[at] = last
    return found


def pump(rng, n, faulty):
    """Five readings a second of a pump whose load changes every two minutes; a faulty one gets a bad bearing."""
    load = np.roll(np.repeat(rng.uniform(0.4, 1, n // LOAD_STEP + 1), LOAD_STEP)[:n], rng.integers(0, LOAD_STEP))
    size, quick, slow = rng.normal(1, 0.05), lag(load, 4), lag(load, 240)
    fields = [120 * size * quick + rng.normal(0, 0.8, n), 8 - 3 * quick**2 + rng.normal(0, 0.05, n), 35 + 20 * slow + rng.normal(0, 0.2, n),
              1 + 1.5 * quick + np.abs(rng.normal(0, 0.1, n)), 5 + 20 * size * quick + rng.normal(0, 0.2, n)]
    if faulty:
        fields[3][FAULT_AT:] *= 1.8
        fields[2][FAULT_AT:] += np.minimum(np.arange(n - FAULT_AT) / 120, 8)
    return np.round(np.stack(fields, axis=1), 3)


def write_pumps(path, seed):
    rng = np.random.default_rng(seed)
    n = int(HOURS * 3600)
    readings = [pump(rng, n, f"p{number}" == FAULTY) for number in range(PUMPS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        for second in range(n):
            time = (START + datetime.timedelta(seconds=second)).isoformat().replace("+00:00", "Z")
            for number in range(PUMPS):
                flow, pressure, temperature, vibration, current = (float(value) for value in readings[number][second])
                sensors = {"pressure": pressure, "temp": temperature, "vibration": vibration, "current": current}
                file.write(json.dumps({"pump": f"p{number}", "ts": time, "flow": flow, "sensors": sensors}) + "\n")
    return path


def example(program, work, root, seeds):
    """config/example.toml over pumps: false alarms in the first two hours, and how long a bad bearing takes."""
    false, delays = [], []
    for seed in range(seeds):
        table, alerts = write_pumps(work / f"pumps/{seed}.jsonl", seed), work / f"pumps/{seed}.alerts"
        program.call("replay", "--config", root / "config/example.toml", "--stream", "pumps", "--set", "streams.pumps.record.key=field:pump",
                     table, "--out", work / f"pumps/{seed}.csv", "--alerts", alerts)
        told = [alert for alert in map(json.loads, alerts.read_text().splitlines()) if alert["event"] == "open"]
        since = [(datetime.datetime.fromisoformat(alert["time"]) - START).total_seconds() for alert in told]
        false.append(sum(at < HEALTHY for at in since))
        met = [at - FAULT_AT for at, alert in zip(since, told) if alert["series"] == FAULTY and at >= FAULT_AT]
        delays.append(min(met, default=float("inf")))
    return figures.Figure((max(false), statistics.median(delays), max(delays)),
                          "at most {:.0f} false alarms; the bearing found after {:.0f} s (at most {:.0f} s)")


def demo(program, work, seeds):
    """The plant of the demo: faults found, cooling losses among them, false alarms, and for each kind of fault the median delay."""
    found, kinds = [], {}
    for seed in range(1, seeds + 1):
        summary = work / f"demo/{seed}.json"
        summary.parent.mkdir(parents=True, exist_ok=True)
        program.call("demo", "--seed", seed, "--json", summary)
        told = json.loads(summary.read_text())
        cooling = [fault["result"] == "detected" for fault in told["faults"] if fault["kind"] == "cooling loss"]
        detected = sum(fault["result"] == "detected" for fault in told["faults"])
        for fault in told["faults"]:
            kinds.setdefault(fault["kind"], []).append(fault["delay_seconds"] if fault["result"] == "detected" else None)
        found.append((detected, len(told["faults"]), sum(cooling), len(cooling), told["false_alarms"]))
    total = np.sum(found, axis=0)
    return figures.Figure(tuple(map(float, total)), "{:.0f} of {:.0f} faults, {:.0f} of {:.0f} cooling losses, {:.0f} false alarms" + delays(kinds))


def delays(kinds):
    """A line for each kind of fault: how many are found, and after how long in the median."""
    lines = []
    for kind, all_of in sorted(kinds.items()):
        known = [delay for delay in all_of if delay is not None]
        after = f"after {statistics.median(known) / 60:.1f} min" if known else "-"
        lines.append(f"\n    {kind:24} {len(known)} of {len(all_of)} {after}")
    return "".join(lines)
