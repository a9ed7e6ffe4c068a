"""Blur kernels of real photographs: similarity to references, and sheets for visual inspection.

    python benchmarks/real_photographs.py --photographs FOLDER --output VISUALISATIONS [NAME ...]

The reference of FOLDER/NAME.jpg is FOLDER/estimates/NAME_kernel.png; photographs without one are skipped.
References come from another method and are not ground truth, so the sheets decide. A row of a sheet shows
photograph and result, reduced; both at full resolution where the photograph has the most edges; and our
kernel above the reference at the same scale.

A run on all photographs writes `benchmarks/results/real_photographs_MODEL.json`, without pictures. Names
select photographs, for which only the sheets are written.
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import save
from PIL import Image, ImageDraw
from torch import Tensor

from asnet.deblurring.deblurrer import Deblurrer
from asnet.deblurring.resampling import kernel_extent
from asnet.deblurring.tiles import most_structured_place
from asnet.errors import AsnetError, ImageFileError, InputError
from asnet.evaluation.metrics import kernel_similarity
from asnet.imaging import (
    PHOTOGRAPH_SUFFIXES,
    fit_kernel,
    kernel_picture,
    picture_from_tensor,
    read_kernel,
    read_photograph,
    unit_range,
    write_picture,
)

#: Similarities from which an estimate counts as good, and as usable.
GOOD, USABLE = 0.9, 0.7

ROWS_ON_A_PAGE = 4
CELL_WIDTH, CELL_HEIGHT = 360, 270
CROP = 256
KERNEL_SIDE = 131
CAPTION = 18
GAP = 6
_BACKGROUND = (32, 32, 32)
_INK = (225, 225, 225)


@dataclass(frozen=True)
class Scored:
    """One photograph on a sheet: images (1 or 3, H, W), kernels (K, K), its row of the JSON file."""

    photograph: Tensor
    result: Tensor
    kernel: Tensor
    reference: Tensor
    row: dict[str, Any]

    @property
    def caption(self) -> str:
        """One line: name, similarity, status, size of the estimate and of the reference, time."""
        row = self.row
        height, width = self.photograph.shape[1:]
        return (
            f"{row['name']}  {width}x{height}   similarity {row['similarity']:.2f}   {row['status']}   "
            f"kernel {row['kernel_size']}, reference {row['reference_size']}   "
            f"estimate {row['estimate_s']:.1f} s, all {row['deblur_s']:.1f} s"
        )


def pairs_in(folder: Path, names: list[str]) -> dict[str, tuple[Path, Path]]:
    """Return photographs with reference kernels by their names without suffix, in alphabetical order.

    Raises
    ------
    InputError
        If the folder holds no such pair, or none of a name that is given.
    """
    found = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name.lower()):
        reference = folder / "estimates" / f"{path.stem}_kernel.png"
        if path.suffix.lower() in PHOTOGRAPH_SUFFIXES and reference.is_file():
            found[path.stem] = (path, reference)
    if not found:
        raise InputError(f"{folder} holds no photograph with a reference kernel in {folder / 'estimates'}")
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(f"no photograph {missing[0]!r} with a reference kernel, only {', '.join(found)}")
    return {name: pair for name, pair in found.items() if not names or name in names}


def score(deblurrer: Deblurrer, name: str, photograph: Path, reference: Path) -> Scored:
    """Estimate the kernel, then deblur (which repeats the estimate), timed separately."""
    blurred = unit_range(read_photograph(photograph).pixels)
    truth = read_kernel(reference)
    begin = time.perf_counter()
    # Photographs left unchanged have estimates too; the kernel of their result is a single pixel.
    kernel = fit_kernel(deblurrer.estimate_kernel(blurred))
    middle = time.perf_counter()
    result = deblurrer.deblur(blurred)
    end = time.perf_counter()
    row = {
        "name": name,
        "similarity": round(float(kernel_similarity(kernel[None], truth[None])), 4),
        "status": result.status,
        "scale": result.scale,
        "kernel_size": kernel_extent(kernel),
        "reference_size": kernel_extent(truth),
        "estimate_s": round(middle - begin, 2),
        "deblur_s": round(end - middle, 2),
    }
    return Scored(blurred, result.image, kernel, truth, row)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts and means over all photographs."""
    similarities = [row["similarity"] for row in rows]
    return {
        "photographs": len(rows),
        "good": sum(similarity >= GOOD for similarity in similarities),
        "usable": sum(similarity >= USABLE for similarity in similarities),
        "mean_similarity": round(statistics.mean(similarities), 4),
        "statuses": dict(Counter(row["status"] for row in rows)),
        "median_estimate_s": statistics.median(row["estimate_s"] for row in rows),
        "median_deblur_s": statistics.median(row["deblur_s"] for row in rows),
    }


def page(scored: list[Scored]) -> Image.Image:
    """Draw one page of a sheet, one row per photograph."""
    pitch = CAPTION + CELL_HEIGHT + 2 * GAP
    width = 2 * CELL_WIDTH + 2 * CROP + KERNEL_SIDE + 6 * GAP
    sheet = Image.new("RGB", (width, len(scored) * pitch + GAP), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for index, one in enumerate(scored):
        top = GAP + index * pitch
        draw.text((GAP, top), one.caption, fill=_INK, font_size=14)
        top += CAPTION + GAP
        left = GAP
        for image in (one.photograph, one.result):
            sheet.paste(_reduced(image), (left, top))
            left += CELL_WIDTH + GAP
        rows, columns = (min(CROP, side) for side in one.photograph.shape[1:])
        down, right = most_structured_place(one.photograph[None], rows, columns)
        for image in (one.photograph, one.result):
            crop = image[:, down : down + rows, right : right + columns]
            sheet.paste(picture_from_tensor(crop).convert("RGB"), (left, top))
            left += CROP + GAP
        largest = max(one.kernel.shape[-1], one.reference.shape[-1])
        for kernel in (one.kernel, one.reference):
            sheet.paste(_enlarged(kernel, KERNEL_SIDE / largest), (left, top))
            top += KERNEL_SIDE + GAP
    return sheet


def _reduced(image: Tensor) -> Image.Image:
    """An image (1 or 3, H, W) that fits a cell, never enlarged."""
    picture = picture_from_tensor(image).convert("RGB")
    picture.thumbnail((CELL_WIDTH, CELL_HEIGHT), Image.Resampling.LANCZOS)
    return picture


def _enlarged(kernel: Tensor, factor: float) -> Image.Image:
    """A kernel (K, K), its largest value white, enlarged or, by a factor below 1, reduced."""
    side = max(1, round(factor * kernel.shape[-1]))
    method = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
    return kernel_picture(kernel).resize((side, side), method).convert("RGB")


def run(options: argparse.Namespace) -> None:
    """Score, print a line for each photograph at once, and write sheets and results."""
    pairs = pairs_in(options.photographs, options.names)
    deblurrer = Deblurrer.from_pretrained(options.model)
    if options.sheet:
        options.output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    on_page: list[Scored] = []
    for name, paths in pairs.items():
        scored = score(deblurrer, name, *paths)
        rows.append(scored.row)
        print(scored.caption, flush=True)
        on_page.append(scored)
        if len(on_page) == ROWS_ON_A_PAGE or len(rows) == len(pairs):
            if options.sheet:
                path = options.output / f"sheet{-(-len(rows) // ROWS_ON_A_PAGE)}.png"
                write_picture(path, page(on_page))
                print("written to", path, flush=True)
            on_page = []
    facts = summary(rows)
    for fact, value in facts.items():
        print(f"{fact}: {value}")
    if not options.names:
        path = save(f"real_photographs_{Path(options.model).stem}", rows, summary=facts)
        print("written to", path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="photograph without suffix; all by default")
    parser.add_argument(
        "--photographs", type=Path, required=True, help="folder, with a folder estimates in it"
    )
    parser.add_argument("--model", default="compact", help="name or weights file")
    parser.add_argument("--output", type=Path, help="folder for the sheets")
    parser.add_argument("--no-sheet", dest="sheet", action="store_false", help="draw none")
    options = parser.parse_args()
    if options.sheet and options.output is None:
        parser.error("name a folder for the sheets by --output, or give --no-sheet")
    try:
        if not options.photographs.is_dir():
            raise ImageFileError(f"there is no folder {options.photographs}")
        run(options)
    except AsnetError as error:
        sys.exit(f"{Path(__file__).name}: {error}")


if __name__ == "__main__":
    main()
