"""Each protocol on small data sets whose scores are known or computed another way."""

import math
from pathlib import Path

import pytest
import torch
from benchmark_data import (
    blur,
    crooked_kernel,
    make_koehler,
    make_lai,
    make_levin,
    make_pairs,
    make_sun,
    save,
    scene,
)

from asnet.errors import InputError
from asnet.evaluation.alignment import align, luma
from asnet.evaluation.benchmark import Benchmark, Case
from asnet.evaluation.error_ratios import error_ratio, rotated_to_match
from asnet.evaluation.inventory import Inventory
from asnet.evaluation.koehler import Koehler, frames
from asnet.evaluation.lai import Lai
from asnet.evaluation.levin import Levin
from asnet.evaluation.multiscale_ssim import multiscale_ssim
from asnet.evaluation.pairs import Pairs
from asnet.evaluation.sun import Sun


def found(benchmark: Benchmark, folder: Path) -> list[Case]:
    inventory = Inventory()
    cases = benchmark.cases(folder, inventory)
    inventory.check(benchmark.title)
    return cases


def test_the_public_data_sets_have_their_sizes(tmp_path: Path) -> None:
    sizes = {"koehler": 48, "lai": 100, "levin": 32, "sun": 640}
    for benchmark in (Koehler(), Lai(), Levin(), Sun()):
        cases = benchmark.cases(tmp_path, Inventory())
        assert len({case.name for case in cases}) == len(cases) == sizes[benchmark.name]


def test_the_frames_of_the_koehler_data_set() -> None:
    counts = {
        (image, trajectory): len(frames(image, trajectory))
        for image in range(1, 5)
        for trajectory in range(1, 13)
    }
    assert counts.pop((2, 11)) == 200
    assert [counts.pop(key) for key in ((1, 10), (1, 12), (2, 10), (3, 7), (3, 12), (4, 12))] == [198] * 6
    assert counts.pop((1, 3)) == 198
    assert 30 not in frames(1, 3)
    assert set(counts.values()) == {199}
    assert len(counts) == 40


def test_the_frame_that_copies_may_lack_counts_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asnet.evaluation.koehler.IMAGES", range(1, 2))
    monkeypatch.setattr("asnet.evaluation.koehler.TRAJECTORIES", range(3, 4))
    tiny = scene(4, 4)
    save(tmp_path / "Blurry1_3.png", tiny)
    for frame in (frame for frame in range(1, 199) if frame != 30):
        save(tmp_path / f"GroundTruth1_3_{frame}.png", tiny)
    assert len(found(Koehler(), tmp_path)[0].ground_truth) == 197
    save(tmp_path / "GroundTruth1_3_199.png", tiny)
    assert found(Koehler(), tmp_path)[0].ground_truth[-1].name == "GroundTruth1_3_199.png"
    (tmp_path / "GroundTruth1_3_198.png").unlink()
    with pytest.raises(InputError, match=r"1 missing: \S*GroundTruth1_3_198.png"):
        found(Koehler(), tmp_path)


def test_koehler_takes_the_best_frame_for_each_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = Koehler()
    case = found(benchmark, make_koehler(tmp_path, monkeypatch))[0]
    result = benchmark.read(case.blurred)
    psnr, mssim = [], []
    for path in case.ground_truth:
        z, x = map(luma, align(255 * result.double(), 255 * benchmark.read(path).double()))
        psnr.append(10 * math.log10(255**2 / float((z - x).square().mean())))
        mssim.append(multiscale_ssim(z, x))
    assert len(set(psnr)) == len(set(mssim)) == 3
    scores = benchmark.score(case, result, None)
    assert scores == {"psnr": pytest.approx(max(psnr)), "mssim": pytest.approx(max(mssim))}


def test_a_perfect_result_scores_so_at_any_brightness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for benchmark, folder in (
        (Koehler(), make_koehler(tmp_path / "koehler", monkeypatch)),
        (Lai(), make_lai(tmp_path / "lai", monkeypatch)),
    ):
        case = found(benchmark, folder)[0]
        scores = benchmark.score(case, 0.4 * benchmark.read(case.ground_truth[0]), None)
        assert scores["psnr"] > 120
        assert scores["mssim"] == pytest.approx(1, abs=1e-9)


def test_koehler_means_with_and_without_the_large_trajectories() -> None:
    scores = {
        f"Blurry{image}_{trajectory}": {"psnr": float(trajectory), "mssim": image / 10}
        for image in range(1, 5)
        for trajectory in range(1, 13)
    }
    summary = Koehler().summarise(scores)
    assert summary["psnr_all"] == pytest.approx(78 / 12)
    assert summary["psnr_without_8_9_10"] == pytest.approx(51 / 9)
    assert summary["mssim_all"] == summary["mssim_without_8_9_10"] == pytest.approx(0.25)


@pytest.mark.parametrize("benchmark", [Koehler(), Lai()])
def test_published_rows_fit_the_summary(benchmark: Benchmark) -> None:
    assert benchmark.published is not None
    for row in benchmark.published.rows:
        assert len(row) == 1 + len(benchmark.summary)
        assert all(figure == "-" or float(figure) > 0 for figure in row[1:])


def test_levin_error_ratios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = Levin()
    case = found(benchmark, make_levin(tmp_path, monkeypatch))[0]
    # Noise does not match itself better at another shift.
    noise = torch.rand(1, 48, 48, generator=torch.Generator().manual_seed(3))
    save(case.ground_truth[0], noise)
    truth = benchmark.read(case.ground_truth[0])
    scores = benchmark.score(case, truth + 0.02, torch.roll(truth, (2, -4), (1, 2)) + 0.01)
    pixels = (48 - 30) ** 2
    assert scores["ssd"] == pytest.approx(pixels * 0.02**2, rel=1e-4)
    assert scores["ssd_reference"] == pytest.approx(pixels * 0.01**2, rel=1e-4)
    assert scores["error_ratio"] == pytest.approx(4, rel=1e-3)
    assert scores["psnr"] == pytest.approx(-20 * math.log10(0.02), abs=1e-3)
    assert scores["psnr_reference"] == pytest.approx(40, abs=1e-3)


def test_success_counts_ratios_at_the_limit() -> None:
    ratios = [0.5, 1.5, 1.6, 2.0, 2.5, 3.0, 3.1, 9.0]
    scores = {
        str(index): {"psnr": 20.0 + index, "psnr_reference": 30.0, "error_ratio": ratio}
        for index, ratio in enumerate(ratios)
    }
    summary = Levin().summarise(scores)
    assert [summary[f"success_{limit}"] for limit in ("1.5", "2", "2.5", "3")] == [25, 50, 62.5, 75]
    assert summary["psnr"] == 23.5
    assert summary["error_ratio"] == pytest.approx(sum(ratios) / 8)


def test_error_ratios_of_perfect_references() -> None:
    assert [error_ratio(3, 2), error_ratio(0, 2), error_ratio(0, 0), error_ratio(1, 0)] == [
        1.5,
        0,
        1,
        math.inf,
    ]


@pytest.mark.parametrize(("height", "width"), [(48, 48), (61, 40)])
def test_kernels_are_turned_as_the_images_show(height: int, width: int) -> None:
    for seed in range(5):
        sharp, kernel = scene(height, width, channels=1, seed=seed), crooked_kernel(seed)
        noise = 0.01 * torch.randn(sharp.shape, generator=torch.Generator().manual_seed(seed))
        blurred = (blur(sharp, kernel) + noise)[0]
        for given in (kernel, kernel.flip(0, 1)):
            assert torch.equal(rotated_to_match(given, sharp[0], blurred), kernel)


@pytest.mark.parametrize("make", [make_levin, make_sun])
def test_true_kernels_explain_the_blur(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make) -> None:
    benchmark = Levin() if make is make_levin else Sun()
    for case in found(benchmark, make(tmp_path, monkeypatch)):
        kernel = int(case.name.split("kernel")[1][0] if make is make_levin else case.name[2])
        torch.testing.assert_close(benchmark.true_kernel(case), crooked_kernel(kernel), rtol=0, atol=1e-4)


def test_sun_finds_the_cropped_ground_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = Sun()
    folder = make_sun(tmp_path, monkeypatch)
    case = found(benchmark, folder)[0]
    whole = scene(140, 160, channels=1)
    scores = benchmark.score(case, torch.roll(whole, (17, -31), (1, 2)) + 0.03, whole + 0.01)
    # The ground truth is rounded to eight bits.
    assert scores["ssd"] == pytest.approx(40 * 60 * 0.03**2, rel=0.02)
    assert scores["error_ratio"] == pytest.approx(9, rel=0.1)
    assert scores["psnr_reference"] == pytest.approx(40, abs=0.3)
    # A ground truth of the whole size is cropped here.
    save(folder / "img1_groundtruth_img.png", whole)
    assert benchmark.score(found(benchmark, folder)[0], whole + 0.03, whole + 0.01) == pytest.approx(
        scores, rel=0.02
    )


def test_pairs_agree_with_scikit_image(tmp_path: Path) -> None:
    reference = pytest.importorskip("skimage.metrics")
    benchmark = Pairs()
    for case in found(benchmark, make_pairs(tmp_path)):
        result = torch.roll(0.9 * benchmark.read(case.blurred), 2, 2)
        scores = benchmark.score(case, result, None)
        truth = benchmark.read(case.ground_truth[0])
        for suffix, (one, two) in (
            ("", (result.double(), truth.double())),
            ("_aligned", align(result.double(), truth.double())),
        ):
            pair = two.numpy(), one.numpy()
            assert scores[f"psnr{suffix}"] == pytest.approx(
                reference.peak_signal_noise_ratio(*pair, data_range=1), rel=1e-9
            )
            assert scores[f"ssim{suffix}"] == pytest.approx(
                reference.structural_similarity(
                    *pair, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                    data_range=1,
                ),
                rel=1e-9,
            )  # fmt: skip
        assert scores["psnr_aligned"] > scores["psnr"] + 3


def test_all_that_is_missing_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_koehler(tmp_path, monkeypatch)
    (folder / "Blurry1_7.png").rename(folder / "blurry1_7.png")
    for frame in (1, 2, 3):
        (folder / "ground_truth" / f"GroundTruth1_8_{frame}.png").unlink()
    (folder / "ground_truth" / "GroundTruth1_7_2.png").unlink()
    save(folder / "ground_truth" / "GroundTruth1_7_3.png", scene(160, 168))
    with pytest.raises(InputError) as raised:
        found(Koehler(), folder)
    message = str(raised.value)
    assert "5 missing" in message
    assert f"{tmp_path.name}/Blurry1_7.png" in message
    assert "not expected under their names: " in message
    assert f"{tmp_path.name}/blurry1_7.png" in message
    assert "ground_truth/GroundTruth1_7_2.png" in message
    assert "ground_truth/GroundTruth1_8_1.png to GroundTruth1_8_3.png" in message
    assert "\n" not in message


def test_wrong_sizes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_levin(tmp_path, monkeypatch)
    save(folder / "im1_kernel2_img.png", scene(48, 52, channels=1))
    save(folder / "im2_kernel1_img.png", scene(44, 48, channels=1))
    with pytest.raises(InputError) as raised:
        found(Levin(), folder)
    assert "im1_kernel2_img.png has 52x48 pixels instead of 48x48" in str(raised.value)
    assert "im2_kernel1_img.png has 48x44 pixels instead of 48x48" in str(raised.value)


def test_pairs_without_a_partner_are_named(tmp_path: Path) -> None:
    folder = make_pairs(tmp_path)
    (folder / "sharp" / "grey.png").unlink()
    save(folder / "sharp" / "other.png", scene(40, 44))
    with pytest.raises(InputError, match=r"2 missing: sharp/grey, blurred/other"):
        found(Pairs(), folder)
    with pytest.raises(InputError, match="folders blurred and sharp"):
        found(Pairs(), tmp_path / "sharp")


def test_two_files_for_one_name_are_refused(tmp_path: Path) -> None:
    folder = make_pairs(tmp_path)
    save(folder / "sharp" / "grey.jpg", scene(40, 44))
    (folder / "blurred" / "colour.png").unlink()
    with pytest.raises(InputError) as raised:
        found(Pairs(), folder)
    assert "1 missing: blurred/colour; " in str(raised.value)
    assert "several for one name: sharp/grey.jpg, sharp/grey.png" in str(raised.value)


def test_kernel_estimates_under_both_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = Levin()
    cases = found(benchmark, make_levin(tmp_path, monkeypatch))
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    names = ["k_1_im_1_method.png", "im1_kernel2_img.npy", "k_1_im_2.png"]
    for name in (*names, "k_1_im_11.png"):
        (kernels / name).write_bytes(b"")
    inventory = Inventory()
    files = [benchmark.kernel_file(case, kernels, inventory).name for case in cases]
    assert files[:3] == names
    with pytest.raises(InputError, match=r"1 missing: kernels/k_2_im_2;"):
        inventory.check("these kernels")
