"""Writes dense_forward.json: a 3-4-2-4-3 tanh autoencoder with fixed weights, worked out without any library.

Run it in this folder (`python3 dense_forward.py`) after a change of the network's definition. Numbers are f64; the
gradients of the mean square error come from central differences.
"""

import json
import math

WIDTHS = [3, 4, 2, 4, 3]
NAMES = ["encoder.0", "encoder.1", "decoder.0", "decoder.1"]
INPUTS = [[0.5, -1.25, 2.0], [0.0, 0.0, 0.0], [-3.0, 0.75, 0.1], [50.0, -50.0, 1.0]]


def fixed_weights():
    weights, n = {}, 0
    for name, inputs, outputs in zip(NAMES, WIDTHS, WIDTHS[1:]):
        # Multiples of 1/64 are exact in f32.
        rows = []
        for _ in range(outputs):
            rows.append([((37 * (n := n + 1)) % 101 - 50) / 64 for _ in range(inputs)])
        weights[name + ".weight"] = rows
        weights[name + ".bias"] = [((29 * (n := n + 1)) % 41 - 20) / 64 for _ in range(outputs)]
    return weights


def forward(weights, x):
    """Gives the code and the reconstruction of one row."""
    code = None
    for i, name in enumerate(NAMES):
        w, b = weights[name + ".weight"], weights[name + ".bias"]
        x = [sum(wi * xi for wi, xi in zip(row, x)) + bias for row, bias in zip(w, b)]
        if i < len(NAMES) - 1:
            x = [math.tanh(v) for v in x]
        if name == "encoder.1":
            code = x
    return code, x


def loss(weights):
    errors = [(y - x) ** 2 for row in INPUTS[:3] for x, y in zip(row, forward(weights, row)[1])]
    return sum(errors) / len(errors)


def gradient(weights, name, h=1e-5):
    rows = []
    for row in weights[name]:
        slopes = []
        for j, value in enumerate(row):
            row[j] = value + h
            above = loss(weights)
            row[j] = value - h
            below = loss(weights)
            row[j] = value
            slopes.append((above - below) / (2 * h))
        rows.append(slopes)
    return rows


weights = fixed_weights()
results = [forward(weights, x) for x in INPUTS]
golden = {
    "hidden": [4],
    "latent": 2,
    "weights": weights,
    "inputs": INPUTS,
    "codes": [code for code, _ in results],
    "outputs": [output for _, output in results],
    "loss_of_first_three": loss(weights),
    "gradients": {name: gradient(weights, name) for name in ("encoder.0.weight", "decoder.1.weight")},
}
with open("dense_forward.json", "w") as file:
    json.dump(golden, file, indent=1)
    file.write("\n")
