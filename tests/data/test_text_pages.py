"""Rendered pages: dark letters on bright paper, the same for the same seed."""

import random

import pytest
import torch

from asnet.data.text_pages import text_page, text_pages


@pytest.mark.parametrize(("heading", "body"), [(34, 16), (64, 30)])
def test_a_page_is_mostly_paper_with_dark_ink(heading: int, body: int) -> None:
    page = text_page(320, 400, heading, body, random.Random(0))
    assert page.shape == (3, 320, 400)
    assert page.min() >= 0
    assert page.max() <= 1
    ink = page.mean(0) < 0.4
    assert 0.02 < ink.float().mean() < 0.35
    # Ink in the upper and the lower half.
    assert ink[:160].any()
    assert ink[160:].any()
    # The margins stay empty.
    assert not ink[:20].any()
    assert not ink[:, :20].any()


def test_pages_differ_and_come_back() -> None:
    first, second = text_pages(300, 300), text_pages(300, 300)
    assert len({name for name, _ in first}) == len(first)
    for (name, page), (again, same) in zip(first, second, strict=True):
        assert name == again
        assert torch.equal(page, same)
    assert not torch.equal(first[0][1], first[1][1])
