"""Batches that alternate, that have one part alone, and that are not shuffled; on every backend."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_ssvae import data
from keras_ssvae.data import augment

NAMES = ("labeled", "unlabeled", "labeled_augmented", "unlabeled_augmented")
# The first two pixels are the image's number, so that a batch tells which images it holds.
IMAGES = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), np.uint8)
IMAGES[:, 0, 0, 0] = np.arange(50)
LABELS = np.arange(10) % 4
LABELED = IMAGES[:10], LABELS
# Three labelled batches of 4, 4 and 2 images, and seven unlabelled ones, the last of 2.
SETTINGS = {"num_classes": 4, "labeled_batch_size": 4, "unlabeled_batch_size": 8, "steps_per_epoch": 10, "seed": 1}


def make(labeled=LABELED, unlabeled=IMAGES, **arguments):
    return data.semi_supervised(labeled, unlabeled, **(SETTINGS | {"augment": augment.random_crop} | arguments))


def take(count, *sources, **arguments):
    batches = itertools.islice(make(*sources, **arguments), count)
    return [tree.map_structure(ops.convert_to_numpy, batch) for batch in batches]


def numbers_of(images):
    return np.rint(images[:, 0, 0, 0] * 127.5 + 127.5).astype(int)


def datasets():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.data belongs to the TensorFlow backend")
    import tensorflow as tf

    return tuple(map(tf.data.Dataset.from_tensor_slices, (LABELED, IMAGES)))


@pytest.fixture(params=["arrays", "datasets"])
def sources(request):
    return (LABELED, IMAGES) if request.param == "arrays" else datasets()


def assert_same(batches, others):
    assert len(batches) == len(others) > 0
    tree.map_structure(np.testing.assert_array_equal, batches, others)


def test_the_part_that_is_not_due_has_no_rows(sources):
    for step, (x, y) in enumerate(take(20, *sources, rhythm=(3, 7))):
        is_labeled = step % 10 in (0, 3, 6)
        assert set(x) == set(NAMES)
        for name, images in x.items():
            assert images.shape[1:] == (8, 8, 1)
            assert images.dtype == np.float32
            assert (len(images) > 0) == (is_labeled == name.startswith("labeled"))
        assert (y.shape, y.dtype) == ((len(x["labeled"]), 4), np.float32)
        np.testing.assert_array_equal(y, np.eye(4)[LABELS[numbers_of(x["labeled"])]])


def test_an_epoch_of_all_batches_sees_every_image_once_and_keeps_the_short_ones(sources):
    batches, epochs = take(20, *sources, rhythm=(3, 7)), []
    for epoch in (batches[:10], batches[10:]):
        assert [len(x["labeled"]) for x, _ in epoch] == [4, 0, 0, 4, 0, 0, 2, 0, 0, 0]
        assert [len(x["unlabeled"]) for x, _ in epoch] == [0, 8, 8, 0, 8, 8, 0, 8, 8, 2]
        seen = {kind: np.concatenate([numbers_of(x[kind]) for x, _ in epoch]) for kind in NAMES[:2]}
        np.testing.assert_array_equal(np.sort(seen["labeled"]), np.arange(10))
        np.testing.assert_array_equal(np.sort(seen["unlabeled"]), np.arange(50))
        epochs.append(seen)
    assert not any(np.array_equal(epochs[0][kind], epochs[1][kind]) for kind in NAMES[:2])


def test_a_part_runs_through_its_passes_at_its_own_turns(sources):
    batches = take(10, *sources, rhythm=(1, 1), steps_per_epoch=10)
    assert [len(x["labeled"]) for x, _ in batches[::2]] == [4, 4, 2, 4, 4]
    assert [len(x["unlabeled"]) for x, _ in batches[1::2]] == [8] * 5
    first_pass = np.concatenate([numbers_of(x["labeled"]) for x, _ in batches[:6]])
    np.testing.assert_array_equal(np.sort(first_pass), np.arange(10))


@pytest.mark.parametrize(
    "arguments", [{"rhythm": (3, 7)}, {"rhythm": (2, 3), "steps_per_epoch": 7}, {"shuffle": False}]
)
@pytest.mark.parametrize("start_step", [7, 13])
def test_a_resumed_pipeline_continues_as_if_never_interrupted(sources, arguments, start_step):
    whole, rest = take(20, *sources, **arguments), take(20 - start_step, *sources, start_step=start_step, **arguments)
    assert_same(whole[start_step:], rest)


def test_every_step_draws_its_own_augmentation():
    batches = take(20, rhythm=(1, 1), augment=lambda images, seed: images * 0 + keras.random.uniform((), seed=seed))
    drawn = [images.ravel()[0] for x, _ in batches for name, images in x.items() if "_" in name and images.size]
    assert len(np.unique(drawn)) == 20


def test_an_augmentation_never_has_to_take_no_images():
    # TensorFlow does not mirror the borders of no images.
    batches = take(4, rhythm=(1, 1), augment=augment.cifar10)
    assert [len(x["labeled_augmented"]) for x, _ in batches] == [4, 0, 4, 0]
    assert [len(x["unlabeled_augmented"]) for x, _ in batches] == [0, 8, 0, 8]


def test_labelled_images_alone_are_those_of_the_pairs():
    for (x, y), (expected, labels) in zip(take(6, LABELED, None), take(6), strict=True):
        assert set(x) == {"labeled", "labeled_augmented"}
        assert_same([{name: expected[name] for name in x}, labels], [x, y])


def test_unshuffled_batches_go_through_the_images_in_order(sources):
    arguments = {"shuffle": False, "steps_per_epoch": 8, "augment": None}
    batches = take(16, *sources, **arguments)
    unlabeled = [np.concatenate([numbers_of(x["unlabeled"]) for x, _ in part]) for part in (batches[:8], batches[8:])]
    for numbers in unlabeled:
        np.testing.assert_array_equal(numbers, np.arange(64) % 50)
    labeled = [numbers_of(x["labeled"]).tolist() for x, _ in batches[:4]]
    assert labeled == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2, 3]]
    alternating = take(4, *sources, rhythm=(1, 1), **arguments)
    assert [numbers_of(x["labeled"]).tolist() for x, _ in alternating] == [[0, 1, 2, 3], [], [4, 5, 6, 7], []]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"rhythm": "alternate"}, "`rhythm` is 'alternate'. It must be \"paired\" or a tuple"),
        ({"rhythm": (1, 2, 3)}, r"`rhythm` is \(1, 2, 3\)"),
        ({"rhythm": (0, 2)}, r"`rhythm` is \(0, 2\).*integers of at least 1"),
        ({"rhythm": (1, 2.5)}, r"`rhythm` is \(1, 2.5\)"),
        ({"rhythm": (1, 2), "unlabeled": None}, "there are only labeled images. Nothing can alternate"),
        ({"rhythm": (1, 2), "labeled": None}, "there are only unlabeled images"),
        ({"rhythm": (3, 1), "steps_per_epoch": 3}, "`steps_per_epoch` is 3, .* none of these steps is unlabelled"),
        ({"labeled": None, "unlabeled": None}, "`labeled` and `unlabeled` are both None"),
        ({"shuffle": None}, "`shuffle` is None. It must be True or False"),
        ({"shuffle": False, "shuffle_buffer": 9}, "`shuffle_buffer` is 9, but `shuffle` is False"),
    ],
)
def test_a_wrong_argument_is_named_in_a_sentence_before_any_training(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**arguments)


class TwoTerms(keras.Model):
    """Linear layers; the squared errors of labels, and of unlabelled images from 0."""

    def __init__(self):
        super().__init__()
        start = keras.initializers.Constant(0.01)
        self.classifier = keras.layers.Dense(4, use_bias=False, kernel_initializer=start)
        self.score = keras.layers.Dense(1, use_bias=False, kernel_initializer=start)

    def call(self, x):
        labeled, unlabeled = (ops.reshape(x[kind], (-1, 64)) for kind in NAMES[:2])
        return self.classifier(labeled), self.score(unlabeled)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        rows = ops.cast(ops.shape(x["labeled"])[0] + ops.shape(x["unlabeled"])[0], "float32")
        return (ops.sum(ops.square(y_pred[0] - y)) + ops.sum(ops.square(y_pred[1]))) / rows


@pytest.mark.parametrize("steps_per_execution", [1, 5])
def test_any_model_trains_on_each_part_at_its_turns_without_a_condition_in_its_step(steps_per_execution):
    model = TwoTerms()
    model.compile(keras.optimizers.SGD(0.02), steps_per_execution=steps_per_execution)
    model.fit(make(rhythm=(3, 7)), steps_per_epoch=10, epochs=2, shuffle=False, verbose=0)

    classifier, score = np.full((64, 4), 0.01), np.full((64, 1), 0.01)
    for x, y in take(20, rhythm=(3, 7)):
        for images, kernel, target in ((x["labeled"], classifier, y), (x["unlabeled"], score, 0.0)):
            if len(images):
                flat = images.reshape(-1, 64).astype("float64")
                kernel -= 0.02 * 2 / len(flat) * flat.T @ (flat @ kernel - target)
    np.testing.assert_allclose(model.classifier.kernel.numpy(), classifier, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model.score.kernel.numpy(), score, rtol=1e-3, atol=1e-5)
