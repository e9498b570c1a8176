"""Simulated machines of eight kinds, 14 days, a record a minute; each has one labelled fault in its last days."""
import numpy as np

import sets

DAYS = 14
ROWS = DAYS * 1440
EACH = 4
TRAIN = 2000
FAULT = (11 * 1440 + 600, 11 * 1440 + 960)  # six hours of the twelfth day


def noise(rng, factor, sd):
    return sd * sets.autoregressive(ROWS, rng, factor)


def runs_of(rng, shortest, longest, states):
    """A state for each row, each held for a random time."""
    found, at, state = np.zeros(ROWS, int), 0, 0
    while at < ROWS:
        length = int(rng.integers(shortest, longest))
        found[at:at + length] = state
        at, state = at + length, (state + int(rng.integers(1, states))) % states
    return found


def on_off(rng, fault):
    """A heater that is on or off; when on it gives a tenth less."""
    on = runs_of(rng, 30, 180, 2) == 1
    level = np.where(on, 80 - 8.0 * fault, 20)
    return [level + noise(rng, 0.5, 1) * np.where(on, 2, 0.5)]


def products(rng, fault):
    """Four products, each with its own pressure, speed and temperature; the speed of one goes with the pressure of another."""
    product = runs_of(rng, 60, 400, 4)
    recipe = np.array([[40, 12, 180], [55, 30, 150], [70, 15, 210], [85, 34, 165]], float)
    levels = recipe[product]
    levels[fault, 1] = recipe[(product[fault] + 1) % 4, 1]
    lagged = np.empty_like(levels)
    last = levels[0].copy()
    for at, level in enumerate(levels):
        last += (level - last) / 4
        lagged[at] = last
    return [lagged[:, at] + noise(rng, 0.3, sd) for at, sd in enumerate((1.0, 0.8, 2.0))]


def pump_curve(rng, fault):
    """Flow, head and power of a pump over a wide range of speeds: they lie on a bent curve, which wear leaves by a little."""
    speed = np.clip(0.7 + 0.25 * sets.autoregressive(ROWS, rng, 0.995), 0.2, 1.2)
    flow, head = 100 * speed, 60 * speed**2 * (1 - 0.08 * fault)
    power = 30 * speed**3
    return [values + noise(rng, 0.2, sd) for values, sd in ((flow, 0.8), (head, 0.5), (power, 0.4))]


def weekends(rng, fault):
    """A load with a peak each noon, low on Saturdays and Sundays; a dip at the peak stays inside the range of values."""
    day, minute = np.arange(ROWS) // 1440, np.arange(ROWS) % 1440
    height = np.where(day % 7 < 5, 30, 8)
    return [50 + height * np.exp(-((minute - 780) / 220) ** 2) - 15 * fault + noise(rng, 0.7, 1.5)]


def trend(rng, fault):
    """A slow rise, and a step of three standard deviations."""
    return [100 + np.arange(ROWS) * 0.0005 + 3 * fault + noise(rng, 0.5, 1)]


def drift(rng, _fault):
    """Five standard deviations in five days."""
    rise = np.clip((np.arange(ROWS) - 9 * 1440) / (5 * 1440), 0, None)
    return [60 + 5 * rise + noise(rng, 0.8, 1)]


def frequency(rng, fault):
    """A cycle of 30 minutes that takes 18."""
    return [10 * np.sin(np.cumsum(2 * np.pi / np.where(fault, 18.0, 30.0))) + noise(rng, 0.3, 1)]


def variance(rng, fault):
    """Noise two and a half times as large."""
    return [20 + noise(rng, 0.3, 1) * np.where(fault, 2.5, 1)]


KINDS = {"on/off": on_off, "products": products, "pump curve": pump_curve, "weekends": weekends, "trend": trend, "drift": drift,
         "frequency": frequency, "variance": variance}


def machines(_data, work):
    cases = []
    for kind, make in KINDS.items():
        for number in range(EACH):
            rng = np.random.default_rng([sum(map(ord, kind)), number])
            first, last = (9 * 1440, ROWS) if kind == "drift" else FAULT
            labels = np.zeros(ROWS, bool)
            labels[first:last] = True
            values = np.round(np.stack(make(rng, labels), axis=1), 4)
            target = sets.write(work / f"machines/{kind.replace('/', '-')}-{number}.csv", values, sets.MINUTE)
            cases.append(sets.Case(kind, target, values, TRAIN, sets.MINUTE, labels, arguments=["--time-column", "time"]))
    return cases
