"""(b) From a record to its alert, at a steady rate, exactly once."""
from rig import PARTITIONS, Outlierd, progress

# A faster chart: shifts open and close within a few records, so that a run has many alerts. What is measured is the path.
SCORE = "{ ewma_weight = 0.3 }"
EVENTS = 20  # a second


def steady(topic, config, rate, series, warm_up, seconds):
    """What bench-load is to do for records at a steady rate and the alerts of a run."""
    return ("latency", "--topic", topic, "--alerts", f"{config.parent.name}.alerts", "--rate", rate, "--series", series,
            "--partitions", PARTITIONS, "--events", EVENTS, "--warm-up", warm_up, "--seconds", seconds)


def row(name, found, goal_ms=None):
    p99 = found["p99_ms"]
    measured = (f"p50 {found['p50_ms']:.1f}, p99 {p99:.1f}, p99.9 {found['p999_ms']:.1f} ms "
                f"({found['events']:,} events, {found['rate']:,.0f} records/s sent)")
    return dict(figure=name, goal=f"p99 < {goal_ms} ms" if goal_ms else "", measured=measured,
                met=p99 < goal_ms if goal_ms else None, value=found)


def measure(rig, quick, _python):
    for wanted in (1_000, 10_000):
        topic = f"latency-{wanted}"
        rig.fill(topic, 0, 1)
        progress(f"latency: the brokers alone at {wanted:,} records/s")
        echo = rig.load("latency", "--topic", topic, "--alerts", topic, "--rate", wanted, "--series", wanted, "--warm-up", 3,
                        "--seconds", 5, "--events", 0, "--echo")
        yield row(f"latency: brokers alone, a record to its reader at {wanted:,}/s", echo)
        fresh = f"{topic}-b"
        rig.fill(fresh, 0, 1)
        config = rig.config(fresh, score=SCORE)
        with Outlierd(rig, config) as daemon:
            daemon.lanes_ready()
            progress(f"latency: outlierd at {wanted:,} records/s")
            times = (16, 20) if quick else (24, 60)
            found = rig.load(*steady(fresh, config, wanted, wanted, *times))
            if found["events"] < 50:
                raise SystemExit(f"only {found['events']} alert events came: too few to tell a latency; see {daemon.log.name}")
            m = daemon.metrics()
            found["commits"], found["pipeline_s"] = m["outlierd_commits_total"], m["outlierd_batch_seconds_sum"]
            progress(f"  p50 {found['p50_ms']:.1f} p99 {found['p99_ms']:.1f} ms; {found['commits']:.0f} commits")
            daemon.stop()
        yield row(f"latency: record to alert at {wanted:,}/s", found, 50 if wanted == 10_000 else None)
