"""The server of `mgseg edit`: who may ask, what it answers, what a run leaves behind."""

import shlex
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import ClipMaker, MadeClip
from numpy.typing import NDArray

from mgseg.network import Network
from mgseg.segment.segmenter import SegmenterOptions

pytest.importorskip("starlette")
pytest.importorskip("httpx2")

from starlette.testclient import TestClient

from mgseg.edit.clips import Clips, OpenClip, find_clips
from mgseg.edit.events import Events
from mgseg.edit.export import choose_outputs, command_line
from mgseg.edit.server import make_app
from mgseg.edit.worker import Worker
from mgseg.errors import InputError
from mgseg.files.masks import read_index_map, read_mask

if TYPE_CHECKING:
    from mgseg.model.network import MotionGuidedSTM

TOKEN, HOST = "secret-token", "127.0.0.1:8000"


class Page:
    """What the page in the browser does, without the browser."""

    def __init__(self, path: Path, model: "MotionGuidedSTM", adapt: int = 0) -> None:
        events = Events()
        self.heard: list[dict[str, Any]] = []

        def hear(clip_id: str, event: dict[str, Any]) -> None:
            self.heard.append({"clip": clip_id} | event)
            events.publish(clip_id, event)
            if event["type"] == "run" and event["done"] == self.stop_after:
                worker.stop()

        self.stop_after: int | None = None  # frames of a run
        self.network = Network.from_model(model)
        worker = Worker(self.network, SegmenterOptions(size=48, adapt=adapt), hear)
        self.clips = Clips(find_clips(path), None, hear)
        self.app = make_app(self.clips, worker, events, TOKEN, [HOST])
        self.http = TestClient(self.app, base_url=f"http://{HOST}")

    def get(self, path: str, **more: Any) -> Any:
        return self.http.get(f"/{TOKEN}/{path}", **more)

    def post(self, path: str, values: Any = None, **more: Any) -> Any:
        return self.http.post(f"/{TOKEN}/{path}", json=values if values is not None else {}, **more)

    def state(self) -> dict[str, Any]:
        return dict(self.get("c/0/state").json())

    def mask(self, frame: int) -> NDArray[np.uint8]:
        answer = self.get(f"c/0/mask/{frame}")
        width, height = map(int, answer.headers["X-Size"].split("x"))
        return np.frombuffer(answer.content, np.uint8).reshape(height, width)

    def put(self, frame: int, mask: NDArray[np.uint8], version: str | None = None) -> Any:
        headers = {"If-Match": version} if version else {}
        body = zlib.compress(mask.tobytes())
        return self.http.put(f"/{TOKEN}/c/0/mask/{frame}", content=body, headers=headers)

    def run(self, **values: Any) -> str:
        """Run and wait; returns how it ended."""
        self.heard.clear()
        assert self.post("c/0/run", values).status_code == 200
        return self.wait()

    def wait(self) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ends = [e["state"] for e in self.heard if e["type"] == "run" and e["state"] not in ("adapting", "running")]
            if ends:
                return str(ends[-1])
            time.sleep(0.02)
        raise AssertionError(f"no end of the run: {self.heard[-3:]}")


@pytest.fixture
def page(tmp_path: Path, clip: MadeClip, tiny_model: "MotionGuidedSTM") -> Iterator[Page]:
    path = tmp_path / "shapes.mp4"
    path.write_bytes(clip.path.read_bytes())
    made = Page(path, tiny_model)
    with made.http:
        yield made


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/wrong-token/", {}),
        (f"/{TOKEN}x/", {}),
        (f"/{TOKEN}/", {"Host": "evil.example:8000"}),
        (f"/{TOKEN}/", {"Host": "127.0.0.1:9999"}),
        (f"/{TOKEN}/c/0/state", {"Origin": "https://evil.example"}),
        (f"/{TOKEN}/c/0/state", {"Origin": "null"}),
    ],
    ids=str,
)
def test_requests_from_elsewhere_are_refused(page: Page, path: str, headers: dict[str, str]) -> None:
    answer = page.http.get(path, headers=headers)
    assert answer.status_code == 403
    assert "shapes" not in answer.text


def test_another_site_cannot_change_anything_even_with_the_token(page: Page) -> None:
    for origin in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert page.post("c/0/undo", headers=origin).status_code == 403
    assert page.post("c/0/undo", headers={"Origin": f"http://{HOST}"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *("page/../server.py", "page/%2e%2e/server.py", "page/..%2f..%2fweights.py", "c/..%2f0/state", "c/1/state"),
        *("c/0/frame/../../../etc/passwd.jpg", "c/-1/state", "page//etc/passwd", "c/0/frame/99999999.jpg"),
        "c/0/mask/-1",
    ],
)
def test_no_path_leads_out_of_the_clip_and_the_page(page: Page, path: str) -> None:
    answer = page.get(path)
    assert answer.status_code in (400, 404)
    assert b"import" not in answer.content
    assert b"root:" not in answer.content


def test_answers_forbid_other_sites_and_other_sources(page: Page) -> None:
    headers = page.get("").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers
    assert headers["x-content-type-options"] == "nosniff"
    assert page.get("page/main.js").status_code == 200


def test_frames_come_as_pictures_of_the_clips_size(page: Page, clip: MadeClip) -> None:
    import io

    from PIL import Image

    for size in ("full", "preview"):
        answer = page.get(f"c/0/frame/3.jpg?size={size}")
        picture = Image.open(io.BytesIO(answer.content))
        assert picture.size == (96, 64)
        assert abs(np.asarray(picture).astype(int) - clip.frames[3]).mean() < 6
    assert page.get("c/0/frame/8.jpg?size=preview").status_code == 400
    assert page.state()["num_frames"] == 8


def test_a_first_mask_is_followed_both_ways_and_saved(page: Page, clip: MadeClip, tmp_path: Path) -> None:
    page.post("c/0/objects", {"objects": [*page.state()["objects"], {"id": 2, "name": "disc", "colour": "#00ff00"}]})
    assert page.put(4, clip.masks[4]).status_code == 200
    assert page.run() == "done"
    state = page.state()
    assert state["given"] == [4]
    assert state["predicted"] == list(range(8))
    assert len(list((tmp_path / "shapes.mp4.mgseg" / "masks").glob("*.png"))) == 8
    assert {e["frame"] for e in page.heard if e["type"] == "mask"} == set(range(8))


def test_a_run_makes_what_the_command_line_makes(page: Page, clip: MadeClip, tmp_path: Path) -> None:
    from mgseg.outputs.table import Outputs
    from mgseg.segment.clip import segment_clip
    from mgseg.segment.run import Span

    for frame in (2, 6):
        page.put(frame, (clip.masks[frame] == 1).astype(np.uint8))
    assert page.run() == "done"
    segment_clip(
        clip.path,
        tmp_path / "shapes.mp4.mgseg" / "given",
        Outputs(masks=tmp_path / "again"),
        page.network,
        span=Span(both_ways=True),
        options=SegmenterOptions(size=48),
        zero_is_background=True,
    )
    assert all((read_index_map(tmp_path / "again" / f"{n:05d}.png") == page.mask(n)).all() for n in range(8))


def made(page: Page) -> int:
    return int(next(e for e in page.heard if e.get("state") == "done")["made"])


def test_a_correction_redoes_only_what_it_changes(page: Page, clip: MadeClip) -> None:
    square = (clip.masks == 1).astype(np.uint8)
    page.put(0, square[0])
    page.put(3, square[3])
    assert page.run() == "done"
    assert made(page) == 8
    page.put(6, square[6])
    assert page.run() == "done"
    assert made(page) == 5, "1 and 2 lie between 0 and 3"
    assert page.run() == "done"
    assert made(page) == 0, "nothing changed since"


def test_a_stopped_run_goes_on_where_it_was(page: Page, clip: MadeClip) -> None:
    page.put(0, (clip.masks[0] == 1).astype(np.uint8))
    page.stop_after = 3
    assert page.run() == "stopped"
    page.stop_after = None
    first = page.mask(1)
    assert page.run() == "done"
    assert made(page) == 6, "the frame in hand was not written"
    assert (page.mask(1) == first).all()


@pytest.mark.parametrize(
    ("values", "frames"),
    [
        ({"direction": "forward"}, {3, 4, 5, 6, 7}),
        ({"direction": "backward"}, {0, 1, 2, 3}),
        ({"direction": "both", "up_to": 4}, {0, 1, 2, 3, 4, 5, 6}),
    ],
    ids=str,
)
def test_a_run_goes_where_it_is_sent(page: Page, clip: MadeClip, values: dict[str, Any], frames: set[int]) -> None:
    for frame in (3, 6):
        page.put(frame, (clip.masks[frame] == 1).astype(np.uint8))
    assert page.run(**values) == "done"
    assert set(page.state()["predicted"]) == frames


def test_two_pages_do_not_overwrite_each_other(page: Page, clip: MadeClip) -> None:
    version = page.get("c/0/mask/0").headers["X-Version"]
    assert page.put(0, (clip.masks[0] == 1).astype(np.uint8), version).status_code == 200
    answer = page.put(0, np.zeros_like(clip.masks[0]), version)
    assert answer.status_code == 409
    assert "frame 0" in answer.json()["error"]
    assert page.mask(0).any()


@pytest.mark.parametrize(
    "body",
    [b"", b"no zlib", zlib.compress(b"\0" * 10), zlib.compress(b"\0" * (96 * 64 + 1)), zlib.compress(b"\7" * 96 * 64)],
    ids=["empty", "not packed", "short", "long", "unknown object"],
)
def test_a_mask_that_does_not_fit_is_refused_and_changes_nothing(page: Page, body: bytes) -> None:
    answer = page.http.put(f"/{TOKEN}/c/0/mask/0", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert page.state()["given"] == []


def test_a_bomb_is_not_unpacked_beyond_the_frame(page: Page) -> None:
    bomb = zlib.compress(b"\0" * 2**28, 9)
    assert page.http.put(f"/{TOKEN}/c/0/mask/0", content=bomb).status_code == 400


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("objects", {}),
        ("objects", {"objects": [{"id": 0, "name": "x", "colour": "#000000"}]}),
        ("objects", {"objects": [{"id": 1, "name": "x", "colour": "url(evil)"}]}),
        ("objects", {"objects": [{"id": 1, "name": "x" * 101, "colour": "#000000"}]}),
        ("objects", [1]),
        ("forget", {}),
        ("forget", {"frame": "x"}),
        ("run", {"direction": "sideways"}),
        ("run", {}),
        ("cut", {"frame": 0, "object": 1}),
        ("cut", {"frame": 0, "object": 1, "box": [0, 0, 999, 999]}),
        ("cut", {"frame": 99, "object": 1, "box": [0, 0, 9, 9]}),
        ("cut", {"frame": 0, "object": 7, "box": [0, 0, 9, 9]}),
        ("cut", {"frame": 0, "object": 1, "plus": [{"points": [[1, 1]] * 100_001, "radius": 1}]}),
    ],
)
def test_a_request_that_makes_no_sense_is_explained(page: Page, path: str, values: Any) -> None:
    answer = page.post(f"c/0/{path}", values)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_box_cuts_out_an_object(page: Page, clip: MadeClip) -> None:
    rows, columns = np.nonzero(clip.masks[0] == 1)
    box = [int(columns.min()) - 3, int(rows.min()) - 3, int(columns.max()) + 4, int(rows.max()) + 4]
    assert page.post("c/0/cut", {"frame": 0, "object": 1, "box": box}).status_code == 200
    found, square = page.mask(0) == 1, clip.masks[0] == 1
    assert (found & square).sum() / (found | square).sum() > 0.8


def test_an_export_writes_what_the_command_line_has(page: Page, clip: MadeClip, tmp_path: Path) -> None:
    page.put(4, (clip.masks[4] == 1).astype(np.uint8))
    page.run()
    files = ("masks", "overlay.mp4", "matte.mov", "cut_outs", "each_object", "coco.json", "boxes.csv", "cvat.zip")
    wanted = {"outputs": {name.split(".")[0]: name for name in files}}
    command = page.post("c/0/command", wanted).json()["command"]
    assert command.startswith("mgseg segment ")
    assert "--zero-is-background" in command
    assert "--names '1=object 1'" in command
    assert page.post("c/0/export", wanted).status_code == 200
    deadline = time.monotonic() + 60
    folder = tmp_path / "shapes.mp4.mgseg" / "export"
    while not all((folder / name).exists() for name in files):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(list((folder / "masks").glob("*.png"))) == len(list((folder / "cut_outs").glob("*.png"))) == 8
    assert (read_mask(folder / "masks" / "00004.png").mask == page.mask(4)).all()


@pytest.mark.parametrize("wanted", [{}, {"outputs": {}}, {"outputs": {"masks": "/etc"}}, {"outputs": {"x": "masks"}}])
def test_an_export_to_elsewhere_is_refused(page: Page, wanted: Any) -> None:
    assert page.post("c/0/export", wanted).status_code == 400


def test_a_folder_of_clips_lists_them_with_their_state(
    tmp_path: Path, make_clip: ClipMaker, tiny_model: "MotionGuidedSTM"
) -> None:
    for name in ("b.mp4", "a.mp4"):
        make_clip(tmp_path / name)
    make_clip(tmp_path / "pictures")
    (tmp_path / "notes.txt").write_text("no clip")
    page = Page(tmp_path, tiny_model)
    with page.http:
        names = [entry["name"] for entry in page.get("clips").json()["clips"]]
        assert names == ["a.mp4", "b.mp4", "pictures"]
        page.put(0, np.zeros((64, 96), np.uint8))
        assert [entry["given"] for entry in page.get("clips").json()["clips"]] == [1, 0, 0]
        assert [path.name for path in find_clips(tmp_path)] == names, "projects are no clips"


def test_a_folder_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains no videos"):
        find_clips(tmp_path)


def test_a_clip_of_one_frame_can_be_masked_and_run(
    tmp_path: Path, make_clip: ClipMaker, tiny_model: "MotionGuidedSTM"
) -> None:
    page = Page(make_clip(tmp_path / "one.mp4", 1).path, tiny_model)
    with page.http:
        page.put(0, np.ones((64, 96), np.uint8))
        assert page.run() == "done"
        assert page.state()["predicted"] == [0]


def test_requests_that_come_together_open_a_clip_once(page: Page) -> None:
    together = threading.Barrier(8)

    def opened(_: int) -> OpenClip:
        together.wait()
        return page.clips["0"]

    with ThreadPoolExecutor(8) as threads:
        assert len({id(clip) for clip in threads.map(opened, range(8))}) == 1


def test_the_first_mask_is_learned_once_and_the_command_says_so(
    clip: MadeClip, tiny_model: "MotionGuidedSTM", tmp_path: Path
) -> None:
    path = tmp_path / "shapes.mp4"
    path.write_bytes(clip.path.read_bytes())
    page = Page(path, tiny_model, adapt=2)

    def states() -> list[str]:
        return [event["state"] for event in page.heard if event["type"] == "run"]

    with page.http:
        page.put(0, clip.masks[0] // 2)
        assert page.run() == "done"
        assert states()[:3] == ["adapting", "adapting", "running"]
        page.put(4, clip.masks[4] // 2)
        assert page.run() == "done"
        assert "adapting" not in states()
        page.put(0, clip.masks[1] // 2)
        assert page.run() == "done"
        assert states()[:2] == ["adapting", "adapting"]
        command = page.post("c/0/command", {"outputs": {"masks": "masks"}}).json()["command"]
        assert command.endswith("--size 48 --adapt 2")


@pytest.mark.weights
def test_the_command_names_weights_and_precision_that_are_not_the_defaults(
    page: Page, tiny_weights: Path, clip: MadeClip
) -> None:
    page.put(0, clip.masks[0] // 2)
    outputs = choose_outputs(page.clips["0"], {"masks": "masks"})

    def words(*network: str) -> list[str]:
        return shlex.split(command_line(page.clips["0"], outputs, Network(*network, "cpu"), SegmenterOptions()))

    assert "--weights" not in words("auto")
    assert words("r50")[-2:] == ["--weights", "r50"]
    assert words(str(tiny_weights))[-2:] == ["--weights", str(tiny_weights)]
    lower = Network("auto", "cpu", "bfloat16")
    assert command_line(page.clips["0"], outputs, lower, SegmenterOptions()).endswith("--precision bfloat16")
