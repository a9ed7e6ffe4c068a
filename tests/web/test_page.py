"""The page in a real browser: what a person does, and what they then see."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from serving import UPLOAD_BYTES, Gate, Server, photograph

from asnet.cli.main import main
from asnet.deblurring.resampling import kernel_extent

DONE = "Deblurred."


class Page:
    """The page as tests handle it: elements by their identifiers."""

    def __init__(self, browser: Any, address: str, downloads: Path) -> None:
        self.browser = browser
        self.downloads = downloads
        browser.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)}
        )
        browser.set_window_size(1280, 900)
        browser.get(address)
        self.wait(lambda: self.script("return document.readyState") == "complete")

    def __getitem__(self, identifier: str) -> Any:
        return self.browser.find_element("id", identifier)

    def script(self, text: str, *arguments: Any) -> Any:
        return self.browser.execute_script(text, *arguments)

    def wait(self, condition: Callable[[], Any], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self["message"].text, self["zoom"].text)
            time.sleep(0.05)

    def add(self, *paths: Path) -> None:
        self["photographs"].send_keys("\n".join(map(str, paths)))

    def wait_for(self, message: str) -> None:
        self.wait(lambda: message in self["message"].text)

    def states(self) -> list[str]:
        return [element.text for element in self.browser.find_elements("css selector", "#list .how")]

    def set(self, identifier: str, value: str) -> None:
        """Let a control have a value, as its user would."""
        self.script(
            "arguments[0].value = arguments[1];"
            "arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            self[identifier],
            value,
        )

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press, move and release the pointer between two points of the window."""
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        builder = ActionBuilder(self.browser)
        pointer = builder.pointer_action
        pointer.move_to_location(*map(round, start)).pointer_down()
        pointer.move_to_location(*(round((a + b) / 2) for a, b in zip(start, end, strict=True)))
        pointer.move_to_location(*map(round, end)).pointer_up()
        builder.perform()
        ActionChains(self.browser).reset_actions()

    def rectangle(self, selector: str) -> dict[str, float]:
        rectangle = self.script(
            "return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()", selector
        )
        assert isinstance(rectangle, dict)
        return rectangle

    def save(self, identifier: str) -> Path:
        """Follow a link that saves a file, and return the file."""
        for path in self.downloads.iterdir():
            path.unlink()
        self[identifier].click()
        path = self.downloads / self[identifier].get_attribute("download")
        self.wait(path.exists)
        return path


@pytest.fixture
def page(browser: Any, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    browser.get_log("browser")
    page = Page(browser, f"{server.address}/", tmp_path_factory.mktemp("downloads"))
    yield page
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    # The browser also logs what the server refuses.
    assert [
        entry for entry in errors if "the server responded with a status of" not in entry["message"]
    ] == []
    browser.get("about:blank")
    server.assert_nothing_left()


def test_a_photograph_is_deblurred_shown_and_saved(
    page: Page, photo: Path, small_weights: Path, tmp_path: Path
) -> None:
    assert page["drop"].is_displayed()
    page.add(photo)
    page.wait_for(DONE)
    assert not page["drop"].is_displayed()
    assert page["kernel"].is_displayed()
    for pane in ("before", "after"):
        size = page.script(
            f"const i = document.querySelector('#{pane} img'); return [i.naturalWidth, i.naturalHeight]"
        )
        assert size == [80, 60]
    command = [
        "deblur",
        str(photo),
        "-o",
        str(tmp_path / "sharp.png"),
        "--save-kernel",
        str(tmp_path / "k.npy"),
    ]
    assert main([*command, "--model", str(small_weights), "--device", "cpu"]) == 0
    saved = page.save("save")
    assert saved.name == "photo-deblurred.png"
    assert saved.read_bytes() == (tmp_path / "sharp.png").read_bytes()
    assert page.save("save-kernel-npy").read_bytes() == (tmp_path / "k.npy").read_bytes()
    kernel = torch.from_numpy(numpy.load(tmp_path / "k.npy"))
    extent = kernel_extent(kernel)
    assert page["kernel"].get_property("naturalWidth") == min(len(kernel), extent + 4)
    assert f"{extent} × {extent} pixels" in page["kernel-caption"].text


def test_the_divider_uncovers_the_result(page: Page, photo: Path) -> None:
    page.add(photo)
    page.wait_for(DONE)
    stage = page.rectangle("#stage")

    def border() -> float:
        clip = page.script("return document.getElementById('after').style.clipPath")
        return float(clip.rsplit(" ", 1)[-1].removesuffix("%)"))

    assert border() == 50
    middle = stage["top"] + stage["height"] / 2
    page.drag((stage["left"] + stage["width"] / 2, middle), (stage["left"] + stage["width"] / 4, middle))
    assert border() == pytest.approx(25, abs=0.5)
    page["divider"].send_keys("\ue012" * 2)  # the left arrow
    assert border() == pytest.approx(21, abs=0.5)
    assert page["divider"].get_attribute("aria-valuenow") == "21"
    page["divider"].send_keys("\ue010")  # End
    assert border() == 100


def test_zoom_keeps_both_pictures_in_place(page: Page, photo: Path) -> None:
    page.add(photo)
    page.wait_for(DONE)
    page["larger"].click()
    page["larger"].click()
    assert page["zoom"].text == "156 %"
    stage = page.rectangle("#stage")
    corner = (stage["left"] + 100, stage["top"] + 100)
    before = page.rectangle("#before img")
    assert before["width"] == pytest.approx(80 * 1.5625)
    page.drag(corner, (corner[0] + 40, corner[1] + 25))
    moved = page.rectangle("#before img")
    assert (moved["left"] - before["left"], moved["top"] - before["top"]) == pytest.approx((40, 25))
    assert page.rectangle("#after img") == moved
    page["actual"].click()
    assert page["zoom"].text == "100 %"
    assert page.rectangle("#after img")["width"] == pytest.approx(80, abs=0.01)
    page["fit"].click()
    fitted = page.rectangle("#after img")
    assert fitted["left"] + fitted["width"] / 2 == pytest.approx(stage["left"] + stage["width"] / 2, abs=1)


def test_wheel_and_two_fingers_zoom_about_where_they_are(page: Page, photo: Path) -> None:
    page.add(photo)
    page.wait_for(DONE)
    before = page.rectangle("#before img")
    x, y = before["left"] + 10, before["top"] + 10
    wheel = {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": -300}
    page.browser.execute_cdp_cmd("Input.dispatchMouseEvent", wheel)
    page.wait(lambda: page["zoom"].text == "200 %")
    doubled = page.rectangle("#before img")
    assert (doubled["left"], doubled["top"]) == pytest.approx((x - 20, y - 20), abs=1)
    for kind, distance in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80), ("touchEnd", None)):
        touches = (
            [] if distance is None else [{"x": x, "y": y, "id": 0}, {"x": x, "y": y + distance, "id": 1}]
        )
        page.browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    page.wait(lambda: page["zoom"].text == "400 %")
    assert page.rectangle("#before img")["left"] == pytest.approx(x - 40, abs=3)


def test_the_region_is_drawn_and_used(page: Page, server: Server, photo: Path) -> None:
    page.add(photo)
    page.wait_for(DONE)
    page["choose-region"].click()
    image = page.rectangle("#before img")
    page.drag((image["left"] + 10, image["top"] + 5), (image["left"] + 60, image["top"] + 45))
    assert page["choose-region"].get_attribute("aria-pressed") == "false"
    left, top, right, bottom = map(int, page["region"].get_property("value").split(","))
    assert (left, top, right, bottom) == pytest.approx((10, 5, 60, 45), abs=1)
    frame = page.rectangle("#region-frame")
    assert frame["left"] - image["left"] == pytest.approx(left, abs=0.1)
    assert frame["width"] == pytest.approx(right - left, abs=0.1)
    page["deblur"].click()
    page.wait(lambda: page["message"].text != DONE)
    page.wait_for(DONE)
    used = numpy.load(page.save("save-kernel-npy"))
    with Image.open(photo) as picture:
        expected = server.deblurrer.estimate_kernel(picture, region=(left, top, right, bottom))
    assert numpy.array_equal(used, expected.numpy())
    page["clear-region"].click()
    assert page["region"].get_property("value") == ""
    assert not page["region-frame"].is_displayed()


def test_a_kernel_from_a_file_and_a_line(page: Page, photo: Path, tmp_path: Path) -> None:
    numpy.save(tmp_path / "given.npy", numpy.full((1, 3), 1 / 3))
    page.set("source", "file")
    page["kernel-file"].send_keys(str(tmp_path / "given.npy"))
    page.add(photo)
    page.wait_for(DONE)
    assert page["kernel-caption"].text == "3 × 3 pixels"
    page.set("source", "line")
    page.set("length", "4")
    page.set("angle", "90")
    page.wait(lambda: page["line"].get_property("naturalHeight") == 5)
    page.set("strength", "0.5")
    assert page["strength-value"].text == "50 %"
    page["deblur"].click()
    page.wait(lambda: page["message"].text == DONE and page["kernel-caption"].text == "5 × 5 pixels")


def test_a_small_kernel_on_a_large_grid_is_shown_without_its_borders(page: Page, tmp_path: Path) -> None:
    # The corner pixel is too faint to see, and keeps the grid from being cropped.
    kernel = numpy.zeros((23, 23))
    kernel[11, 10:13], kernel[0, 0] = 1, 1e-3
    numpy.save(tmp_path / "given.npy", kernel)
    photograph(120, 160).save(tmp_path / "photo.png")
    page.set("source", "file")
    page["kernel-file"].send_keys(str(tmp_path / "given.npy"))
    page.add(tmp_path / "photo.png")
    page.wait_for(DONE)
    used = numpy.load(page.save("save-kernel-npy"))
    extent = kernel_extent(torch.from_numpy(used))
    assert extent + 4 < len(used)
    page.wait(lambda: page["kernel"].get_property("naturalWidth") == extent + 4)
    assert f"{extent} × {extent} pixels" in page["kernel-caption"].text
    with Image.open(page.save("save-kernel-png")) as saved:
        assert saved.width == len(used)


def test_a_sharp_photograph_is_said_to_be_and_deblurred_all_the_same(page: Page, tmp_path: Path) -> None:
    steps = numpy.kron(
        numpy.random.default_rng(1).integers(0, 256, (6, 8, 3), numpy.uint8), numpy.ones((10, 10, 1))
    )
    Image.fromarray(steps.astype(numpy.uint8)).save(tmp_path / "sharp.png")
    page.add(tmp_path / "sharp.png")
    page.wait_for("shows no blur")
    assert page.states() == ["no blur"]
    assert not page["kernel"].is_displayed()
    page["anyway"].click()
    page.wait_for(DONE)
    assert page["scale"].get_property("value") == "1"
    assert page["kernel"].is_displayed()
    # The message was about that photograph only.
    page.add(tmp_path / "sharp.png")
    page.wait_for("shows no blur")
    assert page["scale"].get_property("value") == "auto"


def test_a_kernel_s_file_is_asked_for(page: Page, photo: Path) -> None:
    page.set("source", "file")
    page.add(photo)
    page.wait_for("choose a blur kernel file first")
    assert page.states() == ["failed"]


def test_an_unclear_blur_is_reported(
    page: Page, server: Server, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deblur = server.deblurrer.deblur

    def unclear(*arguments: Any, **options: Any) -> Any:
        result = deblur(*arguments, **options)
        if options["scale"] == "auto":
            object.__setattr__(result, "status", "unclear")
            object.__setattr__(result, "scale", 2)
        return result

    monkeypatch.setattr(server.deblurrer, "deblur", unclear)
    page.add(photo)
    page.wait_for("cannot be estimated reliably")
    # There is nothing to compare.
    page.wait(lambda: page["before"].find_element("tag name", "img").is_displayed())
    assert not page["divider"].is_displayed()
    page["anyway"].click()
    page.wait_for(DONE)
    assert page["scale"].get_property("value") == "2"
    assert "removed at 1/2 of the size" in page["kernel-caption"].text


def test_a_broken_upload_gets_a_sentence_and_the_others_go_on(
    page: Page, photo: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "<b>broken.png"
    broken.write_bytes(photo.read_bytes()[:200])
    large = tmp_path / "large.png"
    large.write_bytes(bytes(UPLOAD_BYTES))
    page.add(broken, large, photo)
    page.wait(lambda: page.states() == ["failed", "failed", "done"])
    assert page["message"].text == "<b>broken.png is truncated or damaged: it holds fewer pixels than it says"
    page.browser.find_elements("css selector", "#list .choose")[1].click()
    assert (
        "large.png could not be deblurred: the upload is larger than the limit of 1 megabytes"
        in page["message"].text
    )


def test_a_dropped_folder_is_reported_and_the_server_not_blamed(page: Page, tmp_path: Path) -> None:
    (tmp_path / "holidays").mkdir()
    data = {"items": [], "files": [str(tmp_path / "holidays")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        page.browser.execute_cdp_cmd(
            "Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data}
        )
    page.wait_for("holidays cannot be read; it may be a folder")
    assert page.states() == ["failed"]
    # A picture may be promised only for a photograph that is still to be deblurred.
    page.wait(lambda: page["unshown"].text == "There is no picture to show.")
    assert page["zoom"].text == ""
    page.browser.get_log("browser")


def test_several_wait_in_turn_and_can_be_cancelled(page: Page, gate: Gate, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.png" for name in "abcd"]
    for seed, path in enumerate(paths):
        photograph(seed=seed).save(path)
    page.add(*paths)
    page.wait(lambda: page.states() == ["25 %", "waiting", "waiting", "waiting"])
    assert page["message"].text == "Restoring: 25 % done."
    assert page["progress"].get_property("value") == 0.25
    page.browser.find_elements("css selector", "#list .choose")[1].click()
    page.wait_for("Waiting, 1 photograph ahead.")
    page["cancel"].click()
    assert page["message"].text == "Cancelled."
    page.browser.find_elements("css selector", "#list .remove")[2].click()
    gate.open()
    page.wait(lambda: page.states() == ["done", "cancelled", "done"])
    assert page["save-all"].is_displayed()
    page["deblur"].click()
    page.wait(lambda: page.states() == ["done", "done", "done"])


def test_dropped_photographs_are_taken(page: Page, tmp_path: Path) -> None:
    paths = [tmp_path / "first.jpg", tmp_path / "second.png"]
    for seed, path in enumerate(paths):
        photograph(seed=seed).save(path)
    stage = page.rectangle("#stage")
    event = {
        "x": stage["left"] + 200,
        "y": stage["top"] + 200,
        "data": {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1},
    }
    for kind in ("dragEnter", "dragOver"):
        page.browser.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, **event})
    page.wait(lambda: page["stage"].get_attribute("class") == "dropping")
    page.browser.execute_cdp_cmd("Input.dispatchDragEvent", {"type": "drop", **event})
    page.wait(lambda: page.states() == ["done", "done"])
    assert page["stage"].get_attribute("class") == ""
    assert page["save"].get_attribute("download") == "first-deblurred.jpg"


def test_a_file_dropped_beside_the_stage_is_taken_and_does_not_replace_the_page(
    page: Page, photo: Path
) -> None:
    data = {"items": [], "files": [str(photo)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        page.browser.execute_cdp_cmd(
            "Input.dispatchDragEvent", {"type": kind, "x": 30, "y": 20, "data": data}
        )
    page.wait_for(DONE)
    assert page.states() == ["done"]


def test_all_results_are_saved_at_once(page: Page, small_weights: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "first.jpg", tmp_path / "second.png", tmp_path / "third"]
    for seed, path in enumerate(paths):
        photograph(seed=seed).save(path, "PNG" if path.suffix == ".png" else "JPEG")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    page.add(paths[0], broken, *paths[1:])
    page.wait(lambda: page.states() == ["done", "failed", "done", "done"])
    page["save-all"].click()
    names = {"first-deblurred.jpg", "second-deblurred.png", "third-deblurred.jpg"}
    page.wait(lambda: {path.name for path in page.downloads.iterdir()} == names)
    command = ["deblur", str(paths[1]), "-o", str(tmp_path / "sharp.png")]
    assert main([*command, "--model", str(small_weights), "--device", "cpu"]) == 0
    assert (page.downloads / "second-deblurred.png").read_bytes() == (tmp_path / "sharp.png").read_bytes()


def test_a_tiff_is_shown_once_it_is_deblurred(page: Page, gate: Gate, tmp_path: Path) -> None:
    photograph().save(tmp_path / "photo.tif")
    page.add(tmp_path / "photo.tif")
    page.wait(lambda: page["unshown"].is_displayed())
    gate.open()
    page.wait_for(DONE)
    page.wait(lambda: page.script("return document.querySelector('#after img').naturalWidth") == 80)
    assert not page["unshown"].is_displayed()


def test_leaving_the_page_cancels(page: Page, server: Server, gate: Gate, photo: Path) -> None:
    page.add(photo)
    page.wait_for("Restoring")
    page.browser.get("about:blank")
    time.sleep(0.5)
    gate.open()
    server.assert_nothing_left()


def test_a_phone(page: Page, photo: Path) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        page.add(photo)
        page.wait_for(DONE)
        assert page.script("return document.documentElement.scrollWidth") == 390
        assert page.rectangle("header")["height"] < 120
        for identifier in (
            "fit",
            "smaller",
            "save",
            "choose-region",
            "region",
            "source",
            "deblur",
            "divider",
        ):
            box = page.rectangle(f"#{identifier}")
            assert min(box["width"], box["height"]) >= 40, identifier
        # The drawing area and the progress text scroll into view.
        for identifier, seen in (("choose-region", "stage"), ("deblur", "message")):
            page.script("arguments[0].scrollIntoView({block: 'end'})", page["deblur"])
            assert page.rectangle(f"#{seen}")["top"] < 0
            page[identifier].click()
            page.wait(lambda seen=seen: 0 <= page.rectangle(f"#{seen}")["top"] < 844)
            assert page["hint"].is_displayed() == (identifier == "choose-region")
            page.script(
                "arguments[0].dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}))",
                page["stage"],
            )
        page.wait_for(DONE)
    finally:
        page.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_keyboard_alone_does(page: Page, photo: Path) -> None:
    from selenium.webdriver import ActionChains, Keys

    def press(*keys: str) -> str:
        actions = ActionChains(page.browser)
        for key in keys:
            actions.send_keys(key)
        actions.perform()
        return str(page.script("return document.activeElement.id"))

    page.add(photo)
    page.wait_for(DONE)
    page.script("document.activeElement.blur()")
    reached = [press(Keys.TAB) for _ in range(22)]
    for identifier in ("photographs", "stage", "divider", "fit", "save", "region", "choose-region", "deblur"):
        assert identifier in reached, reached
    page.script("document.getElementById('divider').focus()")
    press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page["divider"].get_attribute("aria-valuenow") == "54"
    page.script("document.getElementById('stage').focus()")
    press("+")
    page.wait(lambda: page["zoom"].text == "125 %")
    press("0")
    page.wait(lambda: page["zoom"].text == "100 %")
    page.script("document.getElementById('region').focus()")
    page["region"].send_keys("10,5,60,45")
    press(Keys.ENTER)
    page.wait(lambda: page["message"].text != DONE)
    page.wait_for(DONE)
    assert page["region-frame"].is_displayed()


@pytest.mark.parametrize("width", [500, 1280, 2200])
def test_every_control_is_in_reach_at_any_width(page: Page, photo: Path, width: int) -> None:
    page.browser.set_window_size(width, 900)
    page.add(photo)
    page.wait_for(DONE)
    assert page.script("return document.documentElement.scrollWidth <= window.innerWidth")
    for identifier in ("stage", "save", "kernel", "region", "strength", "denoise", "deblur"):
        box = page.rectangle(f"#{identifier}")
        assert box["width"] > 20, identifier
        assert 0 <= box["left"] < box["right"] <= width, identifier
