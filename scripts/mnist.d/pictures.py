"""Writes MNIST's test images as PNG files in the layout of MVTec AD, once for each digit that is the anomaly.

Usage: pictures.py MNIST_DIR FOLDER

Needs nothing but Python: a grey PNG is its rows, deflated.
"""

import gzip
import pathlib
import struct
import sys
import zlib


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes) -> bytes:
    rows = b"".join(b"\0" + pixels[y * width:(y + 1) * width] for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def read(path: pathlib.Path, magic: int) -> tuple[list[int], bytes]:
    data = gzip.decompress(path.read_bytes())
    found, = struct.unpack(">I", data[:4])
    if found != magic:
        sys.exit(f"{path} is no IDX file of that kind: it begins with {found}, {magic} is due")
    dimensions = magic & 0xFF
    sizes = list(struct.unpack(f">{dimensions}I", data[4:4 + 4 * dimensions]))
    return sizes, data[4 + 4 * dimensions:]


def main() -> None:
    source, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    (count, height, width), pixels = read(source / "t10k-images-idx3-ubyte.gz", 2051)
    _, labels = read(source / "t10k-labels-idx1-ubyte.gz", 2049)
    images = [png(width, height, pixels[i * width * height:(i + 1) * width * height]) for i in range(count)]
    for anomaly in range(10):
        for number, (image, label) in enumerate(zip(images, labels)):
            # Every other image of a normal digit is learned from.
            if label == anomaly:
                folder = out / f"digit-{anomaly}" / "test" / "anomaly"
            elif number % 2 == 0:
                folder = out / f"digit-{anomaly}" / "train" / "good"
            else:
                folder = out / f"digit-{anomaly}" / "test" / "good"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:05}.png").write_bytes(image)


if __name__ == "__main__":
    main()
