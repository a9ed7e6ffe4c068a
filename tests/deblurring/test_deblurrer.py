"""The deblurrer: every kind of image, any size, tiles without seams, blurs larger than the grid."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from asnet import Deblurrer
from asnet.data import BlurKernelConfig, blur, sample_blur_kernels
from asnet.deblurring import tiled_synthesis, tiles
from asnet.deblurring.resampling import scale_kernel
from asnet.deblurring.tiled_synthesis import TiledSynthesis
from asnet.deblurring.tiles import most_structured_window, tile_spans
from asnet.errors import ConfigurationError, DeviceError, InputError, WeightsError
from asnet.networks import ASNetConfig, DeblurNetwork, load_networks
from asnet.networks.iterated_analysis import KernelEstimate
from asnet.networks.rival_kernels import RestoreLuma


@pytest.fixture(scope="module")
def deblurrer(small_weights: Path) -> Deblurrer:
    return Deblurrer.from_pretrained(small_weights, device="cpu")


def scene(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Random rectangles of all sizes, (3, height, width) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(3, height, width)
    for side in (32, 8, 2):
        coarse = torch.rand(1, 3, -(-height // side), -(-width // side), generator=generator)
        raised = coarse.repeat_interleave(side, 2).repeat_interleave(side, 3)
        image += raised[0, :, :height, :width] / 3
    return image


def blurred_scene(height: int, width: int) -> torch.Tensor:
    """The scene blurred along both axes."""
    return blur(scene(height + 4, width + 4)[None], box(5)[None])[0]


def box(size: int) -> torch.Tensor:
    return torch.full((size, size), 1 / size**2)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 16), (16, 43), (61, 47), (128, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_keeps_its_shape(deblurrer: Deblurrer, height: int, width: int, channels: int) -> None:
    result = deblurrer.deblur(scene(height, width)[:channels])
    assert result.image.shape == (channels, height, width)
    assert result.image.isfinite().all()
    assert result.image.min() >= 0
    assert result.image.max() <= 1
    assert result.kernel.shape == (7, 7)
    assert result.kernel.sum() == pytest.approx(1, abs=1e-4)
    assert result.scale == 1


@pytest.mark.parametrize("name", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 1), (40, 30, 3)])
def test_arrays_keep_their_type_and_shape(deblurrer: Deblurrer, name: str, shape: tuple[int, ...]) -> None:
    values = scene(40, 30).permute(1, 2, 0).numpy()[..., :1] * numpy.ones(3, dtype=numpy.float32)
    values = values[..., 0] if len(shape) == 2 else values[..., : shape[2]]
    dtype = numpy.dtype(name)
    largest = numpy.iinfo(dtype).max if dtype.kind == "u" else 1
    array = (values * largest).astype(dtype)
    # The kernel is given: its estimate may jump with the rounding to 8 bits.
    result = deblurrer.deblur(array, box(3)).image
    assert result.dtype == dtype
    assert result.shape == shape
    channels_first = numpy.ascontiguousarray(values.reshape(40, 30, -1).transpose(2, 0, 1))
    reference = deblurrer.deblur(torch.from_numpy(channels_first), box(3))
    tolerance = 0.05 if name == "uint8" else 0.001
    expected = reference.image.permute(1, 2, 0).numpy().reshape(shape)
    assert numpy.abs(result / largest - expected).max() < tolerance


def test_pictures_keep_transparency_bits_and_stand_upright(deblurrer: Deblurrer) -> None:
    pixels = (scene(40, 30).permute(1, 2, 0).numpy() * 255).astype(numpy.uint8)
    picture = Image.fromarray(pixels)
    picture.putalpha(77)
    exif = picture.getexif()
    exif[ExifTags.Base.Orientation] = 6
    result = deblurrer.deblur(picture).image
    assert result.mode == "RGBA"
    assert result.size == (40, 30)
    assert result.getchannel("A").getextrema() == (77, 77)
    deep = Image.fromarray(pixels[..., 0].astype(numpy.uint16) * 257)
    assert deblurrer.deblur(deep).image.mode == "I;16"


def test_the_same_input_gives_the_same_bits(deblurrer: Deblurrer, small_weights: Path) -> None:
    image = blurred_scene(75, 90)
    first = deblurrer.deblur(image)
    assert first.status == "blurred"
    second = Deblurrer.from_pretrained(str(small_weights), device="cpu").deblur(image)
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.kernel, second.kernel)
    assert torch.equal(deblurrer.estimate_kernel(image), first.kernel)


def test_the_kernel_that_is_given_is_removed(small_weights: Path) -> None:
    sharp = scene(100, 120)
    kernel = torch.zeros(5, 5)
    kernel[2] = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2])
    blurred = blur(sharp[None], kernel[None])[0]
    truth = sharp[:, 2:-2, 2:-2]
    network = load_networks(small_weights, DeblurNetwork)
    # Without its last convolution the U-Net adds nothing to the Wiener deconvolution.
    torch.nn.init.zeros_(network.synthesis.output.weight)
    result = Deblurrer(network, device="cpu").deblur(blurred, kernel * 40)
    inner = (..., slice(10, -10), slice(10, -10))
    assert torch.equal(result.kernel, kernel)
    error, before = ((x[inner] - truth[inner]).square().mean() for x in (result.image, blurred))
    assert error < 0.7 * before


@pytest.mark.parametrize("block_pixels", [10**10, 10**6, 1])
@pytest.mark.parametrize(("height", "width"), [(301, 420), (420, 150)])
def test_tiles_fit_together_like_the_whole(
    small_weights: Path,
    height: int,
    width: int,
    block_pixels: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiled_synthesis, "WHOLE_PIXELS", 0)
    monkeypatch.setattr(tiled_synthesis, "BLOCK_PIXELS", block_pixels)
    sharp = scene(height + 6, width + 6)
    generator = torch.Generator().manual_seed(1)
    kernel = sample_blur_kernels(1, BlurKernelConfig(canvas=7, minimum_size=7), generator=generator)[0]
    blurred = blur(sharp[None], kernel[None])[0]
    whole = Deblurrer.from_pretrained(small_weights, device="cpu", tile_size=1024)
    tiled = Deblurrer.from_pretrained(small_weights, device="cpu", tile_size=whole.smallest_tile)
    assert tiled.tile_size < max(height, width)
    first, second = whole.deblur(blurred, kernel).image, tiled.deblur(blurred, kernel).image
    change = (first - blurred).abs().mean()
    # The untrained U-Net amplifies; what is left comes from the far ends of the deconvolution in tiles.
    assert (first - second).abs().max() < 0.1 * change
    assert (first - second).square().mean().sqrt() < 0.01 * change


@pytest.mark.parametrize("block_pixels", [10**10, 1])
def test_tiles_have_no_seam_whatever_the_length(
    small_weights: Path, block_pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiled_synthesis, "WHOLE_PIXELS", 0)
    monkeypatch.setattr(tiled_synthesis, "BLOCK_PIXELS", block_pixels)
    network = load_networks(small_weights, DeblurNetwork).synthesis.eval()
    torch.nn.init.zeros_(network.output.weight)
    smallest = TiledSynthesis(network).smallest_tile
    tiled = TiledSynthesis(network, smallest)
    # The last tile has any length, down to little more than what it shares with the one before.
    for length in range(smallest - 7, 2 * smallest, 3):
        size = (20, length) if length % 2 else (length, 20)
        with torch.no_grad():
            result = tiled(torch.full((1, 3, *size), 0.6), box(3))
        assert (result.amin() - result.amax()).abs() < 0.01, length


@pytest.mark.parametrize("length", [64, 100, 257, 640, 1001])
@pytest.mark.parametrize("multiple", [1, 8])
def test_weights_of_tiles_add_up_to_one(length: int, multiple: int) -> None:
    total = torch.zeros(length)
    spans = tile_spans(length, 160, 24, multiple)
    for begin, end, weights in spans:
        assert 0 <= begin < end <= length
        assert end - begin <= 160
        assert begin % multiple == 0
        total[begin:end] += weights
    assert torch.allclose(total, torch.ones(length))
    # At cut ends the margin has weight zero.
    for begin, end, weights in spans:
        assert begin == 0 or not weights[:24].any()
        assert end == length or not weights[-24:].any()


def test_the_estimate_looks_where_the_structure_is() -> None:
    image = torch.full((1, 3, 200, 300), 0.5)
    image[..., 120:180, 200:280] = scene(60, 80)
    window, _ = most_structured_window(image, 100 * 150)
    assert window.shape[2] * window.shape[3] == pytest.approx(100 * 150, rel=0.02)
    energy = window.diff(dim=-1).abs().sum() / image.diff(dim=-1).abs().sum()
    assert energy > 0.95
    usable = torch.ones(1, 1, 200, 300, dtype=torch.bool)
    usable[..., 100:, 150:] = False
    image[..., 20:60, 10:50] = scene(40, 40)
    window, known = most_structured_window(image, 100 * 150, usable)
    assert known is not None
    assert known.shape[2:] == window.shape[2:]
    edges = image[..., :100, :150].diff(dim=-1).abs().sum()
    assert window.diff(dim=-1).abs().sum() == pytest.approx(edges)
    assert known.float().mean() > 0.9


def test_a_given_kernel_larger_than_the_grid_is_removed_at_half_size(deblurrer: Deblurrer) -> None:
    blurred = scene(120, 100)
    kernel = scale_kernel(box(7), 2)
    result = deblurrer.deblur(blurred, kernel)
    assert result.scale == 2
    assert result.image.shape == blurred.shape
    assert torch.allclose(result.kernel, kernel)
    with pytest.raises(InputError, match="does not fit the grid of 7 at scale 1"):
        deblurrer.deblur(blurred, kernel, scale=1)
    with pytest.raises(InputError, match="too large for an image of 100x120"):
        deblurrer.deblur(blurred, box(81))


def test_a_blur_larger_than_the_grid_is_estimated_at_half_size(
    deblurrer: Deblurrer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def estimate(image: torch.Tensor, usable: torch.Tensor | None, restore: RestoreLuma) -> KernelEstimate:
        """A line of 13 pixels in the full image, as a perfect analysis would see it on its grid of 7."""
        sizes.append(tuple(image.shape[2:]))
        seen = {160: [1.0] * 7, 80: [0.25, 1, 1, 1, 1, 1, 0.25], 40: [0, 0, 1, 1, 1, 0, 0]}
        kernel = torch.zeros(1, 7, 7)
        kernel[0, 3] = torch.tensor(seen[image.shape[2]])
        return KernelEstimate(kernel / kernel.sum(), torch.tensor([False]), torch.tensor([False]))

    monkeypatch.setattr(deblurrer.network.analysis, "estimate", estimate)
    result = deblurrer.deblur(scene(160, 140))
    assert sizes == [(160, 140), (80, 70), (40, 35)]
    assert result.scale == 2
    assert result.kernel.shape == (13, 13)
    assert deblurrer.deblur(scene(160, 140), scale=1).scale == 1


def test_the_kernel_is_estimated_from_the_region_alone(deblurrer: Deblurrer) -> None:
    image = blurred_scene(100, 140)
    region = (20, 10, 120, 90)
    part = image[:, 10:90, 20:120]
    used = deblurrer.deblur(image, region=region, scale=1)
    assert torch.equal(used.kernel, deblurrer.estimate_kernel(part, scale=1))
    assert torch.equal(used.kernel, deblurrer.estimate_kernel(image, region=region, scale=1))
    # The rest of the image is deblurred too, with that kernel.
    assert isinstance(deblurrer.network, DeblurNetwork)
    with torch.no_grad():
        restored = deblurrer.network.synthesis(image[None], used.kernel[None], estimated=True)[0]
    assert torch.allclose(used.image, restored.clamp(0, 1), atol=1e-4)
    # A known kernel is trusted more.
    assert not torch.equal(used.image, deblurrer.deblur(image, used.kernel, scale=1).image)
    elsewhere = image.clone()
    elsewhere[:, :, 120:] = 0
    assert torch.equal(used.kernel, deblurrer.estimate_kernel(elsewhere, region=region, scale=1))


@pytest.mark.parametrize(("contradictory", "counts_as_known"), [(False, True), (True, False)])
def test_small_estimates_count_as_known_kernels_unless_they_are_unclear(
    contradictory: bool, counts_as_known: bool, deblurrer: Deblurrer, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = torch.ones(1, 3, 3) / 9
    found = KernelEstimate(small, torch.tensor([False]), torch.tensor([contradictory]))
    monkeypatch.setattr(deblurrer.network.analysis, "estimate", lambda *images: found)
    monkeypatch.setattr("asnet.deblurring.deblurrer.MUCH_CHANGE", math.inf)
    image = blurred_scene(100, 140)
    expected = deblurrer.deblur(image, small[0], scale=1).image
    assert torch.equal(deblurrer.deblur(image).image, expected) == counts_as_known


def test_a_region_is_without_its_own_frame_and_transparency(deblurrer: Deblurrer) -> None:
    image = blurred_scene(100, 140)
    framed, alpha = image.clone(), torch.ones(100, 140)
    framed[:, :, 110:] = 0
    alpha[:20] = 0
    plain = deblurrer.estimate_kernel(image[:, 20:90, 20:110], scale=1)
    options = {"region": (20, 5, 130, 90), "scale": 1, "alpha": alpha}
    assert torch.equal(deblurrer.estimate_kernel(framed, **options), plain)
    assert torch.equal(deblurrer.deblur(framed, **options).kernel, plain)
    assert torch.equal(deblurrer.deblur(framed, strength=0, **options).image, framed)


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ((0, 0, 141, 50), "region 0,0,141,50 must lie in the image of 140x100 pixels"),
        ((-1, 0, 40, 50), "must lie in the image"),
        ((40, 0, 40, 50), "left before right"),
        ((0, 60, 40, 50), "top before bottom"),
        ((0, 0, 40, 15), "at least 16x16 pixels, got 40x15"),
        ((0, 0, 40), r"must be \(left, top, right, bottom\) in whole pixels, got \(0, 0, 40\)"),
        ((0.5, 0, 40, 50), "in whole pixels"),
        ("0,0,40,50", "in whole pixels, got '0,0,40,50'"),
    ],
)
def test_unusable_regions_are_refused(
    deblurrer: Deblurrer, region: tuple[int, int, int, int], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        deblurrer.deblur(scene(100, 140), region=region)
    with pytest.raises(InputError, match=words):
        deblurrer.estimate_kernel(scene(100, 140), region=region)


def test_a_region_must_be_large_enough_for_the_scale_and_goes_without_a_kernel(deblurrer: Deblurrer) -> None:
    with pytest.raises(InputError, match="at least 32x32 pixels at scale 2, got 31x40"):
        deblurrer.deblur(scene(100, 140), region=(0, 0, 31, 40), scale=2)
    with pytest.raises(InputError, match="with a given blur kernel"):
        deblurrer.deblur(scene(100, 140), box(3), region=(0, 0, 60, 60))


@pytest.mark.parametrize("scale", [1, 2])
def test_strength_mixes_the_restoration_in(deblurrer: Deblurrer, scale: int) -> None:
    image = scene(70, 60)
    whole = deblurrer.deblur(image, box(3), scale=scale).image
    assert torch.equal(deblurrer.deblur(image, box(3), scale=scale, strength=0).image, image)
    half = deblurrer.deblur(image, box(3), scale=scale, strength=0.25).image
    assert torch.allclose(half, 0.75 * image + 0.25 * whole, atol=1e-6)


def test_denoise_holds_noise_down(small_weights: Path) -> None:
    network = load_networks(small_weights, DeblurNetwork)
    # Without its last convolution the U-Net adds nothing to the Wiener deconvolution.
    torch.nn.init.zeros_(network.synthesis.output.weight)
    deblurrer = Deblurrer(network, device="cpu", tile_size=None)
    noise = 0.5 + 0.05 * torch.randn(3, 80, 90, generator=torch.Generator().manual_seed(1))
    left = [float(deblurrer.deblur(noise, box(3), denoise=value).image.std()) for value in (0, 0.5, 1)]
    assert left[0] > 1.3 * left[1] > 1.3**2 * left[2]
    tiled = Deblurrer(network, device="cpu", tile_size=deblurrer.smallest_tile)
    wide = 0.5 + 0.05 * torch.randn(3, 300, 310, generator=torch.Generator().manual_seed(1))
    first, second = (d.deblur(wide, box(3), denoise=1).image for d in (deblurrer, tiled))
    assert (first - second).abs().max() < 0.001


def test_a_network_without_deconvolution_has_no_noise_to_hold_down() -> None:
    config = ASNetConfig.compact()
    synthesis = replace(
        config.synthesis,
        channels=(4, 6),
        wiener_strengths=(),
        sparse_strengths=(),
        sparse_thresholds=(),
        adapts_to_noise=False,
        residual="blurred",
        consistency=False,
    )
    deblurrer = Deblurrer(DeblurNetwork(replace(config, synthesis=synthesis)), device="cpu")
    assert deblurrer.deblur(scene(40, 40), box(3)).status == "blurred"
    with pytest.raises(InputError, match="no Wiener deconvolution"):
        deblurrer.deblur(scene(40, 40), box(3), denoise=0.5)


@pytest.mark.parametrize("name", ["strength", "denoise"])
@pytest.mark.parametrize("value", [-0.1, 1.01, float("nan"), "1", None])
def test_shares_are_from_0_to_1(deblurrer: Deblurrer, name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} must be from 0 to 1, got {value!r}"):
        deblurrer.deblur(scene(40, 40), box(3), **{name: value})


def test_progress_tells_every_tile_and_can_end_the_work(small_weights: Path) -> None:
    tiled = Deblurrer.from_pretrained(small_weights, device="cpu")
    tiled = Deblurrer.from_pretrained(small_weights, device="cpu", tile_size=tiled.smallest_tile)
    told: list[tuple[str, float]] = []
    image = blurred_scene(420, 430)
    assert tiled.tile_size < 420
    tiled.deblur(image, scale=1, progress=lambda stage, share: told.append((stage, share)))
    assert told[:2] == [("estimating", 0.0), ("restoring", 0.0)]
    shares = [share for _, share in told[1:]]
    assert len(shares) > 4
    assert shares == sorted(set(shares))
    assert shares[-1] == 1

    def stop(stage: str, share: float) -> None:
        told.append((stage, share))
        if share > 0:
            raise KeyboardInterrupt

    told.clear()
    with pytest.raises(KeyboardInterrupt):
        tiled.deblur(image, scale=1, progress=stop)
    assert len(told) == 3


class FloatingPoint(TorchDispatchMode):
    """Records the shapes of all floating-point tensors that operations return."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, given: tuple[Any, ...] = (), options: Any = None
    ) -> Any:
        results = function(*given, **(options or {}))
        for result in results if isinstance(results, tuple | list) else [results]:
            if isinstance(result, Tensor) and result.is_floating_point():
                self.shapes.add(tuple(result.shape))
        return results


@pytest.mark.parametrize("transparent", [False, True])
def test_a_whole_photograph_is_never_in_floating_point(
    small_weights: Path, transparent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "STRIP_PIXELS", 10_000)
    monkeypatch.setattr(tiled_synthesis, "NOISE_SIDE", 64)
    monkeypatch.setattr(tiled_synthesis, "WHOLE_PIXELS", 0)
    monkeypatch.setattr(tiled_synthesis, "BLOCK_PIXELS", 1)
    tiled = Deblurrer.from_pretrained(small_weights, device="cpu")
    tiled = Deblurrer.from_pretrained(small_weights, device="cpu", tile_size=tiled.smallest_tile)
    height, width = tiled.tile_size + 150, tiled.tile_size + 190
    image = (255 * scene(height, width)).round().to(torch.uint8)
    alpha = torch.full((height, width), 255, dtype=torch.uint8)
    alpha[:, : width // 2] = torch.linspace(0, 255, height).round().to(torch.uint8)[:, None]
    with FloatingPoint() as seen:
        result = tiled.deblur(image, box(3), strength=0.5, alpha=alpha if transparent else None)
    assert result.image.dtype == torch.uint8
    assert not torch.equal(result.image, image)
    assert (3, 3) in seen.shapes
    assert [shape for shape in seen.shapes if height in shape and width in shape] == []


@pytest.mark.parametrize("name", ["uint8", "uint16"])
def test_a_sharp_photograph_comes_back_as_it_is(deblurrer: Deblurrer, name: str) -> None:
    sharp = scene(64, 80)
    tensor = deblurrer.deblur(sharp)
    assert tensor.status == "sharp"
    assert torch.equal(tensor.image, sharp)
    assert tensor.kernel[3, 3] == tensor.kernel.sum() == 1
    values = (sharp.permute(1, 2, 0).numpy() * numpy.iinfo(name).max).astype(name)
    assert numpy.array_equal(deblurrer.deblur(values).image, values)
    assert numpy.array_equal(deblurrer.deblur(values[..., 0]).image, values[..., 0])
    # Giving a kernel or a scale implies that there is a blur.
    assert deblurrer.deblur(sharp, box(3)).status == "blurred"
    for scale in (1, 2):
        assert deblurrer.deblur(sharp, scale=scale).status == "blurred"


@pytest.mark.parametrize("change", [0.0, 1.0], ids=["small", "large"])
def test_a_contradictory_estimate_is_used_only_where_it_changes_little(
    small_weights: Path, change: float
) -> None:
    network = load_networks(small_weights, DeblurNetwork)
    with torch.no_grad():
        network.synthesis.output.weight.zero_()
        network.synthesis.output.bias.fill_(change)
    image = blurred_scene(64, 80)
    kernel = functional.pad(box(3)[None], (2, 2, 2, 2))
    contradictory = KernelEstimate(kernel, torch.tensor([False]), torch.tensor([True]))
    network.analysis.estimate = lambda *_: contradictory
    result = Deblurrer(network, device="cpu").deblur(image)
    assert torch.equal(result.image, image) == bool(change)
    assert result.status == ("unclear" if change else "blurred")
    assert (result.kernel[3, 3] == 1) == bool(change)


def test_a_small_blur_is_not_looked_for_at_half_size(
    deblurrer: Deblurrer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def estimate(image: torch.Tensor, usable: torch.Tensor | None, restore: RestoreLuma) -> KernelEstimate:
        """Three pixels in the full image, and nonsense at half its size."""
        kernel = box(7) if image.shape[2] < 160 else functional.pad(box(3), (2, 2, 2, 2))
        return KernelEstimate(kernel[None], torch.tensor([False]), torch.tensor([False]))

    monkeypatch.setattr(deblurrer.network.analysis, "estimate", estimate)
    assert deblurrer.deblur(scene(160, 140)).scale == 1


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(3, 15, 40), "at least 16x16 pixels, got 40x15"),
        (torch.zeros(1, 3, 20, 20), r"\(1, 3, 20, 20\)"),
        (torch.zeros(3, 20, 20, dtype=torch.int32), "got torch.int32"),
        (torch.full((3, 20, 20), 200.0), "range .0, 1., got 200 to 200"),
        (torch.full((3, 20, 20), torch.nan), "range"),
        (torch.zeros(3, 20, 20).to_sparse(), "dense and hold its values, got torch.sparse_coo"),
        (torch.zeros(3, 20, 20, device="meta"), "dense and hold its values, got .* on meta"),
        (numpy.zeros((20, 20, 4), dtype=numpy.uint8), r"\(20, 20, 4\)"),
        (numpy.zeros((20, 20), dtype=numpy.int32), "got int32"),
    ],
)
def test_unusable_images_are_refused(deblurrer: Deblurrer, image: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        deblurrer.deblur(image)


def test_unusable_options_are_refused(small_weights: Path, deblurrer: Deblurrer) -> None:
    with pytest.raises(DeviceError, match="unknown device 'toaster'"):
        Deblurrer.from_pretrained(small_weights, device="toaster")
    with pytest.raises(DeviceError, match="'cuda:99' is not available"):
        Deblurrer.from_pretrained(small_weights, device="cuda:99")
    with pytest.raises(ConfigurationError, match="got 'int8'"):
        Deblurrer.from_pretrained(small_weights, dtype="int8")
    with pytest.raises(InputError, match="tile_size must be at least"):
        Deblurrer.from_pretrained(small_weights, tile_size=8)
    with pytest.raises(WeightsError, match="unknown model 'sharpest'"):
        Deblurrer.from_pretrained("sharpest")
    with pytest.raises(InputError, match="got 0"):
        deblurrer.deblur(scene(20, 20), scale=0)
    with pytest.raises(InputError, match="at least 48 pixels a side"):
        deblurrer.deblur(scene(40, 40), scale=3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_stays_close(small_weights: Path, deblurrer: Deblurrer, dtype: str) -> None:
    image = scene(64, 48)
    exact = deblurrer.deblur(image, box(3)).image
    rough = Deblurrer.from_pretrained(small_weights, device="cpu", dtype=dtype).deblur(image, box(3)).image
    assert rough.dtype == torch.float32
    # The untrained U-Net's share of the result, of which bfloat16 keeps 8 bits, is as large as the image.
    assert (rough - exact).abs().max() < (0.08 if dtype == "bfloat16" else 0.01)
    assert not torch.equal(rough, exact)


@pytest.mark.parametrize("known", [False, True], ids=["blind", "true kernel"])
def test_shipped_weights_deblur_the_example(known: bool) -> None:
    examples = Path(__file__).parents[2] / "examples"
    blurred, sharp = (Image.open(examples / name).convert("RGB") for name in ("blurred.jpg", "sharp.jpg"))
    kernel = numpy.asarray(Image.open(examples / "kernel.png"), numpy.float64) if known else None
    deblurred = Deblurrer.from_pretrained(device="cpu").deblur(blurred, kernel)
    assert deblurred.status == "blurred"
    result = deblurred.image
    truth = numpy.asarray(sharp, numpy.float64)
    errors = [numpy.square(numpy.asarray(image, numpy.float64) - truth).mean() for image in (result, blurred)]
    # At least 3 dB; what the weights reach on photographs is in benchmarks/results.
    assert errors[0] < 0.5 * errors[1]


def test_shipped_weights_leave_a_sharp_photograph_alone() -> None:
    sharp = Image.open(Path(__file__).parents[2] / "examples/sharp.jpg").convert("RGB")
    result = Deblurrer.from_pretrained(device="cpu").deblur(sharp)
    assert result.status == "sharp"
    assert numpy.array_equal(numpy.asarray(result.image), numpy.asarray(sharp))


def test_shipped_weights_make_a_texture_without_edges_no_worse() -> None:
    generator = torch.Generator().manual_seed(5)
    grains = torch.randn(1, 1, 232, 232, generator=generator)
    profile = torch.exp(-(torch.arange(-4.0, 5.0) ** 2) / (2 * 1.5**2))
    gaussian = profile[:, None] * profile / profile.sum() ** 2
    texture = 0.5 + 0.6 * blur(grains, gaussian[None]).expand(-1, 3, -1, -1)
    kernel = sample_blur_kernels(1, BlurKernelConfig(canvas=15, minimum_size=15), generator=generator)
    blurred = blur(texture, kernel)[0]
    blurred = blurred + 0.01 * torch.randn(blurred.shape, generator=generator)
    truth = texture[0, :, 7:-7, 7:-7]
    result = Deblurrer.from_pretrained(device="cpu").deblur(blurred)
    assert (result.image - truth).square().mean() < 1.02 * (blurred - truth).square().mean()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_networks_that_are_given_stay_as_they_are(small_weights: Path, dtype: torch.dtype) -> None:
    network = load_networks(small_weights, DeblurNetwork).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rough = Deblurrer(network, device="cpu", dtype=dtype).deblur(scene(40, 30), box(3)).image
    exact = Deblurrer(network, device="cpu").deblur(scene(40, 30), box(3)).image
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not torch.equal(rough, exact)
    loaded = Deblurrer.from_pretrained(small_weights, device="cpu")
    assert torch.equal(exact, loaded.deblur(scene(40, 30), box(3)).image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_converted_network_deblurs(small_weights: Path, dtype: torch.dtype) -> None:
    network = load_networks(small_weights, DeblurNetwork).to(dtype)
    result = Deblurrer(network, device="cpu").deblur(blurred_scene(40, 30))
    assert result.image.dtype == result.kernel.dtype == torch.float32
    if dtype != torch.float64:
        with pytest.raises(InputError, match="iterated analysis cannot compute in"):
            network(blurred_scene(40, 30)[None].to(dtype))


def test_the_default_type_of_torch_does_not_matter(small_weights: Path, deblurrer: Deblurrer) -> None:
    image = blurred_scene(64, 80)
    expected = deblurrer.deblur(image)
    known = deblurrer.deblur(image, box(3))
    torch.set_default_dtype(torch.float64)
    try:
        again = Deblurrer.from_pretrained(small_weights, device="cpu")
        for other, result in ((expected, again.deblur(image)), (known, again.deblur(image, box(3)))):
            assert result.image.dtype == result.kernel.dtype == torch.float32
            assert (result.image - other.image).abs().max() < 1e-3
        assert again.deblur(scene(64, 80)).kernel.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float64])
def test_tensors_keep_their_type(deblurrer: Deblurrer, dtype: torch.dtype) -> None:
    exact = scene(40, 30)
    largest = {torch.uint8: 255, torch.uint16: 65535}.get(dtype, 1)
    image = (exact * largest).to(dtype)
    result = deblurrer.deblur(image, box(3)).image
    assert result.dtype == dtype
    assert torch.equal(deblurrer.deblur(image, box(3), strength=0).image, image)
    difference = result.float() / largest - deblurrer.deblur(exact, box(3)).image
    assert difference.abs().max() < (0.05 if dtype == torch.uint8 else 0.02)


@pytest.mark.parametrize("image", ["photo.jpg", Path("photo.jpg"), None, [[0.5]], b"bytes"])
def test_what_is_no_image_is_refused_in_a_sentence(deblurrer: Deblurrer, image: Any) -> None:
    for call in (deblurrer.deblur, deblurrer.estimate_kernel):
        with pytest.raises(InputError, match=r"must be a Pillow picture, .*got .*read_photograph"):
            call(image)


@pytest.mark.parametrize(
    "image", [torch.full((3, 20, 20), 1.5), numpy.full((20, 20), -0.1), numpy.full((20, 20), 2.0)]
)
def test_values_outside_of_the_range_are_refused(deblurrer: Deblurrer, image: Any) -> None:
    with pytest.raises(InputError, match=r"range \[0, 1\], got"):
        deblurrer.deblur(image)


@pytest.mark.parametrize("name", [">u2", ">f4", "<f8"])
def test_arrays_may_have_any_byte_order_and_run_backwards(deblurrer: Deblurrer, name: str) -> None:
    values = numpy.random.default_rng(0).integers(0, 65536, (20, 24, 3)).astype("u2")
    image = values if name.endswith("u2") else values / numpy.float32(65535)
    kernel = numpy.arange(9.0).reshape(3, 3)
    expected = deblurrer.deblur(image, kernel)
    result = deblurrer.deblur(image.astype(name)[::-1][::-1], kernel.astype(">f8")[::-1, ::-1][::-1, ::-1])
    assert result.image.dtype == name
    numpy.testing.assert_allclose(result.image, expected.image, atol=1e-6)
    assert torch.equal(result.kernel, expected.kernel)


@pytest.mark.parametrize("kernel", ["kernel.png", Path("kernel.npy"), Image.new("L", (3, 3), 9), [["a"]]])
def test_what_is_no_kernel_is_refused_in_a_sentence(deblurrer: Deblurrer, kernel: Any) -> None:
    with pytest.raises(
        InputError, match=r"a blur kernel must be an array or a tensor .*read_kernel reads a file"
    ):
        deblurrer.deblur(scene(20, 20), kernel)
    with pytest.raises(InputError, match=r"a blur kernel must hold real numbers, got torch\.complex128"):
        deblurrer.deblur(scene(20, 20), 1j * numpy.ones((3, 3)))


@pytest.mark.parametrize(
    ("alpha", "words"),
    [
        ("opaque.png", "must be an array or a tensor, got 'opaque.png' of type str"),
        (numpy.full((20, 20), numpy.nan), "finite numbers"),
        (torch.full((20, 20), torch.inf), "finite numbers"),
        (numpy.ones((20, 21)), r"must be \(20, 20\) like its image, got \(20, 21\)"),
    ],
)
def test_unusable_opacities_are_refused(deblurrer: Deblurrer, alpha: Any, words: str) -> None:
    with pytest.raises(InputError, match=f"alpha .*{words}"):
        deblurrer.deblur(scene(20, 20), box(3), alpha=alpha)


def test_a_scale_may_be_any_whole_number(deblurrer: Deblurrer) -> None:
    image = scene(64, 48)
    expected = deblurrer.deblur(image, box(3), scale=2)
    result = deblurrer.deblur(image, box(3), scale=numpy.int64(2))  # type: ignore[arg-type]
    assert type(result.scale) is int
    assert torch.equal(result.image, expected.image)
    for wrong in (2.0, numpy.float32(2), True, "2", numpy.array([2]), None):
        with pytest.raises(InputError, match="whole number of at least 1"):
            deblurrer.deblur(image, scale=wrong)  # type: ignore[arg-type]


def test_an_estimate_computes_in_one_thread_and_leaves_the_others_to_later_work(
    deblurrer: Deblurrer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process computes, thousands of small operations in two threads take minutes."""
    transform = torch.fft.rfft2
    seen = set()

    def watched(*arguments: Any, **options: Any) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return transform(*arguments, **options)

    monkeypatch.setattr(torch.fft, "rfft2", watched)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        deblurrer.estimate_kernel(scene(80, 90))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert seen == {1}
