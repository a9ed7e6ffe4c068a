"""Latent images with few gradients: steps come back as steps, clipped lights as lights."""

import torch

from asnet import ops
from asnet.data.degradation import blur
from asnet.networks.kernel_grids import fit_grid
from asnet.networks.latent_image import (
    BlurredScale,
    gradient_count,
    image_gradients,
    latent_steps,
    needed_gradients,
    sparse_latent,
)


def patches(seed: int = 3, side: int = 12, cells: int = 10) -> torch.Tensor:
    """Patches of constant brightness, whose edges are like a photograph's."""
    values = torch.rand(1, 1, cells, cells, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(values, scale_factor=side, mode="nearest")


def bent_line() -> torch.Tensor:
    kernel = torch.zeros(1, 9, 9)
    kernel[0, 4, 1:6] = 1
    kernel[0, 1:5, 6] = 2
    return kernel / kernel.sum()


def test_steps_come_back_as_steps() -> None:
    sharp, kernel = patches(), bent_line()
    blurred = blur(sharp, kernel)
    latent, _ = sparse_latent(BlurredScale.from_image(blurred, 9), kernel, 1e-3)
    truth = sharp[..., 4:-4, 4:-4]
    inner = (..., slice(12, -12), slice(12, -12))
    error, before = ((image - truth)[inner].square().mean() for image in (latent, blurred))
    assert error < 0.05 * before
    flat = image_gradients(truth)[inner].abs().amax(1) == 0
    assert image_gradients(latent)[inner].abs().amax(1)[flat].median() < 1e-3


def test_the_true_kernel_needs_the_fewest_gradients() -> None:
    kernel = bent_line()
    blurred = blur(patches(), kernel)
    single = torch.zeros_like(kernel)
    single[0, 4, 4] = 1
    right, flipped, none = (gradient_count(blurred, k) for k in (kernel, kernel.flip(1, 2), single))
    assert right < 0.8 * flipped
    assert right < 0.8 * none


def test_uncounted_pixels_do_not_count() -> None:
    kernel = bent_line()
    blurred = blur(patches(), kernel)
    usable = torch.zeros_like(blurred, dtype=torch.bool)
    assert gradient_count(blurred, kernel, usable) == 0
    usable[..., 20:60, 20:60] = True
    assert 0 < gradient_count(blurred, kernel, usable) < 1


def test_clipped_lights_are_raised_to_what_the_blur_explains() -> None:
    sharp, kernel = 0.3 * patches(), bent_line()
    sharp[..., 55:62, 50:57] = 3.0
    light = blur(sharp, kernel)
    clipped = light >= 1
    scale = BlurredScale.from_image(light.clamp(max=1), 9, clipped)
    observed = None
    for _ in range(3):
        _, observed = sparse_latent(scale, kernel, 1e-3, observed)
    height, width = light.shape[2:]
    raised = observed[..., :height, :width]
    assert (raised[~clipped] == light[~clipped]).all()
    assert (raised[clipped] >= 1).all()
    # Raised part of the way to the light before clipping, and not beyond it.
    assert (raised[clipped] <= light[clipped] + 0.1).all()
    assert (raised - light)[clipped].abs().mean() < 0.95 * (1 - light)[clipped].abs().mean()


def test_lights_that_are_clipped_need_fewer_gradients_once_they_are_completed() -> None:
    kernel = bent_line()
    lit = patches() * 0.5
    lit[..., 60, 50] = lit[..., 30, 90] = 40.0
    blurred = blur(lit, kernel).clamp(max=1)
    clipped = blurred >= 1
    cut, once, completed = (
        needed_gradients(blurred, kernel, *arguments, calls=calls).float().mean()
        for arguments, calls in (((), 1), ((clipped,), 1), ((clipped,), 3))
    )
    assert completed < once < cut


def test_the_photograph_stays_and_beyond_its_edges_follows_what_the_blur_explains() -> None:
    sharp = patches(cells=14)
    kernel = torch.nn.functional.interpolate(bent_line()[:, None], size=(33, 33), mode="nearest")[:, 0]
    kernel = kernel / kernel.sum()
    blurred = blur(sharp, kernel)
    scale = BlurredScale.from_image(blurred, 33)
    latent, observed = sparse_latent(scale, kernel, 1e-3)
    height, width = blurred.shape[2:]
    torch.testing.assert_close(observed[..., :height, :width], blurred)
    assert (observed >= 0).all()
    assert not torch.equal(observed, scale.padded)
    # A made-up continuation that the blur cannot explain spoils a band as wide as the kernel.
    made_up, _ = ops.sparse_latent(
        scale.padded, kernel, 1e-3, beta=2e-3, growth=2.0, steps=latent_steps(1e-3)
    )
    truth = sharp[..., 16:-16, 16:-16]
    at_edges = torch.ones_like(truth, dtype=torch.bool)
    at_edges[..., 16:-16, 16:-16] = False
    errors = [(image[..., :height, :width] - truth)[at_edges].square().mean() for image in (latent, made_up)]
    assert errors[0] < 0.9 * errors[1]


def test_the_latent_image_extends_beyond_the_photograph_on_all_sides() -> None:
    kernel = bent_line()
    blurred = blur(patches(), kernel)
    scale = BlurredScale.from_image(blurred, 9)
    latent, wide = (sparse_latent(scale, kernel, 1e-3, border=border)[0] for border in (0, 4))
    assert torch.equal(wide[..., 4:-4, 4:-4], latent)
    # With what it shows beyond the edges it explains the photograph up to them.
    error = (blur(wide, kernel) - blurred).square()
    at_edges = torch.ones_like(blurred, dtype=torch.bool)
    at_edges[..., 4:-4, 4:-4] = False
    assert error[at_edges].mean() < 0.01 * blurred.var()


def test_frames_fade_from_edge_to_opposite_edge() -> None:
    image = torch.rand(2, 1, 20, 33, generator=torch.Generator().manual_seed(0))
    padded = BlurredScale.from_image(image, 9).padded
    torch.testing.assert_close(padded[..., :20, :33], image)
    assert padded.shape[2] >= 28
    assert padded.shape[3] >= 41
    for dim in (2, 3):
        step = (padded.select(dim, 0) - padded.select(dim, -1)).abs().mean()
        assert step < 0.3 * (image.select(dim, 0) - image.select(dim, -1)).abs().mean()


def test_kernels_on_larger_grids_give_the_same_latent_image() -> None:
    kernel = bent_line()
    scale = BlurredScale.from_image(blur(patches(), kernel), 21)
    small, large = (sparse_latent(scale, k, 1e-3)[0] for k in (kernel, fit_grid(kernel, 21)))
    torch.testing.assert_close(small, large, atol=1e-4, rtol=1e-4)
