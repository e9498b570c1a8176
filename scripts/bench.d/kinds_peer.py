"""Windows a second that one kind of network reconstructs in PyTorch, or images a second of which a kind over tiles finds error
map and peaks, in two processes of one thread each (faster than two threads of one process). usage: kinds_peer.py KIND SECONDS

The modules over windows are those of tests/golden, the sizes those of kinds.rs. Those over tiles are laid out channels last, as
PyTorch advises for convolutions on a CPU: about twice as fast as without. An image is a batch of its own.
"""

import multiprocessing
import pathlib
import sys
import time

import torch
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/golden"))
sys.dont_write_bytecode = True

import networks  # noqa: E402

F = nn.functional
BATCH, LANES, SAMPLES = 1024, 2, 8
PICTURE, TILE, OVERLAP, CHANNELS, LATENT, KERNEL = 512, 64, 16, (8, 16, 32, 32), 64, 3
MEAN, SD, CLIP = 0.5, 0.25, 50.0
BOXES = (3, 7, 15, 31)


class Conv2d(nn.Module):
    def __init__(self, codes):
        super().__init__()
        pairs = list(zip((1, *CHANNELS), CHANNELS))
        self.deepest = (CHANNELS[-1], TILE >> len(CHANNELS), TILE >> len(CHANNELS))
        inputs = self.deepest[0] * self.deepest[1] * self.deepest[2]
        self.encoder = nn.ModuleList(nn.Conv2d(a, b, KERNEL, stride=2, padding=KERNEL // 2) for a, b in pairs)
        self.code = nn.Linear(inputs, codes)
        self.expand = nn.Linear(LATENT, inputs)
        self.decoder = nn.ModuleList(nn.Conv2d(b, a, KERNEL, padding=KERNEL // 2) for a, b in reversed(pairs))

    def encode(self, x):
        for layer in self.encoder:
            x = F.relu(layer(x), inplace=True)
        return self.code(x.flatten(1))

    def decode(self, code):
        x = F.relu(self.expand(code), inplace=True).unflatten(1, self.deepest)
        x = x.contiguous(memory_format=torch.channels_last)
        for i, layer in enumerate(self.decoder):
            x = layer(F.interpolate(x, scale_factor=2, mode="nearest"))
            if i < len(self.decoder) - 1:
                x = F.relu(x, inplace=True)
        return x


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        pairs = list(zip((1, *CHANNELS), CHANNELS))
        strides = [1] + [2] * (len(CHANNELS) - 1)
        self.encoder = nn.ModuleList(
            nn.Conv2d(a, b, KERNEL, stride=stride, padding=KERNEL // 2) for (a, b), stride in zip(pairs, strides)
        )
        self.decoder = nn.ModuleList(nn.Conv2d(a + b, a, KERNEL, padding=KERNEL // 2) for a, b in reversed(pairs[1:]))
        self.out = nn.Conv2d(CHANNELS[0], 1, KERNEL, padding=KERNEL // 2)

    def forward(self, x):
        seen = []
        for layer in self.encoder:
            x = F.relu(layer(x), inplace=True)
            seen.append(x)
        for layer, skip in zip(self.decoder, reversed(seen[:-1])):
            up = F.interpolate(x, scale_factor=2, mode="nearest")
            x = F.relu(layer(torch.cat([up, skip], 1)), inplace=True)
        return self.out(x)


class Tiling:
    """Overlapping tiles of a picture, spread evenly."""

    def __init__(self):
        steps = -(-(PICTURE - TILE) // (TILE - OVERLAP))
        self.starts = [(PICTURE - TILE) * step // steps for step in range(steps + 1)]
        self.count = len(self.starts)
        self.places = torch.cat([torch.arange(start, start + TILE) for start in self.starts])
        inside = torch.arange(1.0, TILE + 1)
        inside = torch.minimum(inside, inside.flip(0)).clamp(max=OVERLAP + 1).repeat(self.count)
        share = inside / torch.zeros(PICTURE).index_add_(0, self.places, inside)[self.places]
        share = share.view(self.count, TILE)
        self.shares = share[:, None, :, None] * share[None, :, None, :]

    def cut(self, picture):
        tiles = picture.index_select(0, self.places).index_select(1, self.places)
        return tiles.view(self.count, TILE, self.count, TILE).transpose(1, 2).reshape(-1, 1, TILE, TILE)

    def assemble(self, tiles):
        """Where tiles overlap, their mean, weighted by how far inside of each a pixel lies."""
        weighted = tiles.reshape(self.shares.shape) * self.shares
        bands, picture = torch.zeros(self.count, TILE, PICTURE), torch.zeros(PICTURE, PICTURE)
        for column, left in enumerate(self.starts):
            bands[:, :, left : left + TILE] += weighted[:, column]
        for band, top in zip(bands, self.starts):
            picture[top : top + TILE] += band
        return picture


class Peaks:
    """The highest mean over boxes of each side, as far as they lie in the picture, and the mean of all, from sums over
    rectangles (avg_pool2d takes 31 x 31 steps a pixel, many times as long)."""

    def __init__(self):
        self.margin = BOXES[-1] // 2 + 1
        self.areas = {side: self.sums(self.table(torch.ones(PICTURE, PICTURE)), side) for side in BOXES}

    def table(self, values):
        return F.pad(values.double(), (self.margin,) * 4).cumsum(0).cumsum(1)

    def sums(self, table, side):
        low, high = self.margin - side // 2 - 1, self.margin + side // 2
        rows = table[high : high + PICTURE] - table[low : low + PICTURE]
        return rows[:, high : high + PICTURE] - rows[:, low : low + PICTURE]

    def of(self, errors):
        table = self.table(errors)
        highest = [(self.sums(table, side) / self.areas[side]).amax() for side in BOXES]
        return torch.stack([*highest, errors.mean(dtype=torch.float64)]).clamp(min=1e-12).log()


def through_code(body, is_variational, draws):
    """The reconstruction by a code, or the mean of those by the codes that are drawn."""

    def reconstruct(x):
        if not is_variational:
            return body.decode(torch.tanh(body.encode(x)))
        mean, log_variance = body.encode(x).chunk(2, dim=1)
        codes = mean[:, None] + (log_variance / 2).exp()[:, None] * draws
        return body.decode(codes.flatten(0, 1)).unflatten(0, (len(x), SAMPLES)).mean(1)

    return reconstruct


def windows(kind):
    """What reconstructs a batch of windows."""
    networks.WINDOW, networks.FIELDS, networks.HIDDEN, networks.LATENT = 16, 8, (32,), 8
    networks.KERNEL, networks.SAMPLES = 5, SAMPLES
    body, is_variational = networks.KINDS[kind]
    body = body(2 * networks.LATENT if is_variational else networks.LATENT).eval()
    x = torch.sin(torch.arange(BATCH * 128) * 0.37).view(BATCH, 128)
    reconstruct = through_code(body, is_variational, torch.randn(SAMPLES, networks.LATENT))
    return lambda: reconstruct(x)


def tile_network(kind):
    body = Unet() if kind == "unet" else Conv2d(2 * LATENT if kind == "vae2d" else LATENT)
    body = body.eval().to(memory_format=torch.channels_last)
    return body if kind == "unet" else through_code(body, kind == "vae2d", torch.randn(SAMPLES, LATENT))


def image(reconstruct):
    """What takes a picture to the peaks of its error map."""
    tiling, peaks = Tiling(), Peaks()
    pixels = 0.5 + 0.5 * torch.sin(torch.arange(PICTURE * PICTURE) * 0.37).view(PICTURE, PICTURE)

    def work():
        scaled = ((pixels - MEAN) / SD).clamp(-CLIP, CLIP)
        tiles = tiling.cut(scaled).contiguous(memory_format=torch.channels_last)
        return peaks.of((scaled - tiling.assemble(reconstruct(tiles))).square())

    return work


IMAGES = ("conv2d", "unet", "vae2d")


def lane(kind, seconds, start):
    torch.set_num_threads(1)
    work, of = (image(tile_network(kind)), 1) if kind in IMAGES else (windows(kind), BATCH)
    with torch.inference_mode():
        for _ in range(3):
            work()
        start.wait()
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            work()
            done += of
    return done / (time.perf_counter() - began)


def main(kind, seconds):
    with multiprocessing.get_context("spawn").Manager() as manager:
        start = manager.Barrier(LANES)
        with multiprocessing.get_context("spawn").Pool(LANES) as pool:
            rates = pool.starmap(lane, [(kind, seconds, start)] * LANES)
    print(f"{sum(rates):.2f}")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
