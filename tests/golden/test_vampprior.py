"""VAE with a standard normal prior and with a VampPrior against steps of VampPrior's code."""

import keras
import numpy as np
import pytest
from golden.replay import Replay, Stored, formula_numbers
from scipy import special

from keras_ssvae import priors
from keras_ssvae.models import VAE
from keras_ssvae.optimizers import NormalizedAdam

FILES = "vampprior_*.npz"
STEPS = ("step0", "step1")


def stored(model):
    def dense(layer, name):
        yield Stored(layer.kernel, f"{name}.weight", np.transpose)
        yield Stored(layer.bias, f"{name}.bias")

    for network, name in ((model.encoder, "q_z_layers"), (model.decoder, "p_x_layers")):
        for i in range(2):
            gated = network.get_layer(f"gated_{i}")
            yield from dense(gated.linear, f"{name}.{i}.h")
            yield from dense(gated.gate, f"{name}.{i}.g")
    yield from dense(model.encoder.get_layer("mean"), "q_z_mean")
    yield from dense(model.encoder.get_layer("logvar"), "q_z_logvar.linear")
    yield from dense(model.decoder.get_layer("logits"), "p_x_mean.linear")
    for inputs in model.prior.trainable_variables:
        yield Stored(inputs, "means.linear.weight", lambda values: values.reshape(len(values), -1).T)


def starting_weights(file, names):
    """The file's weights are a formula of the seed and of the rank of their name."""
    ranks = {name: rank for rank, name in enumerate(sorted(names))}

    def initial(name, shape):
        u = formula_numbers(int(file["seed"]), ranks[name], shape)
        match name:
            case "means.linear.weight":
                value = 0.4 + 0.8 * u
            case _ if name.endswith(".weight"):
                value = u * np.sqrt(6.0 / shape[1])
            case "p_x_mean.linear.bias":
                value = 12.0 * u**7 - 1.5
            case _ if "logvar" in name:
                value = 4.3 * u - 2.0
            case _:
                value = 0.1 * u
        value = value.astype("float32")
        np.testing.assert_allclose(some(value), file[f"initial/some/{name}"], rtol=1e-6, err_msg=name)
        return value

    return initial


def some(values):
    flat = np.ravel(values)
    return flat[np.arange(16) * (flat.size - 1) // 15]


def images(file, name):
    return 2.0 * np.unpackbits(file[name], axis=1).reshape(-1, 28, 28, 1).astype("float32") - 1.0


def replay_of(golden_file, prefix):
    file = golden_file | {n.removeprefix(f"{prefix}/"): v for n, v in golden_file.items() if n.startswith(f"{prefix}/")}
    betas = dict(zip(STEPS, file["betas"], strict=True))
    model = VAE(prior=priors.VampPrior(int(file["number_components"])) if prefix == "vae_vamp" else None)
    model.compile(NormalizedAdam(float(file["lr"]), epsilon=1e-8))

    def batch(step):
        return {"unlabeled": images(file, f"{step}/x")}

    def noise(step):
        epsilon = file[f"{step}/epsilon_z1"]
        # Of images that are binary already any uniform numbers make the same.
        uniform = np.full((len(epsilon), 28, 28, 1), 0.5, "float32")
        return {"epsilon": epsilon, "uniform": uniform, "dropout": np.int32(0)}

    def observe(given):
        posterior = model.posterior(given["unlabeled"])
        epsilon = file["step0/epsilon_z1"]
        z = posterior["mean"] + keras.ops.exp(0.5 * posterior["logvar"]) * epsilon
        return {**posterior, "decoded": model.decode(z)}

    return Replay(
        file,
        model,
        stored(model),
        initial=starting_weights(file, [each.name for each in stored(model)]),
        steps=STEPS,
        batch=batch,
        noise=noise,
        prepare=lambda step: setattr(model, "beta", float(betas[step])),
        observe=observe,
    )


@pytest.fixture(scope="module", params=["vae", "vae_vamp"])
def replay(request, golden_file):
    return replay_of(golden_file, request.param)


def test_the_model_has_the_originals_parameters(replay):
    assert replay.model.count_params() - 1 == replay.file["parameters"]  # all but beta


def test_terms_of_each_image_equal_the_original(replay):
    for name, terms in zip(STEPS, replay.terms, strict=True):
        for ours, theirs in ((-terms["reconstruction"], "log_likelihood"), (terms["kl"], "kl")):
            np.testing.assert_allclose(ours, replay.file[f"{name}/{theirs}"], rtol=2e-5, err_msg=f"{name}/{theirs}")


def test_the_objective_equals_the_original(replay):
    for name, terms, rtol in zip(STEPS, replay.terms, (3e-6, 2e-5), strict=True):
        np.testing.assert_allclose(terms["total"], replay.file[f"{name}/loss"], rtol=rtol, err_msg=name)
        np.testing.assert_allclose(terms["kl"].mean(), replay.file[f"{name}/mean_kl"], rtol=rtol, err_msg=name)


def test_posterior_and_decoded_images_equal_the_original(replay):
    for ours, theirs in (("mean", "z1_mean"), ("logvar", "z1_logvar")):
        expected = replay.file[f"step0/{theirs}"]
        np.testing.assert_allclose(replay.observed[0][ours][:4], expected, rtol=0, atol=2e-6, err_msg=ours)
    pixels = 0.5 * (replay.observed[0]["decoded"][:2].reshape(2, -1) + 1.0)
    np.testing.assert_allclose(pixels, replay.file["step0/x_mean"], rtol=0, atol=2e-6)


def test_gradients_of_the_first_step_equal_the_original(replay):
    for name, gradient in replay.gradients.items():
        norm = np.linalg.norm(gradient)
        np.testing.assert_allclose(norm, replay.file[f"step0/grad_norm/{name}"], rtol=3e-6, err_msg=name)
        expected = replay.file[f"step0/grad_some/{name}"]
        np.testing.assert_allclose(some(gradient), expected, rtol=0, atol=1e-6 * norm, err_msg=name)


def test_weights_after_the_steps_equal_the_original(replay):
    for name, value in replay.weights.items():
        norm = replay.file[f"final/norm/{name}"]
        np.testing.assert_allclose(np.linalg.norm(value), norm, rtol=1e-5, err_msg=name)
        # Another optimizer (plain Adam, or one norm over all tensors) is off by 6e-5 or more.
        np.testing.assert_allclose(some(value), replay.file[f"final/some/{name}"], rtol=0, atol=2e-5, err_msg=name)


def test_the_density_of_the_prior_equals_the_original(replay):
    given = keras.ops.convert_to_numpy(replay.model.prior.log_prob(replay.file["prior/z"]))
    # The narrow components of the mixture amplify rounding.
    tolerance = {"rtol": 2e-4} if replay.model.prior.num_components > 1 else {"rtol": 0, "atol": 4e-6}
    np.testing.assert_allclose(given, replay.file["prior/log_density"], **tolerance)


def test_the_importance_weighted_likelihood_equals_the_original(replay):
    noise = {"epsilon": replay.file["importance/epsilon_z1"]}
    log_weights = keras.ops.convert_to_numpy(replay.model.log_weights(images(replay.file, "importance/x"), noise))
    given = special.logsumexp(log_weights.astype("float64"), axis=1) - np.log(log_weights.shape[1])
    np.testing.assert_allclose(given, replay.file["importance/log_likelihood"], rtol=2e-5)
    np.testing.assert_allclose(-given.mean(), replay.file["importance/nll"], rtol=2e-5)
