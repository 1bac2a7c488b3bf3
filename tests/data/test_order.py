import numpy as np
import pytest
from keras import ops

from keras_ssvae.data.order import Part, batch_slice, epoch_order, passes_of_epoch


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


def original_rhythm(labeled, unlabeled):
    """Which batches of an epoch are labelled in REVAE's code, as its loop counts them."""
    period, done, kinds = int((labeled + unlabeled) / labeled), 0, []
    for i in range(labeled + unlabeled):
        kinds.append(i % period == 0 and done < labeled)
        done += kinds[-1]
    return kinds


@pytest.mark.parametrize("labeled", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("unlabeled", [1, 2, 3, 4, 7, 30])
def test_a_rhythm_is_that_of_the_original_code_again_and_again(labeled, unlabeled):
    expected = original_rhythm(labeled, unlabeled) * 3
    for kind in ("labeled", "unlabeled"):
        part = Part(kind, 4, (labeled, unlabeled))
        due = [(each == (kind == "labeled")) for each in expected]
        assert [part.turn(step)[0] for step in range(len(due))] == due
        assert [part.turns(step) for step in range(len(due))] == [sum(due[:step]) for step in range(len(due))]
    assert sum(expected) == 3 * labeled


def test_a_part_goes_on_at_its_turn_where_it_stopped_and_has_no_rows_in_between():
    part = Part("unlabeled", 4, (1, 2))  # L U U L U U
    slices = [part.slice(step, 10) for step in range(6)]
    assert [end - begin for begin, end in slices] == [0, 4, 4, 0, 2, 4]
    assert [slices[step] for step in (1, 2, 4, 5)] == [(0, 4), (4, 8), (8, 10), (10, 14)]
    assert part.passes(10, 6) == 2
    for step, (begin, end) in enumerate(slices):
        assert (begin, end) == tuple(map(int, part.slice(ops.convert_to_tensor(step), 10)))


def test_without_shuffling_every_pass_goes_from_first_to_last():
    drawn = ops.convert_to_numpy(epoch_order(1, 3, 5, 2, "labeled", shuffle=False))
    np.testing.assert_array_equal(drawn, [[0, 1, 2, 3, 4]] * 2)
    assert drawn.dtype == np.int32
