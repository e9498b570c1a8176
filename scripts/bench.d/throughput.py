"""(a) Throughput against a floor program and against a Python program, from a topic that is filled before."""
from rig import PARTS, Outlierd, median, progress, rate, samples_of

SERIES, TOPIC = 10_000, "throughput"
SIZES = {True: dict(records=3_000_000, repeats=1, seconds=15, warm_up=1.5),
         False: dict(records=6_000_000, repeats=3, seconds=25, warm_up=2.5)}
# The peer as it is written in an afternoon, and as it is after a second one: a process for each core, and librdkafka no
# longer waiting for a second before it fetches more (it does so wherever 100,000 records are at hand).
PEERS = {"peer": (1, []), "tuned peer": (2, ["--property", "fetch.queue.backoff.ms=10"])}


def outlierd(rig, size):
    config = rig.config(TOPIC)
    with Outlierd(rig, config) as daemon:
        def enough(m):
            return m.get("outlierd_records_total", 0) >= 0.9 * size["records"] or daemon.seconds() > size["seconds"]

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


def peer(rig, size, python, processes, options):
    group = f"peer-{rig.runs}"
    rig.runs += 1
    return samples_of([python, PARTS / "python_peer.py", "--brokers", rig.brokers, "--topic", TOPIC, "--group", group,
                       "--alerts", "throughput.peer-alerts", "--bundle", rig.bundle(), "--processes", processes,
                       "--records", size["records"], "--seconds", size["seconds"], *options])


def measure(rig, quick, python):
    size = SIZES[quick]
    rig.fill(TOPIC, size["records"], SERIES)
    rig.load("fill", "--topic", "throughput.peer-alerts", "--records", 0, "--series", 1)
    programs = {"floor": lambda: floor(rig, size), "outlierd": lambda: outlierd(rig, size)}
    if python:
        for name, (processes, options) in PEERS.items():
            programs[name] = lambda p=processes, o=options: peer(rig, size, python, p, o)
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
    for name in [name for name in PEERS if python]:
        processes = f"{PEERS[name][0]} process{'es' * (PEERS[name][0] > 1)}"
        to_peer = median([a / b for a, b in zip(rates["outlierd"], rates[name])])
        goal = 4 if name == "peer" else None
        theirs = median(rates[name])
        yield dict(figure=f"throughput: Python {name}, {processes}", goal="", measured=f"{theirs:,.0f} records/s", met=None,
                   value=theirs)
        yield dict(figure=f"throughput: outlierd / Python {name}", goal=f">= {goal} x" if goal else "",
                   measured=f"{to_peer:.1f} x", met=to_peer >= goal if goal else None, value=to_peer)
