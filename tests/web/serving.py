"""Helpers for tests of the server: requests, a gate that holds deblurring up, and a photograph."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

from asnet import Deblurrer

#: Limits of the server, small, so that tests reach them.
UPLOAD_BYTES = 1_000_000
PIXELS = 120_000
WAITING = 2


@dataclass
class Server:
    """A running server and its deblurrer, which tests may replace."""

    address: str
    deblurrer: Deblurrer
    folder: Path

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Return urllib3's response."""
        import urllib3

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
        """The folders of the uploads that exist."""
        return list(self.folder.glob("asnet-serve-*/*"))

    def assert_nothing_left(self) -> None:
        """Wait a moment for the clean-up after an answer, and check that no upload is left."""
        deadline = time.monotonic() + 10
        while self.uploads() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert self.uploads() == []


@dataclass
class Gate:
    """Holds deblurring up between its first report of progress and `open`."""

    opened: threading.Event
    reached: threading.Semaphore

    def open(self) -> None:
        self.opened.set()


def photograph(height: int = 60, width: int = 80, seed: int = 0) -> Image.Image:
    """Random colours that blend over a few pixels, as in a blurred photograph."""
    generator = numpy.random.default_rng(seed)
    coarse = generator.integers(0, 256, (9, 12, 3), dtype=numpy.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
