"""(a) Throughput against a floor program and against a Python program, from a topic that is filled before."""
from rig import PARTS, Outlierd, median, progress, rate, samples_of

SERIES, TOPIC = 10_000, "throughput"
SIZES = {True: dict(records=1_500_000, repeats=1, seconds=20, warm_up=1.5),
         False: dict(records=4_000_000, repeats=3, seconds=30, warm_up=2.5)}


def outlierd(rig, size):
    config = rig.config(TOPIC)
    with Outlierd(rig, config) as daemon:
        enough = lambda m: m.get("outlierd_records_total", 0) >= 0.9 * size["records"] or daemon.seconds() > size["seconds"]
        samples = daemon.until(enough)
        m = samples[-1][1]
        share = m["outlierd_batch_seconds_sum"] / rig.lanes / (samples[-1][0] - first(samples))
        progress(f"  outlierd: {share:.0%} of the lanes' time in the pipeline, {m.get('outlierd_commits_total', 0):.0f} commits")
    return [(t, m.get("outlierd_records_total", 0)) for t, m in samples]


def first(samples):
    return next(t for t, m in samples if m.get("outlierd_records_total", 0) > 0)


def floor(rig, size):
    config = rig.config(TOPIC)
    return samples_of([rig.bin / "examples/bench-floor", "--config", config, "--records", size["records"], "--seconds",
                       size["seconds"]])


def peer(rig, size, python):
    group = f"peer-{rig.runs}"
    rig.runs += 1
    return samples_of([python, PARTS / "python_peer.py", "--brokers", rig.brokers, "--topic", TOPIC, "--group", group,
                       "--alerts", "throughput.peer-alerts", "--bundle", rig.bundle(), "--processes", rig.lanes,
                       "--records", size["records"], "--seconds", size["seconds"]])


def measure(rig, quick, python):
    size = SIZES[quick]
    rig.fill(TOPIC, size["records"], SERIES)
    rig.load("fill", "--topic", "throughput.peer-alerts", "--records", 0, "--series", 1)
    programs = {"floor": lambda: floor(rig, size), "outlierd": lambda: outlierd(rig, size)}
    if python:
        programs["peer"] = lambda: peer(rig, size, python)
    rates = {name: [] for name in programs}
    rig.config(TOPIC)  # trains
    for repeat in range(size["repeats"]):
        # The order turns, so that a machine that becomes slower or faster is fair to all.
        names = list(programs)
        for name in names[repeat % len(names):] + names[:repeat % len(names)]:
            rates[name].append(rate(programs[name](), size["warm_up"], size["records"]))
            progress(f"  {name}: {rates[name][-1]:,.0f} records/s")
    ours = median(rates["outlierd"])
    what = f"8 fields, dense, {SERIES:,} series, dspot, exactly once, {rig.lanes} lanes"
    to_floor = median([a / b for a, b in zip(rates["outlierd"], rates["floor"])])
    yield dict(figure=f"throughput: {what}", goal="", measured=f"{ours:,.0f} records/s", met=None, value=ours)
    yield dict(figure="throughput: floor program", goal="", measured=f"{median(rates['floor']):,.0f} records/s", met=None,
               value=median(rates["floor"]))
    yield dict(figure="throughput: outlierd / floor", goal=">= 60 %", measured=f"{to_floor:.0%}", met=to_floor >= 0.6,
               value=to_floor)
    if python:
        to_peer = median([a / b for a, b in zip(rates["outlierd"], rates["peer"])])
        yield dict(figure="throughput: Python peer", goal="", measured=f"{median(rates['peer']):,.0f} records/s", met=None,
                   value=median(rates["peer"]))
        yield dict(figure="throughput: outlierd / Python peer", goal=">= 4 x", measured=f"{to_peer:.1f} x",
                   met=to_peer >= 4, value=to_peer)
