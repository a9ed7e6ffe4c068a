"""`asnet serve` as a program: where it listens, how it ends, and what it says."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import pytest
from messages import one_sentence
from PIL import Image

from asnet.cli.main import main


def test_it_serves_until_it_is_interrupted_and_leaves_nothing(small_weights: Path, tmp_path: Path) -> None:
    urllib3 = pytest.importorskip("urllib3", reason="the extra test is not installed")
    pytest.importorskip("uvicorn", reason="the extra web is not installed")
    command = [sys.executable, "-m", "asnet", "serve", "--port", "0", "--model", str(small_weights)]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            announced = process.stderr.readline()
            assert announced.startswith("asnet: the page is at http://127.0.0.1:")
            address = announced.split()[5]
            page = urllib3.request("GET", address, timeout=60)
            assert b"Drop photographs here" in page.data
            assert len(list(tmp_path.glob("asnet-*"))) == 1
            process.send_signal(signal.SIGINT)
            remainder = process.stderr.read()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert remainder == ""
    # Nor a folder of torch for compiled code.
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def noise() -> bytes:
    """A JPEG file that takes a second to deblur."""
    picture = numpy.random.default_rng(0).integers(0, 256, (3000, 4000, 3), numpy.uint8)
    Image.fromarray(picture).save(data := io.BytesIO(), "JPEG")
    return data.getvalue()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_ending_it_while_it_deblurs(small_weights: Path, noise: bytes, tmp_path: Path, name: str) -> None:
    urllib3 = pytest.importorskip("urllib3", reason="the extra test is not installed")
    pytest.importorskip("uvicorn", reason="the extra web is not installed")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "asnet", "serve", "--port", "0", "--model", str(small_weights)]
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    number = getattr(signal, name)
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # Under nohup the tests, and so the server, would ignore SIGHUP.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        try:
            address = process.stderr.readline().split()[5]
            fields = {"photograph": ("noise.jpg", noise), "line": "5,0"}
            options = {"fields": fields, "timeout": 60, "retries": False}
            # Whichever job is running when the signal arrives, the last one is not done.
            jobs = [urllib3.request("POST", f"{address}/api/jobs", **options).json()["id"] for _ in range(3)]
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(urllib3.request, "POST", f"{address}/api/deblur", **options)
                # A finished job no longer has its photograph.
                arrived: set[Path] = set()
                while len(arrived) < len(jobs) + 1 and not waiting.done():
                    arrived.update(temporary.glob("*/*/photograph"))
                    time.sleep(0.02)
                first = f"{address}/api/jobs/{jobs[0]}"
                while urllib3.request("GET", first, timeout=60).json()["state"] == "waiting":
                    time.sleep(0.02)
                process.send_signal(number)
                answer = waiting.result()
            remainder = process.stderr.read()
            # SIGTERM ends it after its clean-up.
            assert process.wait(60) == (-signal.SIGTERM if name == "SIGTERM" else 0)
        finally:
            process.kill()
    assert remainder == ""
    assert (answer.status, answer.json()["detail"]) == (503, "the deblurring was cancelled")
    assert list(temporary.iterdir()) == []


def test_an_address_that_is_taken(small_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("uvicorn", reason="the extra web is not installed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port, "--model", str(small_weights), "--device", "cpu"]) == 1
    assert one_sentence(capsys) == f"asnet: cannot listen at 127.0.0.1, port {port}: Address already in use"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "no-such-host.invalid"], "cannot listen at no-such-host.invalid"),
        (["--port", "70000"], "a port must be from 0 to 65535, got 70000"),
    ],
)
def test_unusable_addresses(
    small_weights: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    pytest.importorskip("uvicorn", reason="the extra web is not installed")
    assert main(["serve", *options, "--model", str(small_weights), "--device", "cpu"]) == 1
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_other_machines_are_let_in_with_a_warning(
    small_weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = pytest.importorskip("asnet.web.server", reason="the extra web is not installed")
    told: list[Any] = []
    create_application = server.create_application
    monkeypatch.setattr(
        server,
        "create_application",
        lambda *arguments, hosts: told.append(hosts) or create_application(*arguments, hosts=hosts),
    )
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda *_, **__: None)
    options = ["--port", "0", "--model", str(small_weights), "--device", "cpu"]
    assert main(["serve", "--host", "0.0.0.0", *options]) == 0
    assert "warning: everyone who reaches 0.0.0.0 over the network" in capsys.readouterr().err
    assert main(["serve", *options]) == 0
    assert "warning" not in capsys.readouterr().err
    assert told[0] is None
    assert "127.0.0.1" in told[1]


def test_without_the_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asnet.cli.serve.find_spec", lambda name: None if name == "fastapi" else name)
    assert main(["serve"]) == 1
    assert "asnet serve needs fastapi: pip install 'asnet[web]'" in one_sentence(capsys)
