"""The training step of EXoN: its objective against plain numpy, its moving statistics, its logs."""

import itertools

import numpy as np
import pytest
from keras import ops

from keras_ssvae.losses import mix, sci
from keras_ssvae.schedules import RampUp


def to_numpy(tensors):
    return {name: ops.convert_to_numpy(value) for name, value in tensors.items()}


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
    return terms | {f"sci_{part}": sci_in_numpy(model, batch, noise, part, targets[part]) for part in targets}


def sci_in_numpy(model, batch, noise, part, targets):
    log_probs = np.log(classify_in_training(model, mixed_images(batch, noise, part)))
    rho, partners = noise[f"mix_weight_{part}"].astype("float64"), targets[noise[f"partners_{part}"]]
    return -np.sum(rho * partners * log_probs + (1 - rho) * targets * log_probs, axis=-1)


def total_of(terms):
    """The objective with the fixture's beta, lambda1 and lambda2."""
    sums = {name: value.sum() for name, value in terms.items()}
    return (
        sums["reconstruction"]
        + 0.3 * (sums["kl_categorical"] + sums["kl_gaussian"] + sums["cross_entropy"])
        + 5.0 * (sums["cross_entropy"] + sums["sci_labeled"])
        + 7.0 * sums["sci_unlabeled"]
    )


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
    np.testing.assert_allclose(terms["total"], total_of(expected), rtol=1e-5)


def test_pseudo_labels_are_constants_to_the_gradient(model, batch, differentiate):
    noise = to_numpy(model.draw_noise(batch, 0))
    targets = classify_in_training(model, batch["unlabeled_augmented"]).astype("float32")
    partners, weight = noise["partners_unlabeled"], noise["mix_weight_unlabeled"]

    def with_given_targets():
        logits = model.classifier(mix(batch["unlabeled_augmented"], partners, weight), training=True)
        return sci(targets, targets[partners], ops.softmax(logits), weight)

    variables = model.classifier.trainable_variables
    _, gradients = differentiate(lambda: model.step_losses(batch, noise, 0)["sci_unlabeled"], [], variables)
    _, expected = differentiate(with_given_targets, [], variables)
    for gradient, expected_gradient in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-5)
    assert max(np.abs(gradient).max() for gradient in gradients) > 0.1


def test_labels_belong_to_the_labelled_images_and_move_only_their_terms(model, batch, differentiate):
    noise = to_numpy(model.draw_noise(batch, 0))
    assert len(batch["labels"]) == len(batch["labeled"])

    def of_autoencoder(labels):
        return differentiate(
            lambda labels: model.step_losses({**batch, "labels": labels}, noise, 0)["total"],
            [labels],
            model.variable_groups()["autoencoder"],
        )[1][1:]

    permuted = batch["labels"][[1, 2, 3, 0]]
    terms, other_terms = (
        to_numpy(model.step_losses({**batch, "labels": labels}, noise, 0)) for labels in (batch["labels"], permuted)
    )
    changed = {name for name, value in terms.items() if not np.array_equal(value, other_terms[name])}
    assert changed == {"cross_entropy", "sci_labeled", "total"}
    for gradient, other in zip(of_autoencoder(batch["labels"]), of_autoencoder(permuted), strict=True):
        np.testing.assert_array_equal(gradient, other)
        assert np.abs(gradient).max() > 0


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
    # Beta(0.1, 0.1) may well give 0 or 1: then mixed images have the statistics of others.
    noise = to_numpy(model.draw_noise(batch, 0)) | {"mix_weight_labeled": np.float32(0.3)}
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


# Whole steps


def test_logs_are_the_means_per_image_of_the_terms(make_model, compile_model, batch, train):
    model = compile_model(make_model())
    expected = terms_in_numpy(model, batch, to_numpy(model.draw_noise(batch, 0)))
    logs = train(model, batch, 1)
    assert set(logs) == {"loss", *model.training_terms}
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], value.mean(), rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(logs["loss"], total_of(expected) / 10, rtol=1e-4)


def test_pseudo_labels_follow_the_weights_from_step_to_step(make_model, compile_model, batch, train):
    model = compile_model(make_model(), rate=0.1)
    first = classify_in_training(model, batch["unlabeled_augmented"])
    for step in range(4):
        noise = to_numpy(model.draw_noise(batch, step))
        expected = terms_in_numpy(model, batch, noise)["sci_unlabeled"].mean()
        with_first = sci_in_numpy(model, batch, noise, "unlabeled", first).mean()
        np.testing.assert_allclose(train(model, batch, 1)["sci_unlabeled"], expected, rtol=1e-4)
        assert step == 0 or abs(with_first / expected - 1) > 0.05
