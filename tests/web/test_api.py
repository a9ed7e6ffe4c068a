"""The HTTP API: what the command does, one at a time, within limits, and nothing left behind."""

import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import ExifTags, Image, features
from serving import UPLOAD_BYTES, WAITING, Gate, Server, photograph
from torch import Tensor

from asnet.cli.main import main
from asnet.deblurring.deblurrer import Deblurred
from asnet.web.deblurring import DeblurRequest, deblur_upload

urllib3 = pytest.importorskip("urllib3", reason="the extra test is not installed")


def encoded(picture: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def deblur(server: Server, data: bytes, name: str = "photo.png", **fields: Any) -> Any:
    return server.request("POST", "/api/deblur", fields={"photograph": (name, data), **fields})


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ([], {}),
        (["--region", "2,3,50,70"], {"region": "2,3,50,70"}),
        (["--line", "4,30", "--strength", "0.5"], {"line": "4,30", "strength": "0.5"}),
        (["--scale", "2", "--denoise", "0.7"], {"scale": "2", "denoise": "0.7"}),
    ],
    ids=["plain", "region", "line", "scale"],
)
@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_the_result_is_the_file_that_the_command_writes(
    server: Server, small_weights: Path, tmp_path: Path, options: list[str], fields: Any, suffix: str
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Somebody"
    exif[ExifTags.Base.Orientation] = 6
    photograph().save(tmp_path / f"photo.{suffix}", exif=exif, dpi=(300, 300))
    command = ["deblur", f"{tmp_path}/photo.{suffix}", "-o", f"{tmp_path}/sharp.{suffix}", *options]
    assert main([*command, "--model", str(small_weights), "--device", "cpu"]) == 0
    response = deblur(server, (tmp_path / f"photo.{suffix}").read_bytes(), f"photo.{suffix}", **fields)
    assert response.status == 200
    assert response.data == (tmp_path / f"sharp.{suffix}").read_bytes()
    assert f'filename="photo.{suffix}"' in response.headers["Content-Disposition"]
    assert response.headers["X-Asnet-Status"] == "blurred"
    server.assert_nothing_left()


def test_a_photograph_that_is_left_alone_comes_back_byte_for_byte(tmp_path: Path) -> None:
    class LeavesAlone:
        def deblur(self, image: Tensor, *_: Any, **__: Any) -> Deblurred[Tensor]:
            return Deblurred(image, torch.ones(1, 1), 1, "sharp")

    data = encoded(photograph(), "PNG", compress_level=1)
    for name, expected in (
        ("photograph.png", "photograph.png"),
        ("photograph.jpg", "photograph.png"),
        ("photograph", "photograph.png"),
        ("at 8.30", "at 8.30.png"),
    ):
        (tmp_path / name).write_bytes(data)
        outcome = deblur_upload(
            DeblurRequest(name, tmp_path / name),
            LeavesAlone(),  # type: ignore[arg-type]
            largest=10**6,
            previews=False,
            progress=lambda stage, share: None,
        )
        assert outcome.files["result"].read_bytes() == data
        assert outcome.result_name == expected
        assert outcome.remarks


@pytest.mark.parametrize(
    ("file_format", "name", "result_name"),
    [
        ("JPEG", "holiday", "holiday.jpg"),
        ("JPEG", "holiday.JPEG", "holiday.JPEG"),
        ("JPEG", "holiday.png", "holiday.jpg"),
        ("WEBP", "31.12", "31.12.webp"),
        ("TIFF", "scan", "scan.tif"),
        ("AVIF", "telephone.avif", "telephone.jpg"),
    ],
)
def test_the_content_says_in_what_format_the_result_comes(
    server: Server, file_format: str, name: str, result_name: str
) -> None:
    if file_format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow cannot decode AVIF")
    response = deblur(server, encoded(photograph(), file_format), name)
    assert response.status == 200
    assert f'filename="{result_name}"' in response.headers["Content-Disposition"]
    with Image.open(io.BytesIO(response.data)) as image:
        assert image.format == ("JPEG" if file_format == "AVIF" else file_format)


@pytest.mark.parametrize("suffix", ["npy", "png"])
def test_a_kernel_can_be_given(server: Server, suffix: str) -> None:
    kernel = numpy.zeros((5, 5), numpy.uint8)
    kernel[2, 1:4] = 255
    data = io.BytesIO()
    if suffix == "npy":
        numpy.save(data, kernel)
    else:
        Image.fromarray(kernel).save(data, "PNG")
    status = server.submit(encoded(photograph()), kernel=(f"kernel.{suffix}", data.getvalue()))
    assert server.wait(status["id"])["result"]["kernel_size"] == 3
    response = server.request("GET", f"/api/jobs/{status['id']}/kernel.npy")
    assert numpy.load(io.BytesIO(response.data))[1] == pytest.approx([1 / 3] * 3)
    assert server.request("DELETE", f"/api/jobs/{status['id']}").status == 204


def test_a_job_tells_how_far_it_is_and_hands_its_files_out(server: Server, gate: Gate) -> None:
    picture = photograph()
    picture.putalpha(200)
    status = server.submit(encoded(picture, "WEBP", lossless=True), "Üb\\er/holi day.webp")
    assert status["name"] == "holi day.webp"
    gate.reached.acquire(timeout=60)
    running = server.wait(status["id"], ("running",))
    assert (running["stage"], running["share"]) == ("restoring", 0.25)
    address = f"/api/jobs/{status['id']}"
    assert server.request("GET", f"{address}/result").status == 409
    gate.open()
    result = server.wait(status["id"])["result"]
    assert (result["width"], result["height"], result["status"]) == (80, 60, "blurred")
    formats = {"result": "WEBP", "before": "PNG", "after": "PNG", "kernel.png": "PNG"}
    for name, file_format in formats.items():
        data = server.request("GET", f"{address}/{name}").data
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == file_format
            if name == "before":
                assert numpy.array_equal(numpy.asarray(image), numpy.asarray(picture))
    assert server.request("DELETE", address).status == 204
    assert server.request("GET", address).status == 404
    assert server.request("DELETE", address).status == 404
    server.assert_nothing_left()


@pytest.mark.parametrize(
    ("name", "data", "fields", "words"),
    [
        (
            "notes.txt",
            b"not a photograph",
            {},
            "notes.txt is not a JPEG, PNG, TIFF, WebP, HEIC or AVIF image",
        ),
        ("cut.jpg", encoded(photograph(), "JPEG")[:900], {}, "cut.jpg is truncated or damaged"),
        ("empty.png", b"", {}, "empty.png is empty"),
        ("tiny.png", encoded(photograph(15, 40)), {}, "at least 16x16 pixels, got 40x15"),
        (
            "large.png",
            encoded(Image.new("L", (400, 301))),
            {},
            "large.png has 400x301 pixels, more than the limit of 120000",
        ),
        ("a.png", encoded(photograph()), {"region": "0,0,81,20"}, "must lie in the image of 80x60"),
        (
            "a.png",
            encoded(photograph()),
            {"region": "left"},
            "LEFT,TOP,RIGHT,BOTTOM in whole pixels, got 'left'",
        ),
        ("a.png", encoded(photograph()), {"line": "0,0"}, "above 0 and at most 1000"),
        (
            "a.png",
            encoded(photograph()),
            {"line": "5,0", "kernel": ("k.png", b"")},
            "a kernel or a line, not both",
        ),
        ("a.png", encoded(photograph()), {"line": "5,0", "region": "0,0,40,40"}, "with a given blur kernel"),
        (
            "a.png",
            encoded(photograph()),
            {"kernel": ("k.npy", b"x")},
            "the uploaded kernel is not a .npy file",
        ),
        (
            "a.png",
            encoded(photograph()),
            {"kernel": ("k.png", encoded(Image.new("L", (1100, 9))))},
            "1024x1024",
        ),
        ("a.png", encoded(photograph()), {"region": "9" * 999}, f"in whole pixels, got '{'9' * 40}...'"),
        (
            "a.png",
            encoded(photograph()),
            {"line": "5," * 999},
            "line must be LENGTH,ANGLE in pixels and degrees, got",
        ),
        (
            "a.png",
            encoded(photograph()),
            {"scale": "0"},
            "must be 'auto' or a whole number from 1 to 99, got '0'",
        ),
        (
            "a.png",
            encoded(photograph()),
            {"strength": "1.5"},
            "strength must be a number from 0 to 1, got",
        ),
        (
            "a.png",
            encoded(photograph()),
            {"denoise": "nan"},
            "must be a number from 0 to 1, got 'nan'",
        ),
        ("a.png", encoded(photograph()), {"denoise": "x" * 99}, f"from 0 to 1, got '{'x' * 40}...'"),
        ("a.png", encoded(photograph()), {"strength": ("k.png", b"x")}, "from 0 to 1, got a file"),
        ("a.png", encoded(photograph()), {"kernel": "text"}, "kernel must be a file with a name, got plain"),
        (
            "a.png",
            encoded(photograph()),
            {"strenght": "0.5"},
            "there is no field 'strenght'; it may be photograph, kernel, line, region, scale",
        ),
        ("cut.webp", encoded(photograph(), "WEBP")[:300], {}, "cut.webp is truncated or damaged: its pixels"),
    ],
)
def test_what_cannot_be_done_gets_a_sentence(
    server: Server, name: str, data: bytes, fields: Any, words: str
) -> None:
    response = deblur(server, data, name, **fields)
    assert response.status == 422
    detail = response.json()["detail"]
    assert words in detail
    assert "\n" not in detail
    assert str(server.folder) not in detail
    assert "asnet-serve" not in detail
    server.assert_nothing_left()


def test_losses_and_findings_are_reported(server: Server) -> None:
    steps = numpy.kron(numpy.random.default_rng(1).integers(0, 65536, (6, 8)), numpy.ones((10, 10)))
    data = encoded(Image.fromarray(steps.astype(numpy.uint16)))
    response = deblur(server, data, "deep.png")
    assert response.headers["X-Asnet-Status"] == "sharp"
    notes = json.loads(response.headers["X-Asnet-Notes"])
    assert notes == ["deep.png shows no blur: it is left unchanged; scale 1 deblurs it anyway"]
    picture = photograph()
    picture.save(pages := io.BytesIO(), "TIFF", save_all=True, append_images=[picture])
    status = server.submit(pages.getvalue(), "pages.tif")
    notes = server.wait(status["id"])["result"]["notes"]
    assert len(notes) == 1
    assert notes[0].startswith("pages.tif ")
    server.request("DELETE", f"/api/jobs/{status['id']}")


def test_a_kernel_s_array_is_limited(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asnet.web.deblurring.LARGEST_KERNEL", 64)
    numpy.save(data := io.BytesIO(), numpy.ones((128, 65)))
    response = deblur(server, encoded(photograph()), kernel=("k.npy", data.getvalue()))
    assert response.status == 422
    assert (
        response.json()["detail"]
        == "the uploaded kernel has 0.1 megabytes; a blur kernel may have 64x64 numbers"
    )


def test_no_photograph_at_all(server: Server) -> None:
    response = server.request("POST", "/api/deblur", fields={"scale": "1"})
    assert response.status == 422
    assert response.json()["detail"] == "the field photograph must be a file with a name; there is none"


def test_a_field_comes_once(server: Server) -> None:
    picture = encoded(photograph())
    fields = [("photograph", ("a.png", picture)), ("photograph", ("b.png", picture))]
    response = server.request("POST", "/api/deblur", fields=fields)
    assert response.status == 422
    assert response.json()["detail"] == "the field photograph must be given once, got it 2 times"


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "sentence"),
    [
        (
            "POST",
            "/api/deblur",
            {"body": b"x", "headers": {"Content-Type": "multipart/form-data"}},
            400,
            "the upload is damaged: it must be a form (multipart/form-data) with the photograph as a file",
        ),
        ("GET", "/nothing", {}, 404, "there is nothing at /nothing"),
        ("DELETE", "/api/deblur", {}, 405, "/api/deblur does not support DELETE"),
        ("GET", "/api/line.png?length=5", {}, 422, "angle must be a number of degrees; it was not given"),
        (
            "GET",
            "/api/line.png?length=long&angle=0",
            {},
            422,
            "length must be a number of pixels, got 'long'",
        ),
    ],
)
def test_answers_hold_no_message_of_a_library(
    server: Server, method: str, path: str, options: Any, status: int, sentence: str
) -> None:
    response = server.request(method, path, **options)
    assert (response.status, response.json()["detail"]) == (status, sentence)


def test_an_empty_option_is_left_at_its_default(server: Server) -> None:
    data = encoded(photograph())
    plain = deblur(server, data)
    empty = dict.fromkeys(("line", "region", "scale", "strength", "denoise"), "")
    response = deblur(server, data, **empty)
    assert response.status == 200
    assert response.data == plain.data
    assert deblur(server, data, strength="0.2").data != plain.data


@pytest.mark.parametrize("chunked", [False, True])
def test_uploads_are_limited(server: Server, chunked: bool) -> None:
    body, kind = urllib3.encode_multipart_formdata({"photograph": ("a.png", bytes(UPLOAD_BYTES))})
    pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
    # An iterator's length is not known in advance.
    response = server.request(
        "POST", "/api/jobs", body=pieces if chunked else body, headers={"Content-Type": kind}
    )
    assert response.status == 413
    assert response.json()["detail"] == (
        "the upload is larger than the limit of 1 megabytes; asnet serve --max-upload raises it"
    )
    server.assert_nothing_left()


def test_an_upload_that_cannot_be_kept_leaves_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("asnet.web.form.shutil.copyfileobj", full)
    response = deblur(server, encoded(photograph()))
    assert response.status == 507
    assert response.json()["detail"] == "the server cannot store the upload: No space left on device"
    assert server.uploads() == []


def test_a_disk_that_is_full_while_an_upload_arrives(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("starlette.datastructures.UploadFile.write", full)
    response = deblur(server, encoded(photograph()))
    assert response.status == 507
    assert response.json()["detail"] == "the server cannot store the upload: No space left on device"
    server.assert_nothing_left()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
    ids=["python", "torch"],
)
def test_too_little_memory_is_reported(
    server: Server, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(server.deblurrer, "deblur", fail)
    response = deblur(server, encoded(photograph()))
    assert response.status == 422
    assert response.json()["detail"] == "there is not enough memory for this photograph"


def test_what_failed_keeps_no_files(server: Server) -> None:
    status = server.submit(b"not a photograph", "notes.txt")
    assert server.wait(status["id"])["state"] == "failed"
    assert server.uploads() == []
    assert server.request("DELETE", f"/api/jobs/{status['id']}").status == 204


def test_an_estimate_that_reports_nothing_is_cancelled(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def endless(*_: Any, **__: Any) -> None:
        while True:
            torch.ones(3).sum()
            begun.set()

    monkeypatch.setattr(server.deblurrer, "deblur", endless)
    job = server.submit(encoded(photograph()))
    assert begun.wait(60)
    assert server.request("DELETE", f"/api/jobs/{job['id']}").status == 204
    server.assert_nothing_left()
    monkeypatch.undo()
    assert deblur(server, encoded(photograph())).status == 200


def test_one_at_a_time_and_a_bounded_queue(server: Server, gate: Gate) -> None:
    data = encoded(photograph())
    jobs = [server.submit(data)]
    assert gate.reached.acquire(timeout=60)
    jobs += [server.submit(data) for _ in range(WAITING)]
    assert [job["position"] for job in jobs[1:]] == [1, 2]
    refused = deblur(server, data)
    assert refused.status == 503
    assert refused.json()["detail"] == "2 photographs are waiting already; try again when one is done"
    assert refused.headers["Retry-After"]
    assert len(server.uploads()) == 3
    # Only one has begun.
    assert not gate.reached.acquire(blocking=False)
    gate.open()
    for job in jobs:
        assert server.wait(job["id"])["state"] == "done"
        server.request("DELETE", f"/api/jobs/{job['id']}")
    server.assert_nothing_left()


def test_what_waits_and_what_runs_can_be_cancelled(server: Server, gate: Gate) -> None:
    data = encoded(photograph())
    first, second = (server.submit(data) for _ in range(2))
    assert gate.reached.acquire(timeout=60)
    for job in (second, first):
        assert server.request("DELETE", f"/api/jobs/{job['id']}").status == 204
    # The one that runs keeps its files until it notices.
    assert len(server.uploads()) == 1
    gate.open()
    third = server.submit(data)
    assert server.wait(third["id"])["state"] == "done"
    assert len(server.uploads()) == 1
    server.request("DELETE", f"/api/jobs/{third['id']}")


def test_a_client_that_hangs_up_cancels(server: Server, gate: Gate) -> None:
    def hang_up() -> None:
        fields = {"photograph": ("a.png", encoded(photograph()))}
        with pytest.raises(urllib3.exceptions.ReadTimeoutError):
            urllib3.request("POST", f"{server.address}/api/deblur", fields=fields, timeout=1, retries=False)

    client = threading.Thread(target=hang_up)
    client.start()
    assert gate.reached.acquire(timeout=60)
    client.join()
    time.sleep(0.5)
    gate.open()
    server.assert_nothing_left()


def test_results_that_nobody_fetches_do_not_stay(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photograph(16, 16))
    monkeypatch.setattr("asnet.web.jobs.KEPT_JOBS", 2)
    jobs = []
    for _ in range(4):
        jobs.append(server.submit(data)["id"])
        server.wait(jobs[-1])
    assert server.request("GET", f"/api/jobs/{jobs[0]}").status == 404
    assert server.request("GET", f"/api/jobs/{jobs[3]}").status == 200
    assert len(server.uploads()) == 2
    monkeypatch.setattr("asnet.web.jobs.KEPT_SECONDS", 0)
    assert server.request("GET", f"/api/jobs/{jobs[3]}").status == 404
    server.assert_nothing_left()


@pytest.mark.parametrize(
    "path",
    [
        "/../application.py",
        "/..%2fapplication.py",
        "/%2e%2e/%2e%2e/errors.py",
        "//etc/passwd",
        "/api/jobs/..%2f..%2f/result",
        "/api/jobs/x/photograph.png",
        "/docs",
    ],
)
def test_no_file_of_the_server_can_be_reached(server: Server, path: str) -> None:
    assert server.request("GET", path).status in (404, 422)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "[::1"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://["},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
    ids=str,
)
def test_other_web_sites_get_nothing(server: Server, headers: dict[str, str]) -> None:
    assert server.request("GET", "/api", headers=headers).status == 403
    own = server.address.removeprefix("http://")
    for welcome in (
        {"Origin": f"http://{own}", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ):
        assert server.request("GET", "/api", headers=welcome).status == 200


def test_the_page_loads_nothing_from_elsewhere(server: Server) -> None:
    for path in ("/", "/app.js", "/queue.js", "/viewer.js", "/api.js", "/style.css", "/icon.svg"):
        response = server.request("GET", path)
        assert response.status == 200
        text = response.data.decode().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "//" not in "".join(
            line for line in text.splitlines() if not line.lstrip().startswith("//")
        ) or ("http" not in text)
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_the_schema_describes_the_api(server: Server) -> None:
    schema = json.loads(server.request("GET", "/api/schema.json").data)
    deblurring = schema["paths"]["/api/deblur"]["post"]
    reference = deblurring["requestBody"]["content"]["multipart/form-data"]["schema"]["$ref"]
    form = schema["components"]["schemas"][reference.rsplit("/", 1)[-1]]
    options = {"photograph", "kernel", "line", "region", "scale", "strength", "denoise"}
    assert set(form["properties"]) == options
    assert form["required"] == ["photograph"]
    assert all(form["properties"][name]["description"] for name in options)
    assert set(deblurring["responses"]) == {"200", "413", "422", "503", "507"}


def test_a_line_is_drawn(server: Server) -> None:
    response = server.request("GET", "/api/line.png?length=4&angle=90")
    with Image.open(io.BytesIO(response.data)) as image:
        assert image.size == (5, 5)
        assert numpy.asarray(image)[:, 2].min() > 0
    assert server.request("GET", "/api/line.png?length=0&angle=90").status == 422
