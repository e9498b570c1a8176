"""Writes KIND.safetensors for each kind of network: weights, inputs, codes, reconstructions and gradients by PyTorch.

The modules are written as a PyTorch user would write them, from torch.nn alone; outlierd has to give the same numbers. See
README.md for how to run it.
"""

import pathlib

import torch
from torch import nn

WINDOW, FIELDS, HIDDEN, LATENT, KERNEL, SAMPLES, ROWS = 7, 3, (6, 4), 2, 3, 4, 5


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


def plain(body, x):
    """Code, reconstruction, and the loss of each row that training makes small."""
    code = torch.tanh(body.encode(x))
    y = body.decode(code)
    return code, y, ((y - x) ** 2).mean(1)


def variational(body, x, draws, normal):
    mean, log_variance = body.encode(x).chunk(2, dim=1)
    codes = mean[:, None] + (log_variance / 2).exp()[:, None] * draws
    y = body.decode(codes.flatten(0, 1)).view(len(x), SAMPLES, WINDOW * FIELDS).mean(1)
    once = body.decode(mean + (log_variance / 2).exp() * normal)
    error = ((once - x) ** 2).mean(1)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    divergence = torch.distributions.kl_divergence(posterior, prior).sum(1)
    return mean, y, error + 2 * error.detach().mean() / (WINDOW * FIELDS) * divergence


def name(parameter):
    """nn.LSTM numbers its layers; here each layer is a module of its own."""
    return parameter.replace("_l0", "")


def write(kind, body, is_variational):
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(7)
    x = torch.randn(ROWS, WINDOW * FIELDS, generator=generator)
    fixture = {"x": x}
    if is_variational:
        draws = torch.randn(SAMPLES, LATENT, generator=generator)
        fixture["normal"] = torch.randn(ROWS, LATENT, generator=generator)
        fixture["weights.draws"] = draws
        code, y, losses = variational(body, x, draws, fixture["normal"])
    else:
        code, y, losses = plain(body, x)
    losses.mean().backward()
    fixture |= {"code": code, "y": y, "losses": losses}
    for key, parameter in body.named_parameters():
        fixture[f"weights.{name(key)}"] = parameter
        fixture[f"gradients.{name(key)}"] = parameter.grad
    fixture = {key: value.detach().clone().contiguous() for key, value in fixture.items()}
    save_file(fixture, pathlib.Path(__file__).with_name(f"{kind}.safetensors"))


KINDS = {"dense": (Dense, False), "conv": (Conv, False), "lstm": (Lstm, False), "vae": (Dense, True), "conv_vae": (Conv, True)}

if __name__ == "__main__":
    for kind, (body, is_variational) in KINDS.items():
        torch.manual_seed(0)
        write(kind, body(2 * LATENT if is_variational else LATENT), is_variational)
