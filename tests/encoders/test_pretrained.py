"""Weights out of packages: the originals' numbers, and broken files.

What the originals say was recorded once, with EfficientNet-Lite0 run by
`efficientnet_lite_pytorch` 0.1.0, the ONNX files by onnxruntime 1.32.0 and the
texts by `wordllama` 0.4.0.post1.
"""

import importlib.util
import io
import json
import pickle

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel import encoders
from keras_mmrel import media
from keras_mmrel.encoders import pretrained
from keras_mmrel.encoders.pretrained import _efficientnet_lite0
from keras_mmrel.encoders.pretrained import _openwakeword
from keras_mmrel.encoders.pretrained import _torch_file
from keras_mmrel.encoders.pretrained import _wordllama
from keras_mmrel.encoders.pretrained._onnx_file import read_onnx_weights
from keras_mmrel.encoders.pretrained._safetensors import read_safetensors
from keras_mmrel.encoders.pretrained._torch_file import read_torch_file
from tests.helpers import json_round_trip
from tests.helpers import to_numpy

RNG = np.random.default_rng(0)
TEXTS = ["a red apple", "The cat sat on the mat, twice!", "naïve 🙂 日本語"]
MODULES = {
    "efficientnet_lite0": _efficientnet_lite0,
    "openwakeword": _openwakeword,
    "wordllama": _wordllama,
}
compiles_long = pytest.mark.slow_on("jax", "tensorflow")


def needs(name):
    """Skip where the package is not installed."""
    package = MODULES[name].PACKAGE
    if importlib.util.find_spec(package.module) is None:
        pytest.skip(f"Needs {package.name}: `{package.command}`")


def image():
    """Bytes of one picture, (64, 96, 3)."""
    i, j, c = np.meshgrid(*(np.arange(n) for n in (64, 96, 3)), indexing="ij")
    return ((7 * i + 5 * j + 60 * c + i * j // 16) % 256).astype("uint8")


def sound():
    """A rising tone and noise as numbers of 16 bits, 1.25 seconds."""
    n = np.arange(20000)
    noise = n * 7919 % 1009 / 1009 - 0.5
    tone = np.sin(2 * np.pi * 440 * n / 16000 * (1 + n / 16000))
    x = np.round((0.4 * tone + 0.05 * noise) * 32767) / 32768
    return x.astype("float32")


def summary(x):
    """Four numbers that all of `x` takes part in."""
    x = np.asarray(x, "float64").ravel()
    waves = np.cos(np.outer(np.arange(1, 5), np.arange(x.size)))
    return waves @ x / np.sqrt(x.size)


# -- The originals' numbers --------------------------------------------------


@pytest.mark.slow_on("jax")
def test_efficientnet_lite0_is_the_original():
    needs("efficientnet_lite0")
    encoder = encoders.ImageEncoder(
        pretrained.efficientnet_lite0(), (64, 96, 3), fine_tune="none"
    )
    np.testing.assert_allclose(
        summary(to_numpy(encoder(image()[None]))),
        [1.19339446, 0.21529909, 1.35238933, 0.37719643],
        atol=1e-4,
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_openwakeword_is_the_original():
    needs("openwakeword")
    network = pretrained.openwakeword()
    spectrogram = to_numpy(network.get_layer("spectrogram")(sound()[None]))
    assert spectrogram.shape == (1, 122, 32)
    np.testing.assert_allclose(
        summary(spectrogram),
        [1.14874837, 0.00235252, -0.05458341, 0.28173508],
        atol=1e-4,
    )
    embedding = to_numpy(network(sound()[None]))
    assert embedding.shape == (1, 6, 96)
    # Numbers up to 49.
    np.testing.assert_allclose(
        summary(embedding),
        [-1.20770149, -2.01206465, -1.93957095, 9.02070428],
        atol=1e-4,
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_wordllama_is_the_original():
    needs("wordllama")
    pytest.importorskip("tokenizers", reason="Needs `pip install tokenizers`")
    text = media.Text("a", tokenizer=pretrained.WordLlamaTokenizer(), length=16)
    tokens = text.tokenize(TEXTS)
    assert tokens["token_ids"][0, :4].tolist() == [263, 2654, 26163, 0]
    assert tokens["padding_mask"].sum(axis=1).tolist() == [3, 9, 12]
    encoder = encoders.TextEncoder(pretrained.wordllama(), 16)
    means = to_numpy(encoder(tokens))
    np.testing.assert_allclose(
        summary(means),
        [-0.17485998, -0.27962337, 0.12870858, 0.16292281],
        atol=1e-4,
    )
    half = encoders.TextEncoder(pretrained.wordllama(128), 16)
    np.testing.assert_allclose(
        to_numpy(half(tokens)), means[:, :128], atol=1e-5
    )


@pytest.mark.one_backend
def test_a_tokenizer_is_saved_with_its_medium():
    needs("wordllama")
    pytest.importorskip("tokenizers", reason="Needs `pip install tokenizers`")
    tokenizer = pretrained.WordLlamaTokenizer()
    assert json_round_trip(tokenizer)(TEXTS[1]) == tokenizer(TEXTS[1])
    # Long texts are whole, and nothing is a text, too.
    assert len(tokenizer("apple " * 1000)) >= 1000
    assert tokenizer("") == []


# -- The networks, with random weights ---------------------------------------


def image_model(fine_tune="none"):
    encoder = encoders.ImageEncoder(
        _efficientnet_lite0.build_network(), (32, 32, 3), fine_tune=fine_tune
    )
    x = RNG.integers(0, 256, (6, 32, 32, 3)).astype("uint8")
    return encoder, x


def sound_model(fine_tune="none"):
    encoder = encoders.AudioEncoder(
        _openwakeword.build_network(), (13800,), fine_tune=fine_tune
    )
    return encoder, RNG.normal(size=(6, 13800)).astype("float32")


def text_model(fine_tune="none"):
    encoder = encoders.TextEncoder(
        _wordllama.build_network(64), 8, fine_tune=fine_tune
    )
    tokens = RNG.integers(3, 32000, (6, 8)).astype("int32")
    mask = np.arange(8) < RNG.integers(1, 9, (6, 1))
    return encoder, {"token_ids": tokens, "padding_mask": mask}


NETWORKS = [
    pytest.param(image_model, marks=compiles_long),
    pytest.param(sound_model, marks=compiles_long),
    text_model,
]


@pytest.mark.parametrize("make", NETWORKS)
def test_a_saved_model_needs_no_package(make, tmp_path, monkeypatch):
    encoder, x = make()
    model = keras_mmrel.LateFusion({"a": encoder}, 2, seed=0)
    model.compile("sgd")
    before = [to_numpy(w) for w in encoder.weights]
    model.fit({"a": x}, np.arange(6) % 2, verbose=0)
    for weight, old in zip(encoder.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), old)
    model.save(tmp_path / "model.keras")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = model.predict({"a": x}, verbose=0)["logits"]
    assert np.ptp(expected, axis=0).max() > 0
    np.testing.assert_allclose(
        loaded.predict({"a": x}, verbose=0)["logits"], expected, atol=1e-5
    )


@compiles_long
@pytest.mark.parametrize("make, count", [(image_model, 9), (sound_model, 6)])
def test_stages_are_what_is_tuned_and_where_it_is_cut(make, count):
    encoder, x = make(fine_tune=2)
    *_, stage, last = [s for s in encoder.backbone.layers if s.weights]
    expected = [*stage.trainable_weights, *last.trainable_weights]
    assert expected
    assert [w.path for w in encoder.trainable_weights] == [
        w.path for w in expected
    ]
    assert len(encoder.blocks) == count
    np.testing.assert_allclose(
        to_numpy(encoders.BlockEncoder(encoder.blocks)(x, training=False)),
        to_numpy(encoder(x, training=False)),
        atol=1e-4,
    )


def test_one_block_of_a_text_hands_on_its_mask():
    encoder, x = text_model()
    blocks = encoders.BlockEncoder(encoder.blocks)
    assert not x["padding_mask"].all()
    np.testing.assert_allclose(
        to_numpy(blocks(x)), to_numpy(encoder(x)), atol=1e-6
    )


@pytest.mark.one_backend
def test_a_spectrogram_never_learns():
    encoder, _ = sound_model(fine_tune="all")
    front = encoder.backbone.get_layer("spectrogram")
    assert len(front.weights) == 2 and not front.trainable_weights
    learn = len(encoder.backbone.trainable_weights)
    assert learn == len(encoder.backbone.weights) - 2


@pytest.mark.one_backend
def test_sound_is_seen_window_by_window():
    network = _openwakeword.build_network()
    x = RNG.normal(size=(2, 76 * 160 + 352 + 2 * 8 * 160)).astype("float32")
    spectrogram = network.get_layer("spectrogram")
    whole = to_numpy(network(x))
    assert whole.shape == (2, 3, 96) and spectrogram(x).shape == (2, 92, 32)
    # No band is 80 dB below another one in noise, so a window is by itself.
    for window in range(3):
        start = window * 8 * 160
        part = x[:, start : start + 76 * 160 + 352]
        np.testing.assert_allclose(
            to_numpy(network(part))[:, 0], whole[:, window], atol=1e-4
        )
    # One sample less than a window.
    for short in (network, encoders.AudioEncoder(network, (12511,))):
        with pytest.raises(ValueError, match="^`inputs` must have 12512 samp"):
            short(x[:, :12511])


@pytest.mark.one_backend
def test_silence_is_the_least_that_a_spectrogram_holds():
    layer = _openwakeword.SpeechSpectrogram()
    silent = to_numpy(layer(np.zeros((2, 13800), "float32")))
    np.testing.assert_allclose(silent, -8.0, atol=1e-5)
    # A clip's peak is its own, whatever is beside it.
    x = RNG.normal(size=(2, 13800)).astype("float32") * [[1.0], [1e-6]]
    both = to_numpy(layer(x))
    np.testing.assert_allclose(to_numpy(layer(x[1:])), both[1:], atol=1e-2)
    assert both[0].min() > both[1].max()


# -- Packages that are not there ---------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize("name", MODULES)
def test_a_missing_package_is_named_with_what_installs_it(
    name, monkeypatch, tmp_path
):
    load = getattr(pretrained, name)
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ImportError, match=rf"^`{name}` needs .*`pip ins"):
            load()
    with pytest.raises(ValueError, match="^`folder` must hold .* Received: "):
        load(folder=tmp_path)
    with pytest.raises(ValueError, match="^`folder` must be"):
        load(folder=3)


@pytest.mark.one_backend
def test_a_missing_tokenizer_is_named(tmp_path):
    pytest.importorskip("tokenizers", reason="Needs `pip install tokenizers`")
    tokenizer = pretrained.WordLlamaTokenizer(tmp_path)
    with pytest.raises(ValueError, match="^`folder` must hold wordllama/"):
        tokenizer("a")


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "name, file",
    [
        ("efficientnet_lite0", _efficientnet_lite0.FILE),
        ("openwakeword", next(iter(_openwakeword.FILES))),
    ],
)
def test_another_file_is_refused(name, file, tmp_path):
    path = tmp_path / MODULES[name].PACKAGE.module / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another one")
    with pytest.raises(ValueError, match=f"^`{name}` must find the file"):
        getattr(pretrained, name)(folder=tmp_path)


@pytest.mark.one_backend
def test_a_folder_may_hold_the_package(tmp_path):
    path = tmp_path / "wordllama" / _wordllama.FILE
    path.parent.mkdir(parents=True)
    weights = RNG.integers(0, 9, (32000, 256)).astype("float16")
    path.write_bytes(safetensors(**{_wordllama.TENSOR: weights}))
    network = pretrained.wordllama(64, folder=tmp_path)
    (table,) = network.get_weights()
    np.testing.assert_array_equal(table, weights[:, :64].astype("float32"))
    path.write_bytes(safetensors(other=weights[:2]))
    with pytest.raises(ValueError, match="^`folder` must hold 'embedding"):
        pretrained.wordllama(folder=tmp_path)


# -- Files of PyTorch --------------------------------------------------------


def torch_file(tensors):
    import torch

    made = io.BytesIO()
    torch.save(tensors, made, _use_new_zipfile_serialization=False)
    return made.getvalue()


@pytest.mark.one_backend
def test_tensors_of_a_torch_file_are_read_without_torch():
    import torch

    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "whole": base,
        "turned": base.T,
        "part": base[1:3, ::2],
        "count": torch.tensor(7),
        "other": torch.randn(3, 2, 2),
    }
    read = read_torch_file(torch_file(tensors))
    assert list(read) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor.numpy())
        assert read[name].dtype == tensor.numpy().dtype


class _Runs:
    """Runs code where it is unpickled by `pickle.load`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (exec, (f"open({str(self.path)!r}, 'w').close()",))


def pickles(tensors, protocol=2):
    """A file whose fourth pickle is of something else than tensors."""
    parts = [_torch_file.MAGIC, 1001, {"little_endian": True}]
    made = b"".join(pickle.dumps(part, 2) for part in parts)
    return made + pickle.dumps(tensors, protocol) + pickle.dumps([], 2)


def hand_written(code):
    return pickles({}).replace(pickle.dumps({}, 2), code)


@pytest.mark.one_backend
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("place", range(5))
def test_a_hostile_pickle_runs_nothing(tmp_path, protocol, place):
    path = tmp_path / "ran"
    hostile = _Runs(path)
    pickle.loads(pickle.dumps(hostile, protocol))
    assert path.exists()
    path.unlink()
    parts = [_torch_file.MAGIC, 1001, {"little_endian": True}, {}, []]
    parts[place] = hostile if place < 3 else {"a": hostile}
    content = b"".join(pickle.dumps(part, protocol) for part in parts)
    with pytest.raises(ValueError, match="^`content` must be a dict of"):
        read_torch_file(content)
    assert not path.exists()


MAKER = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "code",
    [
        # A name of a module that is allowed, and one reached through it.
        b"\x80\x02cbuiltins\neval\n(U\x011tR.",
        b"\x80\x02ccollections\nnamedtuple\n.",
        b"\x80\x02ccollections\nOrderedDict.__init__\n.",
        # Attributes set on what stands for PyTorch's function, and on a class.
        b"\x80\x02" + MAKER + b"}(X\x01\x00\x00\x00aK\x01ub.",
        b"\x80\x02" + MAKER + b"N}(X\x01\x00\x00\x00aK\x01u\x86b.",
        b"\x80\x02ccollections\nOrderedDict\n"
        b"N}(X\x08\x00\x00\x00__init__K\x01u\x86b.",
        # Objects made in other ways: NEWOBJ, INST, OBJ, EXT1.
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        b"\x80\x02(ccollections\nOrderedDict\no.",
        b"\x80\x02(icollections\nOrderedDict\n.",
        b"\x80\x02\x82\x01.",
        # A string that claims to be 2 GB long, and an empty stack.
        b"\x80\x02X\xff\xff\xff\x7fa.",
        b"\x80\x02R.",
        # Tensors of no storage.
        b"\x80\x02" + MAKER + b"(K\x01K\x00)))NtR.",
        # No end.
        b"\x80\x02}",
    ],
)
def test_a_pickle_of_anything_else_is_refused(code):
    for content in (hand_written(code), code):
        with pytest.raises(ValueError, match="^`content` must be a dict of"):
            read_torch_file(content)
    assert read_torch_file(pickles({})) == {}


@pytest.mark.one_backend
def test_a_broken_torch_file_is_refused():
    import torch

    whole = torch_file({"a": torch.arange(6.0), "b": torch.ones(2, 2)})
    for end in range(0, len(whole), 7):
        with pytest.raises(ValueError, match="^`content` must be a dict of"):
            read_torch_file(whole[:end])
    # What it cannot hold: more numbers than there are, by shape or stride.
    for bad in ({"a": torch.ones(1).expand(10**9)}, {"a": [1]}, [1]):
        with pytest.raises(ValueError, match="^`content` must be a dict of"):
            read_torch_file(torch_file(bad))
    for _ in range(300):
        changed = bytearray(whole)
        changed[RNG.integers(len(whole))] = RNG.integers(256)
        try:
            read_torch_file(bytes(changed))
        except ValueError as error:
            assert str(error).startswith("`content` must be a dict")


# -- Other files -------------------------------------------------------------


def safetensors(**arrays):
    header, data = {}, b""
    for name, array in arrays.items():
        start, data = len(data), data + array.tobytes()
        header[name] = {
            "dtype": {"f": "F", "i": "I"}[array.dtype.kind]
            + str(8 * array.dtype.itemsize),
            "shape": array.shape,
            "data_offsets": [start, len(data)],
        }
    text = json.dumps({"__metadata__": {"a": "b"}, **header}).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.one_backend
def test_safetensors_are_read_or_refused():
    arrays = {
        "half": RNG.normal(size=(3, 4)).astype("float16"),
        "whole": RNG.integers(0, 9, (5,)),
        "one": np.array(2.5, "float32"),
    }
    content = safetensors(**arrays)
    read = read_safetensors(content)
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
    bad = [content[:end] for end in range(0, len(content), 5)]
    bad += [
        content.replace(b"[3, 4]", b"[3, 5]"),
        content.replace(b"[3, 4]", b"[-3,4]"),
        content.replace(b'"F16"', b'"X16"'),
        content.replace(b"[0, 24]", b"[0, 99]"),
        b"\xff" * 100,
        (2).to_bytes(8, "little") + b"[]",
        (10**5).to_bytes(8, "little") + b"[" * 10**5,
    ]
    for broken in bad:
        with pytest.raises(ValueError, match="^`content` must be tensors in"):
            read_safetensors(broken)


def varint(number):
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx(packed, **arrays):
    tensors = b""
    for name, array in arrays.items():
        sizes = [varint(n) for n in array.shape]
        dims = (
            field(1, b"".join(sizes))
            if packed
            else b"".join(field(1, n) for n in array.shape)
        )
        kind = 1 if array.dtype == "float32" else 7
        tensor = dims + field(2, kind) + field(8, name.encode())
        tensors += field(5, tensor + field(9, array.tobytes()))
    # A version before it, and fields of fixed size that nobody asks for.
    other = varint(50 << 3 | 5) + b"four" + varint(51 << 3 | 1) + b"8 bytes."
    return field(1, 300) + other + field(7, field(2, b"graph") + tensors)


@pytest.mark.one_backend
@pytest.mark.parametrize("packed", [False, True])
def test_onnx_weights_are_read_or_refused(packed):
    arrays = {
        "kernel": RNG.normal(size=(3, 200)).astype("float32"),
        "shape": np.array([-1, 2]),
        "one": np.array(2.5, "float32"),
    }
    content = onnx(packed, **arrays)
    read = read_onnx_weights(content)
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
    bad = [content[:end] for end in range(0, len(content), 9)]
    bad += [
        b"\xff" * 20,
        field(7, 3),
        field(7, field(5, field(2, 99))),
        field(7, field(5, field(2, 1) + field(1, 2**40) + field(9, b"four"))),
        varint(7 << 3 | 3),
    ]
    for broken in bad:
        with pytest.raises(ValueError, match="^`content` must be a model in"):
            read_onnx_weights(broken)
