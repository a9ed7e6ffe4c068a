import pytest

from asnet.evaluation import evaluator
from asnet.evaluation.evaluator import default_jobs

GIGABYTE = 10**9


@pytest.mark.parametrize(
    ("cores", "gigabytes", "pixels", "expected"),
    [
        (8, 256, 800 * 800, 8),
        (64, 16, 800 * 800, 3),
        (64, 16, 255 * 255, 13),
        (64, 16, 10**9, 3),
        (4, 0.1, 255 * 255, 1),
    ],
)
def test_jobs_fit_cores_and_memory(
    monkeypatch: pytest.MonkeyPatch, cores: int, gigabytes: float, pixels: int, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setattr(evaluator, "_free_memory", lambda: int(gigabytes * GIGABYTE))
    assert default_jobs(pixels) == expected


def test_free_memory_is_plausible() -> None:
    assert 10**7 < evaluator._free_memory() < 10**14
