"""Running a split through the Segmenter: what is written, resumed, refused; zips for the servers; the page."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from made_datasets import make_davis, make_youtube_vos, names_of, shapes, shifted, write_masks
from PIL import Image

from mgseg.data.catalog import find_split
from mgseg.errors import DatasetError, InputError, OutputError, WeightsError
from mgseg.evaluation.evaluate import Files, evaluate_masks, evaluate_split
from mgseg.evaluation.submission import write_submission
from mgseg.network import Network
from mgseg.segment.segmenter import Segmenter, SegmenterOptions

pytestmark = pytest.mark.numeric

OPTIONS = SegmenterOptions(size=32, memory_every=2)


@pytest.fixture
def davis(tmp_path):
    return make_davis(tmp_path / "data", {"bear": shapes(5), "cow": shapes(4, ids=(7,))})


def run(root, network, *, dataset="davis17", split="val", options=OPTIONS, sequences=None, **more):
    found = find_split(dataset, split, root)
    return evaluate_split(found.only(sequences) if sequences else found, network, options, **more)


def masks_in(folder):
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def test_a_run_scores_what_the_segmenter_gives(davis, tiny_network, tmp_path):
    calls = []
    files = Files(masks=tmp_path / "out")
    report = run(davis, tiny_network, files=files, progress=lambda *call: calls.append(call))
    segmenter = Segmenter(tiny_network, OPTIONS)
    pictures = sorted((davis / "JPEGImages/480p/bear").iterdir())
    frames = [np.asarray(Image.open(path)) for path in pictures]
    expected = [segmenter.start(frames[0], shapes(5)[0]), *map(segmenter.step, frames[1:])]
    found = masks_in(tmp_path / "out" / "bear")
    assert list(found) == names_of(shapes(5))
    assert all((found[name] == mask).all() for name, mask in zip(found, expected, strict=True))
    given = evaluate_masks(find_split("davis17", "val", davis), tmp_path / "out")
    assert report.mean == given.mean
    assert calls[8] == ("segment", 9, 9)
    assert calls[-1][0] == "score"


def test_every_result_says_how_it_was_made(davis, tiny_network, tmp_path):
    report = run(davis, tiny_network, files=Files(masks=tmp_path / "out"))
    made = report.settings["masks"]
    assert (made["size"], made["memory_every"], made["memory_size"], made["precision"]) == (32, 2, 10, "float32")
    assert made["weights"] is None
    assert made["speed"]["frames"] == 9
    assert made["speed"]["network_fps"] >= made["speed"]["fps"] > 0
    assert "DAVIS 2017" in report.settings["protocol"]
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == made
    given = evaluate_masks(find_split("davis17", "val", davis), tmp_path / "out")
    assert given.settings == report.settings


def test_a_run_needs_no_folder_and_takes_only_the_sequences_wanted(davis, tiny_network):
    report = run(davis, tiny_network, sequences=["cow"])
    assert list(report.sequences) == ["cow"]
    assert report.objects[0].object_id == 7


def test_davis_2016_is_run_with_one_object(davis, tiny_network, tmp_path):
    make_davis(davis, {"bear": shapes(5)}, year="2016")
    run(davis, tiny_network, dataset="davis16", files=Files(masks=tmp_path / "out"))
    assert {int(i) for mask in masks_in(tmp_path / "out" / "bear").values() for i in np.unique(mask)} <= {0, 1}


def test_resume_keeps_what_is_done_and_ends_with_the_same_masks(davis, tiny_network, tmp_path):
    out = tmp_path / "out"
    run(davis, tiny_network, files=Files(masks=out))
    whole = masks_in(out / "bear")
    before = (out / "cow" / "00001.png").stat().st_mtime_ns
    (out / "bear").rename(out / "bear.part")  # as an interrupted run leaves it
    (out / "bear.part" / "00004.png").unlink()
    calls = []
    report = run(davis, tiny_network, files=Files(masks=out, resume=True), progress=lambda *call: calls.append(call))
    assert ("segment", 5, 5) in calls
    assert report.settings["masks"]["speed"]["frames"] == 5
    assert (out / "cow" / "00001.png").stat().st_mtime_ns == before
    again = masks_in(out / "bear")
    assert all((again[name] == whole[name]).all() for name in whole)
    assert not (out / "bear.part").exists()


def test_results_of_another_run_are_neither_mixed_with_nor_replaced_unasked(davis, tiny_network, tmp_path):
    out = tmp_path / "out"
    run(davis, tiny_network, files=Files(masks=out), score=False)
    with pytest.raises(OutputError, match="already contains results") as caught:
        run(davis, tiny_network, files=Files(masks=out))
    assert "--resume" in caught.value.hint
    other = SegmenterOptions(size=48, memory_every=2)
    with pytest.raises(OutputError, match="with other size"):
        run(davis, tiny_network, options=other, files=Files(masks=out, resume=True))
    scaled = replace(OPTIONS, scales=(1.0, 1.5))
    report = run(davis, tiny_network, options=scaled, files=Files(masks=out, overwrite=True))
    assert report.settings["masks"]["scales"] == [1.0, 1.5]
    with pytest.raises(OutputError, match="with other scales"):
        run(davis, tiny_network, files=Files(masks=out, resume=True))
    run(davis, tiny_network, options=scaled, files=Files(masks=out, resume=True))


def test_an_error_leaves_no_half_sequence(davis, tiny_network, tmp_path):
    (davis / "JPEGImages/480p/cow/00002.jpg").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"00002\.jpg"):
        run(davis, tiny_network, files=Files(masks=tmp_path / "out"))
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found - {"cow.part"} == {"bear", "run.json"}  # frames are read ahead: the error may come before any mask


def test_what_is_missing_is_found_out_before_weights_are_read(davis, tmp_path):
    (tmp_path / "damaged.pth").write_bytes(b"no weights")
    damaged = Network(tmp_path / "damaged.pth", "cpu")
    (davis / "Annotations/480p/bear/00002.png").unlink()
    with pytest.raises(DatasetError, match="lacks 00002"):
        run(davis, damaged)
    with pytest.raises(WeightsError, match="cannot be read"):
        run(davis, damaged, score=False)
    with pytest.raises(OutputError, match="there is no folder"):
        run(davis, damaged, score=False, files=Files(page=tmp_path / "no" / "p.html"))
    for path in (davis / "JPEGImages/480p/cow").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="contains no pictures"):
        run(davis, damaged, score=False, sequences=["cow"])


def test_youtube_vos_writes_the_frames_that_count_of_all_that_it_sees(tiny_network, tmp_path):
    late = shapes(3)
    late[:1][late[:1] == 2] = 0
    root = make_youtube_vos(tmp_path / "yt", "valid", {"a": late}, truth=False)
    pictures = root / "valid_all_frames" / "JPEGImages" / "a"
    pictures.mkdir(parents=True)
    for index in range(12):
        picture = Image.open(root / "valid/JPEGImages/a" / f"{index // 5 * 5:05d}.jpg")
        picture.save(pictures / f"{index:05d}.jpg")
    calls = []
    files = Files(masks=tmp_path / "out", archive=tmp_path / "a.zip")
    options = {"dataset": "youtube-vos-2019", "split": "valid_all_frames", "files": files}
    report = run(root, tiny_network, **options, progress=lambda *call: calls.append(call))
    assert calls[-1] == ("segment", 12, 12)
    found = masks_in(tmp_path / "out" / "a")
    assert list(found) == ["00000", "00005", "00010"]
    assert 2 not in found["00000"]
    assert (found["00005"][late[1] == 2] == 2).all()  # given there
    assert report.settings["split"] == "valid_all_frames"
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert file.namelist() == [f"Annotations/a/{name}.png" for name in found]


def test_a_sequence_whose_masks_give_no_object_is_refused(davis, tiny_network):
    write_masks(davis / "Annotations/480p/cow", np.zeros((4, 40, 60), np.uint8))
    with pytest.raises(DatasetError, match="no mask of cow contains an object"):
        run(davis, tiny_network, score=False)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weights": 3}', "[" * 100_000])
def test_a_record_in_another_form_says_nothing(davis, tiny_network, tmp_path, text):
    run(davis, tiny_network, files=Files(masks=tmp_path / "out"), sequences=["cow"])
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    record["speed"] = 3
    for damaged in (text, json.dumps(record)):
        (tmp_path / "out" / "run.json").write_text(damaged)
        report = evaluate_masks(find_split("davis17", "val", davis).only(["cow"]), tmp_path / "out")
        assert report.settings["masks"] is None


def test_a_mask_of_another_size_than_its_picture_is_refused(davis, tiny_network):
    write_masks(davis / "Annotations/480p/bear", np.ones((1, 20, 30), np.uint8), ["00000"])
    with pytest.raises(DatasetError, match=r"00000\.png is 30x20, its picture is 60x40"):
        run(davis, tiny_network, score=False)


@pytest.fixture
def results(davis, tmp_path):
    for name, masks in {"bear": shapes(5), "cow": shapes(4, ids=(7,))}.items():
        write_masks(tmp_path / "results" / name, shifted(masks))
    return tmp_path / "results"


def zip_of(davis, results):
    archive = results.parent / "davis.zip"
    evaluate_masks(find_split("davis17", "val", davis), results, archive=archive, score=False)
    return archive


def test_the_zip_for_davis_holds_every_frame_and_is_the_same_every_time(davis, results):
    archive = zip_of(davis, results)
    first = archive.read_bytes()
    with zipfile.ZipFile(archive) as file:
        expected = [f"bear/{n}.png" for n in names_of(shapes(5))] + [f"cow/{n}.png" for n in names_of(shapes(4))]
        assert file.namelist() == expected
        assert file.read("bear/00002.png") == (results / "bear" / "00002.png").read_bytes()
    assert zip_of(davis, results).read_bytes() == first


def test_a_zip_that_the_server_would_refuse_is_not_written(davis, results):
    path = results / "cow" / "00003.png"
    good = path.read_bytes()

    def refused(match):
        with pytest.raises(InputError, match=match):
            zip_of(davis, results)
        assert not list(results.parent.glob("davis.zip*"))

    path.unlink()
    refused(r"00003\.png is missing")
    Image.fromarray(np.full((40, 60), 7, np.uint8)).save(path)
    refused(r"00003\.png is not an indexed PNG")
    write_masks(path.parent, np.full((1, 40, 60), 8, np.uint8), ["00003"])
    refused(r"contains the objects \[8\]; the sequence has only \[7\]")
    write_masks(path.parent, np.full((1, 60, 40), 7, np.uint8), ["00003"])
    refused("is 40x60, the sequence is 60x40")
    path.write_bytes(good)
    assert zip_of(davis, results).is_file()


@pytest.mark.parametrize("pictures", [True, False])
def test_the_page_shows_figures_and_the_worst_pictures(davis, results, tmp_path, pictures):
    if not pictures:
        (davis / "JPEGImages").rename(tmp_path / "elsewhere")
    page = tmp_path / "report.html"
    split = find_split("davis17", "val", davis)
    report = evaluate_masks(split, results, page=page)
    text = page.read_text()
    assert f"<b>{100 * report.mean['J&F']:.1f}</b>" in text
    assert "bear, object 2" in text
    assert "DAVIS 2017, semi-supervised" in text
    # four or fewer pictures of each of three objects, and of the worst frames those that lie apart
    assert text.count("data:image/jpeg;base64,") >= 3 + 2 + 3 + 3
    assert not list(tmp_path.glob("*.part"))


def test_the_page_of_a_run_without_scores_says_so(davis, results, tmp_path):
    page = tmp_path / "report.html"
    split = find_split("davis17", "val", davis)
    evaluate_masks(split, results, page=page, score=False)
    assert "Nothing was scored." in page.read_text()


def test_an_object_that_meta_json_lists_and_no_mask_gives_stops_the_zip_before_anything_is_segmented(tmp_path):
    late = shapes(4)
    late[:2][late[:2] == 2] = 0
    root = make_youtube_vos(tmp_path / "yt", "valid", {"a": late, "b": shapes(3)}, truth=False)
    (root / "valid" / "Annotations" / "a" / "00010.png").unlink()
    files = Files(masks=tmp_path / "out", archive=tmp_path / "a.zip")
    with pytest.raises(DatasetError, match=r"contains object 2 of a, which meta\.json lists"):
        evaluate_split(find_split("youtube-vos-2019", "valid", root), files=files)
    with pytest.raises(DatasetError, match="contains object 2 of a"):
        write_submission(find_split("youtube-vos-2019", "valid", root), tmp_path, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == [root]


def test_pictures_of_another_size_than_the_masks_do_not_stop_the_page(davis, results, tmp_path):
    for path in davis.glob("JPEGImages/480p/*/*.jpg"):
        Image.open(path).resize((30, 20)).save(path)
    evaluate_masks(find_split("davis17", "val", davis), results, page=tmp_path / "report.html")
    assert "data:image/jpeg" in (tmp_path / "report.html").read_text()


def test_names_are_text_in_the_page_and_never_markup(davis, results, tmp_path):
    for folder in (davis / "JPEGImages/480p", davis / "Annotations/480p", results):
        (folder / "bear").rename(folder / "<b>&")
    (davis / "ImageSets" / "2017" / "val.txt").write_text("<b>&\n")
    evaluate_masks(find_split("davis17", "val", davis), results, page=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;&amp;, object 1" in text
    assert "<b><b>&" not in text
