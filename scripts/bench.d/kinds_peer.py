"""Windows a second that one kind of network reconstructs in PyTorch, in two processes of one thread each (faster than two
threads of one process). usage: kinds_peer.py KIND SECONDS

The modules are those of tests/golden, the sizes those of kinds.rs.
"""

import multiprocessing
import pathlib
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/golden"))
sys.dont_write_bytecode = True

import networks  # noqa: E402

BATCH, LANES = 1024, 2


def lane(kind, seconds, start):
    torch.set_num_threads(1)
    networks.WINDOW, networks.FIELDS, networks.HIDDEN, networks.LATENT = 16, 8, (32,), 8
    networks.KERNEL, networks.SAMPLES = 5, 8
    body, is_variational = networks.KINDS[kind]
    body = body(2 * networks.LATENT if is_variational else networks.LATENT).eval()
    x = torch.sin(torch.arange(BATCH * 128) * 0.37).view(BATCH, 128)
    draws = torch.randn(networks.SAMPLES, networks.LATENT)

    def reconstruct():
        if not is_variational:
            return body.decode(torch.tanh(body.encode(x)))
        mean, log_variance = body.encode(x).chunk(2, dim=1)
        codes = mean[:, None] + (log_variance / 2).exp()[:, None] * draws
        return body.decode(codes.flatten(0, 1)).view(len(x), networks.SAMPLES, -1).mean(1)

    with torch.inference_mode():
        for _ in range(3):
            reconstruct()
        start.wait()
        began, windows = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            reconstruct()
            windows += BATCH
    return windows / (time.perf_counter() - began)


def main(kind, seconds):
    with multiprocessing.get_context("spawn").Manager() as manager:
        start = manager.Barrier(LANES)
        with multiprocessing.get_context("spawn").Pool(LANES) as pool:
            rates = pool.starmap(lane, [(kind, seconds, start)] * LANES)
    print(f"{sum(rates):.0f}")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
