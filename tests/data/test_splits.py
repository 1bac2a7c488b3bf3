import numpy as np
import pytest

from keras_ssvae import data

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 40))


def test_every_class_gets_the_same_share_and_the_parts_are_disjoint():
    parts = data.split(LABELS, num_labeled=20, num_validation=50, seed=1)
    np.testing.assert_array_equal(np.bincount(LABELS[parts.labeled]), [4] * 5)
    np.testing.assert_array_equal(np.bincount(LABELS[parts.validation]), [10] * 5)
    assert len(np.unique(np.concatenate([parts.labeled, parts.validation]))) == 70


def test_unlabelled_are_all_training_images():
    parts = data.split(LABELS, 20, 50, seed=1)
    np.testing.assert_array_equal(parts.unlabeled, np.arange(200))
    assert {parts.labeled.dtype, parts.unlabeled.dtype, parts.validation.dtype} == {np.dtype(np.int64)}


def test_labelled_and_validation_images_can_be_left_out_of_the_unlabelled_ones():
    whole = data.split(LABELS, 20, 50, seed=1)
    for unlabeled, left_out in (
        ("all_but_validation", set(whole.validation)),
        ("rest", {*whole.validation, *whole.labeled}),
    ):
        parts = data.split(LABELS, 20, 50, seed=1, unlabeled=unlabeled)
        np.testing.assert_array_equal(parts.unlabeled, sorted(set(range(200)) - left_out))
        np.testing.assert_array_equal(parts.labeled, whole.labeled)
        np.testing.assert_array_equal(parts.validation, whole.validation)
    given = data.split(LABELS, None, 0, seed=1, labeled_indices=np.arange(20), unlabeled="rest")
    np.testing.assert_array_equal(given.unlabeled, np.arange(20, 200))


def test_validation_comes_first_and_labelled_next_in_the_order_of_one_shuffle():
    parts = data.split(LABELS, 20, 50, seed=7)
    order = np.random.Generator(np.random.PCG64(7)).permutation(200)
    for k in range(5):
        of_class = order[LABELS[order] == k]
        np.testing.assert_array_equal(parts.validation[LABELS[parts.validation] == k], of_class[:10])
        np.testing.assert_array_equal(parts.labeled[LABELS[parts.labeled] == k], of_class[10:14])


def test_the_seed_decides_and_the_number_of_labels_leaves_validation_alone():
    first, again, other = (data.split(LABELS, 20, 50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.labeled, again.labeled)
    assert not np.array_equal(first.labeled, other.labeled)
    more = data.split(LABELS, 100, 50, seed=1)
    np.testing.assert_array_equal(first.validation, more.validation)
    assert set(first.labeled) <= set(more.labeled)


def test_given_indices_keep_their_order_and_stay_out_of_validation():
    given = np.flatnonzero(LABELS >= 0)[[150, 3, 99, 20, 7, 60, 61, 62, 63, 64, 65, 66, 67, 68]]
    parts = data.split(LABELS, None, 150, seed=1, labeled_indices=given.tolist())
    np.testing.assert_array_equal(parts.labeled, given)
    assert not set(given) & set(parts.validation)
    np.testing.assert_array_equal(np.bincount(LABELS[parts.validation]), [30] * 5)


def test_the_classes_differ_by_one_image_at_most_where_their_number_does_not_divide():
    parts = data.split(LABELS, 22, 50, seed=3)
    assert sorted(np.bincount(LABELS[parts.labeled])) == [4, 4, 4, 5, 5]
    assert set(data.split(LABELS, 20, 50, seed=3).labeled) < set(parts.labeled)
    order = np.random.Generator(np.random.PCG64(3)).permutation(200)
    positions = np.argsort(order)[parts.labeled]
    np.testing.assert_array_equal(positions, np.sort(positions))


def test_there_may_be_no_labelled_image_at_all():
    parts = data.split(LABELS, 0, 50, seed=3)
    assert len(parts.labeled) == 0
    np.testing.assert_array_equal(parts.validation, data.split(LABELS, 20, 50, seed=3).validation)


def test_all_images_can_be_used_but_not_one_more():
    parts = data.split(LABELS, 150, 50, seed=1)
    assert len(set(parts.labeled) | set(parts.validation)) == 200
    with pytest.raises(ValueError, match=r"`num_validation` = 50 and `num_labeled` = 155 .* only 40 images of class 0"):
        data.split(LABELS, 155, 50, seed=1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_labeled": 4}, r"`num_labeled` is 4. It must be an integer of at least 5"),
        ({"num_labeled": -1}, r"`num_labeled` is -1. It must be an integer"),
        ({"num_labeled": 20.0}, r"`num_labeled` is 20.0"),
        ({"num_labeled": None}, r"`num_labeled` is None. It must be an integer"),
        ({"num_validation": 51}, r"`num_validation` is 51. It must be a multiple"),
        ({"num_validation": -5}, r"`num_validation` is -5"),
        ({"seed": -1}, r"`seed` is -1"),
        ({"unlabeled": "none"}, r"`unlabeled` is 'none'. It must be one of 'all', 'all_but_validation', 'rest'"),
        ({"labels": LABELS.astype(float)}, r"`labels` has shape \(200,\) and dtype float64"),
        ({"labels": np.eye(5, dtype=int)[LABELS]}, r"`labels` has shape \(200, 5\)"),
        ({"labels": LABELS - 1}, r"`labels` holds -1"),
        ({"labels": LABELS[LABELS != 2]}, r"no image has the class 2"),
        ({"labels": []}, r"`labels` has shape \(0,\)"),
        ({"labeled_indices": np.arange(20) + 190}, r"`labeled_indices` holds 200. There are 200 images"),
        ({"labeled_indices": [-1]}, r"`labeled_indices` holds -1"),
        ({"labeled_indices": [5, 6, 5]}, r"`labeled_indices` holds 5 2 times"),
        ({"labeled_indices": np.flatnonzero(LABELS != 3)[:20]}, r"`labeled_indices` names no image of class 3"),
        ({"labeled_indices": np.arange(21)}, r"`num_labeled` is 20, but `labeled_indices` holds 21"),
        ({"labeled_indices": [0.0]}, r"`labeled_indices` has shape \(1,\) and dtype float64"),
    ],
)
def test_a_wrong_argument_is_named_in_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        data.split(**({"labels": LABELS, "num_labeled": 20, "num_validation": 50, "seed": 1} | arguments))


UNEVEN = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [500, 300, 190, 10]))


def test_a_proportional_split_takes_of_each_class_its_share_and_at_least_one():
    parts = data.split(UNEVEN, 50, 101, seed=1, stratify="proportional")
    np.testing.assert_array_equal(np.bincount(UNEVEN[parts.labeled]), [25, 15, 9, 1])
    np.testing.assert_array_equal(np.bincount(UNEVEN[parts.validation]), [51, 30, 19, 1])
    assert len(np.unique(np.concatenate([parts.labeled, parts.validation]))) == 151
    few = data.split(UNEVEN, 5, 100, seed=1, stratify="proportional")
    np.testing.assert_array_equal(np.bincount(UNEVEN[few.labeled]), [2, 1, 1, 1])
    assert set(few.labeled) <= set(data.split(UNEVEN, 50, 100, seed=1, stratify="proportional").labeled)


def test_of_even_classes_both_splits_are_the_same():
    equal, proportional = (data.split(LABELS, 20, 50, seed=3, stratify=kind) for kind in ("equal", "proportional"))
    for name in ("labeled", "unlabeled", "validation"):
        np.testing.assert_array_equal(getattr(equal, name), getattr(proportional, name))


def test_uneven_classes_are_a_warning_that_names_what_to_do():
    with pytest.warns(UserWarning, match=r"`labels` holds 500 images of class 0 and 10 of class 3\. `stratify="):
        data.split(UNEVEN, 4, 4, seed=1)


def test_a_split_that_cannot_be_proportional_is_refused():
    with pytest.raises(ValueError, match=r"`stratify` is 'by size'\. It must be"):
        data.split(UNEVEN, 4, 4, seed=1, stratify="by size")
    with pytest.raises(ValueError, match=r"`num_labeled` is 2000\. There are 1000 images"):
        data.split(UNEVEN, 2000, 0, seed=1, stratify="proportional")
    with pytest.raises(ValueError, match=r"take .* images of class .* are available"):
        data.split(UNEVEN, 600, 600, seed=1, stratify="proportional")


def test_class_frequencies_are_shares_of_which_none_is_zero():
    np.testing.assert_allclose(data.class_frequencies([0, 0, 2], 3), [3 / 6, 1 / 6, 2 / 6])
    np.testing.assert_allclose(data.class_frequencies(np.uint8([[0], [1]]), 2), [0.5, 0.5])
    with pytest.raises(ValueError, match=r"`labels` run from 1 to 3; .* They look counted from 1"):
        data.class_frequencies([1, 2, 3], 3)


@pytest.mark.parametrize("form", [list, lambda labels: labels[:, None], lambda labels: labels.astype("uint8")])
def test_lists_columns_and_bytes_are_labels(form):
    expected, given = data.split(LABELS, 20, 50, seed=1), data.split(form(LABELS), 20, 50, seed=1)
    np.testing.assert_array_equal(given.labeled, expected.labeled)


def test_labels_of_another_form_say_what_to_write():
    with pytest.raises(ValueError, match=r"`labels.astype\('int64'\)`"):
        data.split(LABELS.astype(float), 20, 50, seed=1)
    with pytest.raises(ValueError, match="one-hot"):
        data.split(np.eye(5)[LABELS], 20, 50, seed=1)
