"""Each kind of bad input gives an error that names it, before anything is trained."""

import functools

import keras
import numpy as np
import pytest
from contract import asking
from contract.registry import ENTRIES

from keras_ssvae.optimizers import GroupedOptimizer

JAX = keras.backend.backend() == "jax"


def cases(kinds):
    """Parametrises a test by all cases of all entries; `kinds(entry) -> {id: case}`."""
    pairs = [(entry, name, case) for entry in ENTRIES for name, case in kinds(entry).items()]
    return pytest.mark.parametrize(
        ("entry", "case"),
        [pytest.param(entry, case, id=f"{entry.name}: {name}") for entry, name, case in pairs],
        indirect=["entry"],
        scope="module",
    )


# The constructor


def wrong_arguments(entry):
    """Name -> wrong arguments of the constructor, and the error that they give."""
    kinds = {}
    for name, networks in entry.networks.items():
        for i, wrong in enumerate(networks):
            kinds[f"{name} {i} of another shape"] = (
                (lambda name=name, wrong=wrong: {name: wrong()}),
                rf"`{name}` maps .*; with .* it must map .*Pass another `{name}=`, as `networks.* makes it",
            )
        kinds[f"{name} without a known input"] = (
            lambda name=name: {name: type("Subclassed", (keras.Model,), {})()},
            f"`{name}` takes None; it must be a built functional",
        )
        kinds[f"{name} is a number"] = (lambda name=name: {name: 10}), f"`{name}` is 10; it must be a built functional"
    for name in entry.weights:
        for value in (-1.0, float("nan"), float("inf"), "much"):
            sentence = f"`{name}` is {value!r}; it must be a finite number"
            kinds[f"{name} {value}"] = (lambda name=name, value=value: {name: value}), sentence
    return kinds


def test_a_network_that_names_its_outputs_is_refused(entry):
    image = keras.Input((8, 8, 3))
    named = keras.Model(image, {name: keras.layers.Dense(2)(image) for name in ("mean", "logvar")})
    with pytest.raises(ValueError, match=r"`encoder` gives a dictionary of \['logvar', 'mean'\]; it must give"):
        entry.build(encoder=named)


@cases(wrong_arguments)
def test_an_argument_that_cannot_be_is_refused_by_name(entry, case):
    arguments, sentence = case
    with pytest.raises(ValueError, match=sentence):
        entry.build(**arguments())


# Compilation


@pytest.mark.parametrize("name", ["loss", "metrics", "weighted_metrics"])
def test_compile_refuses_what_it_would_ignore(entry, model, name):
    with pytest.raises(ValueError, match=rf"`compile` was given \['{name}'\]; this model has its own loss"):
        model.compile(entry.optimizer(), **{name: "mse"})


def test_groups_of_the_optimizer_must_be_the_models(model):
    names = ", ".join(repr(name) for name in sorted(model.variable_groups()))
    with pytest.raises(ValueError, match=rf"the groups \['other'\], .* in the groups \[{names}\]"):
        model.compile(GroupedOptimizer({"other": keras.optimizers.Adam()}))


def test_a_network_with_a_regulariser_is_refused(entry):
    model = entry.build()
    model.trainable_variables[0].regularizer = keras.regularizers.L2(1e-3)
    with pytest.raises(ValueError, match="A network has a regulariser, which the objective does not hold"):
        model.compile(entry.optimizer())


# Batches of training


def wrong_batches(entry):
    """Name -> parts that replace those of a valid batch (None: left out), and the error that they give."""
    batch, kinds = entry.batch(), {}
    for part in entry.parts:
        images, named = batch[part], rf"`x\['{part}'\]` is "
        kinds[f"{part} of integers"] = {part: images.astype("int32")}, named + "int32; it must be uint8 images"
        kinds[f"{part} of another shape"] = {part: images[..., :1]}, named + "float32 of shape .*it must be"
        kinds[f"{part} flat"] = {part: images.reshape(len(images), -1)}, named + "float32 of shape .*it must be"
    for part in entry.needs:
        kinds[f"no {part}"] = {part: None}, "of a training batch|A training batch"
    kinds["nothing"] = dict.fromkeys(batch), "of a training batch|A training batch|A batch holds no labels"
    if entry.sizes:
        labels = batch["labels"]
        one_hot = rf"must be one-hot labels of the labelled images, \(None, {sum(entry.sizes)}\)"
        kinds["labels that are not one-hot"] = {"labels": labels.argmax(axis=-1).astype("float32")}, one_hot
        kinds["labels of integers"] = {"labels": labels.argmax(axis=-1)}, f"`y` .*is int64.*{one_hot}"
        kinds["labels too wide"] = {"labels": np.eye(9, dtype="float32")[:4]}, one_hot
        kinds["labels of too few images"] = {"labels": labels[:3]}, "`y` has 3 rows for 4 labelled images"
        kinds["labelled images without labels"] = {"labels": None}, "no labels"
    if entry.sizes and "labeled" in entry.parts:
        kinds["labels without images"] = {"labeled": None}, "A training batch has|of a training batch"
    return kinds


@pytest.fixture(scope="module")
def compiled(entry):
    """A function that returns a compiled model; a new one on JAX, where Keras loses the variables after an error."""
    return entry.compiled if JAX else functools.cache(entry.compiled)


@cases(wrong_batches)
def test_a_batch_that_does_not_fit_is_refused_and_trains_nothing(entry, compiled, case):
    changes, sentence = case
    batch = {name: part for name, part in {**entry.batch(), **changes}.items() if part is not None}
    labels = batch.pop("labels", None)
    model = compiled()
    with pytest.raises(ValueError, match=sentence):
        model.train_on_batch(batch, labels)
    assert JAX or int(model.optimizer.iterations) == 0


def test_sample_weights_are_refused(entry, compiled, images):
    batch, labels = entry.batch(), asking.true_labels(entry)
    batches = ((batch, batch.pop("labels", None), np.ones(4)) for _ in range(1))
    with pytest.raises(ValueError, match="sample weights"):
        compiled().fit(batches, steps_per_epoch=1, shuffle=False, verbose=0)
    labels = np.zeros(7) if labels is None else labels
    with pytest.raises(ValueError, match="sample weights"):
        compiled().evaluate(images, labels, sample_weight=np.ones(7), verbose=0)
    if not entry.must_have_labels:
        with pytest.raises(ValueError, match="`sample_weight` is given; here each image counts once"):
            compiled().evaluate(images, sample_weight=np.ones(7), verbose=0)


def test_fit_without_data_is_a_sentence(compiled):
    with pytest.raises(ValueError, match="`x` is None; it must be training data"):
        compiled().fit()


# Validation


def test_validation_that_does_not_fit_is_refused(entry, compiled, images):
    labels = asking.true_labels(entry)
    with pytest.raises(ValueError, match=r"`x` is int64; it must be uint8 images from 0 to 255, or floats"):
        compiled().evaluate(images.astype("int64"), labels, verbose=0)
    with pytest.raises(ValueError, match=r"`x` is float32 of shape .*it must be images of shape"):
        compiled().evaluate(images[..., :1], labels, verbose=0)
    if entry.must_have_labels:
        with pytest.raises(ValueError, match="no labels"):
            compiled().evaluate(images, verbose=0)


def test_no_images_and_a_batch_of_training_are_refused(entry, compiled, images):
    for verb in (compiled().evaluate, compiled().predict):
        with pytest.raises(ValueError, match="`x` has no image; it must be at least one"):
            verb(images[:0], verbose=0)
        with pytest.raises(ValueError, match=r"`x` is a tuple of 2 arrays; it must be the images alone\. Labels are"):
            verb((images, asking.true_labels(entry)), verbose=0)
        part = entry.parts[-1]
        with pytest.raises(ValueError, match=rf"`x` holds the images \[.*'{part}'.*; it must be images, or images and"):
            verb(entry.batch(), verbose=0)


def test_a_share_of_the_training_images_is_no_validation(entry, compiled):
    batch = entry.batch()
    images, labels = batch if isinstance(batch, tuple) else (batch, None)
    with pytest.raises(ValueError, match=r"`validation_split` is 0\.5, but `x` is a dictionary of training images"):
        compiled().fit(images, labels, validation_split=0.5, verbose=0)


def test_fit_before_compile_is_a_sentence(model, images):
    with pytest.raises(ValueError, match=r"no optimizer\. Call `compile` before `fit`"):
        model.fit(images, verbose=0)
    with pytest.raises(ValueError, match="`optimizer` is None; "):
        model.compile()


def test_an_error_in_evaluate_leaves_the_weights(entry, images):
    model, labels = entry.compiled(), asking.true_labels(entry)
    weights = model.get_weights()
    with pytest.raises(ValueError, match="sample weights"):
        model.evaluate(images, np.zeros(7) if labels is None else labels, sample_weight=np.ones(7), verbose=0)
    for weight, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, before)


# Verbs


def test_decode_takes_a_list(model):
    z = np.linspace(-1, 1, 2 * model.latent_dim).reshape(2, -1)
    np.testing.assert_array_equal(model.decode(z.tolist()), model.decode(z))


def test_decode_refuses_latent_variables_of_another_number(model):
    for number in (model.latent_dim - 1, model.latent_dim + 1):
        with pytest.raises(ValueError, match="shape"):
            model.decode(np.zeros((2, number), "float32"))


def test_no_other_format_than_keras_is_written(model, tmp_path):
    with pytest.raises(ValueError, match=r"`filepath` is '.*model\.h5'; its name must end in `\.keras`"):
        model.save(tmp_path / "model.h5")


@pytest.mark.parametrize("seed", [1.5, None, "1", True])
def test_generate_refuses_a_seed_that_is_no_integer(model, seed):
    with pytest.raises(ValueError, match=r"`seed` is .*; it must be an integer"):
        model.generate(2, seed=seed)


def test_a_warning_points_to_the_users_line(model, images):
    with pytest.warns(UserWarning, match="none below 0") as warnings:
        model.reconstruct((images + 1) / 2)
    assert {warning.filename for warning in warnings} == {__file__}


def wrong_labels(entry):
    """Name -> labels or a number that `generate` must refuse."""
    if not entry.sizes:
        return {repr(number): number for number in (-1, 2.5, "two", [0, 1])}
    if len(entry.sizes) == 1:
        wrong = (-1, [[0, 1, 0]], [1.7], [-1], list(entry.sizes), [True], ["a"], [])
    else:
        too_large = [[size if i == j else 0 for j in range(2)] for i, size in enumerate(entry.sizes)]
        wrong = (-1, [0, 1], [[0, 1, 0]], [[0.5, 1.0]], [[0, -1]], *([row] for row in too_large), [[True, False]], [])
    return {repr(labels): labels for labels in wrong}


@cases(wrong_labels)
def test_generate_refuses_what_it_cannot_draw(entry, model, case):
    with pytest.raises(ValueError, match=r"`(labels|n)` .* must be "):
        model.generate(case, seed=1)


def test_interpolation_needs_two_points(model, images):
    with pytest.raises(ValueError, match="`n` is 1; a line has two ends"):
        model.interpolate(images[:1], images[1:2], n=1)
    with pytest.raises(ValueError, match=r"`n` is 2\.5; it must be an integer"):
        model.interpolate(images[:1], images[1:2], n=2.5)


def test_an_integer_of_numpy_is_a_number_of_images(model, images):
    line, same = (model.interpolate(images[:1], images[1:2], n=n) for n in (3, np.uint8(3)))
    np.testing.assert_array_equal(line, same)


def test_interpolation_needs_as_many_ends_as_beginnings(model, images):
    with pytest.raises(ValueError, match="`a` has 2 images and `b` 3; they must have the same number"):
        model.interpolate(images[:2], images[2:5])


def test_a_seed_is_an_integer(entry):
    for wrong in (1.5, "1", None, True):
        with pytest.raises(ValueError, match=r"`seed` is .*; it must be an integer"):
            entry.build(seed=wrong)


@pytest.mark.parametrize("verb", ["encode", "reconstruct", "classify", "posterior"])
def test_images_of_another_shape_are_refused(model, images, verb):
    if hasattr(model, verb):
        for wrong in (images[..., :1], images[0], images[:, :7]):
            with pytest.raises(ValueError, match="shape"):
                getattr(model, verb)(wrong)
