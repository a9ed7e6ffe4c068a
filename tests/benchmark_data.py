"""Small data sets laid out and named like the public ones."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from asnet.imaging import picture_from_tensor, write_kernel


def scene(height: int, width: int, *, channels: int = 3, seed: int = 0) -> Tensor:
    """Smooth random blocks, (C, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, height // 4, width // 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)


def crooked_kernel(seed: int) -> Tensor:
    """A kernel (5, 5) that differs from its rotation by 180 degrees."""
    kernel = torch.zeros(5, 5)
    kernel[0, 0], kernel[1, 1], kernel[2, 2], kernel[2, 3], kernel[2, 4] = 1, 2, 3 + seed, 5, 4
    return kernel / kernel.sum()


def blur(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolve an image (C, H, W), its edges repeated."""
    padded = torch.nn.functional.pad(image[None], (2, 2, 2, 2), mode="replicate")
    weight = kernel.flip(0, 1).expand(image.shape[0], 1, -1, -1)
    return torch.nn.functional.conv2d(padded, weight, groups=image.shape[0])[0]


def save(path: Path, image: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture_from_tensor(image).save(path)


def make_levin(folder: Path, monkeypatch: pytest.MonkeyPatch, *, side: int = 48) -> Path:
    """Two images and two kernels; the second kernel's file is rotated, as some public ones are."""
    monkeypatch.setattr("asnet.evaluation.levin.IMAGES", range(1, 3))
    monkeypatch.setattr("asnet.evaluation.levin.KERNELS", range(1, 3))
    for image in (1, 2):
        sharp = scene(side, side, channels=1, seed=image)
        save(folder / "gt" / f"im{image}.png", sharp)
        for kernel in (1, 2):
            save(folder / f"im{image}_kernel{kernel}_img.png", blur(sharp, crooked_kernel(kernel)))
    write_kernel(folder / "gt" / "kernel1.png", crooked_kernel(1))
    write_kernel(folder / "gt" / "kernel2.png", crooked_kernel(2).flip(0, 1))
    return folder


def make_sun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One image, two kernels, the ground truth cropped by 100 pixels."""
    monkeypatch.setattr("asnet.evaluation.sun.IMAGES", range(1, 2))
    monkeypatch.setattr("asnet.evaluation.sun.KERNELS", range(1, 3))
    sharp = scene(140, 160, channels=1)
    save(folder / "img1_groundtruth_img.png", sharp[:, 50:90, 50:110])
    for kernel in (1, 2):
        save(folder / f"1_{kernel}_blurred.png", blur(sharp, crooked_kernel(kernel)))
        write_kernel(folder / f"kernel{kernel}_groundtruth_kernel.png", crooked_kernel(kernel))
    return folder


def make_koehler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One scene, trajectories 7 and 8, three frames of 161x168 pixels each."""
    monkeypatch.setattr("asnet.evaluation.koehler.IMAGES", range(1, 2))
    monkeypatch.setattr("asnet.evaluation.koehler.TRAJECTORIES", range(7, 9))
    monkeypatch.setattr("asnet.evaluation.koehler._FRAMES", 3)
    sharp = scene(161, 168)
    for trajectory in (7, 8):
        save(folder / f"Blurry1_{trajectory}.png", blur(sharp, crooked_kernel(trajectory)))
        for frame in (1, 2, 3):
            truth = torch.roll(sharp, frame, 1) * (0.7 + 0.1 * frame)
            save(folder / "ground_truth" / f"GroundTruth1_{trajectory}_{frame}.png", truth)
    return folder


def make_lai(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One image of one category, two kernels."""
    monkeypatch.setattr("asnet.evaluation.lai.CATEGORIES", ("text",))
    monkeypatch.setattr("asnet.evaluation.lai.IMAGES", range(1, 2))
    monkeypatch.setattr("asnet.evaluation.lai.KERNELS", range(1, 3))
    sharp = scene(165, 161)
    save(folder / "ground_truth" / "text_01.png", sharp)
    for kernel in (1, 2):
        save(folder / "uniform" / f"text_01_kernel_{kernel:02}.png", blur(sharp, crooked_kernel(kernel)))
    return folder


def make_pairs(folder: Path) -> Path:
    """Two pairs, one of them grey."""
    for name, channels in (("colour", 3), ("grey", 1)):
        sharp = scene(40, 44, channels=channels)
        save(folder / "sharp" / f"{name}.png", sharp)
        save(folder / "blurred" / f"{name}.png", blur(sharp, crooked_kernel(1)))
    return folder
