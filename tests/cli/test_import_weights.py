"""`asnet import-weights`: Keras files of the released code in, a weights file that deblurs out."""

import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from messages import one_sentence
from PIL import Image
from torch import Tensor

from asnet import Deblurrer
from asnet.cli.main import main
from asnet.networks import AnalysisConfig, ASNetConfig, DeblurNetwork, load_networks, read_header

h5py = pytest.importorskip("h5py")

FIXTURE = Path(__file__).parents[1] / "fixtures" / "official_parity"

#: Layers of the analysis network below, in the order in which the released code creates them.
ANALYSIS_LAYERS = {
    "conv2d": [
        "levels.0.features.0",
        "levels.0.features.1",
        "levels.0.projection",
        "levels.0.reduction",
        "down.0",
        "levels.1.features.0",
        "levels.1.features.1",
        "levels.1.projection",
        "levels.1.reduction",
        "fusions.0.join",
        "head.0",
        "head.1",
        "head.2",
    ],
    "conv2d_transpose": ["fusions.0.up"],
}

#: Blocks of the synthesis network below, and the layers between them.
SYNTHESIS_BLOCKS = ["encoder.0", "encoder.1", "decoder.0"]
BEFORE_BLOCK = {"encoder.1": ["encoder.0.down"], "decoder.0": ["decoder.0.skip", "decoder.0.merge"]}


def synthesis_layers() -> dict[str, list[str]]:
    layers: dict[str, list[str]] = {"conv2d": [], "dense": [], "bias_layer": []}
    for block in SYNTHESIS_BLOCKS:
        layers["conv2d"] += BEFORE_BLOCK.get(block, [])
        layers["dense"] += [f"{block}.guide.hidden.0", f"{block}.guide.hidden.1"]
        for index in range(3):
            layers["conv2d"].append(f"{block}.block.convolutions.{index}")
            layers["dense"] += [f"{block}.guide.multipliers.{index}", f"{block}.guide.shifts.{index}"]
            layers["bias_layer"].append(f"{block}.guide.offsets.{index}")
    layers["conv2d"].append("output")
    return layers | {"conv2d_transpose": ["decoder.0.up"]}


def keras_layout(values: Tensor) -> numpy.ndarray:
    """Convolutions as (height, width, in, out), transposed ones (height, width, out, in), dense (in, out)."""
    return (values.permute(2, 3, 1, 0) if values.dim() == 4 else values.t()).numpy()


def write_keras(path: Path, part: torch.nn.Module, layers: dict[str, list[str]], first: int = 0) -> None:
    """Write a network as Keras 2 does; a session numbers its convolutions from `first` on."""
    state = part.state_dict()
    with h5py.File(path, "w") as file:
        names = []
        for kind, entries in layers.items():
            for index, entry in enumerate(entries, first if kind == "conv2d" else 0):
                name = f"{kind}_{index}" if index else kind
                keys = {"Variable:0": entry} if kind == "bias_layer" else {}
                keys = keys or {"kernel:0": f"{entry}.weight", "bias:0": f"{entry}.bias"}
                group = file.create_group(name)
                group.attrs["weight_names"] = [f"{name}/{key}".encode() for key in keys]
                for key, ours in keys.items():
                    group[f"{name}/{key}"] = keras_layout(state[ours])
                names.append(name.encode())
        # Keras lists layers in graph order, not in order of creation.
        file.attrs["layer_names"] = names[::-1]


@pytest.fixture(scope="module")
def network() -> DeblurNetwork:
    """A small network in the topology of the released code, every array different from 0."""
    official = ASNetConfig.official()
    assert isinstance(official.analysis, AnalysisConfig)
    analysis = replace(
        official.analysis,
        kernel_size=9,
        levels=2,
        feature_layers=2,
        feature_channels=3,
        correlation_channels=2,
        reduced_channels=4,
        head_channels=(5, 3),
    )
    synthesis = replace(official.synthesis, kernel_size=9, channels=(4, 4), guide_hidden=6)
    torch.manual_seed(0)
    network = DeblurNetwork(ASNetConfig(analysis, synthesis, "official"))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.rand_like(parameter))
    return network.eval()


@pytest.fixture
def keras_files(tmp_path: Path, network: DeblurNetwork) -> tuple[Path, Path]:
    analysis, synthesis = tmp_path / "analysis_weights.h5", tmp_path / "synthesis_weights.h5"
    write_keras(analysis, network.analysis, ANALYSIS_LAYERS)
    write_keras(synthesis, network.synthesis, synthesis_layers(), first=len(ANALYSIS_LAYERS["conv2d"]))
    return analysis, synthesis


def imported(*arguments: str | Path) -> int:
    return main(["import-weights", *map(str, arguments)])


def test_every_array_arrives_at_its_place(
    keras_files: tuple[Path, Path], tmp_path: Path, network: DeblurNetwork
) -> None:
    output = tmp_path / "new" / "released.safetensors"
    assert imported(*keras_files, "-o", output) == 0
    loaded = load_networks(output, DeblurNetwork)
    assert loaded.config == network.config
    torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)
    assert read_header(output).revision == "imported from analysis_weights.h5 and synthesis_weights.h5"
    assert [path.name for path in output.parent.iterdir()] == ["released.safetensors"]


@pytest.mark.parametrize("boundary", ["circular", "zero"])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (19, 50), (61, 33)])
def test_the_result_deblurs_any_size(
    keras_files: tuple[Path, Path], tmp_path: Path, boundary: str, height: int, width: int
) -> None:
    output = tmp_path / "released.safetensors"
    assert imported(*keras_files, "-o", output, "--boundary", boundary) == 0
    deblurrer = Deblurrer.from_pretrained(output, device="cpu")
    analysis = deblurrer.network.config.analysis
    assert isinstance(analysis, AnalysisConfig)
    assert analysis.boundary == boundary
    generator = torch.Generator().manual_seed(1)
    result = deblurrer.deblur(torch.rand(3, height, width, generator=generator))
    assert result.image.shape == (3, height, width)
    assert result.image.isfinite().all()
    assert result.kernel.shape == (9, 9)
    assert result.kernel.sum() == pytest.approx(1, abs=1e-3)


def test_the_boundary_changes_the_estimate(keras_files: tuple[Path, Path], tmp_path: Path) -> None:
    image = torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(2))
    kernels = []
    for boundary in ("circular", "zero"):
        output = tmp_path / f"{boundary}.safetensors"
        assert imported(*keras_files, "-o", output, "--boundary", boundary) == 0
        kernels.append(Deblurrer.from_pretrained(output, device="cpu").estimate_kernel(image))
    assert not torch.equal(*kernels)


def test_files_in_each_other_s_place_are_noticed(
    keras_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "released.safetensors"
    assert imported(*keras_files[::-1], "-o", output) == 1
    assert one_sentence(capsys).endswith(
        "synthesis_weights.h5: the dataset conv2d_13/conv2d_13/kernel:0 has the shape (3, 3, 3, 4), "
        "expected (7, 7, 1, any)"
    )
    assert imported(keras_files[0], keras_files[0], "-o", output) == 1
    assert one_sentence(capsys).endswith(
        "analysis_weights.h5: the dataset conv2d/conv2d/kernel:0 has the shape (7, 7, 1, 3), "
        "expected (3, 3, 3, any)"
    )
    assert not output.exists()


@pytest.mark.parametrize(
    ("which", "layer", "dataset", "shape", "sentence"),
    [
        (0, "conv2d_2", "kernel:0", (1, 1, 4, 2), "has the shape (1, 1, 4, 2), expected (1, 1, 3, any)"),
        (0, "conv2d_3", "kernel:0", (1, 1, 3, 4), "has the shape (1, 1, 3, 4), expected (1, 1, 6, any)"),
        (0, "conv2d_9", "bias:0", (3,), "has the shape (3,), expected (4,)"),
        (0, "conv2d_transpose", "kernel:0", (5, 5, 4), "has the shape (5, 5, 4), expected (5, 5, 4, 4)"),
        (1, "dense", "kernel:0", (80, 6), "has the shape (80, 6), expected the square of an odd kernel"),
        (1, "dense_9", "kernel:0", (7, 6), "has the shape (7, 6), expected (6, 6)"),
        (1, "bias_layer_4", "Variable:0", (1,), "has the shape (1,), expected (4,)"),
        (1, "conv2d_19", "kernel:0", (3, 3, 4, 5), "has the shape (3, 3, 4, 5), expected (3, 3, 4, 4)"),
    ],
)
def test_the_first_dataset_that_differs_is_named(
    keras_files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    which: int,
    layer: str,
    dataset: str,
    shape: tuple[int, ...],
    sentence: str,
) -> None:
    with h5py.File(keras_files[which], "r+") as file:
        del file[layer][layer][dataset]
        file[layer][layer][dataset] = numpy.zeros(shape, numpy.float32)
    assert imported(*keras_files, "-o", tmp_path / "released.safetensors") == 1
    error = one_sentence(capsys)
    assert f"{keras_files[which]}: the dataset {layer}/{layer}/{dataset} {sentence}" in error


def test_a_file_that_ends_early_is_named(
    keras_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "released.safetensors"
    analysis, synthesis = keras_files
    with h5py.File(analysis, "r+") as file:
        # h5py returns text or bytes, depending on its version.
        last = ("conv2d_11", "conv2d_12", b"conv2d_11", b"conv2d_12")
        names = [name for name in file.attrs["layer_names"] if name not in last]
        file.attrs["layer_names"] = names
    assert imported(*keras_files, "-o", output) == 1
    assert "has no layer of the kind conv2d after conv2d_10, expected one of the shape" in one_sentence(
        capsys
    )
    with h5py.File(analysis, "r+") as file:
        del file["conv2d_5"]["conv2d_5"]["bias:0"]
    assert imported(*keras_files, "-o", output) == 1
    assert "lacks the dataset conv2d_5/conv2d_5/bias:0, which it lists" in one_sentence(capsys)
    synthesis.write_bytes(synthesis.read_bytes()[:5000])
    assert imported(synthesis, synthesis, "-o", output) == 1
    assert "is damaged or not a Keras HDF5 weights file" in one_sentence(capsys)
    assert imported(tmp_path / "absent.h5", synthesis, "-o", output) == 1
    assert one_sentence(capsys).endswith(f"there is no weights file {tmp_path / 'absent.h5'}")
    assert not output.exists()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (numpy.float32(1), "has the shape (), expected (7, 7, 1, any)"),
        (numpy.full((7, 7, 1, 3), numpy.nan, numpy.float32), "holds infinite numbers or NaN"),
        (numpy.ones((7, 7, 1, 3), numpy.complex64), "holds no real numbers"),
        ("text", "holds no real numbers"),
        (None, "cannot be read: "),
    ],
)
def test_a_dataset_that_holds_no_weights_is_named(
    keras_files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    values: object,
    sentence: str,
) -> None:
    with h5py.File(keras_files[0], "r+") as file:
        layer = file["conv2d"]["conv2d"]
        del layer["kernel:0"]
        if values is None:
            layer.create_group("kernel:0")
        else:
            layer["kernel:0"] = values
    output = tmp_path / "released.safetensors"
    assert imported(*keras_files, "-o", output) == 1
    assert f"{keras_files[0]}: the dataset conv2d/conv2d/kernel:0 {sentence}" in one_sentence(capsys)
    assert not output.exists()


def test_numbers_of_another_type_or_byte_order_are_converted(
    keras_files: tuple[Path, Path], tmp_path: Path, network: DeblurNetwork
) -> None:
    with h5py.File(keras_files[0], "r+") as file:
        layer = file["conv2d"]["conv2d"]
        values = layer["kernel:0"][()]
        del layer["kernel:0"]
        layer["kernel:0"] = values.astype(">f8")
    output = tmp_path / "released.safetensors"
    assert imported(*keras_files, "-o", output) == 0
    torch.testing.assert_close(
        load_networks(output, DeblurNetwork).state_dict(), network.state_dict(), rtol=0, atol=0
    )


@pytest.mark.parametrize(("index", "size"), [(0, 0), (0, 2**40), (1, 2**40), (1, 2**64 - 16)])
def test_lists_of_names_that_hdf5_would_read_forever_are_refused(
    keras_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], index: int, size: int
) -> None:
    data = bytearray(keras_files[0].read_bytes())
    # The first object of the first heap, after the heap's own header.
    place = data.index(b"GCOL\1\0\0\0") + 16
    data[place : place + 16] = struct.pack("<HHIQ", index, 0, 0, size)
    keras_files[0].write_bytes(data)
    assert imported(*keras_files, "-o", tmp_path / "released.safetensors") == 1
    assert one_sentence(capsys).endswith("an entry of a list of names has a wrong size")


def test_files_of_another_layout_are_named(
    keras_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "released.safetensors"
    later = tmp_path / "keras3.weights.h5"
    with h5py.File(later, "w") as file:
        file["layers/conv2d/vars/0"] = numpy.zeros((7, 7, 1, 3), numpy.float32)
    assert imported(later, keras_files[1], "-o", output) == 1
    assert one_sentence(capsys).endswith(f"{later} lacks the list layer_names of a Keras 2 weights file")
    assert imported(tmp_path, keras_files[1], "-o", output) == 1
    assert one_sentence(capsys).endswith(f"{tmp_path} is a folder, not a weights file")
    with h5py.File(keras_files[0], "r+") as file:
        del file["conv2d_4"].attrs["weight_names"]
    assert imported(*keras_files, "-o", output) == 1
    assert "lacks the list weight_names of the layer conv2d_4" in one_sentence(capsys)
    with h5py.File(keras_files[0], "r+") as file:
        del file["conv2d_4"]
    assert imported(*keras_files, "-o", output) == 1
    assert one_sentence(capsys).endswith("lacks the layer conv2d_4, which it lists")


def test_a_folder_is_no_place_for_the_file(
    keras_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in ([], ["--overwrite"]):
        assert imported(*keras_files, "-o", tmp_path, *options) == 1
        assert one_sentence(capsys).endswith(f"{tmp_path} is a folder; give the file to write")


def test_nothing_is_overwritten_unasked(
    keras_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "released.safetensors"
    output.write_text("precious")
    assert imported(*keras_files, "-o", output) == 1
    assert "--overwrite replaces it" in one_sentence(capsys)
    assert output.read_text() == "precious"
    assert imported(*keras_files, "-o", output, "--overwrite") == 0
    before = keras_files[0].read_bytes()
    assert imported(*keras_files, "-o", keras_files[0], "--overwrite") == 1
    assert "inputs are never overwritten" in one_sentence(capsys)
    assert keras_files[0].read_bytes() == before


def test_a_missing_h5py_is_named_with_its_extra(
    keras_files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert imported(*keras_files, "-o", tmp_path / "released.safetensors") == 1
    assert "needs h5py: pip install 'asnet[import-weights]'" in one_sentence(capsys)


def test_kernel_and_image_are_those_of_the_released_code(tmp_path: Path) -> None:
    output = tmp_path / "released.safetensors"
    keras = FIXTURE / "analysis_weights.h5", FIXTURE / "synthesis_weights.h5"
    assert imported(*keras, "-o", output) == 0
    picture = Image.open(FIXTURE / "input.png").convert("RGB")
    pixels = numpy.asarray(picture).astype(numpy.float32) / 255
    deblurred = Deblurrer.from_pretrained(output, device="cpu").deblur(pixels, scale=1)
    expected = numpy.load(FIXTURE / "kernel.npy")
    assert numpy.abs(deblurred.kernel.numpy() - expected).max() < 1e-4 * expected.max()
    # The deblurrer clips to the range of images; where the released output lies within it they agree.
    image = numpy.load(FIXTURE / "output.npy")
    error = numpy.abs(deblurred.image * 255 - image.clip(0, 255))
    assert error.max() < 1e-4 * numpy.abs(image).max()
    assert ((image > 0) & (image < 255)).mean() > 0.1
