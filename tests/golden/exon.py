"""What the golden files of EXoN have in common."""

import keras
import numpy as np
from golden.replay import Replay, Stored, scaled

from keras_ssvae.optimizers import Adam, GroupedOptimizer

PARTS = ("labeled", "unlabeled", "labeled_augmented", "unlabeled_augmented")
TERMS = ("reconstruction", "kl_categorical", "kl_gaussian", "cross_entropy", "sci_labeled", "sci_unlabeled", "total")


def replay(file, model, rename, initial):
    """The steps of a file.

    Args:
        file: The arrays of the golden file.
        model: The model, which is compiled here.
        rename: `(network, layer, kind of variable) -> name` of the layer in the file.
        initial: As that of `Replay`.
    """
    rate, classifier_rate, decay = (float(file[name]) for name in ("lr", "lr_classifier", "weight_decay"))
    optimizers = {"autoencoder": Adam(rate), "classifier": Adam(classifier_rate, weight_decay=decay)}
    model.compile(GroupedOptimizer(optimizers))
    return Replay(
        file,
        model,
        stored(model, rename),
        initial=initial,
        steps=sorted({key.split("/")[0] for key in file if key.startswith("step")}),
        batch=lambda step: batch(file, step),
        noise=lambda step: noise(file, step),
        observe=lambda given: observe(model, given),
    )


def stored(model, rename):
    for network in (model.encoder, model.decoder, model.classifier):
        for variable in network.weights:
            layer, kind = variable.path.split("/")[-2:]
            layer = rename(network.name, layer, kind)
            if layer not in ("mean", "logvar"):
                yield Stored(variable, f"{network.name}/{layer}/{kind}")
                continue
            for k in range(model.num_classes):  # in the original, a head for each component
                name = f"{network.name}/{layer}_{k}/{kind}"
                yield Stored(variable, name, lambda value, k=k: np.take(value, k, axis=-2))


def batch(file, step):
    return {part: scaled(file[f"{step}/x_{part}"]) for part in PARTS} | {"labels": file[f"{step}/y_labeled"]}


def noise(file, step):
    labeled, unlabeled = file[f"{step}/mix_weights"]
    return {
        "epsilon": file[f"{step}/epsilon"].astype("float32"),
        "gumbel": file[f"{step}/gumbel"],
        "mix_weight_labeled": labeled,
        "mix_weight_unlabeled": unlabeled,
        "partners_labeled": file[f"{step}/perm_labeled"],
        "partners_unlabeled": file[f"{step}/perm_unlabeled"],
        "dropout": np.int32(0),
    }


def observe(model, batch):
    """What the networks give before the step, in training mode and without a trace."""
    images = np.concatenate([batch["labeled"], batch["unlabeled"]])
    with keras.StatelessScope():
        mean, logvar = model.encoder(images, training=True)
        probs = keras.ops.softmax(model.classifier(images, training=True))
        pseudo_label = keras.ops.softmax(model.classifier(batch["unlabeled_augmented"], training=True))
    return {"mean": mean, "logvar": logvar, "prob": probs, "pseudo_label": pseudo_label}


def assert_terms(replay, tolerances):
    """Of each step the sums over the batch."""
    for step, terms, rtol in zip(replay.steps, replay.terms, tolerances, strict=True):
        for name in TERMS:
            given, expected = terms[name].sum(dtype="float64"), replay.file[f"{step}/{name}"]
            np.testing.assert_allclose(given, expected, rtol=rtol, err_msg=f"{step}/{name}")
