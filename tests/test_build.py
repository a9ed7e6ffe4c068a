"""The build: finding torch, the rule for CUDA, failures in one sentence."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from setuptools import Distribution

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="needs the source folder")


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The build backend as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "build_backend"))
    return importlib.import_module("asnet_build")


@pytest.fixture
def setup_script(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """setup.py as a module that builds nothing."""
    monkeypatch.setattr("setuptools.setup", lambda **_: None)
    specification = importlib.util.spec_from_file_location("asnet_setup", ROOT / "setup.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def install_fake_torch(folder: Path, version: str, cuda: str | None = None) -> Path:
    """A packages folder with the few files of torch that the finder reads."""
    (folder / "torch" / "include" / "torch" / "csrc" / "stable").mkdir(parents=True)
    (folder / "torch" / "version.py").write_text(
        "from typing import Optional\n__all__ = ['__version__']\n"
        f"__version__ = {version!r}\ncuda: Optional[str] = {cuda!r}\n"
    )
    return folder


def test_finds_the_torch_of_this_environment(backend):
    import torch

    found = backend.find_torch()
    assert found.version == str(torch.__version__)
    assert found.cuda == torch.version.cuda
    assert found.include.is_dir()
    assert found.lib.is_dir()


def test_the_named_folder_comes_first_and_old_versions_are_passed_over(backend, tmp_path, monkeypatch):
    named = install_fake_torch(tmp_path / "named", "2.12.1+cu130", "13.0")
    monkeypatch.setenv("ASNET_TORCH_DIR", str(named))
    assert backend.find_torch() == backend.TorchInstallation(named, "2.12.1+cu130", "13.0")

    monkeypatch.setenv("ASNET_TORCH_DIR", str(install_fake_torch(tmp_path / "old", "2.9.1")))
    assert backend.find_torch().packages != tmp_path / "old"


def test_environment_variables_of_virtual_environments_are_followed(backend, tmp_path, monkeypatch):
    install_fake_torch(tmp_path / "lib" / "python3.12" / "site-packages", "2.11.0")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(
        backend.sysconfig, "get_paths", lambda: {"platlib": "/nowhere", "purelib": "/nowhere"}
    )
    monkeypatch.setattr(backend.site, "getsitepackages", list)
    monkeypatch.delenv("ASNET_TORCH_DIR", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    assert backend.find_torch().version == "2.11.0"


def test_torch_is_asked_for_only_where_none_is_installed(backend, monkeypatch):
    assert not any("torch" in name for name in backend.get_requires_for_build_wheel())
    monkeypatch.setattr(backend, "find_torch", lambda: None)
    assert "torch>=2.11" in backend.get_requires_for_build_wheel()
    assert "torch>=2.11" in backend.get_requires_for_build_editable()


def install_fake_nvcc(folder: Path, version: str = "13.0", architectures: str = "80 90 100 120") -> Path:
    """A script that answers as nvcc does."""
    nvcc = folder / "nvcc"
    known = "".join(f"sm_{number}\\n" for number in architectures.split())
    nvcc.write_text(
        "#!/bin/sh\n"
        f'case "$1" in --version) echo "Cuda compilation tools, release {version}, V{version}.88";; '
        f"--list-gpu-code) printf '{known}';; esac\n"
    )
    nvcc.chmod(0o755)
    return nvcc


@pytest.mark.parametrize(
    ("wanted", "cuda", "sources", "nvcc", "built", "words"),
    [
        ("", "13.0", ["a.cu"], "13.1", True, "torch has CUDA 13.0"),
        ("", None, ["a.cu"], "13.0", False, "the installed torch 2.12.0 has no CUDA"),
        ("", "13.0", ["a.cu"], None, False, "no nvcc"),
        ("", "13.0", ["a.cu"], "12.8", False, "is of CUDA 12.8 and torch 2.12.0 was built with CUDA 13.0"),
        ("", "13.0", [], "13.0", False, "csrc holds no CUDA sources"),
        ("0", "13.0", ["a.cu"], "13.0", False, "ASNET_CUDA=0"),
        ("1", None, ["a.cu"], "13.0", True, "ASNET_CUDA=1"),
    ],
)
def test_rule_of_the_cuda_library(
    setup_script, tmp_path, monkeypatch, wanted, cuda, sources, nvcc, built, words
):
    monkeypatch.setenv("ASNET_CUDA", wanted)
    monkeypatch.setattr(setup_script, "find_nvcc", lambda: nvcc and install_fake_nvcc(tmp_path, nvcc))
    torch = setup_script.TorchInstallation(tmp_path, "2.12.0", cuda)
    decision = setup_script.decide_cuda(torch, sources)
    assert (decision.nvcc is not None) == built
    assert words in decision.reason


def test_unusable_settings_end_the_build_with_one_sentence(setup_script, tmp_path, monkeypatch):
    torch = setup_script.TorchInstallation(tmp_path, "2.12.0", "13.0")
    monkeypatch.setenv("ASNET_CUDA", "yes")
    with pytest.raises(SystemExit, match="ASNET_CUDA is 'yes'; expected 0, 1 or nothing"):
        setup_script.decide_cuda(torch, ["a.cu"])
    monkeypatch.setenv("ASNET_CUDA", "1")
    monkeypatch.setattr(setup_script, "find_nvcc", lambda: None)
    with pytest.raises(SystemExit, match="asks for the CUDA library, but no nvcc"):
        setup_script.decide_cuda(torch, ["a.cu"])
    broken = Path(shutil.which("false"))
    monkeypatch.setattr(setup_script, "find_nvcc", lambda: broken)
    with pytest.raises(SystemExit, match="false does not run"):
        setup_script.decide_cuda(torch, ["a.cu"])
    monkeypatch.setattr(setup_script, "find_nvcc", lambda: install_fake_nvcc(tmp_path, "12.8"))
    with pytest.raises(SystemExit, match=r"is of CUDA 12\.8 and torch 2\.12\.0 was built with CUDA 13\.0"):
        setup_script.decide_cuda(torch, ["a.cu"])


def test_architectures_are_those_asked_for_or_those_that_nvcc_knows(setup_script, tmp_path, monkeypatch):
    monkeypatch.delenv("ASNET_CUDA_ARCHITECTURES", raising=False)
    assert setup_script.cuda_architectures(install_fake_nvcc(tmp_path)) == ["80", "90", "100", "120"]
    older = install_fake_nvcc(tmp_path, "12.4", "50 80 86 90")
    assert setup_script.cuda_architectures(older) == ["80", "90"]
    monkeypatch.setenv("ASNET_CUDA_ARCHITECTURES", "86;90a")
    assert setup_script.cuda_architectures(older) == ["86", "90a"]
    for named in ("8.6", "90,100", "80;", "sm_90"):
        monkeypatch.setenv("ASNET_CUDA_ARCHITECTURES", named)
        with pytest.raises(SystemExit, match=f"ASNET_CUDA_ARCHITECTURES is '{named}'; expected"):
            setup_script.cuda_architectures(older)


def test_the_number_of_compilers_is_as_asked(setup_script, monkeypatch):
    monkeypatch.delenv("MAX_JOBS", raising=False)
    assert setup_script.compiler_jobs() == os.cpu_count()
    monkeypatch.setenv("MAX_JOBS", "3")
    assert setup_script.compiler_jobs() == 3
    for named in ("0", "-1", "two"):
        monkeypatch.setenv("MAX_JOBS", named)
        with pytest.raises(SystemExit, match=f"MAX_JOBS is '{named}'; expected a number of at least 1"):
            setup_script.compiler_jobs()


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_only_what_changed_is_made_again(setup_script, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    builder = setup_script.BuildLibraries(Distribution({"name": "asnet"}))
    for name, text in {"a.h": "", "a.cpp": '#include "a.h"\n', "b c.cpp": ""}.items():
        Path(name).write_text(text)

    def made(*flags: str) -> set[str]:
        objects = [
            setup_script.Step(
                f"{name}.o", [f"{name}.cpp"], ["g++", "-fPIC", *flags, "-c", f"{name}.cpp", "-o", f"{name}.o"]
            )
            for name in ("a", "b c")
        ]
        command = ["g++", "-shared", *(step.target for step in objects)]
        library = setup_script.Step("out/lib.so", [step.target for step in objects], command)
        builder.run_ninja(objects, [library])
        lines = re.findall(r"^asnet: .* (?:compiling|linking) (.*)$", capfd.readouterr().out, re.MULTILINE)
        return {line.strip("'") for line in lines}

    everything = {"a.o", "b c.o", "out/lib.so"}
    assert made() == everything
    assert made() == set()
    Path("a.h").write_text("inline int twice(int a) { return 2 * a; }\n")
    assert made() == {"a.o", "out/lib.so"}
    assert made('-DWORDS="$a b"') == everything
    assert sorted(path.name for path in Path("out").iterdir()) == ["lib.so"]
    before = Path("out/lib.so").stat()
    Path("b c.cpp").write_text("no_such_type x;\n")
    with pytest.raises(SystemExit, match="the operators could not be built"):
        made('-DWORDS="$a b"')
    assert "no_such_type" in capfd.readouterr().out
    assert Path("out/lib.so").stat() == before


def test_without_ninja_the_build_says_so_in_one_sentence(setup_script, monkeypatch):
    monkeypatch.setitem(sys.modules, "ninja", None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="no ninja: install it with pip install ninja"):
        setup_script.find_ninja()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the other instruction sets are of x86-64")
def test_the_processor_is_asked_for_every_feature_that_the_flags_allow(setup_script):
    code = re.sub(r"//.*", "", (ROOT / "csrc" / "common" / "cpu" / "isa.cpp").read_text())
    flags = {flag for flags in setup_script.ISA_FLAGS.values() for flag in flags}
    features = {flag.removeprefix("-m") for flag in flags if re.fullmatch(r"-m[a-z0-9]+", flag)}
    assert {"avx2", "f16c", "avx512vl"} <= features
    for feature in features:
        assert re.search(rf"(?i)(?<![a-z0-9]){feature}(?![a-z0-9])", code), feature


@pytest.mark.parametrize(
    ("compiler", "words"),
    [
        ("no-such-compiler", "no C++ compiler: 'no-such-compiler' is not on PATH"),
        ("false", "cannot compile C++20"),
    ],
)
def test_without_a_compiler_the_build_says_so_in_one_sentence(tmp_path, compiler, words):
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(
        ROOT / "build_backend", tmp_path / "build_backend", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "asnet").mkdir()
    result = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext"],
        cwd=tmp_path,
        env={**os.environ, "CXX": compiler},
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert words in result.stderr.strip().splitlines()[-1]
