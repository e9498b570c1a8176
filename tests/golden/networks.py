"""Writes KIND.safetensors for each kind of network: weights, inputs, codes, reconstructions and gradients by PyTorch.

The modules are written as a PyTorch user would write them, from torch.nn alone; outlierd has to give the same numbers. See
README.md for how to run it.
"""

import math
import pathlib

import torch
from torch import nn

WINDOW, FIELDS, HIDDEN, LATENT, KERNEL, SAMPLES, ROWS = 7, 3, (6, 4), 2, 3, 4, 5
# A side that is even once and odd once on its way down.
TILE, TILE_HIDDEN, UNET_HIDDEN = 10, (4, 6), (4, 5, 6)


class Dense(nn.Module):
    def __init__(self, codes):
        super().__init__()
        encoder, decoder = [WINDOW * FIELDS, *HIDDEN, codes], [LATENT, *reversed(HIDDEN), WINDOW * FIELDS]
        self.encoder = nn.ModuleList(nn.Linear(a, b) for a, b in zip(encoder, encoder[1:]))
        self.decoder = nn.ModuleList(nn.Linear(a, b) for a, b in zip(decoder, decoder[1:]))

    def encode(self, x):
        for layer in self.encoder[:-1]:
            x = torch.tanh(layer(x))
        return self.encoder[-1](x)

    def decode(self, code):
        for layer in self.decoder[:-1]:
            code = torch.tanh(layer(code))
        return self.decoder[-1](code)


class Conv(nn.Module):
    def __init__(self, codes):
        super().__init__()
        channels = [FIELDS, *HIDDEN]
        self.lengths = [WINDOW]
        for _ in HIDDEN:
            self.lengths.append((self.lengths[-1] + 1) // 2)
        deepest = channels[-1] * self.lengths[-1]
        pairs = list(zip(channels, channels[1:]))
        self.encoder = nn.ModuleList(nn.Conv1d(a, b, KERNEL, stride=2, padding=KERNEL // 2) for a, b in pairs)
        self.code = nn.Linear(deepest, codes)
        self.expand = nn.Linear(LATENT, deepest)
        self.decoder = nn.ModuleList(nn.Conv1d(b, a, KERNEL, padding=KERNEL // 2) for a, b in reversed(pairs))

    def encode(self, x):
        x = x.view(-1, WINDOW, FIELDS).transpose(1, 2)
        for layer in self.encoder:
            x = torch.tanh(layer(x))
        return self.code(x.flatten(1))

    def decode(self, code):
        x = torch.tanh(self.expand(code)).view(-1, HIDDEN[-1], self.lengths[-1])
        for i, layer in enumerate(self.decoder):
            x = layer(nn.functional.interpolate(x, size=self.lengths[-2 - i], mode="nearest"))
            if i < len(self.decoder) - 1:
                x = torch.tanh(x)
        return x.transpose(1, 2).flatten(1)


class Lstm(nn.Module):
    def __init__(self, codes):
        super().__init__()
        encoder, decoder = [FIELDS, *HIDDEN], [LATENT, *reversed(HIDDEN)]
        self.encoder = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in zip(encoder, encoder[1:]))
        self.code = nn.Linear(HIDDEN[-1], codes)
        self.decoder = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in zip(decoder, decoder[1:]))
        self.output = nn.Linear(HIDDEN[0], FIELDS)

    def encode(self, x):
        x = x.view(-1, WINDOW, FIELDS)
        for layer in self.encoder:
            x, (last, _) = layer(x)
        return self.code(last[0])

    def decode(self, code):
        x = code[:, None].expand(-1, WINDOW, -1)
        for layer in self.decoder:
            x, _ = layer(x)
        return self.output(x).flatten(1)


def twice(x, side):
    """Each pixel as a block of four; where the side is odd, the last row and column of blocks are cut."""
    return nn.functional.interpolate(x, scale_factor=2, mode="nearest")[:, :, :side, :side]


class Conv2d(nn.Module):
    def __init__(self, channels, codes=LATENT):
        super().__init__()
        widths = [channels, *TILE_HIDDEN]
        self.sides = [TILE]
        for _ in TILE_HIDDEN:
            self.sides.append((self.sides[-1] + 1) // 2)
        self.deepest = (widths[-1], self.sides[-1], self.sides[-1])
        pairs = list(zip(widths, widths[1:]))
        self.encoder = nn.ModuleList(nn.Conv2d(a, b, KERNEL, stride=2, padding=KERNEL // 2) for a, b in pairs)
        self.code = nn.Linear(math.prod(self.deepest), codes)
        self.expand = nn.Linear(LATENT, math.prod(self.deepest))
        self.decoder = nn.ModuleList(nn.Conv2d(b, a, KERNEL, padding="same") for a, b in reversed(pairs))

    def encode(self, x):
        x = x.unflatten(1, (-1, TILE, TILE))
        for layer in self.encoder:
            x = torch.relu(layer(x))
        return self.code(x.flatten(1))

    def decode(self, code):
        x = self.expand(code).unflatten(1, self.deepest)
        for layer, side in zip(self.decoder, reversed(self.sides[:-1])):
            x = layer(twice(torch.relu(x), side))
        return x.flatten(1)


class Unet(nn.Module):
    def __init__(self, channels):
        super().__init__()
        pairs = list(zip(UNET_HIDDEN, UNET_HIDDEN[1:]))
        halving = [nn.Conv2d(a, b, KERNEL, stride=2, padding=KERNEL // 2) for a, b in pairs]
        self.encoder = nn.ModuleList([nn.Conv2d(channels, UNET_HIDDEN[0], KERNEL, padding="same"), *halving])
        self.decoder = nn.ModuleList(nn.Conv2d(b + a, a, KERNEL, padding="same") for a, b in reversed(pairs))
        self.out = nn.Conv2d(UNET_HIDDEN[0], channels, KERNEL, padding="same")

    def forward(self, x):
        x, skips = x.unflatten(1, (-1, TILE, TILE)), []
        for layer in self.encoder:
            x = torch.relu(layer(x))
            skips.append(x)
        skips.pop()
        for layer in self.decoder:
            skip = skips.pop()
            x = torch.relu(layer(torch.cat([twice(x, skip.shape[-1]), skip], dim=1)))
        return self.out(x).flatten(1)


def plain(body, x):
    """Code, reconstruction, and the loss of each row that training makes small."""
    code = None if isinstance(body, Unet) else torch.tanh(body.encode(x))
    y = body(x) if code is None else body.decode(code)
    return code, y, ((y - x) ** 2).mean(1)


def variational(body, x, draws, normal):
    mean, log_variance = body.encode(x).chunk(2, dim=1)
    codes = mean[:, None] + (log_variance / 2).exp()[:, None] * draws
    y = body.decode(codes.flatten(0, 1)).view(len(x), SAMPLES, -1).mean(1)
    once = body.decode(mean + (log_variance / 2).exp() * normal)
    error = ((once - x) ** 2).mean(1)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    divergence = torch.distributions.kl_divergence(posterior, prior).sum(1)
    return mean, y, error + 2 * error.detach().mean() / x.shape[1] * divergence


def wake(body):
    """PyTorch's own start leaves rectified layers nearly silent, and what is silent is not compared."""
    for parameter in body.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return body


def name(parameter):
    """nn.LSTM numbers its layers; here each layer is a module of its own."""
    return parameter.replace("_l0", "")


def write(kind, body, is_variational, inputs):
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(7)
    x = torch.randn(ROWS, inputs, generator=generator)
    fixture = {"x": x}
    if is_variational:
        draws = torch.randn(SAMPLES, LATENT, generator=generator)
        fixture["normal"] = torch.randn(ROWS, LATENT, generator=generator)
        fixture["weights.draws"] = draws
        code, y, losses = variational(body, x, draws, fixture["normal"])
    else:
        code, y, losses = plain(body, x)
    losses.mean().backward()
    fixture |= {"y": y, "losses": losses}
    if code is not None:
        fixture["code"] = code
    for key, parameter in body.named_parameters():
        fixture[f"weights.{name(key)}"] = parameter
        fixture[f"gradients.{name(key)}"] = parameter.grad
    fixture = {key: value.detach().clone().contiguous() for key, value in fixture.items()}
    save_file(fixture, pathlib.Path(__file__).with_name(f"{kind}.safetensors"))


KINDS = {"dense": (Dense, False), "conv": (Conv, False), "lstm": (Lstm, False), "vae": (Dense, True), "conv_vae": (Conv, True)}
# Each with its channels.
TILE_KINDS = {"conv2d": (Conv2d, False, 3), "unet": (Unet, False, 1), "vae2d": (Conv2d, True, 1)}

if __name__ == "__main__":
    for kind, (body, is_variational) in KINDS.items():
        torch.manual_seed(0)
        write(kind, body(2 * LATENT if is_variational else LATENT), is_variational, WINDOW * FIELDS)
    for kind, (body, is_variational, channels) in TILE_KINDS.items():
        torch.manual_seed(0)
        body = body(channels, 2 * LATENT) if is_variational else body(channels)
        write(kind, wake(body), is_variational, TILE * TILE * channels)
