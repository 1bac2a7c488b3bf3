"""Three iterations of the original PartedVAE code, each a supervised step and a main step, on either backend."""

import contextlib

import keras
import numpy as np
import pytest
from golden.replay import Replay, Stored

from keras_ssvae.models import PartedVAE
from keras_ssvae.networks import parted_vae
from keras_ssvae.optimizers import Adam, GroupedOptimizer
from keras_ssvae.priors import bhattacharyya_coefficients

FILES = "parted_*.npz"
# Name here -> in the file.
TERMS = {name: name for name in ("warm_up", "total", "reconstruction", "kl_c", "kl_z", "kl_u", "entropy_c")}
TERMS |= {"kl_c": "c_kl", "kl_z": "z_kl", "kl_u": "u_expected_kl", "entropy_c": "c_entropy"}
MULTI = {
    "num_classes": (4, 3, 2),
    "u_dims": (1, 1, 1),
    "z_dim": 4,
    "class_priors": [(0.42, 0.33, 0.18, 0.07), (0.9, 0.07, 0.03), (0.85, 0.15)],
    "pixel_loss": "absolute_error",
    "gamma_z": 1000.0,
    "gamma_u": 1000.0,
    "gamma_c": 2000.0,
    "gamma_h": 10.0,
    "gamma_bc": 500.0,
    "tolerance": 0.2,
    "capacity_z": 30.0,
    "capacity_u": 15.0,
    "capacity_steps": 125_000,
}
STEPS = ("step0", "step1", "step2")


def build(file):
    several = file["step0/y_labeled"].shape[1] != 10
    networks = {
        "encoder": parted_vae.encoder((32, 32, 3), [32, 64, 64]),
        "decoder": parted_vae.decoder(7, (4, 4, 64), [32, 32, 3]),
    }
    model = PartedVAE(**networks, **MULTI) if several else PartedVAE()
    rate = 5e-4 if several else 1.5e-3
    members = {name: Adam(rate, epsilon=1e-8, corrected_epsilon=True) for name in ("supervised", "main")}
    model.compile(GroupedOptimizer(members))
    return model


def stored(model):
    # Where the image is flattened, PyTorch has the channels first.
    flat = np.arange(1024).reshape(4, 4, 64).transpose(2, 0, 1).ravel()

    def dense(layer, name, inputs=slice(None), outputs=slice(None)):
        yield Stored(layer.kernel, f"{name}.weight", lambda kernel: kernel[inputs][:, outputs].T)
        yield Stored(layer.bias, f"{name}.bias", lambda bias: bias[outputs])

    for network, name in ((model.encoder, "img_to_features"), (model.decoder, "features_to_img")):
        for i in range(3):
            layer = network.get_layer(f"conv_{i}")
            yield Stored(layer.kernel, f"{name}.{2 * i}.weight", lambda kernel: kernel.transpose(3, 2, 0, 1))
            yield Stored(layer.bias, f"{name}.{2 * i}.bias")
    yield from dense(model.encoder.get_layer("features"), "features_to_hidden.0", inputs=flat)
    yield from dense(model.decoder.get_layer("dense_0"), "latent_to_features.0")
    yield from dense(model.decoder.get_layer("dense_1"), "latent_to_features.2", outputs=flat)
    heads = model.heads
    yield from dense(heads.z_mean, "z_mean_fc")
    yield from dense(heads.z_logvar, "z_logvar_fc")
    yield from dense(heads.c_logits, "h_to_c_logit_fc")

    # Each label's own are blocks of one array, whose other numbers are 0.
    c = u = 0
    for i, prior in enumerate(model.u_priors):
        of_c, of_u = slice(c, c + prior.num_components), slice(u, u + prior.latent_dim)
        of_h = slice(heads.features * i, heads.features * (i + 1))
        yield Stored(heads.attention[i].kernel, "c_to_a_logit_pc.weight", np.transpose, (of_h, of_c))
        yield Stored(heads.attention[i].bias, "c_to_a_logit_pc.bias", where=of_h)
        for layer, name in ((heads.u_mean[i], "mean"), (heads.u_logvar[i], "logvar")):
            yield Stored(layer.kernel, f"h_dot_a_to_u_{name}_pc.weight", np.transpose, (of_u, of_h))
            yield Stored(layer.bias, f"h_dot_a_to_u_{name}_pc.bias", where=of_u)
        yield Stored(prior.free_means, "u_prior_means", where=of_c)
        yield Stored(prior.free_logvars, "u_prior_logvars_before_tanh", where=of_c)
        c, u = of_c.stop, of_u.stop


# JAX takes half a minute to compile each.
DTYPES = ["float32"] if keras.backend.backend() == "jax" else ["float64", "float32"]


@pytest.fixture(scope="module", params=DTYPES)
def replay(request, golden_file):
    """The model after its steps, their terms, and the gradients of the first main step.

    A handful of the encoder's gradients are below rounding, and Adam makes steps of the full rate of them: three of
    262,144 weights go the other way in float32, on both backends, and in float64 on JAX.
    """
    dtype, policy = request.param, keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        with enable_float64() if dtype == "float64" else contextlib.nullcontext():
            yield replay_of(golden_file, dtype)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy(policy)


def enable_float64():
    if keras.backend.backend() == "tensorflow":
        return contextlib.nullcontext()
    import jax

    return jax.enable_x64(True)


def replay_of(file, dtype):
    def images(name):
        return 2.0 * file[name].astype(dtype) - 1.0

    def batch(step):
        parts = {"unlabeled": images(f"{step}/x"), "labeled": images(f"{step}/x_labeled")}
        return {**parts, "labels": file[f"{step}/y_labeled"].astype(dtype)}

    def noise(step):
        names = ("uniform_c", "epsilon_z", "epsilon_u")
        return {name: file[f"{step}/{name}"].astype(dtype) for name in names} | {"dropout": np.int32(0)}

    model = build(file)
    replay = Replay(
        file,
        model,
        stored(model),
        initial=lambda name, shape: file[f"initial/{name}"],
        steps=STEPS,
        batch=batch,
        noise=noise,
        optimizer=model.optimizer.members["main"],
    )
    outputs = model(images("eval/x"), training=False)
    replay.outputs = {key: keras.ops.convert_to_numpy(value) for key, value in outputs.items()}
    replay.is_exact = dtype == "float64" and keras.backend.backend() == "tensorflow"
    return replay


def test_every_term_of_every_step_equals_the_original(replay):
    for name, given in zip(STEPS, replay.terms, strict=True):
        for ours, theirs in TERMS.items():
            expected = replay.file[f"{name}/{theirs}"]
            rtol = 1e-5 if replay.is_exact else 3e-4 if ours == "kl_z" else 1e-4
            np.testing.assert_allclose(given[ours].mean(), expected, rtol=rtol, err_msg=f"{name}/{ours}")


def test_the_penalty_of_overlap_equals_the_original(replay):
    for name, given in zip(STEPS, replay.terms, strict=True):
        expected = replay.file[f"{name}/bc_loss"]
        np.testing.assert_allclose(given["overlap"].mean() * replay.model.gamma_bc, expected, rtol=1e-5, err_msg=name)


def test_gradients_of_the_first_main_step_equal_the_original(replay):
    for name, gradient in replay.gradients.items():
        norm = np.linalg.norm(gradient)
        np.testing.assert_allclose(norm, replay.file[f"step0/grad_norm/{name}"], rtol=1e-4, err_msg=name)


def test_weights_after_the_steps_equal_the_original(replay):
    for name, value in replay.weights.items():
        head = replay.file[f"final/head/{name}"]
        np.testing.assert_allclose(value.ravel()[: head.size], head, rtol=0, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(np.linalg.norm(value), replay.file[f"final/norm/{name}"], rtol=1e-4, err_msg=name)


def test_inference_equals_the_original(replay):
    outputs, file, atol = replay.outputs, replay.file, 1e-3 if replay.is_exact else 2e-3
    for ours in ("z_mean", "z_logvar", "u_mean", "u_logvar"):
        np.testing.assert_allclose(outputs[ours], file[f"eval/{ours}"], rtol=0, atol=atol, err_msg=ours)
    np.testing.assert_allclose(outputs["probs"], np.exp(file["eval/log_c"]), rtol=0, atol=atol)
    np.testing.assert_allclose((outputs["reconstruction"] + 1.0) / 2.0, file["eval/reconstruction"], rtol=0, atol=atol)


def test_overlap_of_the_components_equals_the_original(replay):
    coefficients, start = replay.file["eval/bhattacharyya"], 0
    for prior in replay.model.u_priors:
        block = slice(start, start + prior.num_components)
        ours = bhattacharyya_coefficients(prior.now())
        np.testing.assert_allclose(np.tril(ours, -1), np.tril(coefficients[block, block], -1), rtol=0, atol=1e-3)
        start = block.stop
