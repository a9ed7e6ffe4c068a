"""A server as `asnet serve` runs it, requests to it, and a browser."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra web is not installed")
urllib3 = pytest.importorskip("urllib3", reason="the extra test is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra web is not installed")

from asnet import Deblurrer  # noqa: E402
from asnet.web.application import Limits, create_application  # noqa: E402

#: Small, so that tests reach them.
LIMITS = Limits(upload_bytes=1_000_000, pixels=120_000, waiting=2)


@dataclass
class Server:
    """A running server, and what its deblurrer is made to do."""

    address: str
    deblurrer: Deblurrer
    folder: Path

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Return urllib3's response."""
        return urllib3.request(method, self.address + path, retries=False, timeout=60, **options)

    def submit(self, photograph: bytes, name: str = "photo.png", **fields: Any) -> Any:
        """Return the status of a new job."""
        response = self.request("POST", "/api/jobs", fields={"photograph": (name, photograph), **fields})
        assert response.status == 202, response.data
        return response.json()

    def wait(self, identifier: str, states: tuple[str, ...] = ("done", "failed")) -> Any:
        """Return the status of a job once it is in one of the states."""
        for _ in range(600):
            status = self.request("GET", f"/api/jobs/{identifier}").json()
            if status["state"] in states:
                return status
            time.sleep(0.05)
        raise AssertionError(f"still {status}")

    def uploads(self) -> list[Path]:
        """The folders of the uploads that are there."""
        return list(self.folder.glob("asnet-serve-*/*"))

    def assert_nothing_left(self) -> None:
        """Give what follows an answer a moment, and check that no upload is there any more."""
        deadline = time.monotonic() + 10
        while self.uploads() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert self.uploads() == []


@pytest.fixture(scope="session")
def server(small_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    deblurrer = Deblurrer.from_pretrained(small_weights, device="cpu")
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listening:
        patch.setattr("tempfile.tempdir", str(folder))
        application = create_application(deblurrer, LIMITS, hosts={"127.0.0.1"})
        running = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not running.started:
                time.sleep(0.02)
            yield Server(f"http://127.0.0.1:{listening.getsockname()[1]}", deblurrer, folder)
        finally:
            running.should_exit = True
            thread.join()
    # Temporary files are gone with the server.
    assert list(folder.iterdir()) == []


@dataclass
class Gate:
    """Holds deblurring up between its first report of progress and `open`."""

    opened: threading.Event
    reached: threading.Semaphore

    def open(self) -> None:
        self.opened.set()


@pytest.fixture
def gate(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(threading.Event(), threading.Semaphore(0))
    deblur = server.deblurrer.deblur

    def held(*arguments: Any, progress: Callable[[str, float], None], **options: Any) -> Any:
        progress("restoring", 0.25)
        gate.reached.release()
        assert gate.opened.wait(60)
        return deblur(*arguments, progress=progress, **options)

    monkeypatch.setattr(server.deblurrer, "deblur", held)
    yield gate
    gate.open()


def photograph(height: int = 60, width: int = 80, seed: int = 0) -> Image.Image:
    """Random colours that pass into each other over a few pixels, as in a blurred photograph."""
    generator = numpy.random.default_rng(seed)
    coarse = generator.integers(0, 256, (9, 12, 3), dtype=numpy.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    photograph().save(path)
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window, through its driver."""
    selenium = pytest.importorskip("selenium.webdriver", reason="the extra test is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("there is no Chromium with its chromedriver (Debian: chromium, chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        # Chromium's own does not work for root.
        options.add_argument("--no-sandbox")
    with selenium.Chrome(options=options, service=selenium.ChromeService(driver)) as running:
        yield running
