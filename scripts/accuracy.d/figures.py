"""What a set says of a detector, from the flags of its files: one number that the goal is about, and what stands beside it.

A figure takes cases and, for each, whether each row is in an alert; the interval is that of 2,000 draws of files with
replacement (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993), and needs at least five files.
"""
import collections
import dataclasses
import math

import numpy as np

DRAWS = 2000
WEEK = 7 * 86_400
BUDGET = 2.0  # alerts a week, as it is built in


@dataclasses.dataclass
class Figure:
    """The first of the numbers is what the goal is about; the interval is that of it."""
    numbers: tuple
    pattern: str
    interval: tuple | None = None

    def text(self):
        return self.pattern.format(*self.numbers)


def mean(figures):
    """Of the same figure for several seeds: the mean of each number, and the interval of the first seed."""
    numbers = tuple(float(np.mean(values)) for values in zip(*(figure.numbers for figure in figures)))
    return Figure(numbers, figures[0].pattern, figures[0].interval)


def rising(flags):
    """Where an alert opens."""
    return flags & ~np.concatenate([[False], flags[:-1]])


def interval(count, of):
    """The middle 95 % of `of(files)` over draws of files."""
    if count < 5:
        return None
    rng = np.random.default_rng(0)
    found = [of(rng.integers(0, count, count)) for _ in range(DRAWS)]
    return tuple(float(q) for q in np.quantile(found, [0.025, 0.975]))


def by_rows(cases, flags):
    """F1 of the rows behind the training rows, pooled over the files, with false-alarm and missed-alarm rate."""
    counts = []
    for case, flag in zip(cases, flags):
        truth, told = case.labels[case.train:], flag[case.train:]
        counts.append([(truth & told).sum(), (~truth & told).sum(), (truth & ~told).sum(), (~truth & ~told).sum()])
    counts = np.array(counts, float)

    def rates(files):
        hit, false, missed, quiet = counts[files].sum(axis=0)
        f1 = 2 * hit / max(2 * hit + false + missed, 1)
        return f1, 100 * false / max(false + quiet, 1), 100 * missed / max(hit + missed, 1)

    return Figure(rates(np.arange(len(cases))), "{:.3f} / {:.1f} % / {:.1f} %", interval(len(cases), lambda files: rates(files)[0]))


def tennessee(cases, flags):
    """Share of the rows of the faults that are in an alert, with the share of the normal file's and the median delay."""
    shares, delays, far = [], [], math.nan
    for case, flag in zip(cases, flags):
        if not case.labels.any():
            far = 100 * flag[case.train:].mean()
            continue
        told = flag[case.labels]
        shares.append(100 * told.mean())
        delays.append(case.period / 60 * int(np.argmax(told)) if told.any() else math.inf)
    shares = np.array(shares)
    numbers = (shares.mean(), far, float(np.median(delays)))
    return Figure(numbers, "{:.1f} % / {:.1f} % / {:.0f} min", interval(len(shares), lambda files: shares[files].mean()))


def sigmoid(at):
    return 2 / (1 + math.exp(5 * at)) - 1


def numenta(cases, flags):
    """NAB's score, standard profile, of alerts that open (Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms",
    ICMLA 2015): the first one inside a window earns more the earlier it is, each one outside costs 0.11 and less right behind a
    window, a window without one costs 1. 0 is a detector that says nothing, 100 one that is right at once."""
    parts = []
    for case, flag in zip(cases, flags):
        total, found, false = 0.0, set(), 0
        for at in np.flatnonzero(rising(flag)):
            if at < case.train:
                continue
            inside = next((w for w in case.windows if w[0] <= at <= w[1]), None)
            if inside is not None:
                if inside not in found:
                    found.add(inside)
                    length = inside[1] - inside[0] + 1
                    total += sigmoid(-(inside[1] - at + 1) / length) / sigmoid(-1.0)
                continue
            false += 1
            before = [w for w in case.windows if w[1] < at]
            behind = (at - before[-1][1]) / max(before[-1][1] - before[-1][0], 1) if before else math.inf
            total += 0.11 * (sigmoid(behind) if behind <= 3 else -1.0)
        parts.append([total - (len(case.windows) - len(found)), len(case.windows), len(found), false])
    parts = np.array(parts, float)

    def score(files):
        total, windows = parts[files, 0].sum(), parts[files, 1].sum()
        return 100 * (total + windows) / max(2 * windows, 1)

    _, windows, found, false = parts.sum(axis=0)
    pattern = f"{{:.1f}}, {{:.0f}} of {windows:.0f} windows, {{:.0f}} false"
    return Figure((score(np.arange(len(cases))), found, false), pattern, interval(len(cases), score))


def achieved(cases, flags):
    """Alerts for each one that the budget allows, with the kind of series that has most, and the share of time in alert."""
    ratios, times, kinds = [], [], collections.defaultdict(list)
    for case, flag in zip(cases, flags):
        told = flag[case.train:]
        weeks = len(told) * case.period / WEEK
        ratios.append(rising(told).sum() / weeks / BUDGET)
        times.append(100 * told.mean())
        kinds[case.group].append(ratios[-1])
    ratios = np.array(ratios)
    worst = max(kinds, key=lambda kind: np.mean(kinds[kind]))
    numbers = (ratios.mean(), np.mean(kinds[worst]), np.mean(times))
    pattern = f"{{:.2f}} x, {worst} {{:.1f}} x, in alert {{:.1f}} %"
    return Figure(numbers, pattern, interval(len(cases), lambda files: ratios[files].mean()))


def by_kind(cases, flags):
    """Faults with an alert that opens in them, the kinds with some missed, and alerts that open outside them a week of a series."""
    found, false, weeks, missed = [], [], [], collections.Counter()
    for case, flag in zip(cases, flags):
        opens = np.flatnonzero(rising(flag))
        opens = opens[opens >= case.train]
        found.append(bool(case.labels[opens].any()))
        missed[case.group] += not found[-1]
        false.append(int((~case.labels[opens]).sum()))
        weeks.append((~case.labels[case.train:]).sum() * case.period / WEEK)
    found = np.array(found, float)
    kinds = ", ".join(f"{count} of {kind}" for kind, count in missed.items() if count) or "none"
    numbers = (found.sum(), sum(false) / sum(weeks))
    pattern = f"{{:.0f}} of {len(cases)} faults (missed: {kinds}), {{:.2f}} false alarms a week"
    return Figure(numbers, pattern, interval(len(cases), lambda files: found[files].mean() * len(cases)))
