import numpy as np
import pytest

from onnxpipe.audio.features import FeatureReader, fit, normalize_samples
from onnxpipe.audio.waveform import Audio as Sound
from onnxpipe.bundle import Graph, Tensor
from onnxpipe.errors import InvalidInput
from onnxpipe.sections import Audio, Mel


def graph(*names, dtype="float32"):
    inputs = tuple(
        Tensor(name=name, dtype="int64" if name == "attention_mask" else dtype, shape=("batch", "n")) for name in names
    )
    return Graph(inputs=inputs, outputs=(Tensor(name="logits", dtype="float32", shape=("batch", 2)),))


def reader(*names, dtype="float32", **fields):
    return FeatureReader(Audio(sampling_rate=16_000, **fields), graph(*(names or ("input_values",)), dtype=dtype))


def sound(samples):
    return Sound.read({"array": np.asarray(samples, np.float32), "sampling_rate": 16_000})


NOISE = np.random.default_rng(0).standard_normal(4000).astype(np.float32)


def test_samples_go_in_as_they_are():
    (row,) = [reader().row(NOISE)]
    assert list(row) == ["input_values"]
    np.testing.assert_array_equal(row["input_values"], NOISE)


def test_normalised_samples_have_mean_0_and_variance_1():
    values = reader(normalize=True).row(5 * NOISE + 3)["input_values"]
    assert values.dtype == np.float32
    assert (values.mean(), values.var()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-5))


def test_constant_sound_becomes_zeros():
    assert not reader(normalize=True).row(np.full(500, 0.25, np.float32))["input_values"].any()


def test_padding_is_not_counted_and_stays_zero():
    values = normalize_samples(np.array([1.0, 3.0, 9.0], np.float32), 2)
    assert values.tolist() == pytest.approx([-1, 1, 0], abs=1e-6)


def test_the_mask_is_ones_where_there_is_sound():
    row = reader("input_values", "attention_mask").row(NOISE)
    assert row["attention_mask"].dtype == np.int64
    assert row["attention_mask"].tolist() == [1] * 4000


def test_sound_too_short_for_the_graph_gets_zeros_that_count():
    row = reader("input_values", "attention_mask", normalize=True, min_samples=400).row(NOISE[:100])
    assert row["input_values"].shape == (400,)
    np.testing.assert_array_equal(row["input_values"][:100], reader(normalize=True).row(NOISE[:100])["input_values"])
    assert not row["input_values"][100:].any()
    assert row["attention_mask"].tolist() == [1] * 400


@pytest.mark.parametrize("length", [100, 3000, 9000])
def test_samples_are_cut_or_padded_to_what_the_graph_takes(length):
    values = reader(samples=3000).row(np.resize(NOISE, length))["input_values"]
    assert values.shape == (3000,)
    np.testing.assert_array_equal(values[:length], np.resize(NOISE, length)[:3000])
    assert not values[length:].any()


def test_the_input_is_of_the_graphs_type():
    assert reader(dtype="float16").row(NOISE)["input_values"].dtype == np.float16


MEL = Mel(bins=8, log="log10", floor=1e-10)


def test_energies_are_cut_or_padded_to_the_frames_the_graph_takes():
    whole = reader(mel=MEL).row(NOISE)["input_values"]
    assert whole.shape == (23, 8)
    np.testing.assert_array_equal(reader(mel=MEL, frames=5).row(NOISE)["input_values"], whole[:5])
    padded = reader(mel=MEL, frames=30).row(NOISE)["input_values"]
    np.testing.assert_array_equal(padded[:23], whole)
    assert not padded[23:].any()


def test_energies_far_below_the_loudest_are_raised():
    burst = np.zeros(4000, np.float32)
    burst[:400] = NOISE[:400]
    energies = reader(mel=MEL, dynamic_range=2.0).row(burst)["input_values"]
    assert energies.min() == pytest.approx(energies.max() - 2)


def test_mean_and_deviation_come_last_and_padding_before_them():
    values = reader(mel=MEL, frames=30, mean=1.0, std=4.0).row(NOISE)["input_values"]
    np.testing.assert_allclose(values[:23] * 4 + 1, reader(mel=MEL).row(NOISE)["input_values"], atol=1e-5)
    assert (values[23:] == -0.25).all()


def test_bins_may_come_first_and_the_last_frame_be_left_out():
    whole = reader(mel=MEL).row(NOISE)["input_values"]
    row = reader("input_features", mel=MEL, bins_first=True, drop_last=True).row(NOISE)
    np.testing.assert_array_equal(row["input_features"], whole[:-1].T)
    assert row["input_features"].flags.c_contiguous


def test_sound_shorter_than_a_frame_has_no_energy():
    assert not reader(mel=MEL, frames=4).row(NOISE[:300])["input_values"].any()


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ({}, 4000),
        ({"samples": 1000}, 1000),
        ({"samples": 9000}, 4000),
        ({"max_samples": 1500}, 1500),
        ({"mel": MEL, "frames": 5}, 160 * 4 + 400),
        ({"mel": MEL, "frames": 5, "dynamic_range": 8.0}, 4000),
    ],
)
def test_no_more_is_decoded_than_the_model_looks_at(fields, length):
    made = reader(**fields)
    samples, cut = made.read(sound(NOISE))
    assert len(samples) == length
    assert cut == ("max_samples" in fields)
    if not cut:
        for name, values in made.row(NOISE).items():
            np.testing.assert_array_equal(made.row(samples)[name], values)


@pytest.mark.parametrize("length", [1499, 1500])
def test_sound_within_the_most_a_model_takes_is_not_cut(length):
    samples, cut = reader(max_samples=1500).read(sound(NOISE[:length]))
    assert (len(samples), cut) == (length, False)


def test_fitting_keeps_what_fits():
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert fit(values, None) is values
    assert fit(values, 3) is values
    assert fit(values, 1).tolist() == [[0, 1]]
    assert fit(values, 4).tolist() == [[0, 1], [2, 3], [4, 5], [0, 0]]


def test_a_deviation_of_zero_is_refused():
    with pytest.raises(InvalidInput, match="`std`: expected a number other than 0, given 0"):
        Audio(sampling_rate=16_000, std=0.0)
