"""Encoders round pretrained backbones, which are small and random here."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mmrel
from keras_mmrel import encoders
from tests.encoders.backbones import ENCODERS
from tests.encoders.backbones import TOKENS
from tests.encoders.backbones import bert
from tests.encoders.backbones import distilbert
from tests.encoders.backbones import example
from tests.encoders.backbones import hub
from tests.encoders.backbones import moonshine
from tests.encoders.backbones import pair
from tests.encoders.backbones import resnet
from tests.encoders.backbones import vit
from tests.encoders.backbones import whisper
from tests.helpers import EAGER
from tests.helpers import json_round_trip
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy

RNG = np.random.default_rng(0)
METHODS = ("QADMNet", "MICINet", "AIM", "CAL")
COUPLES = (
    ("resnet", "bert"),
    ("vit", "moonshine"),
    ("distilbert", "whisper"),
    ("mobilenet", "bert"),
)
# Every couple of backbones, and every method, twice; all with all are slow.
PAIRS = [
    (method, *COUPLES[(index + step) % 4])
    for step in (0, 1)
    for index, method in enumerate(METHODS)
]
# Every method on every backend, each with another kind of backbone; texts and
# sounds there are `LateFusion`'s.
SINGLES = (
    ("QADMNet", "vit"),
    ("MICINet", "mobilenet"),
    ("AIM", "distilbert"),
    ("CAL", "resnet"),
)
# What makes it smaller there.
SMALLER = {"QADMNet": {"max_depth": 2}}
OTHERS = [
    (method, *couple)
    for method in METHODS
    for couple in COUPLES
    if (method, *couple) not in PAIRS
]
compiles_long = pytest.mark.slow_on("jax", "tensorflow")


def convolution():
    """A backbone that is quickly built: two stages of convolutions."""
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(5, 3),
        ]
    )


def words(**options):
    """A backbone of texts that is quickly built."""
    names = ("token_ids", "padding_mask")
    inputs = {n: keras.Input((5,), dtype="int32", name=n) for n in names}
    x = layers.Embedding(9, 4, **options)(inputs["token_ids"])
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(4)(x)))


def moved(encoder, x):
    """Names of the layers whose trainable weights a step changes."""
    model = keras.Sequential([encoder, layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=EAGER)
    model.build(encoder.input_shape)
    before = [to_numpy(w) for w in encoder.weights]
    model.fit(x, np.ones((len(x), 1)), epochs=1, verbose=0)
    return {
        w.path
        for w, old in zip(encoder.weights, before, strict=True)
        if (to_numpy(w) != old).any()
    }


def test_image_encoder():
    run_layer_checks(
        encoders.ImageEncoder(convolution(), mean=0.5, std=[0.2, 0.3, 0.4]),
        RNG.uniform(size=(3, 6, 6, 3)).astype("float32"),
        output_shapes=(3, 5),
    )


def test_bytes_are_the_same_pixels_as_floats():
    x = RNG.integers(0, 256, (3, 6, 6, 3)).astype("uint8")
    scaled = (x / 255.0).astype("float32")
    for encoder in (
        encoders.ImageEncoder(convolution(), mean=0.5, std=0.25),
        encoders.ConvEncoder((4,)),
        encoders.VideoEncoder(encoders.ConvEncoder((4,))),
    ):
        video = isinstance(encoder, encoders.VideoEncoder)
        given, floats = (x[:, None], scaled[:, None]) if video else (x, scaled)
        expected = to_numpy(encoder(floats))
        np.testing.assert_allclose(
            to_numpy(encoder(given)), expected, atol=1e-5
        )
        assert np.ptp(expected, axis=0).max() > 1e-3


def test_pixels_are_standardised():
    encoder = encoders.ImageEncoder(
        layers.Identity(), (2, 2, 3), mean=[0.1, 0.2, 0.3], std=0.5
    )
    x = np.ones((1, 2, 2, 3), "float32")
    np.testing.assert_allclose(
        to_numpy(encoder(x)), [[1.8, 1.6, 1.4]], atol=1e-6
    )


def test_fine_tuning_moves_what_it_says():
    x = RNG.uniform(size=(8, 6, 6, 3)).astype("float32")

    def kinds(fine_tune):
        encoder = encoders.ImageEncoder(convolution(), fine_tune=fine_tune)
        assert json_round_trip(encoder).fine_tune == fine_tune
        return sorted({p.split("/")[-2] for p in moved(encoder, x)})

    first, norm, last = "conv2d", "batch_normalization", "conv2d_1"
    keras.utils.clear_session(free_memory=False)
    assert kinds("none") == []
    keras.utils.clear_session(free_memory=False)
    assert kinds(1) == [last]
    keras.utils.clear_session(free_memory=False)
    assert kinds(2) == [norm, last]
    keras.utils.clear_session(free_memory=False)
    assert kinds("all") == [norm, first, last]


@pytest.mark.one_backend
def test_a_backbone_that_was_frozen_learns_again():
    backbone = convolution()
    with pytest.raises(ValueError, match="`fine_tune` must be"):
        encoders.ImageEncoder(backbone, fine_tune="lora")
    assert len(backbone.trainable_weights) == 6
    encoders.ImageEncoder(backbone, fine_tune="none")
    encoder = encoders.ImageEncoder(backbone)
    assert len(encoder.trainable_weights) == 6


@pytest.mark.one_backend
def test_two_encoders_round_one_backbone_are_refused():
    backbone = convolution()
    pair = {name: encoders.ImageEncoder(backbone) for name in "ab"}
    with pytest.raises(ValueError, match="'b'.* must have weights of its own"):
        keras_mmrel.ConcatFusion(pair, 3)
    keras_mmrel.ConcatFusion(dict.fromkeys("ab", pair["a"]), 3)


@pytest.mark.one_backend
def test_numbers_of_tokens_are_not_rounded():
    names = ("token_ids", "padding_mask")
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in names}
    embedding = layers.Embedding(5000, 4)(inputs["token_ids"])
    backbone = keras.Model(inputs, embedding)
    encoder = encoders.TextEncoder(backbone, 3, dtype="mixed_bfloat16")
    ids = np.array([[4099, 4001, 3]])
    x = {"token_ids": ids, "padding_mask": np.ones((1, 3))}
    expected = to_numpy(encoder(x))
    floats = {**x, "token_ids": ids.astype("float32")}
    np.testing.assert_array_equal(to_numpy(encoder(floats)), expected)
    with pytest.raises(ValueError, match="`inputs` must be a dict of .*mask"):
        encoder({"token_ids": ids})


@pytest.mark.slow_on("jax")
def test_video_encoder():
    run_layer_checks(
        encoders.VideoEncoder(encoders.ConvEncoder((4, 5)), pooling="max"),
        RNG.uniform(size=(2, 3, 6, 6, 1)).astype("float32"),
        output_shapes=(2, 5),
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_aim_takes_videos(tmp_path):
    shapes = {"a": (2, 6, 6, 1), "b": (3,)}
    model = keras_mmrel.AIM(shapes, 2, seed=0)
    x = {
        "a": RNG.integers(0, 256, (8, 2, 6, 6, 1)).astype("uint8"),
        "b": RNG.normal(size=(8, 3)).astype("float32"),
    }
    assert len(model.encoders[0].blocks) == 3
    model.compile(run_eagerly=EAGER)
    model.fit(x, np.arange(8) % 2, epochs=2, verbose=0)
    out = model.predict(x, verbose=0)["logits"]
    floats = {**x, "a": (x["a"] / 255).astype("float32")}
    np.testing.assert_allclose(
        model.predict(floats, verbose=0)["logits"], out, atol=1e-5
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0)["logits"], out, atol=1e-5
    )


@pytest.mark.one_backend
def test_a_video_is_the_mean_of_its_frames():
    frames = encoders.ConvEncoder((4, 5))
    x = RNG.uniform(size=(2, 3, 6, 6, 1)).astype("float32")
    each = np.stack([to_numpy(frames(x[:, i])) for i in range(3)])
    np.testing.assert_allclose(
        to_numpy(encoders.VideoEncoder(frames)(x)), each.mean(axis=0), atol=1e-5
    )


@pytest.mark.slow_on("jax")
def test_video_encoder_of_a_backbone():
    encoder = encoders.VideoEncoder(
        convolution(), "max", mean=0.5, std=[0.2, 0.3, 0.4]
    )
    run_layer_checks(
        encoder,
        RNG.uniform(size=(2, 3, 6, 6, 3)).astype("float32"),
        output_shapes=(2, 5),
    )
    config = json_round_trip(encoder).get_config()
    expected = {"mean": 0.5, "std": [0.2, 0.3, 0.4], "image_shape": [6, 6, 3]}
    assert expected.items() <= config.items()


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mean": 0.4, "std": 0.3, "fine_tune": "none"},
        {"fine_tune": 1, "image_pooling": "first"},
        {"image_shape": (6, 6, 3), "lora_rank": 2},
    ],
)
def test_a_backbone_of_a_video_is_an_image_encoder_of_each_frame(options):
    video = encoders.VideoEncoder(convolution(), **options)
    inner = dict(options)
    if "image_pooling" in inner:
        inner["pooling"] = inner.pop("image_pooling")
    image = encoders.ImageEncoder(convolution(), **inner)
    x = RNG.integers(0, 256, (2, 3, 6, 6, 3)).astype("uint8")
    feature = to_numpy(video(x))
    for weight, value in zip(
        image.weights, video.image_encoder.weights, strict=True
    ):
        weight.assign(value)
    each = np.stack([to_numpy(image(x[:, i])) for i in range(3)])
    np.testing.assert_allclose(feature, each.mean(axis=0), atol=1e-5)
    learn = [w.shape for w in video.trainable_weights]
    assert learn == [w.shape for w in image.trainable_weights]
    # An `ImageEncoder` of one's own does the same.
    whole = encoders.VideoEncoder(video.image_encoder)
    np.testing.assert_allclose(to_numpy(whole(x)), feature, atol=1e-6)
    assert whole.image_encoder is video.image_encoder
    again = json_round_trip(video)
    assert again.get_config().keys() == video.get_config().keys()
    assert again.image_encoder.fine_tune == image.fine_tune
    assert again.image_encoder.lora_rank == image.lora_rank
    assert again.image_encoder.pooling == image.pooling


@pytest.mark.one_backend
def test_what_makes_one_feature_of_a_frame_is_used_itself():
    for make in (
        lambda: encoders.ConvEncoder((4,)),
        lambda: keras.Sequential(
            [convolution(), layers.GlobalAveragePooling2D()]
        ),
        lambda: encoders.ImageEncoder(convolution()),
    ):
        encoder = make()
        video = encoders.VideoEncoder(encoder)
        assert video.image_encoder is encoder
        assert json_round_trip(video).get_config()["fine_tune"] == "all"
    frozen = encoders.VideoEncoder(
        encoders.ConvEncoder((4,)), image_shape=(6, 6, 3), fine_tune="none"
    )
    assert frozen(np.ones((1, 2, 6, 6, 3))).shape == (1, 4)
    assert frozen.weights and not frozen.trainable_weights


@pytest.mark.one_backend
def test_a_video_gets_an_encoder_by_its_shape():
    model = keras_mmrel.LateFusion({"a": (2, 6, 6, 1), "b": (3,)}, 2)
    assert isinstance(model.encoders[0], encoders.VideoEncoder)
    x = {"a": np.ones((4, 2, 6, 6, 1), "uint8"), "b": np.ones((4, 3))}
    assert to_numpy(model(x)["logits"]).shape == (4, 2)


def test_log_mel_spectrogram():
    run = encoders.LogMelSpectrogram(2000, mel_bins=8)
    x = RNG.normal(size=(3, 600)).astype("float32")
    assert to_numpy(run(x)).shape == (3, 31, 8)
    assert run.compute_output_shape((None, 600)) == (None, 31, 8)
    assert json_round_trip(run).get_config() == run.get_config()
    compiled = keras.Sequential([keras.Input((600,)), run])
    np.testing.assert_allclose(
        compiled.predict(x, verbose=0), to_numpy(run(x)), atol=1e-4
    )
    low = encoders.LogMelSpectrogram(2000, mel_bins=8, dtype="mixed_float16")
    assert np.isfinite(to_numpy(ops.cast(low(x), "float32"))).all()


@pytest.mark.one_backend
def test_a_tone_is_in_its_band_however_loud():
    spectrogram = encoders.LogMelSpectrogram(8000, mel_bins=20)
    t = np.arange(4000) / 8000
    tones = np.stack([np.sin(2 * np.pi * f * t) for f in (300, 1000, 3000)])
    tones = tones.astype("float32")
    loud = to_numpy(spectrogram(tones))
    # Bands lie evenly between 20 Hz and 4 kHz on the mel scale.
    mel = 2595 * np.log10(1 + np.array([300, 1000, 3000, 20, 4000]) / 700)
    expected = (mel[:3] - mel[3]) / (mel[4] - mel[3]) * 21 - 1
    assert np.abs(loud.mean(axis=1).argmax(axis=1) - expected).max() < 1
    np.testing.assert_allclose(
        to_numpy(spectrogram(0.3 * tones)), loud, atol=0.05
    )
    assert not to_numpy(spectrogram(np.zeros((1, 4000), "float32"))).any()


@pytest.mark.one_backend
def test_zeros_that_pad_a_clip_are_no_more_than_silence():
    plain = encoders.LogMelSpectrogram(8000, mel_bins=20, standardize=False)
    sound = RNG.normal(size=(1, 2000)).astype("float32")
    padded = np.concatenate([sound, np.zeros((1, 4000), "float32")], axis=1)
    x = to_numpy(plain(padded))
    decibels = 10 / np.log(10) * (x.max() - x)
    assert abs(decibels.max() - 60) < 1e-3
    # The clip itself is as it was.
    np.testing.assert_allclose(
        x[:, :20], to_numpy(plain(sound))[:, :20], atol=1e-3
    )


@pytest.mark.slow_on("tensorflow")
def test_audio_encoder_with_a_front_end():
    encoder = encoders.AudioEncoder(
        encoders.ConvEncoder((4, 5)),
        (600,),
        encoders.LogMelSpectrogram(2000, mel_bins=8),
    )
    run_layer_checks(
        encoder,
        RNG.normal(size=(3, 600)).astype("float32"),
        output_shapes=(3, 5),
    )


@pytest.mark.one_backend
def test_a_spectrogram_is_the_one_channel_of_an_image_backbone():
    backbone = keras.Sequential([keras.Input((9, 8, 1)), layers.Conv2D(4, 3)])
    encoder = encoders.AudioEncoder(backbone, (9, 8))
    assert encoder.input_shape == (None, 9, 8)
    assert to_numpy(encoder(np.ones((2, 9, 8)))).shape == (2, 4)


@pytest.mark.parametrize(
    "make, expected",
    [
        (
            lambda: encoders.ImageEncoder(layers.Conv2D(4, 3)),
            "`image_shape` must be given where the backbone leaves sizes open",
        ),
        (
            lambda: encoders.VideoEncoder(layers.Conv2D(4, 3), fine_tune=1),
            "`image_shape` must be given where the backbone leaves sizes open",
        ),
        (
            lambda: encoders.VideoEncoder(
                encoders.ImageEncoder(convolution()), fine_tune="none"
            ),
            "`fine_tune` must be left to the encoder that is given",
        ),
        (
            lambda: encoders.VideoEncoder(layers.Conv2D(4, 3))(
                np.ones((1, 2, 6, 6, 3))
            ),
            "`backbone` must return one feature a frame, .*`image_shape`",
        ),
        (
            lambda: encoders.VideoEncoder(words()),
            "`backbone` must take one tensor; .*TextEncoder`",
        ),
        (
            lambda: encoders.ImageEncoder(convolution(), (7, 6, 3)),
            "`image_shape` must fit what the backbone takes",
        ),
        (
            lambda: encoders.ImageEncoder(convolution(), fine_tune="lora"),
            "`fine_tune` must be 'all', 'none' or a number",
        ),
        (
            lambda: encoders.ImageEncoder(convolution(), output_key="a"),
            "`output_key` must be None",
        ),
        (
            lambda: encoders.TextEncoder(convolution(), 5),
            "`backbone` must take a dict with 'token_ids'",
        ),
        (
            lambda: encoders.ImageEncoder(words()),
            "`backbone` must take one tensor; .*TextEncoder`",
        ),
        (
            lambda: encoders.AudioEncoder(words(), (5,)),
            "`backbone` must take one tensor, or a dict",
        ),
        (
            lambda: encoders.ImageEncoder(convolution(), mean=(0.5, 0.5)),
            "`mean` must be one number, or one a channel, 3",
        ),
        (
            lambda: encoders.LogMelSpectrogram(100, frame_seconds=0.001),
            "`frame_seconds` and `hop_seconds` must be two samples",
        ),
    ],
)
def test_bad_arguments_are_named_in_one_sentence(make, expected):
    with pytest.raises(ValueError, match=f"^{expected}.* Received: ") as error:
        make()
    assert "\n" not in str(error.value)


# -- Backbones of keras-hub --------------------------------------------------


@compiles_long
@pytest.mark.parametrize("name", ENCODERS)
def test_a_backbone_is_its_blocks(name, tmp_path):
    encoder = ENCODERS[name]()
    x = example(name, 3, RNG)
    feature = to_numpy(encoder(x, training=False))
    assert np.isfinite(feature).all() and np.ptp(feature, axis=0).max() > 1e-3
    blocks = encoders.BlockEncoder(encoder.blocks)
    np.testing.assert_allclose(
        to_numpy(blocks(x, training=False)), feature, atol=1e-5
    )
    # Blocks have the encoder's weights, each in one of them.
    own = {id(weight) for weight in encoder.trainable_weights}
    held = [id(w) for b in encoder.blocks for w in b.trainable_weights]
    assert set(held) == own and len(held) == len(own)
    assert len(encoder.blocks) > 1 or name == "vit"
    # What of an encoder and decoder is not used has no weights here.
    decoder = [w.path for w in encoder.weights if "decoder" in w.path]
    assert not decoder


@pytest.mark.one_backend
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_a_pooled_backbone_is_its_blocks(kind):
    x = RNG.uniform(size=(8, 6, 6, 3)).astype("float32")
    encoder = encoders.PooledEncoder(convolution())
    if kind == "texts":
        mask = np.arange(5) < RNG.integers(1, 6, (8, 1))
        x = {"token_ids": RNG.integers(0, 9, (8, 5)), "padding_mask": mask}
        encoder = encoders.PooledEncoder(words())
    blocks = encoders.BlockEncoder(encoder.blocks)
    assert len(encoder.blocks) == 2
    np.testing.assert_allclose(
        to_numpy(blocks(x)), to_numpy(encoder(x)), atol=1e-5
    )
    model = keras_mmrel.AIM({"a": encoder, "b": (3,)}, 2)
    model.compile(run_eagerly=True)
    both = {"a": x, "b": RNG.normal(size=(8, 3))}
    model.fit(both, np.arange(8) % 2, verbose=0)
    # Padding that blocks do not know would be averaged.
    for other in (
        encoders.PooledEncoder(words(mask_zero=True), mask_key=None),
        encoders.PooledEncoder(layers.Identity()),
    ):
        assert other.blocks == []
        with pytest.raises(
            ValueError, match="`modalities.'a'.` must be .*Text"
        ):
            keras_mmrel.AIM({"a": other, "b": (3,)}, 2)


@compiles_long
@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_padding_changes_no_feature_of_a_text(name):
    backbone = {"bert": bert, "distilbert": distilbert}[name]()
    tokens = RNG.integers(1, 40, (3, 5)).astype("int32")

    def feature(length):
        encoder = encoders.TextEncoder(backbone, length)
        ids = np.zeros((3, length), "int32")
        ids[:, :5] = tokens
        return to_numpy(encoder({"token_ids": ids, "padding_mask": ids > 0}))

    np.testing.assert_allclose(feature(20), feature(5), atol=1e-5)


@compiles_long
def test_lora_moves_factors_alone_and_is_saved(tmp_path):
    x = {"text": example("distilbert", 12, RNG)}
    encoder = encoders.TextEncoder(distilbert(), TOKENS, fine_tune="lora")
    model = keras_mmrel.ConcatFusion({"text": encoder}, 3, seed=0)
    model.compile(keras.optimizers.SGD(0.5), run_eagerly=EAGER)
    paths = [w.path for w in encoder.backbone.trainable_weights]
    assert sum("lora" in path for path in paths) == 8
    before = {w.path: to_numpy(w) for w in encoder.backbone.weights}
    model.fit(x, np.arange(12) % 3, verbose=0)
    moved = {
        w.path
        for w in encoder.backbone.weights
        if (to_numpy(w) != before[w.path]).any()
    }
    assert moved and moved <= set(paths)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0)["logits"],
        model.predict(x, verbose=0)["logits"],
        atol=1e-5,
    )
    assert len(loaded.trainable_weights) == len(model.trainable_weights)


@compiles_long
def test_a_stack_inside_a_layer_counts_as_its_layers():
    encoder = encoders.ImageEncoder(vit(), fine_tune=2, pooling="first")
    learn = {w.path for w in encoder.trainable_weights}
    assert learn and not any("patching" in path for path in learn)
    # The last of its two blocks, and the normalisation after it.
    whole = encoders.ImageEncoder(vit()).backbone.layers[-1]
    assert 0 < len(learn) < len(whole.weights)
    x = example("vit", 2, RNG)
    tokens = to_numpy(encoder.backbone(encoder.front(x)))
    np.testing.assert_allclose(to_numpy(encoder(x)), tokens[:, 0], atol=1e-5)


@pytest.mark.one_backend
def test_a_preset_brings_its_weights_and_its_scale(tmp_path):
    backbone = resnet()
    backbone.save_to_preset(tmp_path)
    import keras_hub

    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(16, 16), scale=[0.01, 0.02, 0.03], offset=[-1.0, 0.0, 1.0]
    )
    converter.save_to_preset(tmp_path)
    encoder = encoders.ImageEncoder(str(tmp_path), (16, 16, 3))
    x = RNG.integers(0, 256, (2, 16, 16, 3)).astype("uint8")
    expected = to_numpy(backbone(to_numpy(converter(x)))).mean(axis=(1, 2))
    np.testing.assert_allclose(to_numpy(encoder(x)), expected, atol=1e-4)


@pytest.mark.one_backend
def test_a_preset_that_cannot_be_had_is_named_in_one_sentence(tmp_path):
    hub()
    # A folder without a preset, and a name that there is none of.
    for preset in (str(tmp_path), "no_such_preset"):
        with pytest.raises(ValueError, match="^`backbone` must be") as error:
            encoders.TextEncoder(preset, 8)
        assert preset in str(error.value) and "\n" not in str(error.value)


@pytest.mark.one_backend
@pytest.mark.parametrize("whole", [False, True])
def test_texts_of_a_table_come_from_the_tokenizer_of_a_backbone(whole):
    import keras_hub
    import pandas as pd

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue"]
    made = keras_hub.tokenizers.BertTokenizer(vocabulary=words)
    if whole:
        made = keras_hub.models.BertTextClassifierPreprocessor(
            made, sequence_length=TOKENS
        )
    table = pd.DataFrame(
        {
            "text": ["red blue", "blue", None, "red red red"] * 3,
            "shade": [0.0, 1.0, 0.5, 0.2] * 3,
            "y": [0, 1, 0, 1] * 3,
        }
    )
    data = keras_mmrel.media.MediaTable(
        table,
        {
            "text": keras_mmrel.media.Text(
                "text", tokenizer=made, length=TOKENS
            ),
            "shade": keras_mmrel.media.Tabular(["shade"]),
        },
        label="y",
        batch_size=6,
    )
    x, _ = data.arrays()
    start = [2] * whole
    ids = x["text"]["token_ids"][0]
    assert ids[: 2 + whole].tolist() == [*start, 5, 6]
    counts = x["text"]["padding_mask"].sum(axis=1)[:4]
    assert counts.tolist() == [n and n + 2 * whole for n in (2, 1, 0, 3)]
    assert x["modality_mask"][:4, 0].tolist() == [1, 1, 0, 1]
    encoder = encoders.TextEncoder(bert(), TOKENS, segment_ids=whole)
    model = keras_mmrel.LateFusion({"text": encoder, "shade": (1,)}, 2)
    model.compile()
    model.fit(data, verbose=0)
    assert np.isfinite(model.predict(data, verbose=0)["logits"]).all()


def long_texts():
    ids = np.ones((1, 30), "int32")
    return {"token_ids": ids, "padding_mask": ids}


@pytest.mark.parametrize(
    "make, expected",
    [
        (
            lambda: encoders.TextEncoder(distilbert(), 30),
            "`length` must have at most 24 steps, .* 30 steps",
        ),
        (
            lambda: encoders.PooledEncoder(distilbert())(long_texts()),
            r"`inputs\['token_ids'\]` must have at most 24 steps",
        ),
        (
            lambda: encoders.AudioEncoder(whisper(), (17, 8)),
            "`audio_shape` must have at most 16 steps, .* 17 steps",
        ),
        (
            lambda: encoders.AudioEncoder(
                whisper(),
                (4000,),
                encoders.LogMelSpectrogram(8000, mel_bins=8),
            )(np.ones((1, 4000))),
            "`inputs` must have at most 16 steps, .* 51 steps",
        ),
        (
            lambda: encoders.LogMelSpectrogram(8000)(np.ones((1, 150))),
            r"`inputs` must be waveforms .* 200 samples.*shape=\(1, 150\)",
        ),
        (
            lambda: encoders.LogMelSpectrogram(8000).compute_output_shape(
                (None, 199)
            ),
            "`inputs` must be waveforms .* 200 samples",
        ),
        (
            lambda: encoders.PooledEncoder(Product())(np.ones((2, 4))),
            "`inputs` must be what the backbone 'product' takes",
        ),
    ],
)
def test_what_shapes_tell_is_told_before_a_step(make, expected):
    with pytest.raises(ValueError, match=f"^{expected}") as error:
        make()
    assert "\n" not in str(error.value)


class Product(layers.Layer):
    """A backbone that leaves it to the backend to refuse inputs."""

    def call(self, inputs):
        return ops.matmul(inputs, ops.ones((3, 2)))


# -- In every method ---------------------------------------------------------


def check_training(model, first, second, tmp_path, quick=False):
    """Fit, predict, save and load; a missing modality plays no part.

    Where it is `quick` there are two steps, and nothing is compiled but on
    JAX.
    """
    eager = quick and EAGER
    rng = np.random.default_rng(1)
    x = {name: example(name, 12, rng) for name in (first, second)}
    y = np.arange(12) % 3
    mask = np.ones((12, 2), "float32")
    mask[::4, 0] = 0
    x["modality_mask"] = mask
    model.compile(keras.optimizers.SGD(1e-2), run_eagerly=eager)
    history = model.fit(
        x, y, batch_size=6, epochs=1 if quick else 2, verbose=0
    ).history
    assert np.isfinite(history["loss"]).all()
    out = model.predict(x, verbose=0)
    assert np.isfinite(out["logits"]).all()
    other = {**x, first: example(first, 12, rng)}
    changed = model.predict(other, verbose=0)
    np.testing.assert_allclose(
        changed["logits"][::4], out["logits"][::4], atol=1e-5
    )
    # QADMNet may run no block of a modality, which only its confidence shows.
    seen = [k for k in ("logits", "confidence") if k in out]
    assert max(np.abs(changed[k] - out[k]).max() for k in seen) > 1e-4
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = eager
    again = loaded.predict(x, verbose=0)
    for key, value in out.items():
        np.testing.assert_allclose(again[key], value, atol=1e-4)


@pytest.mark.parametrize("method, backbone", SINGLES)
def test_each_method_trains_on_a_backbone_everywhere(
    method, backbone, tmp_path
):
    encoder = ENCODERS[backbone]()
    modalities = {backbone: encoder, "numbers": (3,)}
    options = SMALLER.get(method, {})
    model = getattr(keras_mmrel, method)(modalities, 3, seed=0, **options)
    check_training(model, backbone, "numbers", tmp_path, quick=True)


@compiles_long
@pytest.mark.parametrize("method, first, second", PAIRS)
def test_methods_train_on_backbones(method, first, second, tmp_path):
    check_training(pair(method, first, second), first, second, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("method, first, second", OTHERS)
def test_all_methods_train_on_all_backbones(method, first, second, tmp_path):
    check_training(pair(method, first, second), first, second, tmp_path)


@compiles_long
@pytest.mark.parametrize("method", ["QADMNet", "CAL"])
def test_methods_train_on_frozen_backbones(method, tmp_path):
    model = pair(method, "mobilenet", "distilbert", fine_tune="none")
    check_training(model, "mobilenet", "distilbert", tmp_path)


def test_one_method_trains_on_a_backbone_everywhere(tmp_path):
    model = pair("LateFusion", "distilbert", "whisper")
    check_training(model, "distilbert", "whisper", tmp_path)


@pytest.mark.one_backend
def test_zeros_that_fill_a_clip_are_masked():
    encoder = encoders.AudioEncoder(moonshine(), (12000,))
    rng = np.random.default_rng(0)
    clips = np.zeros((3, 12000), "float32")
    clips[0, 100:4000] = rng.normal(size=3900)
    clips[1] = rng.normal(size=12000)
    mask = to_numpy(encoder.front(clips)["encoder_padding_mask"])
    # Of silence every moment counts, and zeros within a clip do.
    assert mask.sum(axis=1).tolist() == [4000, 12000, 12000]
    assert mask[0, :4000].all()
    states = to_numpy(encoder.backbone(encoder.front(clips)))
    features = to_numpy(encoder(clips))
    positions = states.shape[1]
    heard = -(-4000 * positions // 12000)
    np.testing.assert_allclose(
        features[0], states[0, :heard].mean(axis=0), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        features[1:], states[1:].mean(axis=1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.one_backend
def test_a_preset_may_encode_the_frames_of_a_video(tmp_path):
    vit().save_to_preset(tmp_path)
    encoder = encoders.VideoEncoder(
        str(tmp_path), mean=0.5, std=0.5, fine_tune="none"
    )
    x = RNG.integers(0, 256, (2, 3, 16, 16, 3)).astype("uint8")
    assert to_numpy(encoder(x)).shape == (2, 8)
    assert not encoder.trainable_weights
    again = json_round_trip(encoder)
    assert again.get_config()["mean"] == 0.5 and not again.trainable_weights


@pytest.mark.one_backend
def test_a_preset_of_a_video_that_cannot_be_had_is_named_in_one_sentence():
    hub()
    pattern = "^`backbone` must be .*preset of keras-hub.* Received: .*"
    with pytest.raises(ValueError, match=pattern + "no_such_one") as error:
        encoders.VideoEncoder("no_such_one", fine_tune="none")
    assert "\n" not in str(error.value)


@compiles_long
@pytest.mark.parametrize(
    "method, fine_tune", [("LateFusion", "lora"), ("AIM", "none")]
)
def test_methods_train_on_a_backbone_of_frames(method, fine_tune, tmp_path):
    encoder = encoders.VideoEncoder(vit(), mean=0.5, fine_tune=fine_tune)
    shapes = {"clip": encoder, "numbers": (3,)}
    model = getattr(keras_mmrel, method)(shapes, 3, seed=0)
    check_training(model, "clip", "numbers", tmp_path, quick=True)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inner = loaded.encoders[0]
    if method == "LateFusion":
        assert inner.image_encoder.fine_tune == "lora"
        paths = [w.path for w in inner.trainable_weights]
        # Factors, and the biases beside them.
        assert any("lora" in path for path in paths)
        assert all("/mha/" in path for path in paths)
