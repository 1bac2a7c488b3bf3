import numpy as np
import pytest
from keras import ops

from keras_ssvae.data.order import batch_slice, epoch_order, passes_of_epoch


def order(seed=1, epoch=0, size=100, passes=3, purpose="labeled"):
    return ops.convert_to_numpy(epoch_order(seed, epoch, size, passes, purpose))


def test_every_pass_is_a_permutation_of_its_own():
    drawn = order()
    assert (drawn.shape, drawn.dtype) == ((3, 100), np.int32)
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.tile(np.arange(100), (3, 1)))
    assert len(np.unique(drawn, axis=0)) == 3


def test_permutations_are_uniform():
    drawn = order(size=3, passes=6000)
    kinds, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(kinds) == 6
    assert abs(counts - 1000).max() < 4 * np.sqrt(6000 * 1 / 6 * 5 / 6)


def test_seed_epoch_and_purpose_decide_alone():
    np.testing.assert_array_equal(order(), order())
    others = [order(seed=2), order(epoch=1), order(purpose="unlabeled"), order()]
    assert len(np.unique(np.stack(others), axis=0)) == 4


@pytest.mark.parametrize("size", [1, 7, 10, 99, 100, 101])
@pytest.mark.parametrize("batch_size", [1, 10, 32])
def test_batches_of_a_pass_end_with_it(size, batch_size):
    positions = np.arange(5 * size)
    expected = [part[i : i + batch_size] for part in np.split(positions, 5) for i in range(0, size, batch_size)]
    for step, content in enumerate(expected):
        begin, end = batch_slice(step, size, batch_size, keep_short=True)
        np.testing.assert_array_equal(positions[begin:end], content)
        assert passes_of_epoch(size, batch_size, step + 1, keep_short=True) == content[-1] // size + 1


@pytest.mark.parametrize("size", [1, 7, 10, 100])
@pytest.mark.parametrize("batch_size", [1, 10, 32])
def test_full_batches_run_through_the_passes(size, batch_size):
    for step in range(20):
        begin, end = batch_slice(step, size, batch_size, keep_short=False)
        assert (begin, end) == (step * batch_size, (step + 1) * batch_size)
        assert passes_of_epoch(size, batch_size, step + 1, keep_short=False) == (end - 1) // size + 1


def test_tensors_of_steps_give_what_integers_give():
    for step in (0, 3, 4, 11):
        assert batch_slice(step, 100, 32, True) == tuple(
            map(int, batch_slice(ops.convert_to_tensor(step), 100, 32, True))
        )
