"""Constants and courses of the iterated analysis: how strong its latent images and its damping are."""

from typing import NamedTuple

from asnet.networks.kernel_grids import SMALLEST_WEIGHT

#: The courses are compared at the scale that is this many times sqrt(2) smaller than the finest.
COMPARED_SCALE = 4

#: lambda of the first round at the finest scales, and what divides it after each round.
FINE_STRENGTH, STRENGTH_DECAY = 3e-3, 1.1

#: Rounds at the finest scale of all, the last ones of a schedule.
LAST_ROUNDS = 3

#: lambda that noise demands, in units of its variance, and the smallest where lambda follows the noise.
NOISE_STRENGTH, LEAST_NOISE_STRENGTH = 10.0, 3e-4

#: Kernel weights below this share of the largest are dropped where faint tails are to be kept.
SMALLEST_OF_TAILS = 0.03

#: lambda does not fall below this.
SMALLEST_STRENGTH = 1e-4

#: Tikhonov weight that keeps noise and the blocks of JPEG out of a kernel, and one that lets more detail in.
DAMPED, LESS_DAMPED = 100.0, 30.0


class Course(NamedTuple):
    """How the coarse scales are gone through."""

    strength: float = 8e-3  # lambda of the first round
    decay: float = STRENGTH_DECAY  # what divides lambda after each round
    rounds: int = 5  # at each scale
    weight: float = 2.0  # Tikhonov weight of the normal equations, for intensities in [0, 1]
    extra_scales: int = 0  # beyond the one at which the largest kernel fits a grid of 5 pixels
    avoids_clipped: bool = False  # leave gradients near clipped pixels out, instead of completing them

    def strengths(self, number: int) -> list[float]:
        """Return lambda of the rounds at the scale of this number, counted from the coarsest."""
        first = number * self.rounds
        return [
            max(self.strength / self.decay ** (first + index), SMALLEST_STRENGTH)
            for index in range(self.rounds)
        ]


#: The courses of the coarse scales.
COURSES = (
    Course(),
    Course(weight=DAMPED),
    Course(strength=16e-3, weight=DAMPED),
    Course(rounds=8, weight=LESS_DAMPED),
    Course(rounds=8, weight=LESS_DAMPED, extra_scales=1),
    Course(weight=LESS_DAMPED, extra_scales=2),
    Course(avoids_clipped=True, weight=DAMPED),
    Course(rounds=8, strength=4e-3, weight=LESS_DAMPED),
)


class FineSchedule(NamedTuple):
    """How the finest scales are gone through."""

    strengths: list[list[float]]  # lambda of the rounds at each scale, finest first
    smallest_weight: float  # kernel weights below this share of the largest are dropped
    ground: float | None = None  # luma of an even ground from which few pixels of the latent image differ


def fine_schedules(noise: float, scales: int, rounds: int) -> list[FineSchedule]:
    """Return three schedules of the finest scales, the one that serves most photographs first.

    On the first, lambda falls from scale to scale and round to round, as on the courses, but not below what
    the noise at the scale demands. On the second it is what the noise demands, and no more. The second finds
    large kernels in synthetic blur, where nothing but noise disturbs, and loses them in most photographs. The
    third is the first, but keeps faint tails of the kernel, and noise in it.

    Parameters
    ----------
    noise : float
        Standard deviation of white noise in the luma that the analysis sees. At a scale that is sqrt(2)^s
        times smaller, its variance is 2^s times smaller.
    scales, rounds : int
        Number of scales, and of rounds at each but the finest, which has at most `LAST_ROUNDS`.
    """
    demanded = [NOISE_STRENGTH * noise**2 / 2**scale for scale in range(scales)]
    falls = Course(FINE_STRENGTH, rounds=rounds)
    falling = [
        [max(strength, least) for strength in falls.strengths(scales - 1 - scale)]
        for scale, least in enumerate(demanded)
    ]
    following = [[max(least, LEAST_NOISE_STRENGTH)] * rounds for least in demanded]
    for strengths in (falling, following):
        strengths[0] = strengths[0][-LAST_ROUNDS:]
    return [
        FineSchedule(falling, SMALLEST_WEIGHT),
        FineSchedule(following, SMALLEST_WEIGHT),
        FineSchedule(falling, SMALLEST_OF_TAILS),
    ]
