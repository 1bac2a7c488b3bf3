"""Pixels and labels of other types and ranges: every function converts them rightly or refuses them with an error."""

import functools
import warnings

import keras
import numpy as np
import pytest
from contract import asking, small
from keras import ops

from keras_ssvae import data, evaluation, plots
from keras_ssvae.models.labels import Labels

JAX = keras.backend.backend() == "jax"
VARIANTS_ARE_SLOW = True


@pytest.fixture(scope="module")
def compiled(entry):
    """A function that returns the same compiled model: the errors here come before Keras takes its variables."""
    return functools.cache(entry.compiled)


def image_verbs(entry, model, images):
    """Name -> a verb that takes images, and its arguments."""
    given = asking.verbs(entry, model, images)
    given["posterior"] = model.posterior, (images,), None
    given["call"] = model, (images,), None
    return {
        name: (verb, arguments)
        for name, (verb, arguments, _) in given.items()
        if all(getattr(each, "shape", ())[1:] == small.IMAGE_SHAPE for each in arguments)
    }


# Pixels


BYTES = np.random.default_rng(3).integers(0, 256, (7, *small.IMAGE_SHAPE)).astype("uint8")
UNIT = (BYTES / 255).astype("float32")

OUT_OF_RANGE = {
    "from 0 to 255": (BYTES.astype("float32"), "pixels from 0 to 255; .*They look like pixels from 0 to 255"),
    "scaled twice": ((data.scale(BYTES) - 127.5) / 127.5, "They look scaled twice"),
    "standardised": (3 * data.scale(BYTES), "pixels from -3 to 3; it must be floats in"),
    "NaN in one pixel": (
        np.where(np.arange(3) == 1, np.nan, data.scale(BYTES)),
        "holds NaN or infinite pixels; it must",
    ),
    "infinite": (data.scale(BYTES) * np.float32("inf"), "holds NaN or infinite pixels; it must be"),
    "int32": (BYTES.astype("int32"), r"is int32; it must be uint8 .*`images.astype\('uint8'\)`"),
    "bool": (BYTES > 127, r"is bool; it must be uint8 .*`255 \* images.astype\('uint8'\)`"),
    "no channel": (data.scale(BYTES)[..., 0], r"of shape \(\d, 8, 8\); it must be images of shape"),
    "no batch": (data.scale(BYTES)[0], r"of shape \(8, 8, 3\); it must be .*\[None\]` makes a batch"),
    "channels first": (np.moveaxis(data.scale(BYTES), -1, 1), r"it must be .*np.moveaxis\(.*, 1, -1\)"),
    "rows": (data.scale(BYTES).reshape(7, -1), r"it must be .*\.reshape\(-1, 8, 8, 3\)"),
}
IN_DOUBT = {
    "from 0 to 1": (UNIT, "none below 0, which looks like images in .0, 1.; it must be"),
    "masks of 0 and 1": ((BYTES > 127).astype("uint8"), "nothing but 0 and 1, which looks like masks; it must be"),
    "from 0 to 1, scaled": ((UNIT - 127.5) / 127.5, "looks like images scaled twice, .*; it must be"),
}
WRONG = {**OUT_OF_RANGE, **IN_DOUBT}
wrong = pytest.mark.parametrize(("images", "sentence"), WRONG.values(), ids=WRONG)


@pytest.mark.parametrize(("images", "sentence"), OUT_OF_RANGE.values(), ids=OUT_OF_RANGE)
def test_verbs_refuse_images_that_are_none(entry, model, images, sentence):
    good = data.scale(BYTES)
    for name, (verb, arguments) in image_verbs(entry, model, good).items():
        with pytest.raises(ValueError, match=sentence if name != "call" or JAX else "."):
            verb(*(images[: len(each)] if len(images) == 7 else images for each in arguments))


@pytest.mark.parametrize(("images", "sentence"), IN_DOUBT.values(), ids=IN_DOUBT)
def test_verbs_warn_of_images_that_are_in_doubt(model, images, sentence):
    with pytest.warns(UserWarning, match=sentence):
        model.encode(images)


def test_bright_photos_as_bytes_are_not_doubted(entry, model):
    bright = np.random.default_rng(0).integers(140, 256, (4, *small.IMAGE_SHAPE), dtype=np.uint8)
    labels = [np.arange(4) % size for size in entry.sizes]
    given = () if not labels else (labels[0] if len(labels) == 1 else np.stack(labels, axis=-1),)
    with warnings.catch_warnings(action="error", category=UserWarning):
        model.encode(bright)
        model.reconstruct(bright)
        model.predict(bright, verbose=0)
        evaluation.report(model, bright, *given)
        evaluation.nll(model, bright, samples=2)
        plots.reconstructions(model, bright)


def test_bytes_halves_doubles_and_lists_are_the_same_images(entry, model):
    floats = data.scale(BYTES)
    expected = asking.to_numpy({"encode": model.encode(floats), "call": model(floats)["reconstruction"]})
    half = floats.astype("float16")
    for given, atol in ((BYTES, 0), (list(BYTES), 0), (floats.astype("float64"), 0), (list(floats), 0), (half, 1e-2)):
        np.testing.assert_allclose(model.encode(given), expected["encode"], rtol=0, atol=atol or 1e-6)
    np.testing.assert_allclose(model.encode(ops.convert_to_tensor(BYTES)), expected["encode"], rtol=0, atol=1e-6)
    for name, (verb, arguments) in image_verbs(entry, model, floats).items():
        given, scaled = (
            verb(*(BYTES[: len(each)] for each in arguments)),
            verb(*(floats[: len(each)] for each in arguments)),
        )
        pairs = zip(keras.tree.flatten(given), keras.tree.flatten(scaled), strict=True)
        for value, other in pairs:
            np.testing.assert_allclose(value, other, rtol=0, atol=1e-6, err_msg=name)
    predicted = entry.build().predict(BYTES, batch_size=4, verbose=0)["reconstruction"]
    np.testing.assert_allclose(predicted, entry.build()(floats)["reconstruction"], rtol=0, atol=1e-5)


def test_verbs_refuse_no_image(model):
    with pytest.raises(ValueError, match="`images` has no image; it must be at least one"):
        model.encode(np.zeros((0, *small.IMAGE_SHAPE), "float32"))


def test_evaluation_of_bytes_is_that_of_the_scaled_images(entry, compiled):
    labels = asking.true_labels(entry)
    expected = compiled().evaluate(data.scale(BYTES), labels, verbose=0, return_dict=True)
    assert compiled().evaluate(BYTES, labels, verbose=0, return_dict=True) == pytest.approx(expected)


def batches_of(entry, part, images):
    """A valid batch, and one with other images in one of its parts."""
    good = entry.batch()
    bad = {**good, part: np.resize(images, (len(good[part]), *np.shape(images)[1:]))}
    return [(batch, batch.pop("labels")) if "labels" in batch else (batch,) for batch in (good, bad)]


@wrong
def test_fit_refuses_the_first_batch_before_it_trains(entry, compiled, images, sentence):
    part = entry.needs[-1] if entry.needs else "unlabeled"
    if part.endswith("_augmented"):
        part = part.removesuffix("_augmented")
    if len(images) != 7 or images.ndim == 3:
        pytest.skip("other shapes are among the mistakes of a batch")
    _, bad = batches_of(entry, part, images)
    model = compiled()
    with pytest.raises(ValueError, match=sentence):
        model.fit(*bad, verbose=0)
    with pytest.raises(ValueError, match=sentence):
        model.fit((bad for _ in range(1)), steps_per_epoch=1, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 0


def test_fit_finds_pixels_out_of_range_in_a_later_batch(entry):
    part = entry.parts[0]
    good, bad = batches_of(entry, part, BYTES.astype("float32"))
    model = entry.compiled()
    batches = (batch for batch in (good, good, bad, good))
    with pytest.raises(ValueError, match=rf"`x\['{part}'\]` has pixels from 0 to 255; it must be"):
        model.fit(batches, steps_per_epoch=4, shuffle=False, verbose=0)
    assert np.isfinite(ops.convert_to_numpy(model.encode(data.scale(BYTES)))).all()  # the model still works


def part_augmented(entry):
    part = next((part for part in entry.parts if part.endswith("_augmented")), None)
    return part or pytest.skip("it does not see augmented images")


@pytest.mark.parametrize("augment", ["of bytes", "of 0 to 1"])
def test_fit_finds_an_augmentation_with_other_pixels(entry, augment):
    part = part_augmented(entry)
    good, bad = batches_of(entry, part, BYTES.astype("float32") if augment == "of bytes" else UNIT)
    batches = (good, bad) if augment == "of bytes" else (bad, good)
    before = "" if augment == "of bytes" else ", and from .* before the augmentation"
    with pytest.raises(ValueError, match=rf"`x\['{part}'\]` has pixels from 0 to [^,]*{before}; it must be floats"):
        entry.compiled().fit((batch for batch in batches), steps_per_epoch=2, shuffle=False, verbose=0)


@pytest.mark.one_model
def test_fit_accepts_a_later_batch_whose_augmentation_left_out_all_dark_pixels(entry):
    good, bright = batches_of(entry, part_augmented(entry), UNIT)
    entry.compiled().fit((batch for batch in (good, bright)), steps_per_epoch=2, shuffle=False, verbose=0)


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def test_fit_finds_pixels_out_of_range_in_a_later_batch_of_a_dataset(entry):
    good, bad = batches_of(entry, entry.parts[0], np.nan * UNIT)
    with pytest.raises(ValueError, match="holds NaN or infinite pixels"):
        entry.compiled().fit(Batches([good, good, bad]), shuffle=False, verbose=0)
    if JAX:
        return
    import tensorflow as tf

    signature = keras.tree.map_structure(lambda part: tf.TensorSpec((None, *part.shape[1:]), part.dtype), good)
    batches = tf.data.Dataset.from_generator(lambda: iter([good, good, bad]), output_signature=signature)
    with pytest.raises(ValueError, match="holds NaN or infinite pixels"):
        entry.compiled().fit(batches, verbose=0)


@wrong
def test_evaluate_refuses_images_that_are_none(entry, compiled, images, sentence):
    labels = asking.true_labels(entry)
    with pytest.raises(ValueError, match=sentence):
        compiled().evaluate(images, labels if len(images) == 7 or labels is None else labels[:1], verbose=0)


@wrong
def test_validation_is_looked_at_before_the_first_epoch(entry, compiled, images, sentence):
    labels, model = asking.true_labels(entry), compiled()
    validation = (images,) if labels is None else (images, labels[: len(images)])
    with pytest.raises(ValueError, match=sentence):
        asking.fit(model, entry.batch(), validation_data=validation)
    if images.shape[0] == 7:
        good = (data.scale(BYTES), *validation[1:])
        with pytest.raises(ValueError, match=sentence):
            asking.fit(model, entry.batch(), validation_data=Batches([validation, good]))
    assert int(model.optimizer.iterations) == 0


# Labels


def wrong_labels(entry):
    """Name -> wrong labels of the test images, and the error that they give."""
    labels = asking.true_labels(entry)
    one_hot = ops.convert_to_numpy(Labels(entry.sizes if len(entry.sizes) > 1 else entry.sizes[0]).one_hot(labels))
    return {
        "counted from 1": (labels + 1, "run from 1 to 3; with .* They look counted from 1"),
        "negative": (labels - 1, "run from -1 to .* If -1 stands for a missing label: only batches for training"),
        "floats": (labels.astype("float32"), r"They are whole numbers: `\w+.astype\('int64'\)`"),
        "parts of numbers": (labels + 0.5, "it must be .* integer"),
        "one row of zeros": (one_hot * (np.arange(7) != 3)[:, None], "Row 3 of .* must be one-hot, with the sum 1"),
        "names": (np.full(labels.shape, "cat"), r"np.unique\(\w+, return_inverse=True\)\[1\]` numbers names"),
        "too few": (labels[:5], "must be .* for each of the 7 examples"),
    }


@pytest.mark.parametrize("kind", wrong_labels(type("Entry", (), {"sizes": (3, 2)})))
def test_labels_that_are_none_are_refused(entry, compiled, images, kind):
    if not entry.sizes:
        pytest.skip("it has no labels")
    labels, sentence = wrong_labels(entry)[kind]
    model = compiled()
    with pytest.raises(ValueError, match=f"`y`.*{sentence}|{sentence}"):
        model.evaluate(images, labels, verbose=0)
    with pytest.raises(ValueError, match=rf"`validation_data\[1\]`.*{sentence}|{sentence}"):
        asking.fit(model, entry.batch(), validation_data=(images, labels))
    with pytest.raises(ValueError, match=sentence):
        model.evaluation_terms(images, labels)
    assert int(model.optimizer.iterations) == 0


def test_labels_out_of_range_in_a_later_batch_are_found(entry, compiled, images):
    if not entry.sizes:
        pytest.skip("it has no labels")
    labels = asking.true_labels(entry)
    batches = [(images, labels), (images, labels + 1)]
    with pytest.raises(ValueError, match="`y` run from 1 to 3"):
        compiled().evaluate(Batches(batches), verbose=0)
    with pytest.raises(ValueError, match=r"`validation_data\[1\]` run from 1 to 3"):
        asking.fit(compiled(), entry.batch(), validation_data=Batches(batches))
    if JAX:
        return
    import tensorflow as tf

    together = tf.data.Dataset.from_tensor_slices(tuple(map(np.concatenate, zip(*batches, strict=True)))).batch(7)
    with pytest.raises(ValueError, match="`y` run from 1 to 3"):
        compiled().evaluate(together, verbose=0)
    with pytest.raises(ValueError, match=r"`validation_data\[1\]` run from 1 to 3"):
        asking.fit(compiled(), entry.batch(), validation_data=together)


class Series:
    """Behaves in NumPy as a pandas Series with an index of its own."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, key):
        raise KeyError(key)


def test_lists_columns_and_series_are_labels(entry, images):
    if not entry.sizes:
        pytest.skip("it has no labels")
    labels, model = asking.true_labels(entry), entry.compiled()
    expected = model.evaluate(images, labels, verbose=0, return_dict=True)["error"]
    forms = [labels.tolist(), labels.astype("uint8"), Series(labels)]
    forms += [labels[:, None], labels[:, None].astype("uint8")] if labels.ndim == 1 else []
    for form in forms:
        assert model.evaluate(images, form, verbose=0, return_dict=True)["error"] == expected
        np.testing.assert_array_equal(model.generate(form, seed=1), model.generate(labels, seed=1))


def test_a_row_of_zeros_in_training_is_a_label_out_of_range(entry, compiled):
    if "labels" not in entry.batch():
        pytest.skip("it has no labels")
    batch, model = entry.batch(), compiled()
    # A model that takes missing labels takes zeros as one; for it the wrong label is 0.5.
    wrong = 0.5 if model.takes_missing_labels else 0.0
    labels = batch.pop("labels") * np.float32([1, 1, wrong, 1])[:, None]
    with pytest.raises(ValueError, match=r"Row 2 of `y` holds .*; it must be one-hot, with the sum 1\. A row of zeros"):
        model.fit(batch, labels, verbose=0)
    assert int(model.optimizer.iterations) == 0


def test_uneven_classes_are_drawn_as_the_prior_says(entry):
    if not entry.sizes:
        pytest.skip("it has no labels")
    model = entry.build()
    drawn = ops.convert_to_numpy(model.sample_labels(2000, 1)).reshape(2000, -1)
    for i, size in enumerate(entry.sizes):
        probs = np.full(size, 1 / size) if model.label_probs is None else model.label_probs[i]
        np.testing.assert_allclose(np.bincount(drawn[:, i], minlength=size) / 2000, probs, atol=0.05)


def test_a_class_without_validation_images_is_a_warning(entry, compiled, images):
    if len(entry.sizes) != 1:
        pytest.skip("it has not one label")
    labels = np.minimum(asking.true_labels(entry), 1)
    with pytest.warns(UserWarning, match=r"`validation_data\[1\]` holds no image of the classes \[2\]"):
        asking.fit(entry.compiled(), entry.batch(), validation_data=(images, labels))


# Integers


def test_integers_of_numpy_are_integers(entry, model, images):
    wanted = asking.to_generate(entry)
    number = np.int64(wanted) if np.ndim(wanted) == 0 else wanted
    for seed in (np.int32(2**31 - 1), np.int64(5), np.uint8(5)):
        np.testing.assert_array_equal(model.generate(number, seed=seed), model.generate(wanted, seed=int(seed)))
    np.testing.assert_array_equal(model.generate(np.int64(2), seed=1), model.generate(2, seed=1))
    assert model.interpolate(images[:1], images[1:2], n=np.int32(3)).shape[1] == 3
    assert entry.build(seed=np.int64(4)).get_config()["seed"] == 4
