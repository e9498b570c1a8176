"""(e) Scoring while a challenger is trained and proved, again and again, beside scoring without, in one run."""
import re
import subprocess
import threading

from latency import SCORE, steady
from rig import Outlierd, median, progress, rate

SERIES, PERIOD = 1_000, 0.25
SIZES = {True: dict(before=1_000_000, records=4_000_000, repeats=1, seconds=20, latency=(24, 20)),
         False: dict(before=1_000_000, records=8_000_000, repeats=3, seconds=30, latency=(24, 60))}
# Nothing is left out of the traffic that is kept, no training comes by itself, and the same bundle scores all the time.
SETS = ("defaults.retrain.guard=0s", "defaults.retrain.every=0s", "defaults.retrain.on_drift=false",
        "defaults.retrain.promote=false")
BUSY = 0.8  # of the measured time a training has to be under way
GOAL = 0.10  # slower than without


class Trainer:
    """Asks for a challenger whenever none is trained, and notes for how much of the time one was."""

    def __init__(self, daemon, asks):
        self.daemon, self.asks, self.seen, self.over = daemon, asks, [], threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def run(self):
        while not self.over.wait(PERIOD):
            trains = self.daemon.metrics().get("outlierd_training", 0) > 0
            self.seen.append((self.daemon.seconds(), trains))
            if self.asks and not trains:
                stream = re.search(r"\[streams\.(.+)\]", self.daemon.config.read_text())[1]
                subprocess.run([self.daemon.rig.bin / "outlierd", "model", "challenge", "--config", self.daemon.config, stream],
                               check=True, stdout=subprocess.DEVNULL)

    def share(self, since=0.0):
        of = [trains for t, trains in self.seen if t >= since]
        return sum(of) / max(len(of), 1)


def kept(metrics):
    return metrics.get("outlierd_training_buffer_records", 0) >= 2_000


def throughput(rig, size, trains, number):
    """Records a second of a backlog, and for how much of the time a challenger was trained."""
    topic = f"retrain-{number}-{'on' if trains else 'off'}"
    rig.fill(topic, size["before"], SERIES)
    config = rig.config(topic)
    with Outlierd(rig, config, *SETS) as daemon:
        daemon.until(lambda m: kept(m) and m.get("outlierd_records_total", 0) >= size["before"])
        daemon.stop()
    rig.fill(topic, size["records"], SERIES, start=size["before"])
    with Outlierd(rig, config, *SETS) as daemon, Trainer(daemon, trains) as trainer:
        def enough(m):
            return m.get("outlierd_records_total", 0) >= 0.9 * size["records"] or daemon.seconds() > size["seconds"]

        samples = [(t, m.get("outlierd_records_total", 0)) for t, m in daemon.until(enough)]
    begins = next(t for t, n in samples if n > 0) + 2.5
    return rate(samples, 2.5, size["records"]), trainer.share(begins)


def latency(rig, size, trains):
    topic = f"retrain-latency-{'on' if trains else 'off'}"
    rig.fill(topic, 0, 1)
    config = rig.config(topic, score=SCORE)
    warm_up, seconds = size["latency"]
    with Outlierd(rig, config, *SETS) as daemon, Trainer(daemon, trains) as trainer:
        daemon.lanes_ready()
        begins = daemon.seconds() + warm_up
        found = rig.load(*steady(topic, config, 10_000, SERIES, warm_up, seconds))
    return found, trainer.share(begins)


def checked(share):
    if share < BUSY:
        raise SystemExit(f"a challenger was trained for {share:.0%} of the measured time only: the figures would say nothing")
    return share


def measure(rig, quick, _python):
    size = SIZES[quick]
    rates, shares = {True: [], False: []}, []
    for number in range(size["repeats"]):
        for trains in ((False, True) if number % 2 == 0 else (True, False)):
            found, share = throughput(rig, size, trains, number)
            rates[trains].append(found)
            progress(f"  {'while retraining' if trains else 'without'}: {found:,.0f} records/s ({share:.0%} training)")
            if trains:
                shares.append(checked(share))
    slower = 1 - median([on / off for on, off in zip(rates[True], rates[False])])
    yield dict(figure="retrain: throughput without", goal="", measured=f"{median(rates[False]):,.0f} records/s", met=None,
               value=median(rates[False]))
    yield dict(figure="retrain: throughput while retraining", goal="< 10 % slower",
               measured=f"{median(rates[True]):,.0f} records/s, {slower:.1%} slower ({median(shares):.0%} of the time training)",
               met=slower < GOAL, value=slower)
    found = {}
    for trains in (False, True):
        progress(f"retrain: latency {'while retraining' if trains else 'without'}")
        found[trains], share = latency(rig, size, trains)
        if trains:
            checked(share)
        progress(f"  p99 {found[trains]['p99_ms']:.1f} ms ({share:.0%} training)")
    later = found[True]["p99_ms"] / found[False]["p99_ms"] - 1

    def told(f):
        return f"p50 {f['p50_ms']:.1f}, p99 {f['p99_ms']:.1f} ms ({f['events']:,} events)"

    yield dict(figure="retrain: record to alert at 10,000/s without", goal="", measured=told(found[False]), met=None,
               value=found[False])
    yield dict(figure="retrain: record to alert at 10,000/s while retraining", goal="p99 < 10 % later",
               measured=f"{told(found[True])}, p99 {later:+.1%}", met=later < GOAL, value=found[True])
