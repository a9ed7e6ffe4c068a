"""A module imports only from its own layer and those below, inside functions too."""

import ast
import re
from pathlib import Path

import pytest

import asnet

PACKAGE = Path(asnet.__file__).parent

#: Top to bottom.
LAYERS = (
    "cli",
    "web",
    "training",
    "evaluation",
    "deblurring",
    "pretrained",
    "data",
    "networks",
    "ops",
    "imaging",
    "devices",
    "fields",
    "files",
    "errors",
)

MODULES = sorted(PACKAGE.rglob("*.py"))


def layer_of(module: str) -> str | None:
    """The layer that a dotted name such as asnet.ops.reference belongs to; None outside of asnet."""
    parts = module.split(".")
    return parts[1] if parts[0] == "asnet" and len(parts) > 1 else None


def imported_modules(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, `from asnet import ops` counted as asnet.ops."""
    package = ["asnet", *path.relative_to(PACKAGE).parent.parts]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            names.add(module)
            if module == "asnet":
                names.update(f"asnet.{alias.name}" for alias in node.names if alias.name in LAYERS)
    return names


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.parent != PACKAGE or path.stem in LAYERS],
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_a_module_imports_only_from_layers_below(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in LAYERS, f"{path.name} belongs to no layer"
    below = LAYERS[LAYERS.index(own) :]
    above = {name for name in imported_modules(path) if layer_of(name) not in (None, *below)}
    assert not above


def test_the_check_sees_imports_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "ops" / "module.py"
    module.parent.mkdir()
    module.write_text(
        "import asnet.data.batches\nfrom asnet import deblurring\nfrom asnet.imaging import files\n"
        "from ..networks import pair\ndef late():\n    from asnet.cli import main\n"
    )
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    layers = {layer_of(name) for name in imported_modules(module)}
    assert layers == {"data", "deblurring", "imaging", "networks", "cli", None} - {None} | (layers & {None})


def test_the_architecture_page_lists_the_layers_in_their_order() -> None:
    page = Path(__file__).parents[1] / "docs" / "architecture.md"
    listed = re.findall(r"^\| `asnet/(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == list(LAYERS)
