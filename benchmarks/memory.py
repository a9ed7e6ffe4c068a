"""Peak memory of `asnet deblur` for large photographs, and the error at the seams of their tiles.

The photographs are built from the repository's example: the sharp picture, enlarged and mirrored to the size,
blurred by the example's kernel, with noise, stored as JPEG. A separate process deblurs each of them blind;
its peak resident size is reported.

Then one photograph is deblurred with the known kernel, untiled and in tiles. The difference is measured at
the seams, where blocks of tiles are blended, and elsewhere.

    python benchmarks/memory.py
    python benchmarks/memory.py --sizes 6000x4000 --seams 0x0 --dry-run
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measure import RESULTS, environment, save
from PIL import Image
from torch import Tensor
from torch.nn import functional

from asnet.data import DegradationConfig, degrade
from asnet.deblurring.tiled_synthesis import Part, TiledSynthesis, joined
from asnet.deblurring.tiles import FADE
from asnet.imaging import Photograph, quantised, read_kernel, read_photograph, unit_range, write_photograph
from asnet.networks import DeblurNetwork, load_networks
from asnet.pretrained import find_weights

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

#: Sizes of the photographs, and the memory limit of each in MB (10^6).
SIZES = {"4032x3024": 2000, "6000x4000": 2000, "11600x8700": 4000}

#: Larger than a block of the deconvolution, small enough to be deblurred untiled in 8 GB.
SEAMS = "4800x3000"

NOISE = 0.005

#: Width of the border of a photograph that is evaluated separately, in pixels.
EDGE = 100


def parse_size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"a size must be WIDTHxHEIGHT, got {text!r}")
    return int(width), int(height)


def large_photograph(width: int, height: int) -> Tensor:
    """Return a blurred photograph (3, height, width) uint8, periodic in pieces of about 2000 pixels."""
    sharp = unit_range(read_photograph(EXAMPLES / "sharp.jpg").pixels)[None]
    sharp = functional.interpolate(sharp, scale_factor=2, mode="bicubic", align_corners=False).clamp(0, 1)
    piece = torch.cat([sharp, sharp.flip(3)], 3)
    piece = torch.cat([piece, piece.flip(2)], 2)
    kernel = read_kernel(EXAMPLES / "kernel.png")
    border = kernel.shape[-1]
    around = functional.pad(piece, (border,) * 4, mode="circular")
    blurred = degrade(
        around,
        kernel[None],
        DegradationConfig(noise=(NOISE, NOISE)),
        generator=torch.Generator().manual_seed(0),
    )
    more = (blurred.shape[-1] - piece.shape[-1]) // 2
    rows, columns = (slice(more, more + side) for side in piece.shape[2:])
    blurred = quantised(blurred[0, :, rows, columns], torch.uint8)
    repeats = [-(-side // length) for side, length in zip((height, width), blurred.shape[1:], strict=True)]
    return blurred.repeat(1, *repeats)[:, :height, :width]


def measured(photograph: Path, result: Path) -> tuple[float, float]:
    """Deblur a file in a separate process; return its peak resident size in MB, and seconds."""
    started = time.perf_counter()
    process = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "asnet", "deblur", str(photograph), "-o", str(result)],
        os.environ,
    )
    _, status, usage = os.wait4(process, 0)
    if status:
        sys.exit(f"asnet deblur failed on {photograph.name}")
    return usage.ru_maxrss * 1024 / 1e6, time.perf_counter() - started


def end_to_end(width: int, height: int, folder: Path) -> dict[str, Any]:
    """Measure one size."""
    photograph, result = folder / "photograph.jpg", folder / "result.jpg"
    write_photograph(photograph, Photograph(large_photograph(width, height)))
    peak, seconds = measured(photograph, result)
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(result) as picture:
        if picture.size != (width, height):
            sys.exit(f"the result of {width}x{height} pixels has {picture.width}x{picture.height}")
    Image.MAX_IMAGE_PIXELS = limit
    result.unlink()
    return {
        "name": f"{width}x{height}",
        "megapixels": round(width * height / 1e6, 1),
        "peak_mb": round(peak),
        "limit_mb": SIZES.get(f"{width}x{height}"),
        "seconds": round(seconds, 1),
        "revision": environment()["revision"],
    }


@torch.inference_mode()
def seams(width: int, height: int) -> dict[str, Any]:
    """Compare tiles with the whole."""
    blurred = large_photograph(width, height)[None]
    kernel = read_kernel(EXAMPLES / "kernel.png")
    network = load_networks(find_weights("compact"), DeblurNetwork).synthesis
    parts = list(TiledSynthesis(network).parts(blurred, kernel))
    if len(parts) == 1:
        sys.exit(f"{width}x{height} pixels are a single block of tiles, which has no seams")
    at_seams = torch.zeros(height, width, dtype=torch.bool)
    for part in parts:
        mark_seams(at_seams, part)
    # The extension beyond an edge depends on the opposite side of the photograph, or of the block.
    inside = torch.zeros_like(at_seams)
    inside[EDGE:-EDGE, EDGE:-EDGE] = True
    tiled = joined(parts)[0]
    untiled = TiledSynthesis(network, max(width, height))(blurred, kernel)[0]
    difference = 255 * (tiled - untiled)
    change = 255 * (untiled - unit_range(blurred[0]))

    def rms(values: Tensor) -> float:
        return round(float(values.square().mean().sqrt()), 4)

    return {
        "name": f"seams of {width}x{height}",
        "blocks": len(parts),
        "levels_rms_at_seams": rms(difference[:, at_seams & inside]),
        "levels_largest_at_seams": round(float(difference[:, at_seams & inside].abs().max()), 3),
        "levels_rms_elsewhere": rms(difference[:, ~at_seams & inside]),
        "levels_rms_at_edges_of_the_photograph": rms(difference[:, ~inside]),
        "levels_rms_of_the_deblurring": rms(change),
        "revision": environment()["revision"],
    }


def mark_seams(at_seams: Tensor, part: Part) -> None:
    """Mark the pixels (H, W) where a part is blended with the one above or before it."""
    for axis, place in enumerate((part.rows, part.columns)):
        if place.start:
            strip = [part.rows, part.columns]
            strip[axis] = slice(place.start, place.start + FADE)
            at_seams[tuple(strip)] = True


def others(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the present results of other sizes: the largest takes as long as all others."""
    path = RESULTS / "memory.json"
    before = json.loads(path.read_text())["results"] if path.exists() else []
    names = {row["name"] for row in results}
    return [row for row in before if row["name"] not in names]


def main() -> int:
    """Measure all sizes; 1 if one exceeds its memory limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="*", type=parse_size, default=[parse_size(size) for size in SIZES])
    parser.add_argument("--seams", type=parse_size, default=parse_size(SEAMS), help="0x0: leave them out")
    parser.add_argument("--dry-run", action="store_true", help="write no file")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []

    def found(row: dict[str, Any]) -> None:
        results.append(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        if not options.dry_run:
            save("memory", [*others(results), *results])

    with tempfile.TemporaryDirectory() as folder:
        for width, height in options.sizes:
            found(end_to_end(width, height, Path(folder)))
    if all(options.seams):
        found(seams(*options.seams))
    return int(any(row["peak_mb"] > row["limit_mb"] for row in results if row.get("limit_mb")))


if __name__ == "__main__":
    sys.exit(main())
