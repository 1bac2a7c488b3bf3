"""Three updates of the original REVAE (CCVAE) code on CelebA's networks: labelled, unlabelled, labelled."""

import numpy as np
import pytest
from golden.replay import Replay, Stored

from keras_ssvae.likelihoods import Laplace
from keras_ssvae.models import REVAE
from keras_ssvae.networks import revae
from keras_ssvae.optimizers import Adam

FILES = "revae_*.npz"
STEPS = ("step0", "step1", "step2")
# Of the gradients, relative: the steps' own, as an independent implementation met them.
GRADIENTS = (1e-5, 4e-5, 9e-4)


def build(file):
    labels, latent_dim = int(file["num_labels"]), int(file["latent_dim"])
    model = REVAE(
        revae.celeba_encoder(latent_dim),
        revae.celeba_decoder(latent_dim),
        num_classes=(2,) * labels,
        c_dims=1,
        rest_dim=latent_dim - labels,
        likelihood=Laplace(),
        class_priors=[(1.0 - p, p) for p in file["label_prior"][0].astype("float64")],
        unlabeled_term="sampled",
        classifier_samples=int(file["classifier_samples"]),
        weight_constant="z_c",
        bounded_weight=False,
    )
    model.compile(Adam(1e-4, epsilon=1e-8, corrected_epsilon=True))
    return model


def stored(model):
    def dense(layer, name):
        yield Stored(layer.kernel, f"{name}.weight", np.transpose)
        yield Stored(layer.bias, f"{name}.bias")

    for i in range(5):
        for network, name in (
            (model.encoder, f"encoder.encoder.{2 * i}"),
            (model.decoder, f"decoder.decoder.{2 * i + 3}"),
        ):
            layer = network.get_layer(f"conv_{i}")
            yield Stored(layer.kernel, f"{name}.weight", lambda kernel: kernel.transpose(3, 2, 0, 1))
            yield Stored(layer.bias, f"{name}.bias")
    yield from dense(model.encoder.get_layer("mean"), "encoder.locs")
    yield from dense(model.encoder.get_layer("logvar"), "encoder.scales")
    yield from dense(model.decoder.get_layer("dense"), "decoder.decoder.0")
    logits = model.classifier.get_layer("labels")
    for i, prior in enumerate(model.c_priors):
        for variables, name in ((logits.kernels, "weight"), (logits.biases, "bias")):
            yield Stored(variables[i], f"classifier.diag.{name}", np.ravel, where=slice(i, i + 1))
        for variable, name in ((prior.free_means, "loc"), (prior.free_deviations, "scale")):
            for k, value in enumerate(("false", "true")):
                where = slice(i, i + 1)
                yield Stored(variable, f"cond_prior.diag_{name}_{value}", lambda v, k=k: v[k], where=where)


@pytest.fixture(scope="module")
def replay(golden_file):
    file, model = golden_file, build(golden_file)

    def batch(step):
        images = 2.0 * file[f"{step}/x"] - 1.0
        if str(file[f"{step}/kind"]) == "unsupervised":
            return {"unlabeled": images}
        y = file[f"{step}/y"]
        return {"labeled": images, "labels": np.stack([1.0 - y, y], axis=-1).reshape(len(y), -1)}

    def noise(step):
        given = {"dropout": np.int32(0)}
        if str(file[f"{step}/kind"]) == "unsupervised":
            return given | {
                "epsilon_unlabeled": file[f"{step}/epsilon"],
                "uniform_unlabeled": file[f"{step}/uniform_y"],
            }
        # No label is missing, so nothing is drawn by it.
        unused = np.full((len(file[f"{step}/x"]), int(file["num_labels"])), 0.5, "float32")
        samples = file[f"{step}/epsilon_classifier"].transpose(1, 0, 2)[..., : int(file["num_labels"])]
        epsilon = {"epsilon_labeled": file[f"{step}/epsilon"], "epsilon_classifier": samples}
        return given | epsilon | {"uniform_labeled": unused}

    return Replay(
        file,
        model,
        stored(model),
        initial=lambda name, shape: file[f"initial/{name}"],
        steps=STEPS,
        batch=batch,
        noise=noise,
    )


def test_the_loss_of_every_step_equals_the_original(replay):
    for name, terms in zip(STEPS, replay.terms, strict=True):
        np.testing.assert_allclose(terms["total"], replay.file[f"{name}/loss"], rtol=1e-6, err_msg=name)


def test_the_probability_of_the_labels_equals_the_original(replay):
    for name, terms, atol in (("step0", replay.terms[0], 2e-6), ("step2", replay.terms[2], 1e-5)):
        expected = -replay.file[f"{name}/log_q_y_given_x"]
        np.testing.assert_allclose(terms["cross_entropy"], expected, rtol=0, atol=atol, err_msg=name)


def test_gradients_of_every_step_equal_the_original(replay):
    for name, gradients, rtol in zip(STEPS, replay.gradients_of_steps, GRADIENTS, strict=True):
        for stored_as, gradient in gradients.items():
            expected = replay.file[f"{name}/grad_norm/{stored_as}"]
            norm = np.linalg.norm(gradient)
            np.testing.assert_allclose(norm, expected, rtol=rtol, err_msg=f"{name}/{stored_as}")


def test_weights_after_the_steps_equal_the_original(replay):
    for name, value in replay.weights.items():
        head = replay.file[f"final/head/{name}"]
        np.testing.assert_allclose(value.ravel()[: head.size], head, rtol=0, atol=3e-6, err_msg=name)
        np.testing.assert_allclose(np.linalg.norm(value), replay.file[f"final/norm/{name}"], rtol=4e-6, err_msg=name)
