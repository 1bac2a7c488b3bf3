"""EXoN in bfloat16: the networks compute in it, the sums and logarithms of the losses in float32."""

import keras
import numpy as np
import pytest
from keras import ops

PARTS = {"reconstruction": 10, "kl_categorical": 10, "kl_gaussian": 10, "cross_entropy": 4, "sci_labeled": 4}
PARTS |= {"sci_unlabeled": 6, "total": 1}


@pytest.fixture
def terms_and_gradients(differentiate):
    """The terms of a step, and the gradient of the total by each trainable variable."""

    def terms_and_gradients(model, batch, noise):
        def stacked():
            terms = model.step_losses(batch, noise, 0)
            assert {name: keras.backend.standardize_dtype(term.dtype) for name, term in terms.items()} == dict.fromkeys(
                PARTS, "float32"
            )
            return ops.concatenate([ops.reshape(terms[name], (-1,)) for name in PARTS])

        only_total = np.eye(sum(PARTS.values()), dtype="float32")[-1]
        values, gradients = differentiate(stacked, [], model.trainable_variables, only_total)
        return dict(zip(PARTS, np.split(values, np.cumsum([*PARTS.values()])[:-1]), strict=True)), gradients

    return terms_and_gradients


@pytest.mark.parametrize("logits", [[1.0, 0.0, -1.0], [100.0, 0.0, -100.0]], ids=["moderate", "extreme"])
def test_sums_and_logarithms_are_float32_also_of_networks_that_end_in_bfloat16(
    make_model, batch, terms_and_gradients, logits
):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = make_model()
    biases = {"mean": 0.5, "logvar": -1.0, "logits": logits, "pixels": 0.0}
    for network in (model.encoder, model.decoder, model.classifier):
        for layer in network.layers:
            if layer.name in biases:
                assert layer.compute_dtype == "bfloat16"
                layer.kernel.assign(ops.zeros(layer.kernel.shape))
                layer.bias.assign(np.broadcast_to(biases[layer.name], layer.bias.shape))
    noise = model.draw_noise(batch, 0) | {"mix_weight_labeled": np.float32(0.25)}
    terms, gradients = terms_and_gradients(model, batch, noise)

    images = np.concatenate([batch["labeled"], batch["unlabeled"]]).astype("float64")
    m, s2 = model.prior.means.astype("float64"), model.prior.variances.astype("float64")
    kl = 0.5 * np.sum(((0.5 - m) ** 2 + np.exp(-1)) / s2 + np.log(s2), axis=-1)  # -logvar - 1 is 0
    probs = np.exp(logits) / np.sum(np.exp(logits))
    surprise = -np.log(np.maximum(probs, 1e-10))
    labels = batch["labels"].astype("float64")
    mixed = 0.25 * labels[ops.convert_to_numpy(noise["partners_labeled"])] + 0.75 * labels
    expected = {
        "reconstruction": np.sum(images**2, axis=(1, 2, 3)) / 2,
        "kl_categorical": np.full(10, np.log(3) - probs @ surprise),
        "kl_gaussian": np.full(10, probs @ kl),
        "cross_entropy": labels @ surprise,
        "sci_labeled": mixed @ surprise,
        "sci_unlabeled": np.full(6, probs @ surprise),
    }
    sums = {name: value.sum() for name, value in expected.items()}
    expected["total"] = (
        sums["reconstruction"]
        + 0.3 * (sums["kl_categorical"] + sums["kl_gaussian"] + sums["cross_entropy"])
        + 5.0 * (sums["cross_entropy"] + sums["sci_labeled"])
        + 7.0 * sums["sci_unlabeled"]
    )
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        assert gradient.dtype == "float32"
        assert np.isfinite(gradient).all(), variable.path
