"""`Stream` gives random numbers as a pure function of seed, counter and purpose."""

import zlib

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae import noise
from keras_ssvae.noise import Stream


def normals(seed=1, counter=0, purpose="", draws=1, shape=(4,)):
    """The numbers of the first draws, one row for each."""
    stream = Stream(seed, counter, purpose)
    return np.stack([ops.convert_to_numpy(keras.random.normal(shape, seed=stream)) for _ in range(draws)])


def test_the_same_arguments_give_the_same_numbers():
    arguments = {"seed": 3, "counter": 1024, "purpose": "noise", "draws": 3}
    np.testing.assert_array_equal(normals(**arguments), normals(**arguments))


def test_another_seed_counter_or_purpose_gives_other_numbers():
    start = {"seed": 3, "counter": 1024, "purpose": "noise"}
    changes = [
        {},
        {"seed": 4},
        {"counter": 1025},
        {"purpose": "shuffle"},
        {"purpose": ""},
        {"seed": 1024, "counter": 3},
    ]
    drawn = np.concatenate([normals(**start | change) for change in changes])
    assert len(np.unique(drawn)) == drawn.size


def test_each_draw_takes_the_next_counter():
    np.testing.assert_array_equal(normals(counter=7, draws=3), np.concatenate([normals(counter=n) for n in (7, 8, 9)]))


def test_what_a_draw_takes_does_not_depend_on_what_is_drawn():
    stream = Stream(1, 0)
    keras.random.uniform((1000,), seed=stream)
    np.testing.assert_array_equal(ops.convert_to_numpy(keras.random.normal((4,), seed=stream)), normals(counter=1)[0])


def test_purposes_share_no_number_however_far_their_counters_run():
    drawn = np.stack([normals(purpose=purpose, draws=100, shape=()) for purpose in ("", "split", "shuffle", "augment")])
    assert len(np.unique(drawn)) > drawn.size - 2  # float32 normals meet by chance, once in 100 such tests


@pytest.mark.parametrize("purpose", ["", "shuffle"])
def test_numbers_in_a_program_are_those_outside(purpose, compiled):
    @compiled
    def program(counter):
        stream = Stream(5, counter, purpose)
        return ops.stack([keras.random.normal((4,), seed=stream) for _ in range(2)])

    for counter in (0, 1, 2**30):
        values = ops.convert_to_numpy(program(ops.convert_to_tensor(counter, "int32")))
        np.testing.assert_array_equal(values, normals(5, counter, purpose, draws=2))


def test_a_counter_may_be_an_integer_or_a_tensor():
    for counter in (0, 7, 2**31 - 1):
        tensor = ops.convert_to_tensor(counter, "int32")
        np.testing.assert_array_equal(normals(counter=counter), normals(counter=tensor))


def test_a_seed_may_be_an_integer_or_a_tensor():
    for purpose in ("", "shuffle", "split"):  # CRCs 0, below and above 2^31
        for seed in (0, 7, 2**31 - 1, -1):
            drawn = normals(ops.convert_to_tensor(seed, "int32"), purpose=purpose)
            np.testing.assert_array_equal(normals(seed, purpose=purpose), drawn)


@pytest.mark.parametrize("purpose", ["", "shuffle", "split"])  # CRCs 0, below and above 2^31
@pytest.mark.parametrize("seed", [0, 1, -1, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**32, 2**32 + 5, -(2**40)])
def test_a_seed_counts_modulo_2_to_the_32(seed, purpose):
    # What is drawn with it is the backend's: TensorFlow's numbers repeat after 2^31 - 2 seeds.
    drawn = ops.convert_to_numpy(Stream(seed, 7, purpose).next())
    np.testing.assert_array_equal(drawn, [(seed + zlib.crc32(purpose.encode())) % 2**32, 7])
    assert np.isfinite(normals(seed, purpose=purpose)).all()


def test_no_variable_is_made(monkeypatch):
    def refuse(self, *args, **kwargs):
        raise AssertionError("a variable was made")

    monkeypatch.setattr(keras.Variable, "__init__", refuse)
    normals(draws=2)
    with pytest.raises(AssertionError, match="a variable was made"):
        keras.random.SeedGenerator(1)


def test_draws_are_normal_and_independent_of_each_other():
    drawn = normals(seed=2, counter=5, purpose="noise", draws=100, shape=(1000,)).astype("float64")
    n = drawn.size
    assert abs(drawn.mean()) < 5 / np.sqrt(n)
    assert abs(drawn.std() - 1) < 5 / np.sqrt(2 * n)
    correlations = np.corrcoef(drawn)[np.triu_indices(100, k=1)]
    assert np.abs(correlations).max() < 6 / np.sqrt(1000)


# One seed for each row

SEEDS = (0, 1, 7, 2**31 - 3, 2**31 - 2, 2**31 - 1, 2**32 - 1, 2**32 + 5, -1, -(2**40))


def seeds_and_streams(counter, purpose):
    given = ops.convert_to_tensor(np.mod(SEEDS, 2**32).astype("int64" if ON_TENSORFLOW else "uint32"))
    return Stream(given, counter, purpose), [Stream(seed, counter, purpose) for seed in SEEDS]


ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


@pytest.mark.parametrize("shape", [(), (1,), (2,), (4,), (7,), (16,), (3, 5)])
def test_normal_numbers_of_many_seeds_are_those_of_each_alone(shape, compiled):
    together, alone = seeds_and_streams(3, "generate")
    program = compiled(lambda: [noise.normal((len(SEEDS), *shape), together) for _ in range(2)])
    for number, drawn in enumerate(program()):  # the second draw takes the next counter
        np.testing.assert_array_equal(drawn, np.concatenate([noise.normal((1, *shape), stream) for stream in alone]))
        of_keras = [keras.random.normal((1, *shape), seed=Stream(seed, 3 + number, "generate")) for seed in SEEDS]
        np.testing.assert_allclose(drawn, np.concatenate(of_keras), rtol=3e-7, atol=0)


@pytest.mark.parametrize("weights", [[1.0], [0.2, 0.5, 0.3], [0.5, 0.0, 0.5]])
def test_categories_of_many_seeds_are_those_of_each_alone(weights, compiled):
    with np.errstate(divide="ignore"):
        log_weights = ops.convert_to_tensor(np.log(weights).astype("float32"))
    seeds = ops.convert_to_tensor(np.arange(200), "int32")
    drawn = compiled(lambda: noise.categorical(log_weights, 200, Stream(seeds, 1)))()
    alone = [noise.categorical(log_weights, 1, Stream(seed, 1))[0] for seed in range(200)]
    np.testing.assert_array_equal(drawn, alone)
    assert set(np.unique(drawn)) == {k for k, weight in enumerate(weights) if weight}


def test_no_seeds_draw_nothing():
    none = Stream(ops.zeros((0,), "int32"), 0)
    assert noise.normal((0, 3), none).shape == (0, 3)
    assert noise.categorical(ops.zeros((2,)), 0, none).shape == (0,)


def test_as_many_seeds_as_rows_are_asked_for():
    two = Stream(ops.convert_to_tensor([1, 2]), 0)
    for draw in (lambda: noise.normal((3, 2), two), lambda: noise.categorical(ops.zeros(1), 3, two)):
        with pytest.raises(ValueError, match="`seed` holds 2 seeds for 3 images; it must be one integer, or one for"):
            draw()
