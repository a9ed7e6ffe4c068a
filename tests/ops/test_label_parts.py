import sys

import pytest
import torch
from skimage.measure import label

from asnet.errors import InputError
from asnet.ops import label_parts


@pytest.fixture(params=["kernel", "torch"])
def by_either(request, monkeypatch):
    """The operator, by its kernel and by operations of torch as on other devices."""
    if request.param == "torch":
        monkeypatch.setattr(sys.modules[label_parts.__module__], "_DEVICES_WITH_KERNEL", frozenset())
    return label_parts


def random_masks(shape, share):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) < share


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (37, 37), (1, 9), (9, 1), (12, 31)])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.35, 0.5, 1.0])
def test_parts_are_those_that_a_library_finds(by_either, size, share):
    mask = random_masks((3, *size), share)
    for ours, one in zip(by_either(mask), mask, strict=True):
        theirs, count = label(one.numpy(), connectivity=2, return_num=True)
        pairs = set(zip(ours.flatten().tolist(), theirs.flatten().tolist(), strict=True)) - {(0, 0)}
        assert len(pairs) == count
        assert len({a for a, _ in pairs}) == count


@pytest.mark.parametrize("size", [3, 5, 7, 9, 13, 19, 37, 101])
@pytest.mark.parametrize("turns", range(4))
def test_a_path_that_winds_through_the_whole_grid_is_one_part(by_either, size, turns):
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[0, ::2] = True
    mask[0, 1::4, -1] = True
    mask[0, 3::4, 0] = True
    mask = mask.rot90(turns, (1, 2))
    assert by_either(mask).unique().tolist() == [0, int(mask[0].flatten().nonzero().max()) + 1]


def test_both_ways_number_the_parts_alike(monkeypatch):
    mask = random_masks((4, 23, 19), 0.4)
    labels = label_parts(mask)
    monkeypatch.setattr(sys.modules[label_parts.__module__], "_DEVICES_WITH_KERNEL", frozenset())
    assert torch.equal(label_parts(mask), labels)


def test_strides_make_no_difference_and_the_mask_stays_unchanged(by_either):
    mask = random_masks((2, 8, 22), 0.4).transpose(1, 2)[:, ::2]
    before = mask.clone()
    assert torch.equal(by_either(mask), by_either(mask.contiguous()))
    assert torch.equal(mask, before)


@pytest.mark.parametrize("shape", [(0, 5, 5), (2, 0, 5), (2, 5, 0)])
def test_without_pixels_there_are_no_labels(shape):
    assert label_parts(torch.zeros(shape, dtype=torch.bool)).shape == shape


def test_opcheck():
    torch.library.opcheck(torch.ops.asnet.label_parts.default, (random_masks((2, 7, 9), 0.4),))


@pytest.mark.parametrize("mask", [torch.zeros(1, 3, 3), torch.zeros(3, 3, dtype=torch.bool)])
def test_another_type_or_shape_is_named(mask):
    with pytest.raises(InputError, match=r"mask must have dtype bool and the shape \(N, H, W\), got"):
        label_parts(mask)
    with pytest.raises(RuntimeError, match=r"label_parts: mask must have dtype bool"):
        torch.ops.asnet.label_parts(mask)
