"""Random camera trajectories: a path, and the dwell time on each segment.

The constants are explained in ``docs/blur-kernels.md``.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from asnet.data.random_numbers import RandomNumbers, between

# Path: control points are a random walk with correlated steps, compressed along one axis.
_CONTROL_POINTS = (3, 7)
_PERSISTENCE = (-0.3, 0.95)
_SMALLEST_ASPECT = 0.2

# A loop: control points about once around a unit circle, with a tremor of the steps above and a drift.
_LOOP_TURNS = (0.7, 1.4)
_LOOP_DRIFT = (0.0, 1.5)
_LOOP_TREMOR = 0.15

# Speed along the path: its logarithm is a spline through Gaussian values, and up to two pauses slow the
# camera down.
_SPEED_POINTS = 6
_LARGEST_LOG_SPEED_DEVIATION = 0.8
_PAUSES = 2
_PAUSE_PROBABILITY = 0.35
_PAUSE_DEPTH = (0.6, 0.95)
_PAUSE_WIDTH = (0.01, 0.06)

# A faint tail: a first part of the path, as a share of its parameter, that is traversed this many times
# faster.
_TAIL_SHARE = (0.2, 0.6)
_TAIL_HASTE = (4.0, 16.0)
_TAIL_TRANSITION = 0.02


class TrajectoryDraws(NamedTuple):
    """Every random number of N trajectories, uniform in [0, 1) unless said otherwise."""

    spline: Tensor  # (N,) int64: index into the bank of splines, 0 for the fewest control points
    persistence: Tensor  # (N,)
    steps: Tensor  # (N, 7, 2) standard normal
    aspect: Tensor  # (N,)
    angle: Tensor  # (N,)
    speed_deviation: Tensor  # (N,)
    log_speed: Tensor  # (N, speed points) standard normal
    pauses: Tensor  # (N, pauses, 4): whether, where, depth, width
    looping: Tensor  # (N,) bool
    loop: Tensor  # (N, 2): turns, drift
    tailed: Tensor  # (N,) bool
    tail: Tensor  # (N, 2): share, haste

    def part(self, which: slice) -> TrajectoryDraws:
        """Return the draws of some of the trajectories."""
        return TrajectoryDraws(*(values[which] for values in self))


def draw_trajectories(
    numbers: RandomNumbers, loop_probability: float, tail_probability: float
) -> TrajectoryDraws:
    """Draw what `trajectories` computes from; nothing is drawn for a probability of 0."""

    def optional(probability: float, *shape: int) -> tuple[Tensor, Tensor]:
        chosen = numbers.chosen(probability)
        if probability == 0.0:
            return chosen, torch.zeros((numbers.count, *shape), device=numbers.device)
        return chosen, numbers.uniform(*shape)

    fewest, most = _CONTROL_POINTS
    return TrajectoryDraws(
        numbers.integer(0, most - fewest),
        numbers.uniform(),
        numbers.normal(most, 2),
        numbers.uniform(),
        numbers.uniform(),
        numbers.uniform(),
        numbers.normal(_SPEED_POINTS),
        numbers.uniform(_PAUSES, 4),
        *optional(loop_probability, 2),
        *optional(tail_probability, 2),
    )


def trajectories(draws: TrajectoryDraws, samples: int) -> tuple[Tensor, Tensor]:
    """Return paths (N, samples, 2), x and y in any unit, and dwell times (N, samples), each of sum 1."""
    device = draws.steps.device
    looping = draws.looping[:, None, None]
    control = torch.where(looping, _loop(draws), _walk(draws))
    aspect = torch.exp(math.log(_SMALLEST_ASPECT) * draws.aspect)
    control = control * torch.stack((torch.ones_like(aspect), aspect), dim=-1)[:, None]
    angle = 2.0 * math.pi * draws.angle
    cosine, sine = angle.cos(), angle.sin()
    rotation = torch.stack((cosine, sine, -sine, cosine), dim=-1).reshape(-1, 2, 2)
    bank = _spline_bank(samples).to(device)
    # A loop needs every control point.
    splines = bank[torch.where(draws.looping, len(bank) - 1, draws.spline)]
    ends = splines @ (control @ rotation)

    length = (ends[:, 1:] - ends[:, :-1]).norm(dim=-1)
    dwell = length / _speed(draws, samples)
    return 0.5 * (ends[:, 1:] + ends[:, :-1]), dwell / dwell.sum(dim=1, keepdim=True)


def _walk(draws: TrajectoryDraws) -> Tensor:
    """Control points (N, 7, 2) of a random walk."""
    persistence = between(draws.persistence, _PERSISTENCE)[:, None]
    step = draws.steps[:, 0]
    points = [torch.zeros_like(step)]
    for index in range(1, draws.steps.shape[1]):
        points.append(points[-1] + step)
        step = persistence * step + (1.0 - persistence.square()).sqrt() * draws.steps[:, index]
    return torch.stack(points, dim=1)


def _loop(draws: TrajectoryDraws) -> Tensor:
    """Control points (N, 7, 2) around a circle."""
    count = draws.steps.shape[1]
    place = torch.arange(count, device=draws.steps.device) / (count - 1)
    turns, drift = draws.loop[:, :1], draws.loop[:, 1:]
    angle = 2.0 * math.pi * between(turns, _LOOP_TURNS) * place
    across = angle.cos() + between(drift, _LOOP_DRIFT) * place
    return torch.stack((across, angle.sin()), dim=-1) + _LOOP_TREMOR * draws.steps


def _speed(draws: TrajectoryDraws, samples: int) -> Tensor:
    """Return the camera's speed (N, samples) at the middle of every segment of the path, up to a factor."""
    device = draws.log_speed.device
    deviation = _LARGEST_LOG_SPEED_DEVIATION * draws.speed_deviation[:, None]
    basis = _spline_basis(_SPEED_POINTS, samples).to(device)
    speed = (deviation * (draws.log_speed @ basis.T)).exp()
    place = (torch.arange(samples, device=device, dtype=torch.float32) + 0.5) / samples
    for pause in draws.pauses.unbind(dim=1):
        whether, where, depth, width = pause[:, :, None].unbind(dim=1)
        depth = torch.where(whether < _PAUSE_PROBABILITY, between(depth, _PAUSE_DEPTH), 0.0)
        speed = speed * (
            1.0 - depth * torch.exp(-0.5 * ((place - where) / between(width, _PAUSE_WIDTH)).square())
        )
    share, haste = between(draws.tail[:, :1], _TAIL_SHARE), between(draws.tail[:, 1:], _TAIL_HASTE)
    within = ((share - place) / _TAIL_TRANSITION).sigmoid()
    return torch.where(draws.tailed[:, None], speed * (1.0 + (haste - 1.0) * within), speed)


@functools.lru_cache(maxsize=8)
def _spline_bank(samples: int) -> Tensor:
    """Bases for 3 to 7 control points, (5, samples + 1, 7), zero for the points not used."""
    fewest, most = _CONTROL_POINTS
    return torch.stack(
        [
            functional.pad(_spline_basis(points, samples, middles=False), (0, most - points))
            for points in range(fewest, most + 1)
        ]
    )


@functools.lru_cache(maxsize=8)
def _spline_basis(points: int, samples: int, middles: bool = True) -> Tensor:
    """Natural cubic spline through equally spaced points, as a matrix from the points to the curve.

    Returns (samples, points) at the middles of equal intervals of the parameter, or (samples + 1, points) at
    their ends.
    """
    identity = torch.eye(points, dtype=torch.float64)
    # Second derivatives m at unit spacing: m[i-1] + 4 m[i] + m[i+1] = 6 (y[i-1] - 2 y[i] + y[i+1]), zero at
    # the ends.
    inner = identity[1:-1]
    system, differences = identity.clone(), torch.zeros_like(identity)
    neighbours = identity[:-2] + identity[2:]
    system[1:-1] = 4.0 * inner + neighbours
    differences[1:-1] = 6.0 * (neighbours - 2.0 * inner)
    curvature = torch.linalg.solve(system, differences)

    count, shift = (samples, 0.5) if middles else (samples + 1, 0.0)
    place = (torch.arange(count, dtype=torch.float64) + shift) * ((points - 1) / samples)
    left = place.floor().long().clamp_max(points - 2)
    after = (place - left)[:, None]
    before = 1.0 - after
    basis = before * identity[left] + after * identity[left + 1]
    basis += ((before**3 - before) * curvature[left] + (after**3 - after) * curvature[left + 1]) / 6.0
    return basis.float()
