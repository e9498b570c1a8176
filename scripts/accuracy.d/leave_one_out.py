"""Chooses the settings of the charts without the set that is judged: what a setting that was found on other data is worth on it.

Each candidate differs from the built-in settings by one value. For each set the candidate with the best mean utility on all other sets
is taken, and its figure on that set is reported beside that of the built-in settings, which have seen every set.
"""
import math

CANDIDATES = [
    [],
    ["defaults.score.ewma_weight=0.02"],
    ["defaults.score.ewma_weight=0.1"],
    ["defaults.score.clip_sigma=5"],
    ["defaults.score.clip_sigma=45"],
    ["defaults.score.shrinkage=0.003"],
    ["defaults.score.shrinkage=0.01"],
    ["defaults.score.shrinkage=0.1"],
    ["defaults.threshold.margin=1"],
    ["defaults.threshold.margin=1.6"],
]

# What a figure is worth, 0 to 1. Rows found count less the false-alarm rate, faults less what false alarms above the budget cost, and a
# rate of alerts less by how many doublings it is off the budget.
UTILITIES = {
    "skab": lambda numbers: numbers[0],
    "tep": lambda numbers: (numbers[0] - numbers[1]) / 100,
    "nab": lambda numbers: numbers[0] / 100,
    "ecg": lambda numbers: numbers[1],
    "machines": lambda numbers: numbers[0] / 32 - max(numbers[1] - 2, 0) / 10,
    "budget": lambda numbers: max(1 - abs(math.log2(max(numbers[0], 0.01))), 0),
}


def named(candidate):
    return " ".join(candidate).replace("defaults.", "") or "built-in"


def choose(figures, left_out):
    """The candidate with the best mean utility on all sets but one; `figures` holds the figure of each set for each candidate."""
    others = [name for name in figures if name != left_out]

    def worth(number):
        return sum(UTILITIES[name](figures[name][number].numbers) for name in others) / max(len(others), 1)

    return max(range(len(CANDIDATES)), key=worth)


def report(figures):
    """A line for each set."""
    lines = []
    for name in figures:
        chosen = choose(figures, name)
        lines.append((name, named(CANDIDATES[chosen]), figures[name][chosen].text(), figures[name][0].text()))
    return lines
