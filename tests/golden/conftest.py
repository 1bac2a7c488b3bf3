"""Replays steps of the original codes: the same weights, data and noise must give the same numbers."""

import os
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ssvae.models import EXoN
from keras_ssvae.optimizers import Adam, GroupedOptimizer

GOLDEN = Path(os.environ.get("KERAS_SSVAE_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))
PARTS = ("labeled", "unlabeled", "labeled_augmented", "unlabeled_augmented")


def pytest_generate_tests(metafunc):
    """A module that names its files in `FILES` has its tests run for each of them."""
    if "golden_file" in metafunc.fixturenames:
        pattern = metafunc.module.FILES
        files = sorted(GOLDEN.glob(pattern))
        missing = pytest.param(
            None, id="none", marks=pytest.mark.skip(reason=f"no {pattern} in {GOLDEN} (set KERAS_SSVAE_GOLDEN)")
        )
        metafunc.parametrize(
            "golden_file", [pytest.param(f, id=f.stem) for f in files] or [missing], scope="module", indirect=True
        )


@pytest.fixture(scope="module")
def golden_file(request):
    with np.load(request.param) as file:
        return dict(file)


def scaled(images):
    return images if images.dtype == np.float32 else (images.astype("float32") - 127.5) / 127.5


class Replay:
    """An EXoN with the file's first weights and learning rates, and what its steps give.

    Args:
        file: The arrays of the golden file.
        model: The model, which is compiled here.
        rename: Layer and variable of a network -> the layer's name in the file.
        initial: Gives the first value of a variable by its name in the file.
    """

    def __init__(self, file: dict, model: EXoN, rename: Callable, initial: Callable):
        self.file, self.model, self.rename = file, model, rename
        for variable, name in self.named_variables():
            if name[1] in ("mean", "logvar"):
                network, layer, kind = name
                heads = [initial(f"{network}/{layer}_{k}/{kind}") for k in range(model.num_classes)]
                variable.assign(np.stack(heads, axis=-2))
            else:
                variable.assign(initial("/".join(name)))
        rate, classifier_rate, decay = (float(file[name]) for name in ("lr", "lr_classifier", "weight_decay"))
        optimizers = {"autoencoder": Adam(rate), "classifier": Adam(classifier_rate, weight_decay=decay)}
        model.compile(GroupedOptimizer(optimizers))
        self.steps = sorted({key.split("/")[0] for key in file if key.startswith("step")})
        self.terms, self.outputs = [], []
        step = _with_gradients(model, model.optimizer)
        for name in self.steps:
            batch, noise = self.batch(name), self.noise(name)
            self.outputs.append(self.observe(batch))
            terms, gradients = step(batch, noise)
            terms = {key: keras.ops.convert_to_numpy(value) for key, value in terms.items()}
            self.terms.append({key: float(value.sum(dtype="float64")) for key, value in terms.items()})
            if name == self.steps[0]:
                given = {id(v): gradient for v, gradient in zip(model.trainable_variables, gradients, strict=True)}
                self.gradients = dict(self.values(lambda variable, given=given: given[id(variable)], trainable=True))

    def named_variables(self):
        """Each variable of the model with its network, layer and kind in the file."""
        for network in (self.model.encoder, self.model.decoder, self.model.classifier):
            for variable in network.weights:
                layer, kind = variable.path.split("/")[-2:]
                yield variable, (network.name, self.rename(network.name, layer, kind), kind)

    def values(self, value_of: Callable = keras.ops.convert_to_numpy, trainable: bool = False):
        """Name in the file -> value, one entry for each of the K heads."""
        for variable, name in self.named_variables():
            if trainable and not variable.trainable:
                continue
            value = np.asarray(value_of(variable))
            if name[1] in ("mean", "logvar"):
                for k, head in enumerate(np.moveaxis(value, -2, 0)):
                    yield f"{name[0]}/{name[1]}_{k}/{name[2]}", head
            else:
                yield "/".join(name), value

    def batch(self, step):
        return {part: scaled(self.file[f"{step}/x_{part}"]) for part in PARTS} | {
            "labels": self.file[f"{step}/y_labeled"]
        }

    def noise(self, step):
        labeled, unlabeled = self.file[f"{step}/mix_weights"]
        return {
            "epsilon": self.file[f"{step}/epsilon"].astype("float32"),
            "gumbel": self.file[f"{step}/gumbel"],
            "mix_weight_labeled": labeled,
            "mix_weight_unlabeled": unlabeled,
            "partners_labeled": self.file[f"{step}/perm_labeled"],
            "partners_unlabeled": self.file[f"{step}/perm_unlabeled"],
            "dropout": np.int32(0),
        }

    def observe(self, batch):
        """What the networks give before the step, in training mode and without a trace."""
        images = np.concatenate([batch["labeled"], batch["unlabeled"]])
        with keras.StatelessScope():
            mean, logvar = self.model.encoder(images, training=True)
            probs = keras.ops.softmax(self.model.classifier(images, training=True))
            pseudo_label = keras.ops.softmax(self.model.classifier(batch["unlabeled_augmented"], training=True))
        return {"mean": mean, "logvar": logvar, "prob": probs, "pseudo_label": pseudo_label}


def _with_gradients(model, optimizer):
    """`model.replay_step` that also gives what the optimizer was given; on JAX as one program, which is much faster."""
    taken = []
    apply = optimizer.apply

    def record_and_apply(gradients, variables):
        taken[:] = gradients
        apply(gradients, variables)

    optimizer.apply = record_and_apply

    def step(data):
        return model.replay_step(*data), list(taken)

    if keras.backend.backend() != "jax":
        return lambda *data: step(data)
    import jax

    from keras_ssvae.backend import run_step

    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    program = jax.jit(lambda state, *data: run_step(model, step, state, data))

    def launch(*data):
        results, state = program(tuple([v.value for v in group] for group in groups), *data)
        for group, values in zip(groups, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return results

    return launch


@pytest.fixture(scope="module")
def replay_of():
    """The class, for modules that cannot import it."""
    return Replay


@pytest.fixture(scope="module")
def with_gradients():
    """The function, for modules that cannot import it."""
    return _with_gradients
