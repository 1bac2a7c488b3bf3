"""The training step of EXoN: its objective against plain numpy, its moving statistics, its noise."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssvae.losses import mix, sci
from keras_ssvae.optimizers import Adam, GroupedOptimizer
from keras_ssvae.schedules import RampUp

PARTS = ("labeled", "unlabeled", "labeled_augmented", "unlabeled_augmented")


def to_numpy(tensors):
    return {name: np.asarray(value) for name, value in tensors.items()}


def dense(network, name, x):
    kernel, *bias = network.get_layer(name).get_weights()
    return x @ kernel.astype("float64") + sum(bias)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def hidden(model, images):
    """What the classifier's batch normalisation sees."""
    return dense(model.classifier, "hidden", images.reshape(len(images), -1))


def classify_in_training(model, images):
    """Class probabilities by the statistics of the batch (and no dropout), in numpy."""
    h = hidden(model, images)
    gamma, beta, *_ = model.classifier.get_layer("bn").get_weights()
    h = gamma * (h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + 1e-3) + beta
    return softmax(dense(model.classifier, "logits", np.maximum(h, 0)))


def encode(model, images):
    x = np.tanh(dense(model.encoder, "hidden", images.reshape(len(images), -1)))
    shape = (len(images), model.num_classes, model.latent_dim)
    return [dense(model.encoder, name, x).reshape(shape) for name in ("mean", "logvar")]


def mixed_images(batch, noise, part):
    weight, partners = noise[f"mix_weight_{part}"].astype("float64"), noise[f"partners_{part}"]
    images = batch[f"{part}_augmented"]
    return weight * images[partners] + (1 - weight) * images


def terms_in_numpy(model, batch, noise):
    """The documented terms, example by example, written down a second time and in float64."""
    images = np.concatenate([batch["labeled"], batch["unlabeled"]])
    weights = classify_in_training(model, images)
    mean, logvar = encode(model, images)
    component = np.argmax(np.log(weights + 1e-8) + noise["gumbel"], axis=-1)
    z_of_each = mean + np.exp(logvar / 2) * noise["epsilon"]
    z = z_of_each[np.arange(len(images)), component]
    decoded = np.tanh(dense(model.decoder, "pixels", z)).reshape(images.shape)

    m, s2 = model.prior.means.astype("float64"), model.prior.variances.astype("float64")
    kl = 0.5 * np.sum(((mean - m) ** 2 + np.exp(logvar)) / s2 + np.log(s2) - logvar - 1, axis=-1)
    terms = {
        "reconstruction": 0.5 * np.sum((images - decoded) ** 2, axis=(1, 2, 3)),
        "kl_categorical": np.sum(weights * (np.log(weights) + np.log(model.num_classes)), axis=-1),
        "kl_gaussian": np.sum(weights * kl, axis=-1),
        "cross_entropy": -np.sum(
            batch["labels"] * np.log(classify_in_training(model, batch["labeled_augmented"])), axis=-1
        ),
    }
    targets = {"labeled": batch["labels"], "unlabeled": classify_in_training(model, batch["unlabeled_augmented"])}
    for part, target in targets.items():
        log_probs = np.log(classify_in_training(model, mixed_images(batch, noise, part)))
        rho, partner = noise[f"mix_weight_{part}"].astype("float64"), target[noise[f"partners_{part}"]]
        terms[f"sci_{part}"] = -np.sum(rho * partner * log_probs + (1 - rho) * target * log_probs, axis=-1)
    return terms


def compiled(model, rate=1e-2):
    model.compile(GroupedOptimizer({"autoencoder": Adam(rate), "classifier": Adam(rate, weight_decay=1e-2)}))
    return model


def train(model, batch, steps):
    """`fit` on the same batch, `steps` times; returns the last logs."""
    x, y = {part: batch[part] for part in PARTS}, batch["labels"]
    history = model.fit(tf.data.Dataset.from_tensors((x, y)).repeat(steps), verbose=0)
    return {name: values[-1] for name, values in history.history.items()}


def everything(model):
    """All variables of model and optimizer, but for the noise generators: their state is set at each step."""
    variables = (*model.weights, *model.optimizer.variables)
    return [(v.path, v.numpy()) for v in variables if not v.path.endswith("seed_generator_state")]


def assert_same_bits(model, expected):
    for (path, value), (_, expected_value) in zip(everything(model), everything(expected), strict=True):
        np.testing.assert_array_equal(value, expected_value, err_msg=path)


# The objective


@pytest.mark.parametrize("step", [0, 3])
def test_every_term_and_the_total_equal_the_formula_in_numpy(make_model, batch, step):
    model = make_model()
    noise = to_numpy(model.draw_noise(batch, step))
    expected = terms_in_numpy(model, batch, noise)
    terms = to_numpy(model.step_losses(batch, noise, step))
    assert set(terms) == {*expected, "total"} == {*model.training_terms, "total"}
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=2e-5, atol=1e-6, err_msg=name)
    sums = {name: value.sum() for name, value in expected.items()}
    total = (
        sums["reconstruction"]
        + 0.3 * (sums["kl_categorical"] + sums["kl_gaussian"] + sums["cross_entropy"])
        + 5.0 * (sums["cross_entropy"] + sums["sci_labeled"])
        + 7.0 * sums["sci_unlabeled"]
    )
    np.testing.assert_allclose(terms["total"], total, rtol=1e-5)


def test_pseudo_labels_are_constants_to_the_gradient(make_model, batch):
    model = make_model()
    noise = to_numpy(model.draw_noise(batch, 0))
    variables = model.classifier.trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model.step_losses(batch, noise, 0)["sci_unlabeled"])
    gradients = tape.gradient(loss, variables)
    targets = classify_in_training(model, batch["unlabeled_augmented"]).astype("float32")
    mixing = noise["partners_unlabeled"], noise["mix_weight_unlabeled"]
    with tf.GradientTape() as tape:
        logits = model.classifier(mix(batch["unlabeled_augmented"], *mixing), training=True)
        loss = tf.reduce_sum(sci(targets, tf.nn.softmax(logits), *mixing))
    for gradient, expected in zip(gradients, tape.gradient(loss, variables), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)
    assert max(np.abs(gradient).max() for gradient in gradients) > 0.1


def test_labels_belong_to_the_labelled_images_and_move_only_their_terms(make_model, batch):
    model = make_model()
    noise = to_numpy(model.draw_noise(batch, 0))
    assert len(batch["labels"]) == len(batch["labeled"])

    def terms_and_gradients(labels):
        with tf.GradientTape() as tape:
            terms = model.step_losses({**batch, "labels": labels}, noise, 0)
        return to_numpy(terms), tape.gradient(terms["total"], model.variable_groups()["autoencoder"])

    terms, gradients = terms_and_gradients(batch["labels"])
    permuted, permuted_gradients = terms_and_gradients(batch["labels"][[1, 2, 3, 0]])
    changed = {name for name, value in terms.items() if not np.array_equal(value, permuted[name])}
    assert changed == {"cross_entropy", "sci_labeled", "total"}
    for gradient, other in zip(gradients, permuted_gradients, strict=True):
        np.testing.assert_array_equal(gradient, other)


def test_lambda2_as_a_number_is_a_variable_that_can_be_assigned(make_model, batch):
    model = make_model(lambda2=7.0)
    noise = model.draw_noise(batch, 0)
    before = to_numpy(model.step_losses(batch, noise, 0))
    model.lambda2.assign(11.0)
    after = to_numpy(model.step_losses(batch, noise, 0))
    np.testing.assert_allclose(after["total"] - before["total"], 4.0 * before["sci_unlabeled"].sum(), rtol=1e-4)
    assert not any(variable is model.lambda2 for variable in model.trainable_variables)


def test_lambda2_as_a_schedule_follows_the_step(make_model, batch):
    model = make_model(lambda2=RampUp(100.0, ramp_epochs=2, steps_per_epoch=3))
    noise = model.draw_noise(batch, 0)  # the same at all steps
    terms = [to_numpy(model.step_losses(batch, noise, step)) for step in (0, 2, 3, 6)]
    without = terms[0]["total"] - 100.0 * np.exp(-5) * terms[0]["sci_unlabeled"].sum()
    weights = [(t["total"] - without) / t["sci_unlabeled"].sum() for t in terms]
    np.testing.assert_allclose(weights, [100 * np.exp(-5)] * 2 + [100 * np.exp(-1.25), 100.0], rtol=1e-3)


# Moving statistics


def test_moving_statistics_take_four_passes_in_the_documented_order_and_no_trace_of_the_pseudo_labels(
    make_model, batch
):
    model = make_model()
    normalisation = model.classifier.get_layer("bn")
    noise = to_numpy(model.draw_noise(batch, 0))
    model.step_losses(batch, noise, 0)

    passes = {
        "all": np.concatenate([batch["labeled"], batch["unlabeled"]]),
        "labeled_augmented": batch["labeled_augmented"],
        "labeled_mixed": mixed_images(batch, noise, "labeled"),
        "unlabeled_mixed": mixed_images(batch, noise, "unlabeled"),
    }

    def moving(order):
        mean, variance = np.zeros(6), np.ones(6)
        for name in order:
            h = hidden(model, passes[name])
            mean, variance = (mean + h.mean(axis=0)) / 2, (variance + h.var(axis=0)) / 2
        return np.stack([mean, variance])

    value = np.stack([normalisation.moving_mean.numpy(), normalisation.moving_variance.numpy()])
    np.testing.assert_allclose(value, moving(passes), rtol=1e-4, atol=1e-5)
    for other in itertools.permutations(passes):
        assert other == tuple(passes) or np.abs(value - moving(other)).max() > 1e-3


# Noise


def test_noise_is_a_function_of_seed_and_step_only(make_model, batch):
    first = to_numpy(make_model(seed=4).draw_noise(batch, 2))
    other = make_model(seed=4, weights_seed=1, dropout=0.5)
    train(compiled(other), batch, 3)
    for step in (7, 2):  # what was drawn before leaves no trace
        again = to_numpy(other.draw_noise({**batch, "labeled": batch["labeled"][::-1]}, tf.constant(step, "int64")))
    assert set(again) == set(first)
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


def test_noise_of_other_steps_and_seeds_shares_no_number(make_model, batch):
    draws = [to_numpy(make_model(seed=seed).draw_noise(batch, step)) for seed in (0, 1) for step in (0, 1, 2)]
    for name in ("epsilon", "gumbel", "mix_weight_labeled", "mix_weight_unlabeled"):
        numbers = np.concatenate([np.ravel(noise[name]) for noise in draws])
        assert len(np.unique(numbers)) == len(numbers), name


def test_noise_has_the_shapes_and_ranges_of_the_batch(make_model, batch):
    noise = to_numpy(make_model().draw_noise(batch, 0))
    assert noise["epsilon"].shape == (10, 3, 2)
    assert noise["gumbel"].shape == (10, 3)
    for part in ("labeled", "unlabeled"):
        assert sorted(noise[f"partners_{part}"]) == list(range(len(batch[part])))
        assert noise[f"mix_weight_{part}"].shape == ()
        assert 0 <= noise[f"mix_weight_{part}"] <= 1


@keras.saving.register_keras_serializable("test_exon_training")
class Record(keras.layers.Layer):
    """Passes its input on and keeps it, where it is computed eagerly."""

    seen = ()

    def call(self, x):
        self.seen = (*self.seen, x.numpy())
        return x

    def compute_output_shape(self, input_shape):  # so that Keras does not trace `call` with a symbol
        return input_shape


def recording_model(make_model, seed):
    """A model whose classifier has two dropout layers, and what these let through."""
    inputs = keras.Input((8, 8, 3))
    x, records = keras.layers.Flatten()(inputs), [Record(), Record()]
    for record in records:
        x = record(keras.layers.Dropout(0.5)(keras.layers.Dense(32)(x)))
    classifier = keras.Model(inputs, keras.layers.Dense(3)(x), name="classifier")
    return make_model(classifier=classifier, seed=seed), records


def dropout_masks(make_model, batch, seed, steps):
    """Of the first four images in each of the five passes, for both layers."""
    model, records = recording_model(make_model, seed)
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


def test_dropout_in_encoder_and_decoder_is_a_function_of_seed_and_step(make_model, networks, batch):
    z = keras.Input((2,))
    decoder = keras.Model(z, networks["decoder"](30)(keras.layers.Dropout(0.5)(keras.layers.Dense(30)(z))))
    model = make_model(decoder=decoder)
    noise = model.draw_noise(batch, 0)
    first, again = (model.step_losses(batch, noise, 0)["reconstruction"] for _ in range(2))
    np.testing.assert_array_equal(first, again)


# Whole steps


def test_the_same_seed_gives_the_same_weights_bit_for_bit(make_model, batch):
    models = [compiled(make_model(dropout=0.5)) for _ in range(2)]
    start = [weight.numpy() for weight in models[0].trainable_weights]
    for model in models:
        train(model, batch, 5)
    assert_same_bits(*models)
    assert all((w.numpy() != value).any() for w, value in zip(models[0].trainable_weights, start, strict=True))


def test_the_graph_of_fit_takes_the_steps_that_replay_takes_eagerly(make_model, batch):
    in_graph, eager = compiled(make_model(dropout=0.5)), compiled(make_model(dropout=0.5))
    train(in_graph, batch, 3)
    for step in range(3):
        assert int(eager.optimizer.iterations) == step
        eager.replay_step(batch, eager.draw_noise(batch, step))
    for (path, value), (_, expected) in zip(everything(in_graph), everything(eager), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4, err_msg=path)


def test_logs_are_the_means_per_image_of_the_terms(make_model, batch):
    model = compiled(make_model())
    expected = terms_in_numpy(model, batch, to_numpy(model.draw_noise(batch, 0)))
    logs = train(model, batch, 1)
    assert set(logs) == {"loss", *model.training_terms}
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], value.mean(), rtol=1e-4, err_msg=name)
    total = sum(
        weight * sum(expected[name].sum() for name in names)
        for weight, names in [
            (1.0, ["reconstruction"]),
            (0.3, ["kl_categorical", "kl_gaussian", "cross_entropy"]),
            (5.0, ["cross_entropy", "sci_labeled"]),
            (7.0, ["sci_unlabeled"]),
        ]
    )
    np.testing.assert_allclose(logs["loss"], total / 10, rtol=1e-4)


def test_training_lowers_the_objective(make_model, batch):
    model = compiled(make_model())
    first = train(model, batch, 1)["loss"]
    train(model, batch, 100)
    assert train(model, batch, 1)["loss"] < 0.7 * first


def test_a_run_that_is_saved_and_loaded_goes_on_as_if_never_interrupted(make_model, batch, tmp_path):
    straight, interrupted = (compiled(make_model(dropout=0.5)) for _ in range(2))
    train(straight, batch, 5)
    train(interrupted, batch, 3)
    interrupted.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    assert int(resumed.optimizer.iterations) == 3
    train(resumed, batch, 2)
    assert_same_bits(resumed, straight)
