"""(c) Start-up with 100,000 series, and (d) the bytes of a series in memory, in sled and in the changelog."""
import shutil
import time

from rig import Outlierd, folder_bytes, median, progress

MANY, FEW, TURNS = 100_000, 100, 3
FIRST = MANY * TURNS // FEW * MANY  # number of the first record of the many series
SETTLE = 7  # seconds: the store is written within five, and freed memory given back
NEW = 2_000  # records that wait for each start
FINE = 0.01
KIB = 1024


def scored(metrics):
    return metrics.get("outlierd_verdicts_total", 0)


def grow(rig, topic):
    """Records of a few series, and then of many, in one process; returns the configuration and the resident bytes after
    each. What every run takes, whatever its series, is in both: libtorch, the clients' queues, the threads."""
    records, resident = 0, []
    rig.fill(topic, 0, FEW)
    config = rig.config(topic)
    with Outlierd(rig, config) as daemon:
        daemon.lanes_ready()
        # Event times follow from a record's number and the series in turn: the second phase begins where the first ended.
        for series, start in ((FEW, 0), (MANY, FIRST)):
            rig.fill(topic, MANY * TURNS, series, start=start)
            records += MANY * TURNS
            daemon.until(lambda m, due=records: m.get("outlierd_records_total", 0) >= due)
            time.sleep(SETTLE)
            resident.append(daemon.memory())
        daemon.stop()
    return config, resident


def start(rig, config, topic, number):
    """Seconds from the start of the process to the first verdict, with records waiting."""
    rig.fill(topic, NEW, MANY, start=FIRST + MANY * TURNS + number * NEW)
    with Outlierd(rig, config) as daemon:
        seconds, metrics = daemon.until(lambda m: scored(m) > 0, FINE)[-1]
        daemon.until(lambda m: scored(m) >= NEW)
        daemon.stop()
    return seconds, metrics.get("outlierd_restored_states_total", 0)


def measure(rig, quick, _python):
    repeats = 1 if quick else 3
    config, (few_memory, memory) = grow(rig, "state")
    disk = folder_bytes(config.parent / "state")
    entries = rig.load("sizes", "--topic", f"{config.parent.name}.state")
    states, number = config.parent / "state", 0
    times = {"sled": [], "the changelog alone": []}
    for how in times:
        for _ in range(repeats):
            if how != "sled":
                shutil.rmtree(states)
            seconds, restored = start(rig, config, "state", number)
            number += 1
            progress(f"  start from {how}: {seconds:.2f} s, {restored:,.0f} states restored")
            if (restored >= MANY) != (how != "sled"):
                raise SystemExit(f"a start from {how} restored {restored:.0f} states from the changelog; see {config.parent}/log")
            times[how].append(seconds)
    for how, goal in (("sled", 10), ("the changelog alone", 30)):
        seconds = median(times[how])
        yield dict(figure=f"start-up: {MANY:,} series from {how}, to the first new score", goal=f"< {goal} s",
                   measured=f"{seconds:.2f} s", met=seconds < goal, value=seconds)
    each = (memory - few_memory) / (MANY - FEW)
    yield dict(figure=f"memory: resident bytes a series ({FEW} to {MANY:,} series)", goal="< 1 KiB",
               measured=f"{each:,.0f} B ({few_memory / KIB ** 2:.0f} to {memory / KIB ** 2:.0f} MiB)", met=each < KIB, value=each)
    yield dict(figure="memory: bytes a series in sled's folder", goal="", measured=f"{disk / MANY:,.0f} B", met=None,
               value=disk / MANY)
    mean = (entries["key_bytes"] + entries["value_bytes"]) / entries["entries"]
    yield dict(figure="memory: bytes of a changelog entry, key and value", goal="",
               measured=f"{mean:,.0f} B ({entries['entries']:,} entries)", met=None, value=mean)
