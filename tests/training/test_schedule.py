import json

import pytest

from asnet.training.schedule import LearningRate


def test_plateau_reduces_by_a_fifth_after_five_stagnating_epochs() -> None:
    rate = LearningRate("plateau", 1e-4, 10**6, patience=5, factor=0.8)
    rate.epoch_ended(1.0)
    for _ in range(4):
        rate.epoch_ended(1.0)
    assert rate.at(0) == 1e-4
    rate.epoch_ended(1.0)
    assert rate.at(0) == pytest.approx(0.8e-4)
    for _ in range(5):
        rate.epoch_ended(2.0)
    assert rate.at(0) == pytest.approx(0.64e-4)


def test_an_improvement_starts_the_count_again() -> None:
    rate = LearningRate("plateau", 1e-4, 10**6, patience=2)
    for loss in (1.0, 1.0, 0.9, 0.9, 0.8, 0.8):
        rate.epoch_ended(loss)
    assert rate.at(0) == 1e-4
    # Less than a ten-thousandth is no improvement.
    rate.epoch_ended(0.79999)
    assert rate.at(0) == pytest.approx(0.8e-4)


def test_cosine_rises_and_falls_to_zero() -> None:
    rate = LearningRate("cosine", 1.0, 110, warmup_steps=10)
    rates = [rate.at(step) for step in range(111)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[9] == pytest.approx(10 / 11)
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[110] == pytest.approx(0.0, abs=1e-12)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_constant_ignores_the_loss() -> None:
    rate = LearningRate("constant", 1e-3, 10)
    for _ in range(20):
        rate.epoch_ended(1.0)
    assert rate.at(9) == 1e-3


def test_state_survives_json() -> None:
    rate = LearningRate("plateau", 1e-4, 100, patience=3)
    for loss in (1.0, 1.1, 1.2, 1.3, 1.4):
        rate.epoch_ended(loss)
    other = LearningRate("plateau", 1e-4, 100, patience=3)
    other.restore(json.loads(json.dumps(rate.state())))
    for loss in (1.5, 1.6):
        assert other.at(0) == rate.at(0)
        rate.epoch_ended(loss)
        other.epoch_ended(loss)
    assert other.at(0) == rate.at(0) == pytest.approx(0.64e-4)
