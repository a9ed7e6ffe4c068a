"""Files of every kind that asnet reads, damaged at random from fixed seeds: each is read or refused.

Run as a program it tries many: python tests/mutated_files.py --count 10000
"""

import argparse
import faulthandler
import random
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy
import tifffile
import torch
from PIL import Image, features

from asnet.errors import AsnetError
from asnet.imaging import read_kernel, read_photograph, write_photograph
from asnet.imaging.containers import Chunk, Segment, with_chunks, with_segments
from asnet.imaging.exif import RATIONAL, SHORT, Entry, Exif
from asnet.networks import ASNetConfig, DeblurNetwork, IteratedAnalysisConfig, load_networks, save_weights
from asnet.networks.keras_weights import read_keras_file
from asnet.training.recipe import TrainingConfig
from asnet.training.recipe_tables import read_toml

#: Limits for one damaged file: seconds, and bytes beyond what the process holds.
LONGEST, LARGEST = 20.0, 2**31

_RANDOM = numpy.random.default_rng(1)
_COLOUR = _RANDOM.integers(0, 256, (24, 32, 3), dtype=numpy.uint8)
_DEEP = _RANDOM.integers(0, 65536, (24, 32, 3), dtype=numpy.uint16)


def _exif() -> Exif:
    words = Entry(2, 6, b"Maker\0")
    ratio = Entry(RATIONAL, 1, struct.pack("<II", 300, 1))
    return Exif(
        main={271: words, 274: Entry(SHORT, 1, b"\6\0"), 282: ratio, 283: ratio},
        camera={33434: ratio, 37500: Entry(7, 9, b"makernote"), 40962: Entry(SHORT, 1, b"\x20\0")},
        position={2: Entry(RATIONAL, 3, struct.pack("<6I", 48, 1, 7, 1, 30, 1))},
        interoperability={1: Entry(2, 4, b"R98\0")},
    )


def _encoded(file_format: str, values: Any = _COLOUR, **options: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(values).save(buffer, file_format, **options)
    return buffer.getvalue()


def _tiff(values: Any, **options: Any) -> bytes:
    buffer = BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **options)
    return buffer.getvalue()


def _weights(folder: Path) -> bytes:
    synthesis = replace(
        ASNetConfig.compact().synthesis,
        kernel_size=7,
        channels=(4, 6),
        convolutions_per_block=1,
        guide_hidden=5,
    )
    torch.manual_seed(0)
    network = DeblurNetwork(ASNetConfig(IteratedAnalysisConfig(kernel_size=7, refiner_channels=4), synthesis))
    path = folder / "weights.safetensors"
    save_weights(path, network, training_data="nothing", revision="1")
    return path.read_bytes()


def _keras(folder: Path) -> bytes:
    import h5py

    path = folder / "weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv2d", b"dense"]
        for name, shape in (("conv2d", (3, 3, 3, 4)), ("dense", (9, 5))):
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
            inner = group.create_group(name)
            inner.create_dataset("kernel:0", data=numpy.ones(shape, numpy.float32))
            inner.create_dataset("bias:0", data=numpy.ones(shape[-1], numpy.float32))
    return path.read_bytes()


_RECIPE = b"""data = "photographs"
epochs = 10
learning_rate = 1e-3
batch_size = 4
[network]
analysis.kernel_size = 31
synthesis.kernel_size = 31
[kernels]
canvas = 31
[degradation]
noise = [0.0, 0.02]
"""


def _photograph(path: Path) -> None:
    photograph = read_photograph(path)
    for suffix in (".tif", ".jpg", ".png", ".webp"):
        target = path.with_name(f"result{suffix}")
        write_photograph(target, photograph)
        again = read_photograph(target)
        assert again.pixels.shape[1:] == photograph.pixels.shape[1:]


def _recipe(path: Path) -> None:
    TrainingConfig.from_table("joint", read_toml(path))


def samples(folder: Path) -> dict[str, tuple[bytes, Callable[[Path], object]]]:
    """Return a sound file of every kind by name, with its reader."""
    exif = _exif()
    segments = [
        Segment(0xE1, b"Exif\0\0" + exif.to_bytes()),
        Segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'),
        Segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0c\x1c\x02x\0\x07caption"),
        Segment(0xFE, b"comment"),
    ]
    chunks = [
        Chunk(b"eXIf", exif.to_bytes()),
        Chunk(b"gAMA", struct.pack(">I", 45455)),
        Chunk(b"zTXt", b"Title\0\0" + zlib.compress(b"words")),
        Chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"),
        Chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1)),
    ]
    tags = [(271, 2, 6, b"Maker\0", True), (700, 1, 4, b"<x/>", True)]
    kernel = numpy.zeros((7, 7))
    kernel[3, 1:6] = 1
    numbers = BytesIO()
    numpy.save(numbers, kernel)
    deep = _tiff(_DEEP, photometric="rgb", compression="zlib", extratags=tags, resolution=(300, 300))
    pictures: dict[str, bytes] = {
        "a.jpg": with_segments(_encoded("JPEG"), segments),
        "progressive.jpg": _encoded("JPEG", progressive=True),
        "deep.jpg": bytes(imagecodecs.jpeg8_encode(_DEEP >> 4, bitspersample=12)),
        "lossless.jpg": bytes(imagecodecs.jpeg8_encode(_DEEP, lossless=True, bitspersample=16)),
        "a.png": with_chunks(_encoded("PNG"), chunks),
        "palette.png": _encoded("PNG", numpy.asarray(Image.fromarray(_COLOUR).quantize(16))),
        "deep.png": with_chunks(bytes(imagecodecs.png_encode(_DEEP)), chunks),
        "a.tif": _encoded("TIFF", exif=b"Exif\0\0" + exif.to_bytes(), dpi=(300, 300)),
        "lzw.tif": _encoded("TIFF", compression="tiff_lzw"),
        "deep.tif": deep,
        "float.tif": _tiff((_DEEP / numpy.float32(65535)).astype(numpy.float32), photometric="rgb"),
        "a.webp": _encoded("WEBP", exif=b"Exif\0\0" + exif.to_bytes(), xmp=b"<x/>"),
    }
    if features.check("avif"):
        pictures["a.avif"] = _encoded("AVIF")
    found: dict[str, tuple[bytes, Callable[[Path], object]]] = {
        name: (data, _photograph) for name, data in pictures.items()
    }
    found["kernel.npy"] = numbers.getvalue(), read_kernel
    found["kernel.png"] = _encoded("PNG", (kernel * 65535).astype(numpy.uint16)), read_kernel
    found["kernel.tif"] = _tiff((kernel * 65535).astype(numpy.uint16), byteorder=">"), read_kernel
    found["weights.safetensors"] = _weights(folder), load_networks
    found["weights.h5"] = _keras(folder), read_keras_file
    found["recipe.toml"] = _RECIPE, _recipe
    return found


def mutated(data: bytes, generator: random.Random) -> bytes:
    """Return the file with one to four kinds of damage."""
    result = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 4))):
        kind = generator.randrange(7)
        # Most fields are in headers.
        place = generator.randrange(min(len(result), 400) if generator.random() < 0.7 else len(result))
        if kind == 0:
            result[place] ^= 1 << generator.randrange(8)
        elif kind == 1:
            result[place] = generator.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            length = generator.choice((2, 4, 8))
            result[place : place + length] = generator.choice((b"\0", b"\xff", b"\x7f")) * length
        elif kind == 3:
            del result[place + 1 :]
        elif kind == 4:
            del result[place : place + generator.randrange(1, 40)]
        elif kind == 5:
            result[place:place] = generator.randbytes(generator.randrange(1, 40))
        else:
            other = generator.randrange(len(result))
            length = generator.randrange(1, 40)
            result[place : place + length] = result[other : other + length]
        if not result:
            break
    return bytes(result)


def restored_checksums(data: bytes) -> bytes:
    """Return a PNG file with valid checksums: wrong ones would hide the damage from the reader."""
    result = bytearray(data[:8])
    place = 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if place + 12 + length > len(data):
            break
        content = data[place + 4 : place + 8 + length]
        result += data[place : place + 4] + content + struct.pack(">I", zlib.crc32(content))
        place += 12 + length
    return bytes(result + data[place:])


def inputs(folder: Path, count: int, seed: int) -> Iterator[tuple[str, bytes, Callable[[Path], object]]]:
    """Yield `count` damaged files: a name of number and kind, the content, and its reader."""
    kinds = list(samples(folder).items())
    for index in range(count):
        name, (data, read) = kinds[index % len(kinds)]
        generator = random.Random(f"{seed} {index}")
        damaged = mutated(data, generator)
        if name.endswith(".png") and generator.random() < 0.7:
            damaged = restored_checksums(damaged)
        yield f"{index}-{name}", damaged, read


def failure(folder: Path, name: str, data: bytes, read: Callable[[Path], object]) -> str | None:
    """Read one damaged file; return what went wrong, or None."""
    path = folder / name
    path.write_bytes(data)
    started = time.monotonic()
    # If a C library never returns, its stack goes to standard error and the file stays in the folder.
    faulthandler.dump_traceback_later(3 * LONGEST, exit=True)
    try:
        read(path)
    except AsnetError as error:
        if "\n" in str(error) or not str(error):
            return f"the message is no sentence: {error!s}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        faulthandler.cancel_dump_traceback_later()
        path.unlink()
    seconds = time.monotonic() - started
    return f"took {seconds:.0f} s" if seconds > LONGEST else None


def limit_memory() -> None:
    """Limit the process to LARGEST bytes beyond what it holds; larger allocations fail."""
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + LARGEST,) * 2)


def main() -> int:
    """Try many damaged files; return 1 if one is neither read nor refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that fail")
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        # Sound files are read first: they must be readable, and libraries loaded on the way do not count.
        for name, (data, read) in samples(Path(folder)).items():
            path = Path(folder) / name
            path.write_bytes(data)
            read(path)
        limit_memory()
        started = time.monotonic()
        for name, data, read in inputs(Path(folder), arguments.count, arguments.seed):
            found = failure(Path(folder), name, data, read)
            if found is not None:
                failed += 1
                print(f"{name}: {found}", flush=True)
                if arguments.keep is not None:
                    arguments.keep.mkdir(exist_ok=True)
                    (arguments.keep / name).write_bytes(data)
    seconds = time.monotonic() - started
    print(f"{arguments.count} damaged files from seed {arguments.seed}, {failed} failures, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
