"""Rendered pages of text: dark strokes on paper in several sizes, which are difficult for blind deblurring.

Words are random letters; the font comes with Pillow.
"""

import random

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from asnet.imaging import tensor_from_picture

#: Sizes of letters in pixels, of the heading and of the columns, for each page.
SIZES = ((34, 16), (48, 22), (28, 13), (64, 30), (40, 18), (52, 26))

_MARGIN = 24
_LETTERS = "eeeeaaaooiiuutnrsshdlcmfpgwybvk"


def text_pages(height: int, width: int) -> list[tuple[str, Tensor]]:
    """Return pages with their names, (3, height, width) float32 in [0, 1], always the same."""
    return [
        (f"page{index + 1}", text_page(height, width, heading, body, random.Random(index)))
        for index, (heading, body) in enumerate(SIZES)
    ]


def text_page(height: int, width: int, heading: int, body: int, chance: random.Random) -> Tensor:
    """Return a page (3, height, width) float32 in [0, 1].

    Parameters
    ----------
    height, width
        In pixels, at least 3 times the size of the heading.
    heading, body
        Sizes of the letters, in pixels.
    chance
        Chooses the words, their arrangement and the light.
    """
    ink = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(ink)
    top = _MARGIN
    _line(draw, (_MARGIN, top), width - 2 * _MARGIN, heading, chance)
    top += int(1.5 * heading)
    draw.line([(_MARGIN, top), (width - _MARGIN, top)], fill=255, width=max(1, heading // 16))
    top += heading // 2
    columns = chance.choice((1, 2))
    gap = 2 * body
    span = (width - 2 * _MARGIN - (columns - 1) * gap) // columns
    for column in range(columns):
        left = _MARGIN + column * (span + gap)
        for line in range((height - _MARGIN - top) // int(1.4 * body)):
            # A blank line, or a short last line, ends a paragraph.
            if chance.random() > 0.1:
                share = 1.0 if chance.random() > 0.15 else chance.uniform(0.3, 0.8)
                _line(draw, (left, top + line * int(1.4 * body)), int(share * span), body, chance)
    coverage = tensor_from_picture(ink)

    def colour(low: float, high: float, tint: float) -> Tensor:
        level = chance.uniform(low, high)
        return torch.tensor([level + chance.uniform(-tint, tint) for _ in range(3)])[:, None, None]

    # Uneven light on the paper, interpolated from four corners.
    corners = torch.tensor([[chance.uniform(0.85, 1.0) for _ in range(4)]]).reshape(1, 1, 2, 2)
    light = functional.interpolate(corners, size=(height, width), mode="bilinear", align_corners=True)[0]
    page = torch.lerp(colour(0.88, 0.95, 0.03), colour(0.05, 0.25, 0.04), coverage)
    return (page * light).clamp(0, 1)


def _line(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], span: int, size: int, chance: random.Random
) -> None:
    """Draw as many words from `place` on as fit into `span` pixels."""
    font = ImageFont.load_default(size)
    text = ""
    while True:
        word = "".join(chance.choice(_LETTERS) for _ in range(chance.randint(2, 10)))
        longer = f"{text} {word.capitalize() if chance.random() < 0.15 else word}".strip()
        if draw.textlength(longer, font=font) > span:
            break
        text = longer
    draw.text(place, text, fill=255, font=font)
