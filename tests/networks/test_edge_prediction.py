"""Edge prediction: blurred edges become steep where they are, and only the strongest gradients stay."""

import torch

from asnet.networks.edge_prediction import gaussian_blur, image_gradients, shock_filter, strongest


def step_image(angle_steps: int) -> torch.Tensor:
    """A bright half-plane (1, 1, 40, 40), turned by quarter turns."""
    image = torch.zeros(1, 1, 40, 40)
    image[..., 20:] = 1
    return torch.rot90(image, angle_steps, (2, 3))


def test_gradients_are_forward_differences() -> None:
    image = torch.tensor([[[[1.0, 3.0, 6.0], [2.0, 2.0, 2.0]]]])
    expected = torch.tensor([[[2.0, 3.0, 0.0], [0.0, 0.0, 0.0]], [[1.0, -1.0, -4.0], [0.0, 0.0, 0.0]]])
    torch.testing.assert_close(image_gradients(image)[0], expected)


def test_a_blurred_step_becomes_steep_again_whatever_its_direction() -> None:
    for turns in range(4):
        sharp = step_image(turns)
        blurred = gaussian_blur(sharp, 1.5)
        filtered = shock_filter(blurred, 12)
        assert (filtered - sharp).abs().mean() < 0.3 * (blurred - sharp).abs().mean()
        assert image_gradients(filtered).abs().max() > 2 * image_gradients(blurred).abs().max()


def test_the_shock_filter_never_leaves_the_range_of_the_image() -> None:
    image = torch.rand(2, 1, 23, 31, generator=torch.Generator().manual_seed(0))
    filtered = shock_filter(image, 10)
    assert filtered.min() >= image.min()
    assert filtered.max() <= image.max()


def test_a_constant_image_stays_and_has_a_gaussian_blur_of_its_own() -> None:
    image = torch.full((1, 1, 9, 9), 0.3)
    torch.testing.assert_close(shock_filter(image, 3), image)
    torch.testing.assert_close(gaussian_blur(image, 0.7), image)


def test_the_wanted_share_of_the_strongest_gradients_stays_unchanged() -> None:
    gradients = torch.randn(2, 2, 60, 70, generator=torch.Generator().manual_seed(1))
    gradients[1] *= 100
    chosen = strongest(gradients, 0.1)
    kept = (chosen != 0).any(1)
    for image in range(2):
        assert abs(float(kept[image].float().mean()) - 0.1) < 0.03
        magnitude = gradients[image].square().sum(0)
        assert magnitude[kept[image]].min() > magnitude[~kept[image]].max()
    torch.testing.assert_close(chosen[:, 0][kept], gradients[:, 0][kept], rtol=0, atol=0)
