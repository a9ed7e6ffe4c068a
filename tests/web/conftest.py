"""A server as `asnet serve` runs it, and a browser."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import PIXELS, UPLOAD_BYTES, WAITING, Gate, Server, photograph

from asnet import Deblurrer


# Module scope, not package: in a parallel run other files' tests may come before the package's last one,
# and their temporary files would go to this folder.
@pytest.fixture(scope="module")
def server(small_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    application = pytest.importorskip("asnet.web.application", reason="the extra web is not installed")
    uvicorn = pytest.importorskip("uvicorn", reason="the extra web is not installed")
    pytest.importorskip("urllib3", reason="the extra test is not installed")
    folder = tmp_path_factory.mktemp("server")
    limits = application.Limits(upload_bytes=UPLOAD_BYTES, pixels=PIXELS, waiting=WAITING)
    deblurrer = Deblurrer.from_pretrained(small_weights, device="cpu")
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listening:
        patch.setattr("tempfile.tempdir", str(folder))
        served = application.create_application(deblurrer, limits, hosts={"127.0.0.1"})
        running = uvicorn.Server(uvicorn.Config(served, log_level="warning"))
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
        # Chromium's own sandbox does not work for root.
        options.add_argument("--no-sandbox")
    with selenium.Chrome(options=options, service=selenium.ChromeService(driver)) as running:
        yield running
