"""AVE: videos in its layout, its split and what leaks in it, broken ones."""

import pickle
import shutil
from collections import Counter

import numpy as np
import pytest

from keras_mmrel.datasets import ave
from keras_mmrel.datasets import load_ave
from keras_mmrel.media import Audio
from keras_mmrel.media import Video
from tests.datasets.published import published_split
from tests.datasets.published import touch
from tests.media.files import RATE
from tests.media.files import cut
from tests.media.files import tone
from tests.media.files import write_video

pytestmark = pytest.mark.one_backend

BELL, CRY = "Church bell", "Baby cry, infant cry"
ROWS = {
    "training": [
        (BELL, "EV1bVf8Bldk", 0, 2),
        (BELL, "-------both", 1, 2),
        (CRY, "-------both", 1, 2),
        (CRY, "___leaking_", 0, 1),
        (CRY, "6I6kPpU____", 0, 1),
    ],
    "validation": [(CRY, "PIdEa_F_VYg", 0, 1)],
    "test": [(BELL, "EsfJpLbBeb4", 0, 1), (CRY, "___leaking_", 0, 1)],
}
SMALL = {
    "audio": Audio("audio", sample_rate=RATE, seconds=1.0, end="end"),
    "video": Video("video", frames=1, size=8, channels=1),
}


def write_split(folder, rows, header=""):
    for part, name in ave.FILES.items():
        lines = [f"{c}&{i}&good&{s}&{e}\n" for c, i, s, e in rows[part]]
        (folder / name).write_text(header + "".join(lines))


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """MP4 of two seconds with sound, whose second half is another tone."""
    root = tmp_path_factory.mktemp("ave") / "AVE_Dataset"
    (root / "AVE").mkdir(parents=True)
    sound = np.concatenate([tone(1.0, 500), tone(1.0, 2000)])
    first = write_video(root / "first.mp4", 20, sound=sound)
    for clip in {row[1] for rows in ROWS.values() for row in rows}:
        shutil.copy(first, root / f"AVE/{clip}.mp4")
    write_split(root, ROWS)
    return root


@pytest.fixture
def copy(published, tmp_path):
    return shutil.copytree(published, tmp_path / "AVE_Dataset")


@pytest.fixture
def whole():
    """A split in which nothing leaks or is repeated."""
    rows = {part: list(rows) for part, rows in ROWS.items()}
    rows["training"] = [rows["training"][0], rows["training"][4]]
    return rows


def ids(table):
    return table.table["id"].tolist()


TOLD = (
    "AVE has 1 video(s) in the training part and in the test part and 1 "
    "video(s) with two categories; `drop_leaks=True` takes the former out of "
    "the training part."
)


def test_the_preset_has_the_shape_of_its_paper(published):
    with pytest.warns() as told:
        tables = load_ave(published.parent, batch_size=8, shuffle=False)
    assert [str(w.message) for w in told] == [TOLD]
    train, validation, test = tables
    train = pickle.loads(pickle.dumps(train))
    shapes = {"audio": (257, 1004), "video": (4, 224, 224, 3)}
    assert train.shapes == validation.shapes == test.shapes == shapes
    assert train.class_names == [CRY, BELL] == test.class_names
    assert [len(table.table) for table in tables] == [5, 1, 2]
    x, y = train[0]
    assert y.tolist() == [1, 1, 0, 0, 0] and x["modality_mask"].all()
    # The first row is the whole video, the second its second half.
    right = 25.5 * x["video"][:2, :, 60:160, 150:, 0].mean(axis=(2, 3))
    np.testing.assert_allclose(right[0], [2, 7, 12, 17], atol=0.6)
    np.testing.assert_allclose(right[1], [11, 13, 16, 18], atol=0.6)
    # So is its sound: one tone, repeated up to ten seconds, or two.
    loudest = x["audio"][:2].argmax(axis=1) * 16_000 / 512
    assert {500.0, 2000.0} <= set(loudest[0])
    # (What AAC writes is an eighth of a second late.)
    assert ((loudest[1] == 2000).mean() > 0.85) and np.median(
        loudest[1]
    ) == 2000
    np.testing.assert_allclose(x["audio"].std(axis=(1, 2)), 1, atol=1e-3)


def test_leaks_are_taken_out_of_the_training_part(published):
    with pytest.warns() as told:
        train, _, test = load_ave(
            published, SMALL, drop_leaks=True, shuffle=False
        )
    assert [str(w.message) for w in told] == [
        "AVE has 1 video(s) with two categories.",
        "AVE without 1 row(s) of the training part that the test part has, "
        "such as '___leaking_'.",
    ]
    assert ids(train) == [
        row[1] for row in ROWS["training"] if "_l" not in row[1]
    ]
    assert ids(test) == [row[1] for row in ROWS["test"]]


@pytest.mark.filterwarnings("ignore:AVE has 1 video")
@pytest.mark.parametrize(("repeated", "rows"), [("first", 1), ("drop", 0)])
def test_videos_of_two_categories_are_kept_or_not(published, repeated, rows):
    with pytest.warns(UserWarning, match="with a second category of a video"):
        train, _, _ = load_ave(published, SMALL, repeated=repeated)
    assert Counter(ids(train))["-------both"] == rows
    first = train.table[train.table["id"] == "-------both"]["category"]
    assert first.tolist() == [BELL] * rows


@pytest.fixture(scope="module")
def real():
    return published_split("ave")


def test_the_published_split_has_the_leaks_that_are_told(real):
    parts = {part: ave._read(real / f) for part, f in ave.FILES.items()}
    assert [len(rows) for rows in parts.values()] == [3338, 402, 402]
    videos = [len({row["id"] for row in rows}) for rows in parts.values()]
    assert videos == [3311, 401, 402]
    leaks = ave._leaks(parts)
    assert {part: len(found) for part, found in leaks.items()} == {
        "test": 8,
        "validation": 10,
    }
    message = (
        "AVE has 10 video.* in the validation part and 8 video.* in the test "
        "part and 45 video.* with two categories; `drop_leaks"
    )
    with pytest.warns(UserWarning, match=message):
        ave._tell(parts, leaks)


def test_the_published_split_is_the_default(real, tmp_path):
    for name in ave.FILES.values():
        shutil.copy(real / name, tmp_path)
    parts = {part: ave._read(real / f) for part, f in ave.FILES.items()}
    leaks = ave._leaks(parts)
    some = {row["id"] for rows in parts.values() for row in rows[:50]}
    some = sorted(some.union(*leaks.values()))
    touch(tmp_path, [f"AVE/{clip}.mp4" for clip in some])
    counts = {}
    for drop_leaks in (False, True):
        with pytest.warns(UserWarning, match="AVE"):
            tables = load_ave(tmp_path, drop_leaks=drop_leaks)
        counts[drop_leaks] = [len(set(ids(table))) for table in tables]
        shared = set(ids(tables[0])) & {*ids(tables[1]), *ids(tables[2])}
        assert len(shared) == (0 if drop_leaks else 18)
        assert tables[0].num_classes == 28
        assert tables[0].class_names == sorted(tables[0].class_names)
        assert CRY in tables[0].class_names
    assert counts[False][0] - counts[True][0] == 18
    assert counts[False][1:] == counts[True][1:]


def test_headers_are_passed_over(copy, whole):
    write_split(copy, whole, "Category&VideoID&Quality&StartTime&EndTime\n")
    train, _, _ = load_ave(copy, SMALL, shuffle=False)
    assert ids(train) == [row[1] for row in whole["training"]]


def test_a_row_without_its_video_is_left_out(copy, whole):
    write_split(copy, whole)
    (copy / "AVE/6I6kPpU____.mp4").unlink()
    message = "1 row.* of the training part without any file, such as '6I6kPpU"
    with pytest.warns(UserWarning, match=message):
        train, _, _ = load_ave(copy, SMALL)
    assert ids(train) == ["EV1bVf8Bldk"]


def test_a_truncated_video_is_told_or_counted(copy, whole):
    write_split(copy, whole)
    cut(copy / "AVE/PIdEa_F_VYg.mp4", copy / "part", 0.6)
    (copy / "part").rename(copy / "AVE/PIdEa_F_VYg.mp4")
    _, validation, _ = load_ave(copy, SMALL)
    with pytest.raises(ValueError, match="'audio'.*PIdEa_F_VYg.mp4'"):
        validation[0]
    _, validation, _ = load_ave(copy, SMALL, on_error="missing")
    assert validation[0][0]["modality_mask"].tolist() == [[0, 0]]
    assert len(validation.unreadable) == 2


def test_repeated_rows_are_counted(copy, whole):
    whole["test"].append(whole["test"][0])
    write_split(copy, {**whole})
    with pytest.warns(UserWarning, match="1 row.* the test part already"):
        _, _, test = load_ave(copy, SMALL)
    assert len(test.table) == 2


LINES = {
    "another separator": ("Bark,EV1bVf8Bldk,good,0,10\n", "1 cells"),
    "another header": ("Class&Video&Quality&Start&End\n", "the id 'Video'"),
    "one cell less": ("Bark&EV1bVf8Bldk&0&10\n", "4 cells"),
    "no end": ("Bark&EV1bVf8Bldk&good&0&x\n", "could not convert"),
    "an end before": ("Bark&EV1bVf8Bldk&good&5&5\n", "from 5 to 5"),
    "no number": ("Bark&EV1bVf8Bldk&good&nan&5\n", "from nan to 5"),
    "no category": ("&EV1bVf8Bldk&good&0&5\n", "'' with the id"),
    "a path": ("Bark&../../../etc&good&0&5\n", "the id '../"),
}


@pytest.mark.parametrize("content, reason", LINES.values(), ids=LINES)
def test_a_wrong_line_of_the_split_is_named(copy, content, reason):
    (copy / "valSet.txt").write_text(content)
    expected = f"Line 1 of .*valSet.txt must hold category&id&.*{reason}"
    with pytest.raises(ValueError, match=expected):
        load_ave(copy, SMALL)


def test_what_lacks_is_named_with_how_to_get_it(copy, tmp_path):
    (copy / "valSet.txt").unlink()
    with pytest.raises(FileNotFoundError) as error:
        load_ave(copy)
    assert str(error.value).endswith(
        "get `AVE_Dataset.zip` from https://github.com/YapengTian/AVE-ECCV18. "
        f"Received: path={str(copy)!r}, without 'valSet.txt'"
    )
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        load_ave(tmp_path / "nowhere")


def test_the_archive_is_read_as_published(copy, whole, tmp_path, capsys):
    write_split(copy, whole)
    made = shutil.make_archive(
        str(tmp_path / "packed"), "zip", tmp_path, "AVE_Dataset"
    )
    expected = load_ave(copy, SMALL, shuffle=False)
    for _ in range(2):
        tables = load_ave(made, SMALL, shuffle=False)
        for table, other in zip(tables, expected, strict=True):
            values, others = table.arrays()[0], other.arrays()[0]
            np.testing.assert_array_equal(values["video"], others["video"])
    # The second call has found what the first one unpacked.
    assert capsys.readouterr().out.count("Unpacking") == 1
    (copy / "archive.zip").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="must be a whole ZIP or TAR archive"):
        load_ave(copy / "archive.zip")


@pytest.mark.parametrize("name", load_ave.constraints)
def test_bad_values_are_refused_before_anything_is_read(name):
    for value in load_ave.constraints[name].bad:
        with pytest.raises(ValueError, match=f"^`{name}` must be "):
            load_ave(**{"path": "no such folder", name: value})
