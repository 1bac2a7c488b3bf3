"""PartedVAE in bfloat16: its own layers compute in it, its prior in float32."""

import keras
import numpy as np
from keras import ops


def to_numpy(tensors):
    return {name: ops.convert_to_numpy(value) for name, value in tensors.items()}


def test_in_bfloat16_the_terms_are_float32_and_those_of_float32_within_a_few_percent(make_parted, parted_batch):
    results = []
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model = make_parted()
        batch = parted_batch(model)
        noise = model.draw_noise(batch, 1)
        terms = {**model.step_losses(batch, noise, 1), "warm_up": model.supervised_losses(batch, noise)["warm_up"]}
        assert {name: keras.backend.standardize_dtype(term.dtype) for name, term in terms.items()} == dict.fromkeys(
            ("total", *model.training_terms), "float32"
        )
        results.append(to_numpy(terms))
    assert {layer.compute_dtype for layer in (model.encoder.get_layer("hidden"), model.heads.z_mean)} == {"bfloat16"}
    expected, terms = results
    for name, value in expected.items():
        np.testing.assert_allclose(np.mean(terms[name]), np.mean(value), rtol=0.03, err_msg=name)
    assert np.abs(terms["reconstruction"] - expected["reconstruction"]).max() > 1e-3
    np.testing.assert_array_equal(terms["overlap"], expected["overlap"])  # the prior is float32 under every policy
