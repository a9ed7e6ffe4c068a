"""Render pages of text, which the synthesis of `compact` is trained on beside photographs.

    python experiments/render_pages.py --output FOLDER

The benchmark's own pages (`asnet.data.text_pages`) have other words, sizes and light.
"""

import argparse
import random
from pathlib import Path

from asnet.data.text_pages import text_page
from asnet.imaging import picture_from_tensor

#: Sides of a page, and sizes of its letters, in pixels.
SIDE, SMALLEST, LARGEST = 640, 9, 44

#: Seed of the first page; those of the benchmark count from 0.
FIRST_SEED = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--count", type=int, default=24, help="number of pages")
    options = parser.parse_args()

    options.output.mkdir(parents=True, exist_ok=True)
    for index in range(options.count):
        chance = random.Random(FIRST_SEED + index)
        body = round(SMALLEST * (LARGEST / SMALLEST) ** chance.random())
        page = text_page(SIDE, SIDE, round(chance.uniform(1.2, 2.2) * body), body, chance)
        # White on black for every fourth.
        picture_from_tensor(1 - page if index % 4 == 3 else page).save(
            options.output / f"page_{index:02}.png"
        )


if __name__ == "__main__":
    main()
