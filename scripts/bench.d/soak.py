"""(d) Memory over an hour at a steady rate: it has to stay where it is after the first minutes."""
import subprocess
import time

from latency import SCORE, steady
from rig import Outlierd, median, progress

RATE, SERIES = 5_000, 10_000
HOUR, QUICK, WARM_UP = 3_600, 300, 10
SAMPLE = 5  # seconds between two looks
PART = 1 / 6  # of the time: the first of these parts is warm-up, the second and the last one are compared
FLAT = 0.02


def measure(rig, quick, _python):
    seconds = QUICK if quick else HOUR
    rig.fill("soak", 0, 1)
    config = rig.config("soak", score=SCORE)
    with Outlierd(rig, config) as daemon:
        daemon.lanes_ready()
        progress(f"soak: {RATE:,} records/s of {SERIES:,} series for {seconds / 60:.0f} minutes")
        command = rig.load_command(*steady("soak", config, RATE, SERIES, WARM_UP, seconds))
        load = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            began, resident = time.monotonic(), []
            while (now := time.monotonic() - began) < seconds:
                if load.poll() is not None:
                    raise SystemExit(f"the load ended with {load.returncode} before the soak did")
                resident.append(daemon.memory() / 1024 ** 2)
                if len(resident) % (60 // SAMPLE) == 0:
                    progress(f"  {now / 60:.0f} min: {resident[-1]:.1f} MiB")
                time.sleep(SAMPLE)
        finally:
            load.kill()
            load.wait()
        records = daemon.metrics()["outlierd_records_total"]
        daemon.stop()
    part = int(len(resident) * PART)
    early, late = median(resident[part:2 * part]), median(resident[-part:])
    growth = late / early - 1
    yield dict(figure=f"soak: resident memory, from the second to the last sixth of {seconds / 60:.0f} minutes", goal="flat",
               measured=f"{early:.1f} to {late:.1f} MiB ({growth:+.1%}), {max(resident):.1f} at most; {records:,.0f} records",
               met=growth < FLAT, value=growth)
