"""Datasets by name: every layout, and what is missing is named."""

import json
import shutil

import pytest
from made_datasets import make_davis, make_youtube_vos, shapes

from mgseg.data.catalog import default_split, find_split, find_training_data, find_training_split, seen_categories
from mgseg.errors import DatasetError


@pytest.fixture
def davis(tmp_path):
    return make_davis(tmp_path / "DAVIS", {"bear": shapes(4), "cow": shapes(5)})


@pytest.fixture
def youtube(tmp_path):
    late = shapes(4)
    late[:2][late[:2] == 2] = 0
    root = make_youtube_vos(tmp_path / "yt", "valid", {"0a": late, "0b": shapes(3)}, truth=False)
    categories = {"t1": {1: "cat", 2: "dog"}, "t2": {1: "cat", 2: "owl"}}
    return make_youtube_vos(root, "train", {"t1": shapes(3), "t2": shapes(3)}, categories)


@pytest.mark.parametrize("place", ["DAVIS", "."])
def test_davis_is_found_in_its_folder_and_in_the_folder_above(davis, place):
    split = find_split("davis17", "val", davis.parent / place)
    assert split.names == ("bear", "cow")
    assert split.protocol == "davis17"
    assert split.has_truth
    bear, cow = split.sequences
    assert [path.name for path in cow.frames] == [f"0000{i}.jpg" for i in range(5)]
    assert list(bear.masks) == list(bear.saved) == ["00000", "00001", "00002", "00003"]
    assert (split.frames_root / "bear").is_dir()
    assert (split.masks_root / "bear").is_dir()


def test_davis_2016_reads_the_lists_of_its_first_release(davis):
    lists = davis / "ImageSets" / "480p"
    lists.mkdir()
    lines = [f"/JPEGImages/480p/bear/0000{i}.jpg /Annotations/480p/bear/0000{i}.png" for i in range(4)]
    (lists / "val.txt").write_text("\n".join(lines))
    assert find_split("davis16", "val", davis).names == ("bear",)


def test_a_split_with_first_masks_alone_has_no_truth(davis):
    for path in davis.glob("Annotations/480p/*/*.png"):
        if path.stem != "00000":
            path.unlink()
    split = find_split("davis17", "val", davis)
    assert not split.has_truth
    assert len(split.sequences[0].saved) == 4


def test_any_folder_in_the_layout_of_davis_is_a_dataset(davis, tmp_path):
    assert find_split(str(davis), "val", None).names == ("bear", "cow")
    shutil.rmtree(davis / "ImageSets")
    (davis / "Annotations" / "480p").rename(tmp_path / "moved")
    (davis / "Annotations").rmdir()
    (tmp_path / "moved").rename(davis / "Annotations")
    shutil.rmtree(davis / "JPEGImages")
    split = find_split(str(davis), "all", None)
    assert split.names == ("bear", "cow")
    assert split.sequences[0].frames == ()
    assert len(split.sequences[0].saved) == 4


def test_youtube_vos_lists_frames_that_count_and_where_objects_are_given(youtube):
    split = find_split("youtube-vos-2019", "valid", youtube)
    assert split.names == ("0a", "0b")
    assert not split.has_truth
    first = split.sequences[0]
    assert first.saved == ("00000", "00005", "00010", "00015")
    assert first.given == {"00000", "00010"}
    assert list(first.masks) == ["00000", "00010"]


@pytest.mark.parametrize("place", ["valid_all_frames", "all_frames/valid_all_frames"])
def test_all_frames_take_masks_and_meta_from_the_plain_split(youtube, place):
    pictures = youtube / place / "JPEGImages"
    shutil.copytree(youtube / "valid" / "JPEGImages", pictures)
    for folder in pictures.iterdir():
        for index in range(16):
            if not (folder / f"{index:05d}.jpg").exists():
                shutil.copy(folder / "00000.jpg", folder / f"{index:05d}.jpg")
    split = find_split("youtube-vos-2018", "valid_all_frames", youtube)
    assert len(split.sequences[0].frames) == 16
    assert split.sequences[0].saved == ("00000", "00005", "00010", "00015")
    assert split.name == "valid_all_frames"


def test_categories_of_the_other_training_videos_are_seen(youtube):
    train = find_split("youtube-vos-2019", "train", youtube)
    assert train.has_truth
    assert train.sequences[0].categories == {1: "cat", 2: "dog"}
    assert seen_categories(train) is None
    assert seen_categories(train.only(["t1"])) == {"cat", "owl"}
    assert seen_categories(find_split("youtube-vos-2019", "valid", youtube)) == {"cat", "dog", "owl"}


def test_a_folder_in_the_layout_of_youtube_vos_is_a_dataset(youtube):
    split = find_split(str(youtube), "train", None)
    assert (split.dataset, split.protocol) == ("yt", "youtube-vos")


def test_what_is_missing_is_named(davis, youtube, tmp_path):
    with pytest.raises(DatasetError, match="no folder was given"):
        find_split("davis17", "val", None)
    with pytest.raises(DatasetError, match=r"davis17 train was not found") as caught:
        find_split("davis17", "train", davis.parent)
    hint = str(caught.value.hint)
    assert "ImageSets/2017/train.txt" in hint
    assert f"davis17 (val) in {davis}" in hint
    with pytest.raises(DatasetError, match="there is no dataset nonsense"):
        find_split("nonsense", "val", davis)
    with pytest.raises(DatasetError, match="there is no list"):
        find_split(str(davis), "test", None)
    with pytest.raises(DatasetError, match="has no sequence wolf"):
        find_split("davis17", "val", davis).only(["bear", "wolf"])
    for kind in ("JPEGImages", "Annotations"):
        shutil.rmtree(davis / kind / "480p" / "cow")
    with pytest.raises(DatasetError, match="no sequence cow"):
        find_split("davis17", "val", davis)
    (youtube / "valid" / "JPEGImages" / "0a" / "00005.jpg").unlink()
    with pytest.raises(DatasetError, match="0a: missing 00005"):
        find_split("youtube-vos-2019", "valid", youtube)
    shutil.rmtree(youtube / "valid" / "Annotations" / "0a")
    with pytest.raises(DatasetError, match="no mask of 0a"):
        find_split("youtube-vos-2019", "valid", youtube)
    (youtube / "valid" / "meta.json").unlink()
    with pytest.raises(DatasetError, match=r"meta\.json is missing"):
        find_split(str(youtube), "valid", None)
    with pytest.raises(DatasetError, match="valid was not found") as caught:
        find_split("youtube-vos-2019", "valid", youtube)
    assert "valid/meta.json" in str(caught.value.hint)
    assert f"youtube-vos-2019 (train) in {youtube}" in str(caught.value.hint)


def test_training_videos_are_those_of_the_best_dataset_that_is_there(davis, youtube, tmp_path):
    with pytest.raises(DatasetError, match="no videos to train on") as caught:
        find_training_data(davis.parent / "DAVIS")
    assert all(
        word in str(caught.value.hint) for word in ("train/meta.json", "ImageSets/2017/train.txt", "davis17 (val)")
    )
    (davis / "ImageSets" / "2016").mkdir()
    (davis / "ImageSets" / "2016" / "train.txt").write_text("bear")
    assert find_training_data(tmp_path).dataset == "davis16"
    (davis / "ImageSets" / "2017" / "train.txt").write_text("bear")
    assert find_training_data(tmp_path).dataset == "davis17"
    youtube.rename(tmp_path / "YTVOS")
    assert find_training_data(tmp_path).dataset == "youtube-vos-2019"


def test_any_folder_can_be_trained_on_with_lists_or_without(davis, youtube, tmp_path):
    assert find_training_split(f"mine={youtube}").names == ("t1", "t2")
    with pytest.raises(DatasetError, match="no list") as caught:
        find_training_split(f"mine={davis}")
    assert "found: val" in str(caught.value.hint)
    (davis / "ImageSets" / "train.txt").write_text("cow\n", encoding="utf-16")
    assert find_training_split(f"mine={davis}").names == ("cow",)
    shutil.rmtree(davis / "ImageSets")
    for text, dataset in ((str(davis), "DAVIS"), (f"mine={davis}", "mine"), (f"davis16={davis}", "davis16")):
        split = find_training_split(text)
        assert (split.dataset, split.names) == (dataset, ("bear", "cow"))
    (davis / "ImageSets").mkdir()
    davis.rename(tmp_path / "a=b")
    assert find_training_split(str(tmp_path / "a=b")).names == ("bear", "cow")
    with pytest.raises(DatasetError, match="no dataset"):
        find_training_split("mine=nowhere")


def test_names_of_sequences_may_have_spaces_and_accents_in_either_form(davis):
    for kind in ("JPEGImages", "Annotations"):
        (davis / kind / "480p" / "bear").rename(davis / kind / "480p" / "mon e\u0301t\u00e9")
    (davis / "ImageSets" / "2017" / "val.txt").write_text("mon \u00e9te\u0301\n", encoding="utf-8")
    (sequence,) = find_split("davis17", "val", davis).sequences
    assert len(sequence.frames) == len(sequence.masks) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"videos": 3}',
        '{"videos": {"a": {}}}',
        '{"videos": {"a": {"objects": {"x": {"frames": []}}}}}',
        '{"videos": {"a": {"objects": {"255": {"frames": []}}}}}',
        '{"videos": {"a": {"objects": {"1": {"frames": [3]}}}}}',
        "[" * 100_000,
        '{"videos": {}}',
    ],
)
def test_a_damaged_meta_json_is_refused(youtube, text):
    (youtube / "valid" / "meta.json").write_text(text)
    with pytest.raises(DatasetError, match=r"meta\.json"):
        find_split("youtube-vos-2019", "valid", youtube)


@pytest.mark.parametrize("name", ["../bear", "..", "a\\b"])
def test_names_never_lead_out_of_the_dataset(davis, youtube, name):
    (davis / "ImageSets" / "2017" / "val.txt").write_text(name + "\n")
    if "/" not in name:  # in DAVIS's lists a slash is a path, of which the folder's name is taken
        with pytest.raises(DatasetError, match="not a plain name"):
            find_split("davis17", "val", davis)
    (youtube / "valid" / "meta.json").write_text(json.dumps({"videos": {name: {"objects": {}}}}))
    with pytest.raises(DatasetError, match="not a plain name"):
        find_split("youtube-vos-2019", "valid", youtube)
    with pytest.raises(DatasetError, match="not a plain name"):
        find_split("davis17", name, davis)


def test_an_empty_list_is_refused(davis):
    (davis / "ImageSets" / "2017" / "val.txt").write_text("\n")
    with pytest.raises(DatasetError, match="lists no sequence"):
        find_split("davis17", "val", davis)


def test_folders_of_editors_and_archives_are_no_sequences(davis):
    shutil.rmtree(davis / "ImageSets")
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        shutil.copytree(davis / "Annotations" / "480p" / "bear", davis / "Annotations" / "480p" / name)
    assert find_split(str(davis), "all", None).names == ("bear", "cow")


def test_masks_may_have_names_in_upper_case_and_lists_a_byte_order_mark(davis, youtube):
    for path in davis.glob("Annotations/480p/*/*.png"):
        path.rename(path.with_suffix(".PNG"))
    for path in (davis / "ImageSets" / "2017" / "val.txt", youtube / "valid" / "meta.json"):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    split = find_split("davis17", "val", davis)
    assert [len(sequence.masks) for sequence in split.sequences] == [4, 5]
    assert find_split("youtube-vos-2019", "valid", youtube).names == ("0a", "0b")


def test_a_frame_that_is_missing_from_a_sequence_is_named(davis):
    (davis / "JPEGImages" / "480p" / "bear" / "00000.jpg").unlink()  # else 00001 would be taken for the first
    with pytest.raises(DatasetError, match="bear has no frame 00000, although there is a mask of it"):
        find_split("davis17", "val", davis)


def test_the_split_that_is_scored_where_none_is_named(davis, youtube):
    assert [default_split(name) for name in ("davis16", "davis17", "youtube-vos-2018")] == ["val", "val", "valid"]
    assert default_split(str(davis)) == "val"
    assert default_split(str(youtube)) == "valid"
    shutil.rmtree(davis / "ImageSets")
    assert default_split(str(davis)) == "all"
