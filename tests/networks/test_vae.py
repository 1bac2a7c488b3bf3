"""The gated networks of VAE and VampPrior."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special

from keras_ssvae.networks import vae
from keras_ssvae.networks.layers import Gated

X = np.random.default_rng(0).normal(size=(5, 7)).astype("float32")


def test_a_gated_layer_is_a_linear_map_times_its_gate():
    layer = Gated(3)
    given = layer(X)
    linear, gate = (
        X @ ops.convert_to_numpy(dense.kernel) + ops.convert_to_numpy(dense.bias)
        for dense in (layer.linear, layer.gate)
    )
    np.testing.assert_allclose(given, linear * special.expit(gate), rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape((None, 7)) == (None, 3)


def test_its_weights_start_as_those_of_vampprior_s_code():
    layer = Gated(400)
    layer.build((None, 600))
    for dense in (layer.linear, layer.gate):
        kernel, bias = ops.convert_to_numpy(dense.kernel), ops.convert_to_numpy(dense.bias)
        np.testing.assert_allclose(kernel.std(), (2 / 600) ** 0.5, rtol=0.02)
        assert np.abs(bias).max() <= 600**-0.5
        np.testing.assert_allclose(bias.std(), (3 * 600) ** -0.5, rtol=0.1)


def test_a_gated_layer_is_restored_from_its_config():
    config = keras.saving.serialize_keras_object(Gated(3, name="gated"))
    restored = keras.saving.deserialize_keras_object(config)
    assert (type(restored), restored.units, restored.name) == (Gated, 3, "gated")


def test_the_networks_have_the_papers_parameters():
    encoder, decoder = vae.encoder(), vae.decoder()
    assert encoder.count_params() + decoder.count_params() == 1_116_864
    assert [each.shape for each in encoder.outputs] == [(None, 40), (None, 40)]
    assert decoder.output_shape == (None, 28, 28, 1)


def test_log_variances_are_clipped_and_have_no_gradient_there(differentiate):
    given, (gradient,) = differentiate(vae.clip_logvar, [np.float32([-9.0, -6.5, 0.3, 2.5])])
    np.testing.assert_allclose(given, [-6.0, -6.0, 0.3, 2.0])
    np.testing.assert_array_equal(gradient, [0.0, 0.0, 1.0, 0.0])


def test_sizes_are_arguments():
    encoder, decoder = vae.encoder((8, 6, 3), 5, 16), vae.decoder((8, 6, 6), 5, 16)
    mean, logvar = encoder(np.zeros((2, 8, 6, 3), "float32"))
    assert (mean.shape, logvar.shape) == ((2, 5), (2, 5))
    assert decoder(mean).shape == (2, 8, 6, 6)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_under_bfloat16_the_outputs_are_float32(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = getattr(vae, name)(hidden=8)
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = network(np.zeros((1, *network.input_shape[1:]), "float32"))
    for each in outputs if isinstance(outputs, list | tuple) else [outputs]:
        assert keras.backend.standardize_dtype(each.dtype) == "float32"
