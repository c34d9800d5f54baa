"""`mgseg edit` in a real browser: Playwright drives Chromium. Skipped where either is missing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ClipMaker

from mgseg.files.masks import read_mask

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install '.[test]'")
pytest.importorskip("starlette")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium; CHROMIUM names its program")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
PATIENCE = 60  # seconds


class Server:
    """A server in a process of its own, as the command starts it."""

    def __init__(self, clip: Path, weights: Path, size: int = 48) -> None:
        command = [sys.executable, "-m", "mgseg", "edit", str(clip), "--no-browser", "--size", str(size)]
        self.command = [*command, "--weights", str(weights)]
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)
        return self.process.returncode


ServerMaker = Callable[..., Server]


@pytest.fixture
def serve(tiny_weights: Path) -> Iterator[ServerMaker]:
    servers: list[Server] = []

    def start(clip: Path, **more: Any) -> Server:
        servers.append(Server(clip, tiny_weights, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


class Tab:
    """One open page, with the user's hands on it."""

    def __init__(self, browser: Any, address: str, **more: Any) -> None:
        self.problems: list[str] = []
        self.page = browser.new_page(viewport={"width": 1100, "height": 700}, **more)
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.open(address)

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.until("window.mgseg && mgseg.model.map && mgseg.model.full && mgseg.model.state.complete")

    def until(self, condition: str) -> None:
        """Wait until a condition holds; asked from outside, since the page's own policy forbids it to evaluate text."""
        deadline = time.monotonic() + PATIENCE
        while not self.js(f"!!({condition})"):
            assert time.monotonic() < deadline, f"{condition}: still not; {self.page.inner_text('#status')!r}"
            self.page.wait_for_timeout(30)

    def js(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def point(self, x: float, y: float) -> tuple[float, float]:
        """From shares of the frame to pixels of the page."""
        box = self.page.locator("#stage").bounding_box()
        width, height = self.js("[mgseg.model.state.width, mgseg.model.state.height]")
        scale = min(box["width"] / width, box["height"] / height) * 0.98
        left, top = (box["width"] - width * scale) / 2, (box["height"] - height * scale) / 2
        return box["x"] + left + x * width * scale, box["y"] + top + y * height * scale

    def drag(self, *places: tuple[float, float], steps: int = 6) -> None:
        mouse = self.page.mouse
        mouse.move(*self.point(*places[0]))
        mouse.down()
        for place in places[1:]:
            mouse.move(*self.point(*place), steps=steps)
        mouse.up()
        self.js("mgseg.settled()")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def go(self, frame: int) -> None:
        self.js(f"mgseg.show({frame})")
        self.until(f"mgseg.model.frame === {frame} && mgseg.model.full")

    def area(self, number: int = 1) -> int:
        """Pixels of an object in the mask that is shown."""
        return int(self.js(f"mgseg.model.map.labels.reduce((n, id) => n + (id === {number}), 0)"))

    def run(self, key: str = "Enter") -> None:
        self.js("document.getElementById('status').textContent = ''")
        self.press(key)
        self.until("/^(done|nothing)/.test(document.getElementById('status').textContent)")
        self.js("mgseg.settled()")

    def wait_for_area(self, least: int) -> None:
        self.until(f"mgseg.model.map.labels.filter(id => id === 1).length >= {least}")


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Callable[..., Tab]]:
    tabs: list[Tab] = []

    def start(address: str, **more: Any) -> Tab:
        tabs.append(Tab(browser, address, **more))
        return tabs[-1]

    yield start
    for tab in tabs:
        tab.page.close()
    assert [problem for tab in tabs for problem in tab.problems] == []


TabMaker = Callable[..., Tab]


@pytest.fixture
def shapes(tmp_path: Path, make_clip: ClipMaker) -> Path:
    return make_clip(tmp_path / "shapes.mp4", 12).path


def given(clip: Path, frame: int) -> Any:
    return read_mask(clip.with_name(clip.name + ".mgseg") / "given" / f"{frame:05d}.png", may_be_empty=True).mask


def test_the_whole_round(serve: ServerMaker, open_tab: TabMaker, shapes: Path) -> None:
    server = serve(shapes)
    tab = open_tab(server.address)
    assert "Paint an object" in tab.page.inner_text("#hint")
    tab.drag((0.2, 0.4), (0.3, 0.4))  # the brush
    painted = tab.area()
    assert painted > 50
    assert (given(shapes, 0) == 1).sum() == painted
    tab.run()
    assert tab.js("mgseg.model.state.predicted.length") == 12
    tab.go(6)
    tab.press("p")  # a correction, by a polygon
    for x, y in ((0.3, 0.3), (0.5, 0.3), (0.5, 0.6), (0.3, 0.6)):
        tab.page.mouse.click(*tab.point(x, y))
    tab.press("Enter")
    tab.until("mgseg.model.state.given.includes(6)")
    tab.js("mgseg.settled()")
    corrected = tab.area()
    tab.run()
    tab.page.reload()
    tab.open(server.address)
    assert tab.js("mgseg.model.state.given") == [0, 6]
    tab.go(6)
    assert tab.area() == corrected
    assert server.stop() == 0


def test_killing_the_server_in_the_middle_of_a_run_loses_nothing(
    serve: ServerMaker, open_tab: TabMaker, tmp_path: Path, make_clip: ClipMaker
) -> None:
    clip = make_clip(tmp_path / "long.mp4", 80).path
    server = serve(clip)
    tab = open_tab(server.address)
    tab.drag((0.2, 0.4), (0.3, 0.4))
    painted = tab.area()
    tab.press("Enter")
    tab.until("mgseg.model.state.predicted.length > 5")
    server.kill()
    made = len(list((tmp_path / "long.mp4.mgseg" / "masks").glob("*.png")))
    server.start()
    tab.open(server.address)
    assert tab.js("mgseg.model.state.given") == [0]
    assert tab.area() == painted
    assert tab.js("mgseg.model.state.predicted.length") >= min(made, 6)
    tab.run()
    assert tab.js("mgseg.model.state.predicted.length") == 80


def test_undo_and_redo_by_keys_also_after_a_restart(serve: ServerMaker, open_tab: TabMaker, shapes: Path) -> None:
    server = serve(shapes)
    tab = open_tab(server.address)
    tab.drag((0.2, 0.4), (0.3, 0.4))
    first = tab.area()
    tab.drag((0.5, 0.7), (0.6, 0.7))
    second = tab.area()
    assert second > first
    server.kill()
    server.start()
    tab.open(server.address)
    tab.press("Control+z")
    tab.until("mgseg.model.state.redo === 1")
    tab.until(f"mgseg.model.map.labels.filter(id => id === 1).length === {first}")
    tab.press("Control+z")
    tab.until("mgseg.model.map.labels.every(id => id === 0)")
    tab.press("Control+Shift+z", "Control+y")
    tab.until(f"mgseg.model.map.labels.filter(id => id === 1).length === {second}")


def test_the_tools_paint_what_they_promise(serve: ServerMaker, open_tab: TabMaker, shapes: Path) -> None:
    tab = open_tab(serve(shapes).address)
    tab.press("l")
    tab.drag((0.2, 0.2), (0.6, 0.2), (0.6, 0.6), (0.2, 0.6), (0.2, 0.2))  # a square of 0.4 x 0.4 of 96 x 64 pixels
    square = tab.area()
    assert abs(square - 0.4 * 96 * 0.4 * 64) < 100
    tab.press("Shift+}")
    tab.js("mgseg.settled()")
    assert tab.area() > square + 100
    tab.press("Shift+{")
    tab.js("mgseg.settled()")
    assert abs(tab.area() - square) < 10
    tab.press("e")
    tab.drag((0.4, 0.3), (0.4, 0.5))
    hole = tab.area()
    assert hole < square
    tab.press("f")
    tab.page.mouse.click(*tab.point(0.4, 0.4))
    tab.js("mgseg.settled()")
    tab.until(f"mgseg.model.map.labels.filter(id => id === 1).length > {hole}")
    tab.press("Delete")
    tab.js("mgseg.settled()")
    assert tab.area() == 0


def test_a_box_and_a_stroke_cut_out_the_object(serve: ServerMaker, open_tab: TabMaker, shapes: Path) -> None:
    pytest.importorskip("cv2")
    tab = open_tab(serve(shapes).address)
    tab.press("s")
    tab.drag((0.08, 0.15), (0.42, 0.65))
    tab.wait_for_area(400)
    assert tab.area() < 900


def test_objects_are_added_named_locked_hidden_and_deleted(
    serve: ServerMaker, open_tab: TabMaker, shapes: Path
) -> None:
    tab = open_tab(serve(shapes).address)
    tab.drag((0.2, 0.4), (0.3, 0.4))
    first = tab.area(1)
    tab.press("a")
    tab.until("mgseg.model.object === 2")
    tab.page.get_by_label("Name of object 2").fill("a car")
    tab.press("Enter")
    tab.until("mgseg.model.state.objects[1].name === 'a car'")
    tab.page.get_by_label("Lock object 1").click()
    tab.until("mgseg.model.state.objects[0].locked")
    tab.drag((0.2, 0.4), (0.5, 0.4))
    assert tab.area(1) == first, "a locked object is not painted over"
    assert tab.area(2) > 50
    tab.page.get_by_label("Delete a car").click()
    tab.until("mgseg.objects().length === 1")
    tab.press("Control+z")
    tab.until("mgseg.objects().length === 2")


def test_two_tabs_see_each_others_strokes(serve: ServerMaker, open_tab: TabMaker, shapes: Path) -> None:
    address = serve(shapes).address
    first, second = open_tab(address), open_tab(address)
    first.drag((0.2, 0.4), (0.3, 0.4))
    second.wait_for_area(first.area())
    second.drag((0.5, 0.7), (0.6, 0.7))
    first.wait_for_area(second.area())


def test_a_page_that_listens_late_still_learns_that_the_clip_is_complete(
    serve: ServerMaker, browser: Any, shapes: Path
) -> None:
    address = serve(shapes).address
    page = browser.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))

    def late(route: Any) -> None:
        time.sleep(0.5)  # the previews of the small clip are made meanwhile
        route.continue_()

    page.route("**/events", late)
    page.goto(address)
    page.wait_for_function("() => window.mgseg && mgseg.model.full")
    assert asked.index("events") < asked.index("state")
    page.wait_for_function("() => mgseg.model.state.complete")
    page.close()


def test_nothing_that_happens_elsewhere_disturbs_a_stroke(serve: ServerMaker, open_tab: TabMaker, shapes: Path) -> None:
    address = serve(shapes).address
    first, second = open_tab(address), open_tab(address)
    second.go(3)
    first.page.mouse.move(*first.point(0.2, 0.4))
    first.page.mouse.down()
    first.page.mouse.move(*first.point(0.3, 0.4), steps=4)
    begun = first.area()
    second.drag((0.5, 0.7), (0.6, 0.7))
    first.until("mgseg.model.state.given.includes(3)")
    first.page.wait_for_timeout(200)  # time in which the mask was exchanged for the saved one, an empty one
    assert first.area() == begun
    first.press("ArrowRight")  # another frame is shown once the stroke is finished
    first.page.mouse.move(*first.point(0.6, 0.4), steps=4)
    assert first.js("mgseg.model.frame") == 0
    painted = first.area()
    assert painted > begun
    first.page.mouse.up()
    first.until("mgseg.model.frame === 1 && mgseg.model.full")
    first.js("mgseg.settled()")
    assert (given(shapes, 0) == 1).sum() == painted
    assert first.js("mgseg.model.state.given") == [0, 3]


def test_a_lowered_brush_is_lifted_before_another_frame_is_shown(
    serve: ServerMaker, open_tab: TabMaker, shapes: Path
) -> None:
    tab = open_tab(serve(shapes).address)
    tab.press("x", "Alt+ArrowRight", "ArrowRight")
    tab.until("mgseg.model.frame === 1 && mgseg.model.full")
    tab.js("mgseg.settled()")
    assert tab.js("mgseg.model.state.given") == [0]
    assert tab.area() == 0


def test_it_can_be_used_by_keyboard_alone(serve: ServerMaker, open_tab: TabMaker, shapes: Path) -> None:
    tab = open_tab(serve(shapes).address)
    tab.press("x", "Alt+ArrowRight", "Alt+ArrowDown", "x")
    tab.js("mgseg.settled()")
    assert tab.area() > 50
    tab.press("ArrowRight")
    tab.until("mgseg.model.frame === 1")
    tab.press("Shift+ArrowRight")
    tab.until("mgseg.model.frame === 11")
    tab.press("Home", "?")
    tab.page.wait_for_selector("#keys[open]")
    tab.press("Escape")
    assert not tab.page.locator("#keys[open]").count()
    names = tab.js(
        "[...document.querySelectorAll('button, select, input')]"
        ".map(e => e.ariaLabel || e.textContent.trim() || e.title || e.labels?.[0]?.textContent)"
    )
    assert all(names), "everything that can be pressed has a name"


def test_a_million_points_in_one_stroke_are_taken(serve: ServerMaker, open_tab: TabMaker, shapes: Path) -> None:
    tab = open_tab(serve(shapes).address)
    tab.js("""import('./page/labels.js').then(labels => {
        const points = Array.from({length: 1e6}, (_, i) => [48 + 20 * Math.cos(i / 1e5), 32 + 20 * Math.sin(i / 1e5)]);
        window.box = labels.polygon(mgseg.model.map, points, 1, new Uint8Array(256));
    })""")
    tab.until("window.box")
    assert tab.area() > 100


def test_the_mask_belongs_to_the_frame_that_is_shown(serve: ServerMaker, open_tab: TabMaker, shapes: Path) -> None:
    tab = open_tab(serve(shapes).address)
    for frame in (0, 5, 9):
        tab.go(frame)
        tab.press("Delete")
        tab.drag((0.1 + frame / 20, 0.4), (0.12 + frame / 20, 0.4))
    masks = [given(shapes, frame) for frame in (0, 5, 9)]
    centres = [np.nonzero(mask)[1].mean() / mask.shape[1] for mask in masks]
    assert np.allclose(centres, [0.11, 0.36, 0.56], atol=0.03)
    for frame in (9, 0, 5, 9, 5, 0) * 3:  # as fast as keys can be pressed
        tab.js(f"mgseg.show({frame})")
    tab.until("mgseg.model.frame === 0 && mgseg.model.full")
    assert tab.area() == (masks[0] == 1).sum()


def test_a_vertical_phone_clip_is_upright(
    serve: ServerMaker, open_tab: TabMaker, tmp_path: Path, make_clip: ClipMaker
) -> None:
    clip = make_clip(tmp_path / "phone.mp4", 4, rotation=90).path  # 96x64 in the file, shown as 64x96
    tab = open_tab(serve(clip).address)
    assert tab.js("[mgseg.model.map.width, mgseg.model.map.height, mgseg.model.picture.width]") == [64, 96, 64]
    tab.drag((0.5, 0.1), (0.5, 0.2))
    rows, columns = np.nonzero(given(clip, 0))
    assert rows.mean() < 0.25 * 96
    assert abs(columns.mean() - 32) < 4


def test_twenty_objects_are_painted_and_followed(
    serve: ServerMaker, open_tab: TabMaker, tmp_path: Path, make_clip: ClipMaker
) -> None:
    clip = make_clip(tmp_path / "crowd.mp4", 3).path
    tab = open_tab(serve(clip).address)
    for number in range(2, 21):
        tab.press("a")
        tab.until(f"mgseg.model.object === {number}")
    tab.js("mgseg.model.radius = 2")
    for number in range(1, 21):
        tab.js(f"mgseg.model.object = {number}")
        x, y = 0.1 + 0.8 * ((number - 1) % 5) / 4, 0.1 + 0.8 * ((number - 1) // 5) / 3
        tab.drag((x, y), (x + 0.02, y))
    assert len(np.unique(given(clip, 0))) == 21
    tab.run()
    assert tab.js("mgseg.model.state.predicted.length") == 3


def memory_of(process: int) -> int:
    """Resident memory of a process in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_a_clip_of_3000_frames(
    serve: ServerMaker, open_tab: TabMaker, tmp_path: Path, make_clip: ClipMaker
) -> None:
    server = serve(make_clip(tmp_path / "long.mp4", 3000, (180, 320)).path)
    tab = open_tab(server.address)
    client = tab.page.context.new_cdp_session(tab.page)

    def heap() -> float:
        client.send("HeapProfiler.collectGarbage")
        return float(client.send("Runtime.getHeapUsage")["usedSize"])

    tab.drag((0.2, 0.4), (0.3, 0.4))
    for frame in range(0, 1000, 10):  # until caches are full
        tab.go(frame)
    server_before, page_before = memory_of(server.process.pid), heap()
    for frame in range(1000, 3000, 10):
        tab.go(frame)
    assert memory_of(server.process.pid) - server_before < 60e6
    assert heap() - page_before < 60e6


@pytest.mark.slow
def test_a_4k_clip_can_be_painted_on(
    serve: ServerMaker, open_tab: TabMaker, tmp_path: Path, make_clip: ClipMaker
) -> None:
    clip = make_clip(tmp_path / "4k.mp4", 3, (2160, 3840)).path
    tab = open_tab(serve(clip).address)
    tab.drag((0.2, 0.4), (0.3, 0.45), steps=30)
    assert (given(clip, 0) == 1).sum() == tab.area()
    tab.go(2)
    assert tab.js("mgseg.model.picture.width") == 3840
