"""The noise of EXoN's training step: its shapes, and dropout, a function of the seed, the step and the pass."""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ssvae import losses
from keras_ssvae.networks.layers import ConvBlock


def to_numpy(tensors):
    return {name: ops.convert_to_numpy(value) for name, value in tensors.items()}


def test_noise_has_the_shapes_and_ranges_of_the_batch(model, batch):
    noise = to_numpy(model.draw_noise(batch, 0))
    assert noise["epsilon"].shape == (10, 3, 2)
    assert noise["gumbel"].shape == (10, 3)
    for part in ("labeled", "unlabeled"):
        assert sorted(noise[f"partners_{part}"]) == list(range(len(batch[part])))
        assert noise[f"mix_weight_{part}"].shape == ()
        assert 0 <= noise[f"mix_weight_{part}"] <= 1


# Dropout


class Record(layers.Layer):
    """Passes its input on and keeps it, where it is computed eagerly."""

    seen = ()

    def call(self, x):
        self.seen = (*self.seen, ops.convert_to_numpy(x))
        return x

    def compute_output_shape(self, input_shape):  # so that Keras does not trace `call` with a symbol
        return input_shape


def recording(inputs, outputs, **kwargs):
    """A network with two dropout layers, and what these let through."""
    x, records = layers.Flatten()(inputs), [Record(), Record()]
    for record in records:
        x = record(layers.Dropout(0.5)(layers.Dense(32)(x)))
    return keras.Model(inputs, outputs(x), **kwargs), records


def forget(records):
    """What the model has seen when it looked at its networks."""
    for record in records:
        record.seen = ()


def dropout_masks(make_model, batch, seed, steps):
    """Of the first four images in each of the five passes of the classifier, for both layers."""
    classifier, records = recording(keras.Input((8, 8, 3)), layers.Dense(3))
    model = make_model(classifier=classifier, seed=seed)
    forget(records)
    for step in steps:
        model.step_losses(batch, model.draw_noise(batch, step), step)
    masks = [seen[:4] == 0 for record in records for seen in record.seen]
    assert len(masks) == 10 * len(steps)
    return masks


def test_dropout_masks_differ_between_passes_layers_steps_and_seeds(make_model, batch):
    masks = [mask for seed in (0, 1) for mask in dropout_masks(make_model, batch, seed, steps=(0, 1))]
    assert all(0.2 < mask.mean() < 0.8 for mask in masks)
    assert len({mask.tobytes() for mask in masks}) == len(masks) == 40


def test_dropout_masks_are_the_same_for_the_same_seed_and_step(make_model, batch):
    straight = dropout_masks(make_model, batch, seed=3, steps=(0, 1, 5))
    alone = dropout_masks(make_model, batch, seed=3, steps=(5,))
    after_five = [straight[layer * 15 + 10 + i] for layer in (0, 1) for i in range(5)]
    np.testing.assert_array_equal(after_five, alone)


def test_encoder_and_decoder_drop_out_by_the_step_each_in_its_own_way(make_model, batch):
    def heads(x):
        return [layers.Reshape((3, 2))(layers.Dense(6)(x)) for _ in range(2)]

    def pixels(x):
        return layers.Reshape((8, 8, 3))(layers.Dense(192)(x))

    encoder, of_encoder = recording(keras.Input((8, 8, 3)), heads)
    decoder, of_decoder = recording(keras.Input((2,)), pixels)
    model = make_model(encoder=encoder, decoder=decoder)
    forget((*of_encoder, *of_decoder))
    noise = [model.draw_noise(batch, step) for step in (0, 1)]
    for step in (0, 1, 0):
        # The same images, the same latent variables: only dropout follows the step.
        model.step_losses(batch, {**noise[0], "dropout": noise[step]["dropout"]}, 0)
    masks = [[seen == 0 for seen in record.seen] for record in (*of_encoder, *of_decoder)]
    for first, _, again in masks:
        np.testing.assert_array_equal(first, again)
    assert len({mask.tobytes() for first, second, _ in masks for mask in (first, second)}) == 8


def test_dropout_of_compiled_blocks_follows_the_step_alone(make_model, networks, batch, compiled):
    model = make_model(**networks["convolutional"](rate=0.5))
    noise = model.draw_noise(batch, 0)

    @compiled
    def terms(counter):
        # Training moves statistics, which the next call is not to see.
        with keras.StatelessScope([(variable, variable.value) for variable in model.variables]):
            given = model.step_losses(batch, {**noise, "dropout": counter}, 0)
        return {name: given[name] for name in model.training_terms}

    counters = [model.draw_noise(batch, step)["dropout"] for step in (0, 1, 0)]
    first, other, again = (to_numpy(terms(ops.convert_to_tensor(counter, "int32"))) for counter in counters)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name], err_msg=name)
        assert np.abs(first[name] - other[name]).max() > 1e-3, name


# Pseudo-labels without dropout


def nested_classifier(rate):
    """Dropout of Keras and of the library, at different depths."""
    images = keras.Input((8, 8, 3))
    block = ConvBlock(8, 3, pool=True, rate=rate)
    inner = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dropout(rate)])
    x = inner(layers.SpatialDropout2D(rate / 2)(block(images)))
    return keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


@pytest.fixture
def pseudo_labels(monkeypatch):
    """The pseudo-labels of each step that is computed eagerly."""
    seen, sci = [], losses.sci

    def record(labels, *args):
        seen.append(ops.convert_to_numpy(labels))
        return sci(labels, *args)

    monkeypatch.setattr(losses, "sci", record)
    return lambda: seen[1::2]  # the labelled part comes first


def test_pseudo_labels_without_dropout_are_those_of_a_classifier_that_has_none(make_model, batch, pseudo_labels):
    without, dropping, free = (
        make_model(classifier=nested_classifier(rate), pseudo_label_dropout=flag)
        for rate, flag in ((0.5, False), (0.5, True), (0.0, True))
    )
    noise = free.draw_noise(batch, 0)
    terms = [to_numpy(model.step_losses(batch, noise, 0)) for model in (without, dropping, free)]
    first, with_dropout, expected = pseudo_labels()
    np.testing.assert_array_equal(first, expected)
    assert np.abs(with_dropout - expected).max() > 1e-2
    # Statistics of the batch, as training has them, and not the moving ones.
    assert np.abs(first - ops.convert_to_numpy(without.classify(batch["unlabeled_augmented"]))).max() > 1e-2
    # The other passes drop out, and as they do with the other setting.
    for name in set(without.training_terms) - {"sci_unlabeled"}:
        np.testing.assert_array_equal(terms[0][name], terms[1][name], err_msg=name)
    for name in ("kl_categorical", "cross_entropy", "sci_labeled", "sci_unlabeled"):
        assert np.abs(terms[0][name] - terms[2][name]).max() > 1e-3, name


def test_rates_are_restored_also_after_an_error(make_model, batch):
    model = make_model(classifier=nested_classifier(0.5), pseudo_label_dropout=False)

    def rates():
        return [layer.rate for layer in model.classifier._flatten_layers() if hasattr(layer, "rate")]

    before = rates()
    assert sorted(before) == [0.25, 0.5, 0.5]
    noise = model.draw_noise(batch, 0)
    model.step_losses(batch, noise, 0)
    assert rates() == before
    with contextlib.suppress(Exception):
        model.step_losses({**batch, "unlabeled_augmented": batch["unlabeled"][..., :1]}, noise, 0)
        pytest.fail("The images have too few channels.")
    assert rates() == before


def test_a_compiled_step_makes_pseudo_labels_without_dropout_and_a_saved_model_goes_on_so(
    make_model, compile_model, batch, train, tmp_path
):
    model, eager = (compile_model(make_model(dropout=0.5, pseudo_label_dropout=False)) for _ in range(2))
    noise = eager.draw_noise(batch, 0)
    terms = to_numpy(eager.step_losses(batch, noise, 0))
    eager.pseudo_label_dropout = True
    other = to_numpy(eager.step_losses(batch, noise, 0))
    logs = train(model, batch, 1)
    for name in model.training_terms:
        np.testing.assert_allclose(logs[name], terms[name].mean(), rtol=1e-4, err_msg=name)
    assert abs(logs["sci_unlabeled"] / other["sci_unlabeled"].mean() - 1) > 1e-3

    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").pseudo_label_dropout is False
    assert model.get_config()["pseudo_label_dropout"] is False
