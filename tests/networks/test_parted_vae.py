"""Counts by hand, from Tables 3 to 5 of the PartedVAE paper."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ssvae.networks import parted_vae

# Data set -> image, filters of the convolutions, their outputs' sizes, filters of the transposed ones, dimensions.
TABLES = {
    "mnist": ((32, 32, 1), [32, 64, 64], [(16, 16), (8, 8), (4, 4)], [32, 32, 1], 16),
    "dsprites": ((64, 64, 1), [32, 32, 64, 64], [(32, 32), (16, 16), (8, 8), (4, 4)], [64, 32, 32, 1], 6),
    "celeba": (
        (218, 178, 3),
        [32, 32, 64, 64, 64],
        [(108, 88), (54, 44), (26, 22), (12, 10), (5, 5)],
        [64, 64, 32, 32, 3],
        18,
    ),
}
CELEBA_PADDINGS = [(0, 0), (1, 1), (0, 1), (0, 0), (0, 1)]


@pytest.fixture(scope="module")
def networks(quick_weights):
    """Data set -> encoder and decoder."""
    with quick_weights():
        return {
            name: (getattr(parted_vae, f"{name}_encoder")(), getattr(parted_vae, f"{name}_decoder")())
            for name in TABLES
        }


def parameters(network):
    """Trainable parameters, layer by layer."""
    return {layer.name: sum(int(np.prod(w.shape)) for w in layer.weights) for layer in network.layers if layer.weights}


def convolutions(first, filters):
    """Parameters of 4x4 convolutions, or transposed ones, with biases."""
    channels = [first, *filters]
    return {f"conv_{i}": 4 * 4 * channels[i] * number + number for i, number in enumerate(filters)}


@pytest.mark.parametrize("name", TABLES)
def test_the_encoder_has_the_parameters_of_its_table(networks, name):
    image, filters, sizes, _, _ = TABLES[name]
    flat = {"mnist": 1024, "dsprites": 1024, "celeba": 1600}[name]
    encoder = networks[name][0]
    assert parameters(encoder) == {**convolutions(image[2], filters), "features": flat * 256 + 256}
    assert encoder.input_shape == (None, *image)
    assert encoder.output_shape == (None, 256)
    outputs = [encoder.get_layer(f"conv_{i}").output.shape[1:] for i in range(len(filters))]
    assert outputs == [(*size, number) for size, number in zip(sizes, filters, strict=True)]


@pytest.mark.parametrize("name", TABLES)
def test_the_decoder_has_the_parameters_of_its_table(networks, name):
    image, encoded, sizes, filters, latent_dim = TABLES[name]
    decoder = networks[name][1]
    flat = {"mnist": 1024, "dsprites": 1024, "celeba": 1600}[name]
    dense = {"dense_0": latent_dim * 256 + 256, "dense_1": 256 * flat + flat}
    assert parameters(decoder) == {**dense, **convolutions(encoded[-1], filters)}
    assert decoder.input_shape == (None, latent_dim)
    assert decoder.output_shape == (None, *image)
    # The inputs of the transposed convolutions have the sizes in which the encoder's end.
    inputs = [decoder.get_layer(f"conv_{i}").input.shape[1:3] for i in range(len(filters))]
    assert inputs == sizes[::-1]


@pytest.mark.parametrize("name", TABLES)
def test_kernels_are_4_strides_2_and_the_last_activations_leak(networks, name):
    for network in networks[name]:
        kinds = layers.Conv2D | layers.Conv2DTranspose
        found = [layer for layer in network.layers if isinstance(layer, kinds)]
        assert {(layer.kernel_size, layer.strides) for layer in found} == {((4, 4), (2, 2))}
    encoder, decoder = networks[name]
    activations = [layer for layer in encoder.layers if isinstance(layer, layers.ReLU | layers.LeakyReLU)]
    slopes = [layer.negative_slope for layer in activations]
    assert slopes == [0.0] * (len(TABLES[name][1]) - 1) + [pytest.approx(0.1)] * 2
    assert len([layer for layer in decoder.layers if isinstance(layer, layers.ReLU)]) == len(TABLES[name][3]) - 1
    assert {decoder.get_layer(f"dense_{i}").activation.__name__ for i in (0, 1)} == {"relu"}


@pytest.mark.parametrize("name", TABLES)
def test_images_become_features_and_latent_variables_logits(networks, name):
    image, *_, latent_dim = TABLES[name]
    rng = np.random.default_rng(0)
    encoder, decoder = networks[name]
    h = ops.convert_to_numpy(encoder(rng.uniform(size=(2, *image)).astype("float32")))
    logits = ops.convert_to_numpy(decoder(30 * rng.normal(size=(2, latent_dim)).astype("float32")))
    assert h.shape == (2, 256)
    assert logits.shape == (2, *image)
    assert h.min() < 0 < h.max()
    assert logits.min() < 0  # no pixels, which the sigmoid makes of them
    assert logits.max() > 1


def test_celebas_paddings_are_the_same_on_both_sides(networks):
    encoder, rng = networks["celeba"][0], np.random.default_rng(0)
    for i, (rows, columns) in enumerate(CELEBA_PADDINGS):
        conv = encoder.get_layer(f"conv_{i}")
        before = encoder.get_layer(f"padding_{i}").input if i in (0, 2, 3, 4) else conv.input
        x = rng.normal(size=(1, *before.shape[1:])).astype("float32")
        y = ops.convert_to_numpy(keras.Model(before, conv.output)(x))[0]
        padded = np.pad(x[0], ((rows, rows), (columns, columns), (0, 0)))
        kernel = ops.convert_to_numpy(conv.kernel)
        for corner, window in (((0, 0), padded[:4, :4]), ((-1, -1), padded[-4:, -4:])):
            np.testing.assert_allclose(y[corner], np.tensordot(window, kernel, 3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["dsprites", "celeba"])
def test_the_decoders_layers_go_back_the_encoders_way(networks, name):
    """With the same kernel, a transposed convolution is the adjoint of the convolution, edges included."""
    (encoder, decoder), rng = networks[name], np.random.default_rng(0)
    number = len(TABLES[name][1])
    for i in range(number):
        conv, transposed = encoder.get_layer(f"conv_{i}"), decoder.get_layer(f"conv_{number - 1 - i}")
        before = encoder.inputs[0] if i == 0 else encoder.get_layer(f"relu_{i - 1}").output
        names = {layer.name for layer in decoder.layers}
        cropping = f"cropping_{number - 1 - i}"
        after = decoder.get_layer(cropping).output if cropping in names else transposed.output
        transposed.kernel.assign(conv.kernel)
        x, y = (rng.normal(size=(1, *each.shape[1:])).astype("float32") for each in (before, transposed.input))
        forward = ops.convert_to_numpy(keras.Model(before, conv.output)(x))
        backward = ops.convert_to_numpy(keras.Model(transposed.input, after)(y))
        scale = np.linalg.norm(forward) * np.linalg.norm(y)
        assert abs((forward * y).sum(dtype="float64") - (x * backward).sum(dtype="float64")) < 1e-6 * scale


def test_heads_have_the_sizes_of_table_5():
    heads = parted_vae.Heads(256, (4, 3, 2, 3, 2, 2, 2, 2), (1,) * 8, 10)
    assert heads.c_logits.kernel.shape == (256, 20)
    assert heads.z_mean.kernel.shape == heads.z_logvar.kernel.shape == (256, 10)
    assert [layer.kernel.shape for layer in heads.attention] == [(k, 256) for k in (4, 3, 2, 3, 2, 2, 2, 2)]
    assert [layer.kernel.shape for layer in (*heads.u_mean, *heads.u_logvar)] == [(256, 1)] * 16
    assert [log_c.shape for log_c in heads.log_c(np.ones((5, 256), "float32"))] == [
        (5, k) for k in (4, 3, 2, 3, 2, 2, 2, 2)
    ]
