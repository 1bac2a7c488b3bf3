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
    for network in (model.encoder, model.decoder, model.classifier):
        for variable in network.weights:
            layer, name = variable.path.split("/")[-2:]
            yield variable, (network.name, layer, name)


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
        self.terms, self.outputs, self.gradients = [], [], None
        for step in self.steps:
            batch, noise = self.batch(step), self.noise(step)
            self.outputs.append(self.observe(batch, noise))
            terms = model.replay_step(batch, noise)
            self.terms.append({name: float(np.sum(value, dtype="float64")) for name, value in terms.items()})

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
        return {
            "mean": mean,
            "logvar": logvar,
            "prob": probs,
            "pseudo_label": pseudo_label,
        }


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def replay(request):
    return Replay(request.param)


def test_every_term_of_every_step_equals_the_original(replay):
    for step, terms in zip(replay.steps, replay.terms, strict=True):
        for name in TERMS:
            np.testing.assert_allclose(
                terms[name], float(replay.file[f"{step}/{name}"]), rtol=5e-6, err_msg=f"{step}/{name}"
            )


def test_network_outputs_of_the_first_step_equal_the_original(replay):
    for name, value in replay.outputs[0].items():
        np.testing.assert_allclose(value, replay.file[f"{replay.steps[0]}/{name}"], atol=1e-5, err_msg=name)


def test_weights_after_the_last_step_equal_the_original(replay):
    compared = 0
    for variable, name in named_variables(replay.model):
        value = np.asarray(variable)
        heads = np.moveaxis(value, -2, 0) if name[1] in ("mean", "logvar") else [value]
        for k, head in enumerate(heads):
            layer = f"{name[1]}_{k}" if len(heads) > 1 else name[1]
            expected = replay.file[f"final/head/{name[0]}/{layer}/{name[2]}"]
            moving = name[2].startswith("moving")
            np.testing.assert_allclose(
                head.ravel()[: len(expected)],
                expected,
                rtol=5e-4 if moving else 0,
                atol=1e-6 if moving else 2e-5,
                err_msg=f"{name[0]}/{layer}/{name[2]}",
            )
            compared += 1
    assert compared == sum(key.startswith("final/head/") for key in replay.file.files)


def test_inference_after_the_last_step_equals_the_original(replay):
    model, file = replay.model, replay.file
    mean, logvar, probs = model.posterior(file["eval/x"])
    np.testing.assert_allclose(mean, file["eval/mean"], atol=1e-2)
    np.testing.assert_allclose(logvar, file["eval/logvar"], atol=1e-2)
    np.testing.assert_allclose(probs, file["eval/prob"], atol=1e-2)
    np.testing.assert_allclose(model.decode(file["eval/z"]), file["eval/decoded"], atol=5e-2)
