"""Runs of outlierd over the files of a set."""
import concurrent.futures
import csv
import dataclasses
import json
import pathlib
import subprocess

import numpy as np


@dataclasses.dataclass
class Outlierd:
    """The program with settings that differ from the built-in ones."""
    binary: pathlib.Path
    settings: list

    def call(self, *arguments):
        sets = [part for text in self.settings for part in ("--set", text)]
        command = [str(self.binary), *map(str, arguments), *sets]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout.strip()}")

    def flags(self, case, out):
        """Whether each row of a file is in an alert; the training rows are not."""
        out.parent.mkdir(parents=True, exist_ok=True)
        self.call("replay", "--train-rows", case.train, *case.arguments, case.path, "--out", out)
        flags = np.zeros(len(case.values), bool)
        with open(out) as file:
            told = [row["is_alert"] == "1" for row in csv.DictReader(file)]
        if len(told) == len(flags):
            flags[:] = told
        elif len(told) == len(flags) - case.train:
            flags[case.train:] = told
        else:
            raise SystemExit(f"{out}: {len(told)} rows of {len(flags)}: the rows do not match those of {case.path}")
        return flags

    def all_flags(self, cases, out):
        """The same of all files, two at a time."""
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda item: self.flags(item[1], out / f"{item[0]}.csv"), enumerate(cases)))

    def beats(self, data, out):
        """Accuracy and F1 of `outlierd evaluate` on the heart beats of ECG5000."""
        table = out / "beats.csv"
        out.mkdir(parents=True, exist_ok=True)
        lines = [line.split() for line in (data / "ecg5000/ECG5000_TRAIN.txt").read_text().splitlines()]
        with open(table, "w", newline="") as file:
            cells = csv.writer(file)
            cells.writerow(["class", *range(1, len(lines[0]))])
            cells.writerows([round(float(line[0])), *line[1:]] for line in lines)
        self.call("evaluate", "--label", "class", "--normal", "1", "--wide", "--train-normal", 200, table, "--out", out / "found")
        fixed = json.loads((out / "found/figures.json").read_text())["all"]["fixed"]
        return fixed["accuracy"], fixed["f1"]
