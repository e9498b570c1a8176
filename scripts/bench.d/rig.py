"""What every measurement of scripts/bench needs: the broker, the programs, a configuration, and outlierd's metrics."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARTS = ROOT / "scripts/bench.d"
PARTITIONS = 4
PATIENCE = 300  # seconds that anything may take
POLL = 0.05

CONFIG = """
[service]
state_dir = "{dir}/state"
model_dir = "{models}"
http_listen = "127.0.0.1:{http}"
log_filter = "info"
[kafka]
brokers = "127.0.0.1:{port}"
[kafka.consumer]
# The second lane has its partitions within a second.
heartbeat.interval.ms = 300
[streams.{stream}]
input = {{ topic = "{topic}", group = "{name}", lanes = {lanes} }}
output = {{ alerts = "{name}.alerts", dead_letters = "{name}.dead", states = "{name}.state" }}
model = {model}
score = {score}
threshold = {{ kind = "dspot" }}
record = {{ key = "field:series", time = "field:ts", time_format = "epoch_us", max_series = 10000000, fields = [{fields}] }}
"""


def progress(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def rate(samples, warm_up, total):
    """Records a second between `warm_up` seconds after the first record and nine tenths of the topic.

    The ends are left out: at first one lane has all partitions, and in the end one may have none left."""
    samples = [(t, n) for t, n in samples if n > 0]
    inside = [(t, n) for t, n in samples if t >= samples[0][0] + warm_up and n <= 0.9 * total] if samples else []
    if len(inside) < 10 or inside[-1][1] == inside[0][1]:
        raise SystemExit(f"the run was too short to be measured ({len(inside)} samples); give it more records")
    return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])


class Rig:
    """A broker, a folder for everything, and the programs; cleaned up at the end."""

    def __init__(self, port, bin_dir, lanes):
        self.port, self.http, self.lanes, self.bin = port, port + 2, lanes, bin_dir
        self.brokers = f"127.0.0.1:{port}"
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="outlierd-bench-"))
        self.runs, self.trained = 0, {}

    def __enter__(self):
        progress(f"starting Kafka on port {self.port}")
        try:
            self.kafka("start")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind, error, trace):
        self.kafka("clean")
        if kind is None:
            shutil.rmtree(self.dir)
        else:
            progress(f"logs are kept in {self.dir}")

    def kafka(self, command):
        subprocess.run([ROOT / "scripts/kafka", command, "--port", str(self.port), "--dir", self.dir / "kafka"], check=True,
                       stdout=subprocess.DEVNULL)

    def load_command(self, *args):
        """The command line of bench-load."""
        return [str(part) for part in (self.bin / "examples/bench-load", args[0], "--brokers", self.brokers, *args[1:])]

    def load(self, *args):
        """Runs bench-load; its answer is one JSON object."""
        done = subprocess.run(self.load_command(*args), check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout)

    def fill(self, topic, records, series, fields=8, start=0):
        progress(f"filling {topic}: {records:,} records of {series:,} series, {fields} fields")
        return self.load("fill", "--topic", topic, "--records", records, "--series", series, "--fields", fields,
                         "--partitions", PARTITIONS, "--from", start)

    def config(self, topic, fields=8, lanes=None, score="{}", **more):
        """A configuration of its own: new consumer group, new outputs, no states; models are shared by those alike."""
        self.runs += 1
        name = f"run{self.runs}"
        folder = self.dir / name
        folder.mkdir()
        # A code of one field is no code: the linear model of one field expects its mean.
        model = '{ kind = "dense" }' if fields > 2 else '{ kind = "linear", latent = 0 }'
        text = CONFIG.format(
            dir=folder, models=self.dir / "models", http=self.http, port=self.port, topic=topic, name=name, model=model,
            stream=f"bench-{fields}-{len(score)}", lanes=lanes or self.lanes, score=score,
            fields=", ".join(f'"f{i}"' for i in range(fields)))
        file = folder / "outlierd.toml"
        file.write_text(text)
        self.train(file, fields, score)
        return file

    def train(self, config, fields, score):
        """One bundle for each number of fields and chart."""
        if (fields, score) in self.trained:
            return
        progress(f"training a bundle of {fields} fields")
        sample = self.dir / "sample.jsonl"
        with open(sample, "w") as out:
            subprocess.run([self.bin / "examples/bench-load", "sample", "--records", "4000", "--series", "40", "--fields",
                            str(fields)], check=True, stdout=out)
        told = subprocess.run([self.bin / "outlierd", "train", "--config", config, sample], check=True,
                              stdout=subprocess.PIPE, text=True).stdout
        line = next(line for line in told.splitlines() if line.startswith("bundle "))
        self.trained[fields, score] = pathlib.Path(line.split(" in ", 1)[1])

    def bundle(self, fields=8, score="{}"):
        return self.trained[fields, score]


class Outlierd:
    """One running outlierd."""

    def __init__(self, rig, config, *sets):
        self.rig, self.config = rig, config
        self.log = open(config.parent / "log", "ab")  # noqa: SIM115  # closed with the process
        options = [part for text in sets for part in ("--set", text)]
        self.began = time.monotonic()
        self.process = subprocess.Popen([rig.bin / "outlierd", "run", "--config", config, *options], stdout=self.log,
                                        stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def stop(self):
        """Commits everything and ends."""
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(PATIENCE) != 0:
            raise SystemExit(f"outlierd ended with {self.process.returncode}; see {self.log.name}")

    def seconds(self):
        return time.monotonic() - self.began

    def metrics(self):
        """Every metric, summed over its labels; empty while the page is not served yet."""
        if self.process.poll() is not None:
            raise SystemExit(f"outlierd ended by itself with {self.process.returncode}; see {self.log.name}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rig.http}/metrics", timeout=30) as page:
                text = page.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return {}
        sums = {}
        for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE):
            sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    def until(self, enough, every=POLL):
        """Polls the metrics until `enough` of them; returns (seconds, metrics) of each poll."""
        samples = []
        while not samples or not enough(samples[-1][1]):
            if self.seconds() > PATIENCE:
                raise SystemExit(f"outlierd did not come so far within {PATIENCE} s; see {self.log.name}")
            samples.append((self.seconds(), self.metrics()))
            time.sleep(every)
        return samples

    def lanes_ready(self):
        """Waits until every lane has its share of the partitions."""
        share = PARTITIONS // self.rig.lanes
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.rig.http}/status", timeout=30) as page:
                    streams = json.load(page)
                # Before the lanes start there are none.
                lanes = streams[0]["lanes"] if streams else []
                if lanes and all(lane["partitions"] == share for lane in lanes):
                    return
            except (urllib.error.URLError, ConnectionError):
                pass
            if self.seconds() > PATIENCE or self.process.poll() is not None:
                raise SystemExit(f"outlierd's lanes did not get their partitions; see {self.log.name}")
            time.sleep(POLL)

    def memory(self):
        """Resident bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


def folder_bytes(folder):
    """Bytes on disk; sled's files have holes."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def samples_of(command):
    """Runs a program that prints `<seconds> <records>` lines."""
    done = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    return [(float(t), int(n)) for t, n in (line.split() for line in done.stdout.splitlines())]
