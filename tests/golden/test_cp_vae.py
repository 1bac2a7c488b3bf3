"""CP-VAE, INDq and the mixture prior against steps of CP-VAE's released code."""

import keras
import numpy as np
import pytest
from golden.replay import Replay, Stored, formula_numbers, some, unpacked

from keras_ssvae.models import CPVAE, VAE
from keras_ssvae.optimizers import NormalizedAdam
from keras_ssvae.priors import LearnedMixture

FILES = "cpvae_*.npz"
STEPS = ("step0", "step1")
# The page's is 8e-6; programs of JAX sum in another order, above all those of tests.
OF_OUTPUTS = 2e-5 if keras.backend.backend() == "jax" else 8e-6
PREFIXES = ["cp", "indq", "cp_learned", "indq_learned", "mog"]


def stored(model):
    def dense(layer, name):
        yield Stored(layer.kernel, f"{name}.weight", np.transpose)
        yield Stored(layer.bias, f"{name}.bias")

    for network, name in ((model.encoder, "encoder_layers"), (model.decoder, "decoder_layers")):
        for i in range(2):
            gated = network.get_layer(f"gated_{i}")
            yield from dense(gated.linear, f"{name}.{i}.h")
            yield from dense(gated.gate, f"{name}.{i}.g")
    if isinstance(model, CPVAE):
        heads = model.heads.z_mean, model.heads.z_logvar
        yield from dense(model.heads.c_logits, "encoder_discr.linear")
    else:
        heads = (model.encoder.get_layer(name) for name in ("mean", "logvar"))
    for head, name in zip(heads, ("encoder_mean", "encoder_log_var.linear"), strict=True):
        yield from dense(head, name)
    yield from dense(model.decoder.get_layer("logits"), "decoder_mean.linear")
    yield Stored(model.prior.free_means, "prior_means")
    yield Stored(model.prior.free_logvars, "prior_vars")


def starting_weights(file, names):
    """The file's weights are a formula of the seed and of the rank of their name."""
    ranks = {name: rank for rank, name in enumerate(sorted(names))}

    def initial(name, shape):
        u = formula_numbers(int(file["seed"]), ranks[name], shape)
        if name.startswith("prior"):
            value = (u + 1.0) / 2.0
        elif name.endswith(".weight"):
            value = u * np.sqrt(6.0 / shape[1]) * (3.0 if "discr" in name else 1.0)
        elif name == "decoder_mean.linear.bias":
            value = 12.0 * u**7 - 1.5
        elif "log_var" in name:
            value = 4.3 * u - 2.0
        else:
            value = 0.1 * u
        value = value.astype("float32")
        np.testing.assert_allclose(some(value), file[f"initial/some/{name}"], rtol=1e-6, err_msg=name)
        return value

    return initial


def build(prefix, k, temperature):
    if prefix == "mog":
        return VAE(prior=LearnedMixture(k, 40, bounded=False, mean_of_logs=True, trainable=False))
    arguments = {"factorised_posterior": prefix.startswith("indq"), "train_prior": prefix.endswith("_learned")}
    return CPVAE.as_released(k, temperature=temperature, **arguments)


def replay_of(golden_file, prefix):
    file = golden_file | {n.removeprefix(f"{prefix}/"): v for n, v in golden_file.items() if n.startswith(f"{prefix}/")}
    betas = dict(zip(STEPS, file["betas"], strict=True))
    model = build(prefix, int(file["categories"]), float(file["temperature"]))
    model.compile(NormalizedAdam(float(file["lr"]), epsilon=1e-8))

    def noise(step):
        epsilon = file[f"{step}/epsilon"]
        # Of images that are binary already any uniform numbers make the same.
        given = {"epsilon": epsilon, "uniform": np.full((len(epsilon), 28, 28, 1), 0.5, "float32")}
        names = {"uniform_c": "uniform_decoder", "uniform_heads": "uniform_encoder"}
        given |= {ours: file[f"{step}/{theirs}"] for ours, theirs in names.items() if f"{step}/{theirs}" in file}
        return {**given, "dropout": np.int32(0)}

    def observe(batch):
        """What the networks are given and give in the step that comes."""
        step = STEPS[int(keras.ops.convert_to_numpy(model.steps_taken))]
        seen = {}

        def run(network, inputs):
            outputs = network(inputs)
            seen[network.name] = inputs, outputs
            return outputs

        model.terms(run, batch["unlabeled"], noise(step), 0)
        inputs, outputs = seen["decoder"]
        pixels = keras.ops.sigmoid(outputs)
        if isinstance(model, VAE):
            mean, logvar = seen["encoder"][1]
            return {"mean": mean, "logvar": logvar, "z": inputs, "x_mean": pixels}
        z, c = model.split_latent(inputs).values()
        return {"z": z, "relaxed_decoder": c, "logits": model.heads.logits(seen["encoder"][1]), "x_mean": pixels}

    return Replay(
        file,
        model,
        stored(model),
        initial=starting_weights(file, [each.name for each in stored(model)]),
        steps=STEPS,
        batch=lambda step: {"unlabeled": unpacked(file, f"{step}/x")},
        noise=noise,
        prepare=lambda step: setattr(model, "beta", float(betas[step])),
        observe=observe,
    )


@pytest.fixture(scope="module", params=PREFIXES)
def replay(request, golden_file):
    return replay_of(golden_file, request.param)


def test_the_model_has_the_originals_parameters(replay):
    assert sum(np.prod(variable.shape) for variable in replay.model.trainable_variables) == replay.file["parameters"]
    assert bool(replay.model.prior.trainable_variables) == bool(replay.file["prior_learned"])


def test_the_terms_equal_the_original(replay):
    for name, terms in zip(STEPS, replay.terms, strict=True):
        np.testing.assert_allclose(terms["total"], replay.file[f"{name}/loss"], rtol=3e-6, err_msg=name)
        expected = replay.file[f"{name}/log_likelihood"]
        np.testing.assert_allclose(-terms["reconstruction"], expected, rtol=2e-5, err_msg=name)
        pairs = {"kl": "mean_kl", "kl_z": "mean_kl_continuous", "kl_c": "mean_kl_categorical"}
        for ours, theirs in pairs.items():
            if ours in terms:
                expected = replay.file[f"{name}/{theirs}"]
                np.testing.assert_allclose(terms[ours].mean(), expected, rtol=4e-6, err_msg=f"{name}/{theirs}")


def test_what_the_networks_give_equals_the_original(replay):
    for name, seen in zip(STEPS, replay.observed, strict=True):
        for key, values in seen.items():
            if key == "x_mean":
                if name == "step0":
                    expected = replay.file["step0/x_mean"]
                    np.testing.assert_allclose(values[:2].reshape(2, -1), expected, rtol=0, atol=2e-6)
            else:
                expected = replay.file[f"{name}/{key}"]
                np.testing.assert_allclose(values[:4], expected, rtol=1e-6, atol=OF_OUTPUTS, err_msg=f"{name}/{key}")


def test_gradients_of_the_first_step_equal_the_original(replay):
    for name, gradient in replay.gradients.items():
        # Gradients of the logits are differences of terms of the size of the bound.
        norm = np.linalg.norm(gradient)
        np.testing.assert_allclose(norm, replay.file[f"step0/grad_norm/{name}"], rtol=2e-6, err_msg=name)
        expected = replay.file[f"step0/grad_some/{name}"]
        np.testing.assert_allclose(some(gradient), expected, rtol=0, atol=2e-6 * norm, err_msg=name)


def test_weights_after_the_steps_equal_the_original(replay):
    for name, value in replay.weights.items():
        norm = replay.file[f"final/norm/{name}"]
        np.testing.assert_allclose(np.linalg.norm(value), norm, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(some(value), replay.file[f"final/some/{name}"], rtol=0, atol=5e-7, err_msg=name)
