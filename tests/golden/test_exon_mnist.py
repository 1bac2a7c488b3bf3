"""Replays the original EXoN code: the same weights, data and noise must give the same numbers."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ssvae.models import EXoN
from keras_ssvae.networks import mnist
from keras_ssvae.optimizers import Adam, GroupedOptimizer
from keras_ssvae.priors import GaussianMixture

GOLDEN = Path(os.environ.get("KERAS_SSVAE_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))
FILES = sorted(GOLDEN.glob("exon_mnist_*.npz"))
PARTS = ("labeled", "unlabeled", "labeled_augmented", "unlabeled_augmented")
TERMS = ("reconstruction", "kl_categorical", "kl_gaussian", "cross_entropy", "sci_labeled", "sci_unlabeled", "total")

pytestmark = pytest.mark.skipif(not FILES, reason=f"no exon_mnist_*.npz in {GOLDEN} (set KERAS_SSVAE_GOLDEN)")


def stored_weights(file, prefix, network, layer, variable):
    """A variable as the file stores it: the heads of the K components are separate there, and stacked here."""
    name = f"{prefix}/{network}/{layer}"
    if layer in ("mean", "logvar"):
        heads = sum(key.startswith(f"{name}_") and key.endswith(variable) for key in file.files)
        return np.stack([file[f"{name}_{k}/{variable}"] for k in range(heads)], axis=-2)
    return file[f"{name}/{variable}"]


def named_variables(model):
    """Each variable of the model with its name in the file."""
    for network in (model.encoder, model.decoder, model.classifier):
        for variable in network.weights:
            layer, name = variable.path.split("/")[-2:]
            if layer.startswith("block"):
                layer = layer.replace("block", "conv" if name in ("kernel", "bias") else "bn")
            yield variable, (network.name, "bn_3" if layer == "bn" else layer, name)


class Replay:
    """A golden file, and a model that has taken its steps."""

    def __init__(self, path):
        self.file = file = np.load(path)
        means = file["prior_means"].reshape(-1, file["prior_means"].shape[-1])
        self.model = model = EXoN(
            classifier=mnist.classifier(len(means), dropout=0.0),
            prior=GaussianMixture(means, float(file["prior_variance"])),
            beta=float(file["beta"]),
            lambda1=float(file["lambda1"]),
            lambda2=float(file["lambda2"]),
        )
        for variable, name in named_variables(model):
            variable.assign(stored_weights(file, "initial", *name))
        decay = float(file["weight_decay"])
        model.compile(
            GroupedOptimizer(
                {
                    "autoencoder": Adam(float(file["lr"])),
                    "classifier": Adam(float(file["lr_classifier"]), weight_decay=decay),
                }
            )
        )
        self.steps = sorted({key.split("/")[0] for key in file.files if key.startswith("step")})
        self.terms, self.outputs = [], []
        self.gradients = self.first_gradients()
        for step in self.steps:
            batch, noise = self.batch(step), self.noise(step)
            self.outputs.append(self.observe(batch, noise))
            terms = model.replay_step(batch, noise)
            self.terms.append({name: float(np.sum(value, dtype="float64")) for name, value in terms.items()})

    def first_gradients(self):
        """What the optimizer is given in the first step, by variable and network."""
        taken = {}
        model, batch, noise = self.model, self.batch(self.steps[0]), self.noise(self.steps[0])
        weights = [variable.numpy() for variable in model.weights]
        apply = model.optimizer.apply
        model.optimizer.apply = lambda gradients, variables: taken.update(
            (id(variable), np.asarray(gradient)) for gradient, variable in zip(gradients, variables, strict=True)
        )
        model.replay_step(batch, noise)
        model.optimizer.apply = apply
        for variable, value in zip(model.weights, weights, strict=True):
            variable.assign(value)  # the moving statistics too
        return {
            (variable.path, name[0]): taken[id(variable)]
            for variable, name in named_variables(model)
            if variable.trainable
        }

    def batch(self, step):
        batch = {part: self.file[f"{step}/x_{part}"] for part in PARTS}
        return {**batch, "labels": self.file[f"{step}/y_labeled"]}

    def noise(self, step):
        labeled, unlabeled = self.file[f"{step}/mix_weights"]
        return {
            "epsilon": self.file[f"{step}/epsilon"],
            "gumbel": self.file[f"{step}/gumbel"],
            "mix_weight_labeled": labeled,
            "mix_weight_unlabeled": unlabeled,
            "partners_labeled": self.file[f"{step}/perm_labeled"],
            "partners_unlabeled": self.file[f"{step}/perm_unlabeled"],
            "dropout": np.int64(0),
        }

    def observe(self, batch, noise):
        """What the networks give before the step, in training mode and without a trace."""
        images = np.concatenate([batch["labeled"], batch["unlabeled"]])
        with keras.StatelessScope():
            mean, logvar = self.model.encoder(images)
            probs = keras.ops.softmax(self.model.classifier(images, training=True))
            pseudo_label = keras.ops.softmax(self.model.classifier(batch["unlabeled_augmented"], training=True))
        return {"mean": mean, "logvar": logvar, "prob": probs, "pseudo_label": pseudo_label}


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def replay(request):
    return Replay(request.param)


def test_every_term_of_every_step_equals_the_original(replay):
    for step, terms in zip(replay.steps, replay.terms, strict=True):
        for name in TERMS:
            expected = float(replay.file[f"{step}/{name}"])
            np.testing.assert_allclose(terms[name], expected, rtol=5e-6, err_msg=f"{step}/{name}")


def test_network_outputs_of_the_first_step_equal_the_original(replay):
    for name, value in replay.outputs[0].items():
        np.testing.assert_allclose(value, replay.file[f"{replay.steps[0]}/{name}"], atol=1e-5, err_msg=name)


def heads_of(value, name):
    """The variable as the file names it: one entry, or one for each of the K heads."""
    network, layer, variable = name
    if layer in ("mean", "logvar"):
        return {f"{network}/{layer}_{k}/{variable}": head for k, head in enumerate(np.moveaxis(value, -2, 0))}
    return {"/".join(name): value}


def is_normalized_bias(name):
    """A bias before a batch normalisation: its gradient is rounding, which Adam turns into steps of the full rate."""
    return name[2] == "bias" and (name[1].startswith("conv") or name[:2] == ("classifier", "dense_0"))


def test_gradients_of_the_first_step_equal_the_original(replay):
    compared = 0
    for variable, name in named_variables(replay.model):
        if variable.trainable and not is_normalized_bias(name):
            for key, gradient in heads_of(replay.gradients[variable.path, name[0]], name).items():
                norm, head = (replay.file[f"{replay.steps[0]}/grad_{kind}/{key}"] for kind in ("norm", "head"))
                np.testing.assert_allclose(np.linalg.norm(gradient), norm, rtol=1e-4, err_msg=key)
                np.testing.assert_allclose(gradient.ravel()[: len(head)], head, atol=2e-4 * norm, err_msg=key)
                compared += 1
    assert compared == sum("/grad_norm/" in key for key in replay.file.files) - 4


def test_weights_after_the_last_step_equal_the_original(replay):
    # A normalised bias differs by twice the rate for each step taken, and the moving mean follows it by 1 % in each of
    # the four passes of the second and the third step.
    drift = 4 * 0.01 * (2 + 4) * float(replay.file["lr_classifier"])
    compared = 0
    for variable, name in named_variables(replay.model):
        if not is_normalized_bias(name):
            rtol, atol = {"moving_mean": (0, drift), "moving_variance": (5e-4, 0)}.get(name[2], (0, 2e-5))
            for key, value in heads_of(np.asarray(variable), name).items():
                head = replay.file[f"final/head/{key}"]
                np.testing.assert_allclose(value.ravel()[: len(head)], head, rtol=rtol, atol=atol, err_msg=key)
                compared += 1
    assert compared == sum(key.startswith("final/head/") for key in replay.file.files) - 4


def test_inference_after_the_last_step_equals_the_original(replay):
    model, file = replay.model, replay.file
    mean, logvar, probs = model.posterior(file["eval/x"])
    np.testing.assert_allclose(mean, file["eval/mean"], atol=1e-2)
    np.testing.assert_allclose(logvar, file["eval/logvar"], atol=1e-2)
    np.testing.assert_allclose(probs, file["eval/prob"], atol=1e-2)
    np.testing.assert_allclose(model.decode(file["eval/z"]), file["eval/decoded"], atol=5e-2)
