"""Texts and sounds as the backbone of a preset takes them, by its name."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

import keras_mmrel
from keras_mmrel import encoders
from keras_mmrel import media
from tests.helpers import to_numpy
from tests.media.files import tone
from tests.media.files import write_wav

pytestmark = pytest.mark.one_backend

hub = pytest.importorskip("keras_hub")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = hub.models.BertTokenizer(vocabulary=WORDS)
    backbone = hub.models.BertBackbone(
        vocabulary_size=len(WORDS),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=16,
    )
    hub.models.BertTextClassifierPreprocessor(tokenizer).save_to_preset(folder)
    backbone.save_to_preset(folder)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    converter = hub.layers.WhisperAudioConverter(
        num_mels=8, num_fft_bins=64, stride=32, max_audio_length=1,
        sampling_rate=800,
    )  # fmt: skip
    backbone = hub.models.WhisperBackbone(
        vocabulary_size=10,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        num_mels=8,
        max_encoder_sequence_length=26,
        max_decoder_sequence_length=4,
    )
    converter.save_to_preset(folder)
    backbone.save_to_preset(folder)
    return folder


def test_a_name_makes_the_tokens_of_its_preprocessor(bert):
    text = media.Text("t", tokenizer=str(bert), length=6)
    made = text.tokenize(["a cat", "dog"])
    assert made["token_ids"].tolist() == [
        [2, 5, 6, 3, 0, 0],
        [2, 7, 3, 0, 0, 0],
    ]
    assert made["padding_mask"].sum(axis=1).tolist() == [4, 3]
    # Which is all that the encoder of the same preset takes.
    assert text.shape == {"token_ids": (6,), "padding_mask": (6,)}
    again = media.Text.from_config(text.get_config())
    assert again.tokenize(["a dog"])["token_ids"].tolist() == [
        [2, 5, 7, 3, 0, 0]
    ]


def test_a_name_makes_the_spectrograms_of_its_converter(whisper, tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(1.0, 100, 800), 800)
    settings = {"sample_rate": 800, "seconds": 1.0}
    sound = media.Audio("s", transform=str(whisper), **settings)
    rng = np.random.default_rng(0)
    plain = media.Audio("s", **settings).decode(path, {}, rng)
    made = sound.transformed(sound.decode(path, {}, rng))
    converter = hub.layers.AudioConverter.from_preset(str(whisper))
    np.testing.assert_array_equal(made, to_numpy(converter(plain)))
    assert sound.shape == made.shape == (25, 8)
    assert media.Audio.from_config(sound.get_config()).shape == sound.shape


def test_one_name_reads_prepares_and_encodes(bert, whisper, tmp_path):
    rows = []
    for number in range(8):
        high = number % 2
        sound = tone(1.0, 200 if high else 50, 800)
        write_wav(tmp_path / f"{number}.wav", sound, 800)
        rows.append((f"{number}.wav", "a cat" if high else "dog dog", high))
    table = pd.DataFrame(rows, columns=["wav", "said", "label"])
    data = media.MediaTable(
        table,
        {
            "sound": media.Audio(
                "wav", sample_rate=800, seconds=1.0, transform=str(whisper)
            ),
            "text": media.Text("said", tokenizer=str(bert), length=6),
        },
        label="label",
        root=tmp_path,
        batch_size=4,
        workers=2,
    )
    model = keras_mmrel.ConcatFusion(
        {
            "sound": encoders.AudioEncoder(
                str(whisper), data.shapes["sound"], fine_tune="none"
            ),
            "text": encoders.TextEncoder(str(bert), 6, fine_tune="none"),
        },
        data.num_classes,
        seed=0,
    )
    model.compile()
    model.fit(data, epochs=1, verbose=0)
    assert np.isfinite(
        model.predict(data.like(table), verbose=0)["logits"]
    ).all()


def test_what_cannot_be_had_is_named_in_one_sentence(whisper, tmp_path):
    for argument, make in {
        "tokenizer": lambda p: media.Text("t", tokenizer=p),
        "transform": lambda p: media.Audio("a", transform=p),
    }.items():
        for preset in (str(tmp_path), "no_such_preset"):
            with pytest.raises(
                ValueError, match=f"^`{argument}` must"
            ) as error:
                make(preset)
            assert preset in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"`sample_rate` must be 800 .* 16000"):
        media.Audio("a", transform=str(whisper))


def test_a_loader_takes_a_name_as_its_media_do(bert, tmp_path):
    (tmp_path / "images").mkdir()
    names = [f"{number:x}" for number in range(12)]
    rows = [
        f"images/{n}.png,a cat,dog,{'ab'[i % 2]}" for i, n in enumerate(names)
    ]
    table = "\n".join(["image,name,keywords,label", *rows])
    (tmp_path / "emoji.csv").write_text(table)
    for name in names:
        Pillow.new("RGB", (64, 64)).save(tmp_path / "images" / f"{name}.png")
    train, _ = keras_mmrel.datasets.load_emoji(
        tmp_path, tokenizer=bert, length=5
    )
    assert train.shapes["text"] == {"token_ids": (5,), "padding_mask": (5,)}
    assert train.arrays()[0]["text"]["token_ids"][0, 0] == 2


def test_a_folder_may_be_a_path(bert):
    assert media.Text("t", tokenizer=bert, length=6).preset == str(bert)
    assert encoders.TextEncoder(bert, 6).input_shape["token_ids"] == (None, 6)


def test_a_converter_that_takes_no_waveform_is_named(tmp_path):
    hub.layers.MoonshineAudioConverter().save_to_preset(tmp_path)
    hub.models.MoonshineBackbone(
        vocabulary_size=10,
        filter_dim=16,
        encoder_num_layers=1,
        decoder_num_layers=1,
        hidden_dim=16,
        intermediate_dim=16,
        encoder_num_heads=2,
        decoder_num_heads=2,
    ).save_to_preset(tmp_path)
    with pytest.raises(ValueError, match="^`transform` must be .* waveform"):
        media.Audio("a", transform=tmp_path)
