"""Windows or images a second of each kind of network on two cores, beside the same module in PyTorch, turn by turn."""
import pathlib
import subprocess

from rig import median, progress

PARTS = pathlib.Path(__file__).resolve().parent
WINDOWS, IMAGES = "windows of 16 x 8", "grey images of 512 x 512"
KINDS = {**dict.fromkeys(("dense", "conv", "lstm", "vae", "conv_vae"), WINDOWS),
         **dict.fromkeys(("conv2d", "unet", "vae2d", "frame", "patch"), IMAGES)}
# No networks: there is no module to compare them with.
CLOSED_FORMS = ("frame", "patch")
REPEATS = {True: 3, False: 5}
SECONDS = {True: 1, False: 3}


def rate(*command):
    out = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
    return float(out.split()[-1])


def measure(rig, quick, python):
    for kind, of in KINDS.items():
        progress(f"kinds: {kind}")
        ours, theirs = [], []
        for _ in range(REPEATS[quick]):
            ours.append(rate(rig.bin / "examples/bench-kinds", kind, SECONDS[quick]))
            if python and kind not in CLOSED_FORMS:
                theirs.append(rate(python, PARTS / "kinds_peer.py", kind, SECONDS[quick]))
        ratio = median([a / b for a, b in zip(ours, theirs)]) if theirs else None
        beside = f", {ratio:.2f} x PyTorch" if ratio else ""
        found = f"{median(ours):,.1f} images/s" if of == IMAGES else f"{median(ours):,.0f} windows/s"
        yield dict(figure=f"kinds: {kind}, {of}", goal="not slower than PyTorch", measured=f"{found}{beside}",
                   met=ratio >= 1 if ratio else None, value=ratio)
