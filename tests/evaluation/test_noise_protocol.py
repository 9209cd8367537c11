import dataclasses

import numpy as np
import pytest

from keras_mmrel.corruptions import Corruption
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.corruptions import MissingModality
from keras_mmrel.corruptions import QMFImageNoise
from keras_mmrel.corruptions import UnalignedSamples
from keras_mmrel.evaluation import NOISE_PROTOCOLS
from keras_mmrel.evaluation import NoiseProtocol
from keras_mmrel.evaluation.noise_protocol import as_protocols

pytestmark = pytest.mark.one_backend

names = pytest.mark.parametrize("name", NOISE_PROTOCOLS)
# `severities` in the two places that take them.
BAD_SEVERITIES = [
    ("0.5", "`severities` of 'g' must be a list or tuple"),
    (0.5, "`severities` of 'g' must be a list or tuple"),
    (None, "`severities` of 'g' must be a list or tuple"),
    ([], "`severities` of 'g' must hold at least one.*an empty sequence"),
    (["0.5"], r"severities\['g'\]` must be a finite, non-n.*'0.5'"),
    ([0.5, -0.1], r"severities\['g'\]` must be .*non-negative.*-0.1"),
    ([np.nan], r"severities\['g'\]` must be .*nan"),
    ([np.inf], r"severities\['g'\]` must be .*inf"),
    ([True], r"severities\['g'\]` must be .*True"),
    ([[0.5]], r"severities\['g'\]` must be .*\[0.5\]"),
    ([0.5, 1, 0.5], r"`severities` of 'g' must be different"),
]


def fitting(name, n=24):
    """Two modalities of the kind that the protocol is meant for."""
    rng = np.random.default_rng(0)
    if name.startswith(("qmf_image", "qmf_rgbd", "qmf_salt")):
        shapes = {"rgb": (6, 6, 3), "depth": (6, 6, 1)}
        return {k: rng.random((n, *shape)) for k, shape in shapes.items()}
    if name == "qmf_text":
        shapes = {"text": (9,), "title": (4,)}
        return {k: rng.integers(2, 50, (n, *s)) for k, s in shapes.items()}
    return {"a": rng.random((n, 8)), "b": rng.random((n, 5))}


@names
def test_named_protocol_corrupts_data_that_fit_it_at_every_severity(name):
    protocol = NOISE_PROTOCOLS[name]
    assert protocol.name == name
    assert protocol.description.endswith(".")
    inputs = fitting(name)
    for severity in protocol.severities:
        corruption = protocol.at(severity)
        assert type(corruption) is type(protocol.corruption)
        assert corruption.severity == severity
        y = np.arange(24) % 3
        corrupted = corruption(inputs, 1, labels=y)
        hits = corruption.corrupted(inputs, 1, labels=y)
        assert hits.any()
        for column, modality in enumerate(inputs):
            assert np.isfinite(corrupted[modality]).all()
            before, after = inputs[modality], corrupted[modality]
            same = np.isclose(before, after).reshape(len(before), -1)
            changed = ~same.all(axis=1)
            np.testing.assert_array_equal(changed & ~hits[:, column], False)
            assert changed[hits[:, column]].mean() > 0.5


@names
def test_another_severity_changes_nothing_else(name):
    protocol = NOISE_PROTOCOLS[name]
    config = protocol.at(0.25).get_config()
    assert config == {**protocol.corruption.get_config(), "severity": 0.25}
    assert protocol.corruption.severity != 0.25


def test_mapping_of_named_protocols_says_who_is_hit():
    inputs = fitting("", 2000)
    hits = {
        name: NOISE_PROTOCOLS[name].at(1.0).corrupted(inputs)
        for name in ("gaussian_one", "gaussian_half", "gaussian_all", "missing")
    }
    assert (hits["gaussian_one"].sum(axis=1) == 1).all()
    assert hits["gaussian_all"].all()
    assert (hits["missing"].sum(axis=1) == 1).all()
    half = hits["gaussian_half"]
    assert abs(half.mean() - 0.5) < 0.05
    assert abs(half.all(axis=1).mean() - 0.25) < 0.05


def test_published_and_corrected_image_protocols_differ_in_that_alone():
    for name, deviation in (("qmf_image", 10.0), ("qmf_rgbd", 1.0)):
        corrected = NOISE_PROTOCOLS[name].corruption.get_config()
        assert (corrected["deviation"], corrected["as_published"]) == (
            deviation,
            False,
        )
        published = NOISE_PROTOCOLS[f"{name}_published"].corruption
        assert published.get_config() == {**corrected, "as_published": True}


def test_a_protocol_does_not_change():
    protocol = NOISE_PROTOCOLS["missing"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.name = "other"
    assert protocol.severities == (0.5, 1.0)
    own = [0.5, 1]
    fixed = NoiseProtocol("m", MissingModality(1.0), own)
    own.append(7)
    assert fixed.severities == (0.5, 1.0)
    assert all(type(severity) is float for severity in fixed.severities)


def test_description_rebuilds_the_corruption():
    noise = QMFImageNoise(5.0, ["rgb"], high=255.0)
    record = NoiseProtocol("dark", noise, [5.0], "By night.").describe()
    assert record["name"] == "dark"
    assert record["severities"] == [5.0]
    assert record["description"] == "By night."
    assert eval(record["corruption"]).get_config() == noise.get_config()


@pytest.mark.parametrize("name", ["", None, 3])
def test_protocol_without_a_name_is_refused(name):
    with pytest.raises(ValueError, match="`name` must be a non-empty string"):
        NoiseProtocol(name, GaussianNoise(1.0), [1.0])


@pytest.mark.parametrize("corruption", [None, "missing", GaussianNoise, 1.0])
def test_protocol_without_a_corruption_is_refused(corruption):
    with pytest.raises(
        ValueError, match="`corruption` of 'g' must be a `keras"
    ):
        NoiseProtocol("g", corruption, [1.0])


@pytest.mark.parametrize(("severities", "sentence"), BAD_SEVERITIES)
def test_bad_severities_of_a_protocol_are_refused(severities, sentence):
    with pytest.raises(ValueError, match=sentence):
        NoiseProtocol("g", GaussianNoise(1.0), severities)


@pytest.mark.parametrize("cls", [MissingModality, UnalignedSamples])
def test_a_fraction_above_one_is_refused_before_it_is_used(cls):
    with pytest.raises(ValueError, match=r"\[0, 1\].*severity=1.5"):
        NoiseProtocol("m", cls(0.5), [0.5, 1.5])


def test_a_name_becomes_the_named_protocol():
    assert as_protocols("missing", None) == [NOISE_PROTOCOLS["missing"]]
    both = as_protocols(("missing", "unaligned"), None)
    assert [p.name for p in both] == ["missing", "unaligned"]


def test_a_corruption_becomes_a_protocol_of_its_own_severity():
    noise = GaussianNoise(0.7)
    for argument in (noise, [noise]):
        (protocol,) = as_protocols(argument, None)
        assert protocol.name == "GaussianNoise"
        assert protocol.corruption is noise
        assert protocol.severities == (0.7,)


def test_a_dict_names_whatever_it_holds():
    own = NoiseProtocol("own", GaussianNoise(1.0), [0.1, 0.2], "Mine.")
    protocols = as_protocols(
        {"x": GaussianNoise(0.7), "y": "missing", "z": own}, None
    )
    assert [p.name for p in protocols] == ["x", "y", "z"]
    assert [p.severities for p in protocols] == [
        (0.7,),
        (0.5, 1.0),
        (0.1, 0.2),
    ]
    assert protocols[2].description == "Mine."
    assert own.name == "own"


def test_severities_are_for_all_or_for_the_named():
    chosen = ["missing", "gaussian_one"]
    every = as_protocols(chosen, [0.3])
    assert [p.severities for p in every] == [(0.3,), (0.3,)]
    one = as_protocols(chosen, {"missing": (0.1, 0.2)})
    assert [p.severities for p in one] == [(0.1, 0.2), (0.2, 0.5, 1.0, 5.0)]
    renamed = as_protocols({"m": "missing"}, {"m": [1]})
    assert [p.severities for p in renamed] == [(1.0,)]


def test_no_corruption_at_all_is_no_protocol():
    assert as_protocols([], None) == []


@pytest.mark.parametrize(("severities", "sentence"), BAD_SEVERITIES)
def test_bad_severities_of_a_call_are_refused(severities, sentence):
    corruptions = {"g": GaussianNoise(1.0)}
    if severities is not None:
        with pytest.raises(ValueError, match=sentence):
            as_protocols(corruptions, severities)
    with pytest.raises(ValueError, match=sentence):
        as_protocols(corruptions, {"g": severities})


@pytest.mark.parametrize(
    ("corruptions", "severities", "sentence"),
    [
        (None, None, "must be a sequence of names.*corruptions=None"),
        (3, None, "must be a sequence of names.*corruptions=3"),
        (["mising"], None, r"name protocols out of \['gaussian_one'.*'mising'"),
        ([None], None, "must hold names of protocols.*Received: None"),
        ([GaussianNoise], None, "must hold names of protocols"),
        ({"g": 1.0}, None, "must hold names of protocols.*Received: 1.0"),
        ({3: "missing"}, None, "`name` must be a non-empty string.*name=3"),
        (
            [GaussianNoise(1.0), GaussianNoise(2.0)],
            None,
            r"different names.*by a dict.*\['GaussianNoise', 'GaussianNoise'\]",
        ),
        ({"clean": "missing"}, None, "none of them 'clean'"),
        ("missing", {"absent": [1]}, r"\['missing'\]. Received: \['absent'\]"),
        ("missing", [1.5], r"\[0, 1\].*severity=1.5"),
    ],
)
def test_bad_corruptions_are_refused(corruptions, severities, sentence):
    with pytest.raises(ValueError, match=sentence):
        as_protocols(corruptions, severities)


def test_a_users_own_corruption_makes_a_protocol():
    class Dimmed(Corruption):
        def corrupt(self, values, hit, present, rng):
            values[hit] /= 1.0 + self.severity
            return values

    (protocol,) = as_protocols({"dim": Dimmed(1.0, target="a")}, [1, 3])
    corrupted = protocol.at(3)({"a": np.ones((2, 2)), "b": np.ones((2, 2))})
    np.testing.assert_array_equal(corrupted["a"], np.full((2, 2), 0.25))
