import os
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from keras_mmrel.archives import GIBIBYTE
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import constrained
from keras_mmrel.datasets import _nyud2_file
from keras_mmrel.datasets._image_text import own_media
from keras_mmrel.datasets._image_text import picture
from keras_mmrel.datasets._media_sets import PATH
from keras_mmrel.datasets._media_sets import Dropped
from keras_mmrel.datasets._media_sets import Preset
from keras_mmrel.datasets._media_sets import RawSet
from keras_mmrel.datasets._media_sets import Row
from keras_mmrel.datasets._media_sets import TableOptions
from keras_mmrel.datasets._media_sets import check_options
from keras_mmrel.datasets._media_sets import make_tables
from keras_mmrel.datasets._rgb_depth import HalfPicture
from keras_mmrel.datasets._rgb_depth import StoredPicture
from keras_mmrel.media import Image
from keras_mmrel.media import MediaTable
from keras_mmrel.media import Medium

SET = RawSet(
    "NYU Depth V2",
    "get 'nyu_depth_v2_labeled.mat' from https://cs.nyu.edu/~fergus/datasets/"
    "nyu_depth_v2.html, or name a folder of 'train' and 'test' with pictures",
    16 * GIBIBYTE,
)
FILE, SPLIT = "nyu_depth_v2_labeled.mat", "splits.mat"
# Folders of the peers' pictures, in the order of the tables.
FOLDERS = ("train", "val", "test")
# Column -> the medium that reads it, and which part of the file it is.
Source = tuple[type[HalfPicture] | type[StoredPicture], tuple[str, ...]]
HALVES: dict[str, Source] = {
    "image": (HalfPicture, ("left",)),
    "depth": (HalfPicture, ("right",)),
}
STORED: dict[str, Source] = {
    "image": (StoredPicture, ("picture", _nyud2_file.IMAGES)),
    "depth": (StoredPicture, ("picture", _nyud2_file.DEPTHS)),
}


@constrained(
    path=PATH,
    preset=Preset("crop", "qmf"),
    splits=Either(PATH, None),
    classes=Choice("common", "all"),
)
def load_nyud2(
    path: str | os.PathLike,
    preset: str | Mapping[str, Medium] = "crop",
    *,
    splits: str | os.PathLike | None = None,
    classes: str = "common",
    **options: Unpack[TableOptions],
) -> tuple[MediaTable, ...]:
    """Load NYU Depth V2: colour and depth pictures of rooms, and their kind.

    1,449 pictures, of which the published split has 795 for training and 654
    for test. Two forms of the data are read:

    * the published file of MATLAB, HDF5 of 2.8 GB, picture by picture: no
      more of it is in memory than a batch. Depth is in metres there, and
      comes as the share of 10 metres, in [0, 1]. HDF5 unpacks one picture
      after the other, in whichever thread: a `cache` spares that from the
      second epoch on, and reads the whole file once, to know it again;
    * the peers' pictures, `{train,val,test}/<class>/<name>.png`, with
      **colours in the left half and depth in the right half** of each. Its
      classes are the folders, and `val`, if there is one, is the validation
      part.

    Two peers choose the model on the test part. Where there is no validation
    part, take one from training. Nothing is downloaded; an archive of the
    pictures is unpacked beside itself, into `<archive>.unpacked`, once.

    Args:
        path: The file `nyu_depth_v2_labeled.mat`, a folder that holds it, or
            the folder of the peers' pictures or an archive of it.
        preset: `"crop"`: the shorter side becomes 256, the middle 224 x 224
            are cut out, and depth has one channel. `"qmf"`: each picture is
            stretched to 224 x 224, as those that QMF tests with, and depth
            has three channels; its crops and mirrored pictures of training
            are layers of augmentation. Or a dict of media of your own, such
            as `{"depth": Image("depth", size=64, channels=1)}`, of what the
            columns `"image"` and `"depth"` would be.
        splits: The file `splits.mat`, by default beside the file of MATLAB.
        classes: `"common"`: ten, the nine most common scene types and
            `"rest"`; `"all"`: the 27 scene types. Of the file of MATLAB
            alone.
        **options: Arguments of `keras_mmrel.media.MediaTable`, such as
            `batch_size`, `workers` and `on_error`.

    Returns:
        `train, test`, or `train, validation, test` of pictures with a folder
        `val`: tables of the modalities `"image"` `(224, 224, 3)` and
        `"depth"` `(224, 224, 1)`, or of three channels, all in [0, 1]. The
        training one is shuffled. Classes are sorted by name.

    Raises:
        FileNotFoundError: If `path` or `splits` is not there.
        ValueError: If a file is not as published.
        ImportError: If h5py, pandas, Pillow or SciPy is needed and not
            installed.

    Example:

    ```python
    train, test = load_nyud2("data/nyud2", batch_size=16, workers=4)
    train.shapes  # {'image': (224, 224, 3), 'depth': (224, 224, 1)}
    ```

    References:
        - [Silberman et al., 2012, Indoor Segmentation and Support Inference
          from RGBD Images](https://doi.org/10.1007/978-3-642-33715-4_54)
        - [Gupta et al., 2015, Indoor Scene Understanding with RGB-D
          Images](https://doi.org/10.1007/s11263-014-0777-6): the ten classes.
        - [Zhang et al., 2023, Provable Dynamic Fusion for Low-Quality
          Multimodal Data](https://arxiv.org/abs/2306.02050): QMF.
    """
    check_options(options)
    given = Path(path).expanduser()
    dropped = Dropped(SET.name)
    file = given / FILE if given.is_dir() else given
    if file.is_file() and file.suffix == ".mat":
        parts = _of_file(file, splits, classes, dropped)
        # Of 27 types some are in one part alone.
        known = parts
        root = file.parent
        media = _media(preset, STORED)
    else:
        if splits is not None or classes != "common":
            raise ValueError(
                "`splits` and `classes` must be left out where `path` has no "
                f"'{FILE}': folders say both. Received: splits={splits!r}, "
                f"classes={classes!r}"
            )
        root = SET.folder(path, ("train", "test"), ("nyud2_trecg", "nyud2"))
        parts = [_of_folder(root, n) for n in FOLDERS if (root / n).is_dir()]
        known = parts[:1]
        media = _media(preset, HALVES)
    dropped.warn()
    return make_tables(
        parts,
        media,
        label="label",
        class_names=sorted({row["label"] for part in known for row in part}),
        root=root,
        options=options,
    )


def _of_file(
    file: Path,
    splits: str | os.PathLike | None,
    classes: str,
    dropped: Dropped,
) -> list[list[Row]]:
    types = _nyud2_file.read_scene_types(file)
    split = file.with_name(SPLIT)
    if splits is not None:
        split = Path(splits).expanduser()
        split = split / SPLIT if split.is_dir() else split
    numbers = _nyud2_file.read_split(split, len(types))
    for number in sorted(
        set(range(len(types))) - {n for p in numbers for n in p}
    ):
        dropped.add("in neither part of the split", f"picture {number + 1}")
    return [
        [
            {
                "file": file.name,
                "picture": number,
                "scene_type": types[number],
                "label": types[number]
                if classes == "all"
                else _nyud2_file.scene_of(types[number]),
            }
            for number in part
        ]
        for part in numbers
    ]


def _of_folder(root: Path, part: str) -> list[Row]:
    rows = [
        {
            "file": f"{part}/{folder.name}/{file.name}",
            "label": folder.name,
        }
        for folder in sorted((root / part).iterdir())
        if folder.is_dir()
        for file in sorted(folder.iterdir())
        if file.suffix.lower() == ".png" and not file.name.startswith(".")
    ]
    if not rows:
        raise ValueError(
            f"{root / part} must hold '<class>/<name>.png'. Received: no such "
            "file"
        )
    return rows


def _media(
    preset: str | Mapping[str, Medium], columns: Mapping[str, Source]
) -> dict[str, Medium]:
    """Return the media; columns of pictures are where they really are."""
    if isinstance(preset, str):
        channels = 3 if preset == "qmf" else 1
        fit = "stretch" if preset == "qmf" else "crop"
        media: dict[str, Medium] = {
            "image": picture("image", fit),
            "depth": picture("depth", fit, channels=channels),
        }
    else:
        media = own_media(preset)
    for name, medium in media.items():
        # A picture of a class of one's own reads what it wants.
        if type(medium) is Image and medium.column in columns:
            kind, arguments = columns[medium.column]
            options = {**medium.settings(), "transform": medium.transform}
            options["size"] = medium.size
            media[name] = kind("file", *arguments, **options)
    return media
