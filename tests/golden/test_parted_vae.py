"""Three iterations of the original PartedVAE code, each a supervised step and a main step, on either backend."""

import contextlib

import keras
import numpy as np
import pytest

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


def named_variables(model):
    """Each variable with its name in the file, and what makes the file's layout of ours."""
    # Where the image is flattened, PyTorch has the channels first.
    flat = np.arange(1024).reshape(4, 4, 64).transpose(2, 0, 1).ravel()

    def dense(layer, name, inputs=slice(None), outputs=slice(None)):
        yield layer.kernel, f"{name}.weight", lambda kernel: kernel[inputs][:, outputs].T
        yield layer.bias, f"{name}.bias", lambda bias: bias[outputs]

    for network, name in ((model.encoder, "img_to_features"), (model.decoder, "features_to_img")):
        for i in range(3):
            layer = network.get_layer(f"conv_{i}")
            yield layer.kernel, f"{name}.{2 * i}.weight", lambda kernel: kernel.transpose(3, 2, 0, 1)
            yield layer.bias, f"{name}.{2 * i}.bias", lambda bias: bias
    yield from dense(model.encoder.get_layer("features"), "features_to_hidden.0", inputs=flat)
    yield from dense(model.decoder.get_layer("dense_0"), "latent_to_features.0")
    yield from dense(model.decoder.get_layer("dense_1"), "latent_to_features.2", outputs=flat)
    heads = model.heads
    yield from dense(heads.z_mean, "z_mean_fc")
    yield from dense(heads.z_logvar, "z_logvar_fc")
    yield from dense(heads.c_logits, "h_to_c_logit_fc")


def named_blocks(model):
    """The variables that are parts of one in the file, each with its rows and columns there."""
    c = u = 0
    heads = model.heads
    for i, (prior, features) in enumerate(zip(model.u_priors, [heads.features] * len(model.u_priors), strict=True)):
        of_c, of_u = slice(c, c + prior.num_components), slice(u, u + prior.latent_dim)
        of_h = slice(features * i, features * (i + 1))
        yield heads.attention[i].kernel, "c_to_a_logit_pc.weight", (of_h, of_c), np.transpose
        yield heads.attention[i].bias, "c_to_a_logit_pc.bias", of_h, np.asarray
        for layer, name in ((heads.u_mean[i], "mean"), (heads.u_logvar[i], "logvar")):
            yield layer.kernel, f"h_dot_a_to_u_{name}_pc.weight", (of_u, of_h), np.transpose
            yield layer.bias, f"h_dot_a_to_u_{name}_pc.bias", of_u, np.asarray
        yield prior.free_means, "u_prior_means", of_c, np.asarray
        yield prior.free_logvars, "u_prior_logvars_before_tanh", of_c, np.asarray
        c, u = of_c.stop, of_u.stop


def load(model, file):
    for variable, name, to_file in named_variables(model):
        # The layouts are permutations: that of the places tells where each number goes.
        places = to_file(np.arange(np.prod(variable.shape)).reshape(variable.shape))
        values = np.empty(places.size)
        values[places.ravel()] = file[f"initial/{name}"].ravel()
        variable.assign(values.reshape(variable.shape))
    for variable, name, where, to_file in named_blocks(model):
        variable.assign(to_file(file[f"initial/{name}"][where]))


def values_of(model, file, value_of=keras.ops.convert_to_numpy):
    """Name in the file -> the value of a variable, or of what belongs to it, in the file's layout."""
    values = {name: to_file(np.asarray(value_of(variable))) for variable, name, to_file in named_variables(model)}
    for variable, name, where, to_file in named_blocks(model):
        # What is off the blocks is 0 in the original, always.
        values.setdefault(name, np.zeros_like(file[f"initial/{name}"]))[where] = to_file(np.asarray(value_of(variable)))
    return values


# JAX takes half a minute to compile each.
DTYPES = ["float32"] if keras.backend.backend() == "jax" else ["float64", "float32"]


@pytest.fixture(scope="module", params=DTYPES)
def replay(request, golden_file, with_gradients):
    """The model after its steps, their terms, and the gradients of the first main step.

    A handful of the encoder's gradients are below rounding, and Adam makes steps of the full rate of them: three of
    262,144 weights go the other way in float32, on both backends, and in float64 on JAX.
    """
    dtype, policy = request.param, keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        with enable_float64() if dtype == "float64" else contextlib.nullcontext():
            yield Replay(golden_file, dtype, with_gradients)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy(policy)


def enable_float64():
    if keras.backend.backend() == "tensorflow":
        return contextlib.nullcontext()
    import jax

    return jax.enable_x64(True)


class Replay:
    def __init__(self, file, dtype, with_gradients):
        self.file, self.dtype = file, dtype
        self.model = build(file)
        load(self.model, file)
        step = with_gradients(self.model, self.model.optimizer.members["main"])
        self.terms = []
        for name in STEPS:
            given, gradients = step(self.batch(name), self.noise(name))
            self.terms.append({key: np.mean(keras.ops.convert_to_numpy(value)) for key, value in given.items()})
            if name == STEPS[0]:
                given = {id(v): g for v, g in zip(self.model.trainable_variables, gradients, strict=True)}
                self.gradients = values_of(self.model, file, lambda variable, given=given: given[id(variable)])
        self.weights = values_of(self.model, file)
        outputs = self.model(self.images("eval/x"), training=False)
        self.outputs = {key: keras.ops.convert_to_numpy(value) for key, value in outputs.items()}

    def images(self, name):
        return 2.0 * self.file[name].astype(self.dtype) - 1.0

    def batch(self, step):
        images = {"unlabeled": self.images(f"{step}/x"), "labeled": self.images(f"{step}/x_labeled")}
        return {**images, "labels": self.file[f"{step}/y_labeled"].astype(self.dtype)}

    def noise(self, step):
        names = ("uniform_c", "epsilon_z", "epsilon_u")
        return {name: self.file[f"{step}/{name}"].astype(self.dtype) for name in names} | {"dropout": np.int32(0)}

    def is_exact(self):
        return self.dtype == "float64" and keras.backend.backend() == "tensorflow"


def test_every_term_of_every_step_equals_the_original(replay):
    for name, given in zip(STEPS, replay.terms, strict=True):
        for ours, theirs in TERMS.items():
            expected = replay.file[f"{name}/{theirs}"]
            rtol = 1e-5 if replay.is_exact() else 3e-4 if ours == "kl_z" else 1e-4
            np.testing.assert_allclose(given[ours], expected, rtol=rtol, err_msg=f"{name}/{ours}")


def test_the_penalty_of_overlap_equals_the_original(replay):
    for name, given in zip(STEPS, replay.terms, strict=True):
        expected = replay.file[f"{name}/bc_loss"]
        np.testing.assert_allclose(given["overlap"] * replay.model.gamma_bc, expected, rtol=1e-5, err_msg=name)


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
    outputs, file, atol = replay.outputs, replay.file, 1e-3 if replay.is_exact() else 2e-3
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
