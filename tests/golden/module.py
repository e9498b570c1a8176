"""Modules for tests/torchscript.rs and tests/images.rs. See README.md."""

import torch
from torch import nn


class Line(nn.Module):
    """[rows, window, 2] to the same: the part along (1, slope), as a linear autoencoder of one code gives it."""

    def __init__(self, slope: float = 1.0):
        super().__init__()
        direction = torch.tensor([1.0, slope])
        self.register_buffer("direction", direction / direction.norm())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.direction).unsqueeze(-1) * self.direction


class Blur(nn.Module):
    """Tiles of an image, [rows, channels, side, side], to the mean around each pixel: what is small does not come back."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(x, 9, 1, 4, count_include_pad=False)


class Batch(nn.Module):
    """What a row becomes depends on the other rows: outlierd refuses it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(dim=0, keepdim=True)


class Short(nn.Module):
    """Gives one record in place of the window: outlierd refuses it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, -1:]


class Pyramid(nn.Module):
    """A backbone: means of cells of 16 pixels, and how far the pixels of cells of 32 are from theirs."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = nn.functional.avg_pool2d(x, 32)
        return nn.functional.avg_pool2d(x, 16), (nn.functional.avg_pool2d(x * x, 32) - mean * mean).clamp(min=0).sqrt()


if __name__ == "__main__":
    import pathlib
    import zipfile

    for module in (Batch, Short, Pyramid):
        path = pathlib.Path(__file__).with_name(f"{module.__name__.lower()}.pt")
        torch.jit.script(module().eval()).save(str(path))
        with zipfile.ZipFile(path) as archive:
            entries = [(name, archive.read(name)) for name in archive.namelist() if not name.endswith(".debug_pkl")]
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, content in entries:
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
