"""Schedules of the strengths of latent images."""

import pytest

from asnet.networks.courses import Course, fine_schedules


def test_strengths_fall_from_round_to_round_and_scale_to_scale() -> None:
    course = Course(strength=8e-3, decay=2.0, rounds=3)
    assert course.strengths(0) + course.strengths(1) == pytest.approx([8e-3, 4e-3, 2e-3, 1e-3, 5e-4, 2.5e-4])
    assert min(course.strengths(9)) > 0


def test_without_noise_only_the_falling_schedule_is_strong() -> None:
    falling, following = (schedule.strengths for schedule in fine_schedules(0.0, 4, 5)[:2])
    assert [len(strengths) for strengths in falling] == [3, 5, 5, 5]
    assert [len(strengths) for strengths in following] == [3, 5, 5, 5]
    assert all(max(strengths) < min(falling[0]) for strengths in following)
    finest_last = [strength for strengths in reversed(falling) for strength in strengths]
    assert finest_last == sorted(finest_last, reverse=True)


def test_noise_raises_both_schedules_and_counts_half_at_every_coarser_scale() -> None:
    falling, following = (schedule.strengths for schedule in fine_schedules(0.05, 4, 2)[:2])
    for schedule in (falling, following):
        assert all(strength > max(fine_schedules(0.0, 4, 2)[0].strengths[0]) for strength in schedule[0])
    assert [strengths[0] / following[0][0] for strengths in following] == pytest.approx(
        [1, 1 / 2, 1 / 4, 1 / 8]
    )
    assert all(low >= high for low, high in zip(falling[0], following[0], strict=True))


def test_the_third_schedule_is_the_first_with_fainter_weights_kept() -> None:
    first, _, third = fine_schedules(0.01, 4, 5)
    assert third.strengths == first.strengths
    assert 0 < third.smallest_weight < first.smallest_weight
