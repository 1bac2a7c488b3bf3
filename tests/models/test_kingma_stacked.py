"""M1+M2: M2 on the latent variables of an M1 that stays as it is."""

import warnings

import keras
import numpy as np
import pytest
from contract import asking, registry, small
from keras import ops
from scipy import special, stats

from keras_ssvae import evaluation
from keras_ssvae.models import M1, M1M2
from keras_ssvae.noise import Stream
from keras_ssvae.optimizers import Adam

ACTIVE = (0, 2, 3)  # of four, in the registry


def batch():
    whole = small.batch()
    return {name: whole[name] for name in ("labeled", "unlabeled", "labels")}


def values(model):
    return [ops.convert_to_numpy(weight).copy() for weight in model.weights]


def assert_equal(given, expected):
    for value, other in zip(given, expected, strict=True):
        np.testing.assert_array_equal(value, other)


def of_m1(m1, images):
    mean, logvar = (ops.convert_to_numpy(each) for each in m1.encoder(0.5 * (images + 1)))
    return mean, np.exp(0.5 * logvar)


def test_training_draws_the_features_anew_at_each_step_from_m1s_posterior(monkeypatch):
    model, given, seen = registry.m1m2(), batch(), []
    terms_of_rows = model._terms_of_rows
    monkeypatch.setattr(model, "_terms_of_rows", lambda run, x, *args: seen.append(x) or terms_of_rows(run, x, *args))
    for step in (0, 1):
        noise = asking.to_numpy(model.draw_noise(given, step))
        model.step_losses(given, noise, step)
        x = ops.convert_to_numpy(seen[-1])
        for part, rows in (("labeled", x[:4]), ("unlabeled", x[4:].reshape(6, small.K, 3))):
            mean, deviation = (each[:, ACTIVE] for each in of_m1(model.m1, given[part]))
            expected = mean + deviation * noise[f"epsilon_m1_{part}"]
            expected = expected if part == "labeled" else np.repeat(expected[:, None], small.K, axis=1)
            np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(ops.convert_to_numpy(seen[0]) - ops.convert_to_numpy(seen[1])).min() > 0


def test_its_terms_are_those_of_m2_with_a_gaussian_of_two_heads():
    model, given = registry.m1m2(), batch()
    noise = asking.to_numpy(model.draw_noise(given, 0))
    terms = asking.to_numpy(model.step_losses(given, noise, 0))
    mean, deviation = (each[:, ACTIVE] for each in of_m1(model.m1, given["labeled"]))
    x = mean + deviation * noise["epsilon_m1_labeled"]
    q_mean, q_logvar = (ops.convert_to_numpy(each) for each in model.encoder([x, given["labels"]]))
    z = q_mean + np.exp(0.5 * q_logvar) * noise["epsilon_labeled"]
    outputs = ops.convert_to_numpy(model.decoder(np.concatenate([z, given["labels"]], axis=1)))
    log_p = stats.norm.logpdf(x, outputs[:, :3], np.exp(0.5 * outputs[:, 3:])).sum(axis=1)
    np.testing.assert_allclose(terms["reconstruction"][:4], -log_p, rtol=1e-4)
    np.testing.assert_allclose(terms["kl_y"][:4], -np.log(given["labels"] @ small.UNEVEN), rtol=1e-5)


def test_training_leaves_m1_as_it_is_to_the_bit_and_moves_all_else():
    model = registry.m1m2(dropout=0.2)
    before, others = values(model.m1), [ops.convert_to_numpy(each).copy() for each in model.trainable_variables]
    model.trainable = True  # reaches M1
    model.compile(Adam(1e-2))
    assert model.m1.trainable_variables == []
    asking.fit(model, batch(), steps=3)
    assert_equal(values(model.m1), before)
    assert len(others) == 5 + 2 + 4 + 2
    for variable, value in zip(model.trainable_variables, others, strict=True):
        assert (ops.convert_to_numpy(variable) != value).any(), variable.path


def test_a_file_holds_m1_and_which_dimensions_are_active(tmp_path):
    m1 = registry.trained_m1()
    m1.compile(Adam(1e-3))
    asking.fit(m1, {"unlabeled": small.images(6)}, steps=2)
    model = registry.m1m2(m1=m1)
    model.compile(Adam(1e-2))
    asking.fit(model, batch(), steps=2)
    model.save(tmp_path / "model.keras")
    with warnings.catch_warnings(action="error"):
        restored = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(restored.m1, M1)
    assert restored.active == ACTIVE
    assert_equal(values(restored.m1), values(m1))
    images = small.images(5)
    for verb in ("classify", "encode", "reconstruct", "features"):
        np.testing.assert_allclose(getattr(restored, verb)(images), getattr(model, verb)(images), rtol=1e-5, atol=1e-6)
    for each in (model, restored):
        asking.fit(each, batch(), steps=2)
    asking.assert_same_bits(asking.state(restored), asking.state(model))
    assert_equal(values(restored.m1), values(m1))


def test_verbs_take_and_give_images_by_way_of_m1s_means():
    model, images = registry.m1m2(), small.images(5)
    mean, _ = of_m1(model.m1, images)
    np.testing.assert_allclose(model.features(images), mean[:, ACTIVE], rtol=1e-5)
    logits = ops.convert_to_numpy(model.classifier(mean[:, ACTIVE]))
    np.testing.assert_allclose(model.classify(images), special.softmax(logits, axis=1), rtol=1e-5)
    z = np.concatenate([np.random.default_rng(0).normal(size=(4, small.D)), np.eye(3)[[0, 2, 1, 1]]], axis=1)
    outputs = ops.convert_to_numpy(model.decoder(z))
    whole = np.zeros((4, 4), "float32")
    whole[:, ACTIVE] = outputs[:, :3]  # the means; the dimension that is not active is 0
    np.testing.assert_allclose(model.decode(z), model.m1.decode(whole), rtol=1e-5, atol=1e-6)
    assert np.abs(np.diff(ops.convert_to_numpy(model.generate([0, 1, 2], seed=1)), axis=0)).max() > 1e-3


def test_all_dimensions_are_taken_where_none_are_named():
    networks = {
        "encoder": small.label_encoder(shape=(4,)),
        "decoder": small.label_decoder(shape=(8,)),
        "classifier": small.label_classifier(shape=(4,)),
    }
    model = small.with_weights(M1M2(registry.trained_m1(), **networks, num_classes=small.K, z_dim=small.D), 3)
    images = small.images(5)
    assert model.active == (0, 1, 2, 3)
    np.testing.assert_allclose(model.features(images), model.m1.encode(images), rtol=1e-6)
    z = np.concatenate([np.ones((3, small.D)), np.eye(3)], axis=1)
    outputs = ops.convert_to_numpy(model.decoder(z))
    np.testing.assert_allclose(model.decode(z), model.m1.decode(outputs[:, :4]), rtol=1e-5, atol=1e-6)


def test_default_networks_fit_the_active_dimensions():
    m1 = registry.trained_m1()
    model = M1M2(m1, active=m1.active_dimensions(small.images(30)), num_classes=small.K)
    features = len(model.active)
    assert 0 < features <= 4
    assert model.decoder.output_shape == (None, 2 * features)
    assert model.latents == {"z": 50, "y": small.K}
    assert model.get_config()["active"] == model.active


def test_importance_weights_of_images_estimate_their_probability_and_the_bound():
    # M1 with one active dimension and one that is not, and M2 with one dimension of z: three to integrate over.
    rng, shape = np.random.default_rng(1), (2, 2, 1)
    image, z = keras.Input(shape), keras.Input((2,))
    flat = keras.layers.Flatten()(image)
    m1 = M1(
        keras.Model(image, [keras.layers.Dense(2, name=f"m1_{name}")(flat) for name in ("mean", "logvar")]),
        keras.Model(z, keras.layers.Reshape(shape)(keras.layers.Dense(4, name="m1_pixels")(z))),
        z_dim=2,
    )
    networks = {
        "encoder": small.label_encoder(latent_dim=1, shape=(1,)),
        "decoder": small.label_decoder(1 + small.K, shape=(2,)),
        "classifier": small.label_classifier(shape=(1,)),
    }
    model = M1M2(m1, **networks, active=[1], num_classes=small.K, z_dim=1, class_priors=[small.UNEVEN])
    for weight in model.weights:
        if weight.name in ("kernel", "bias"):
            weight.assign(rng.normal(scale=0.35, size=weight.shape))
    for network, name, logvar in ((m1.encoder, "m1_logvar", 0.5), (model.encoder, "z_logvar", 0.5)):  # wide: see M2's
        kernel, bias = network.get_layer(name).get_weights()
        network.get_layer(name).set_weights([0 * kernel, 0 * bias + logvar])
    kernel, bias = model.decoder.get_layer("decoded").get_weights()
    kernel[:, 1], bias[1] = 0.0, -0.7
    model.decoder.get_layer("decoded").set_weights([kernel, bias])
    images = (2.0 * np.array(list(np.ndindex(2, 2, 2, 2))) - 1).reshape(16, *shape).astype("float32")
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    weights = weights / weights.sum()
    total = 0.0
    for k, p_of_label in enumerate(small.UNEVEN):
        # Over z_2, then the active dimension given it, then the other one.
        outputs = ops.convert_to_numpy(model.decoder(np.c_[nodes, np.eye(3)[np.full(24, k)]]))
        z_1 = outputs[:, :1] + np.exp(0.5 * outputs[:, 1:]) * nodes
        grid = np.stack(np.broadcast_arrays(nodes[None, None, :], z_1[:, :, None]), axis=-1)
        logits = ops.convert_to_numpy(m1.decoder(grid.reshape(-1, 2))).astype("float64").reshape(-1, 4)
        p = np.exp(stats.bernoulli.logpmf(images.reshape(16, 1, 4) > 0, special.expit(logits)).sum(axis=2))
        joint = weights[:, None, None] * weights[None, :, None] * weights[None, None, :]
        total = total + p_of_label * p @ joint.ravel()
    np.testing.assert_allclose(total.sum(), 1.0, rtol=1e-5)
    samples = 6000
    log_weights = model.log_weights(images, model.posterior_noise(16, samples, Stream(1, 0)))
    log_weights = ops.convert_to_numpy(log_weights).astype("float64")
    relative = np.exp(log_weights) / total[:, None]
    errors = relative.std(axis=1) / samples**0.5
    assert errors.max() < 0.06
    assert (np.abs(relative.mean(axis=1) - 1) < 5 * errors).all()
    assert (log_weights.mean(axis=1) < np.log(total)).all()
    result = evaluation.nll(model, images, samples=50)
    assert result.mean < result.bound


@pytest.mark.parametrize("active", [[], [0, 4], [-1, 2], [2, 0], [1, 1], [0.0, 1.0]])
def test_dimensions_that_m1_does_not_have_are_refused(active):
    with pytest.raises(ValueError, match=r"`active` is .*; it must be numbers of M1's 4 dimensions"):
        M1M2(registry.trained_m1(), active=active)


def test_another_model_is_no_m1():
    with pytest.raises(ValueError, match=r"`m1` is .*; it must be a trained `M1`"):
        M1M2(registry.vae())


def test_images_of_another_shape_need_another_m1():
    with pytest.raises(ValueError, match="The images are those of `m1`"):
        registry.m1m2().classify(np.zeros((2, 9, 9, 3), "float32"))
