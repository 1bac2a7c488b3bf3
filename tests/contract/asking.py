"""How the contract tests call a model. If an interface of the models changes, this file must change, not the tests."""

import keras
import numpy as np
from contract import small
from keras import ops

from keras_ssvae.models import capabilities


def classifies(model):
    return isinstance(model, capabilities.HasLabels)


def clusters(model):
    return isinstance(model, capabilities.HasClusters)


def intervenes(model):
    return isinstance(model, capabilities.Intervenes)


def to_generate(entry):
    """The argument of `generate` for three images: their labels as integers, or 3 for a model without labels."""
    if not entry.sizes:
        return 3
    labels = np.array([[0, 1], [2, 0], [1, 1]])
    return labels if len(entry.sizes) == 2 else labels[:, 0]


def to_intervene(entry):
    """The labels that five images get by `intervene`; -1 keeps a label."""
    labels = np.array([[2, -1], [1, 1], [-1, -1], [-1, 0], [0, 1]])
    return labels if len(entry.sizes) == 2 else labels[:, 0]


def true_labels(entry):
    """The labels of seven images as integers; None for a model without labels."""
    if not entry.sizes:
        return None
    labels = np.array([[0, 1], [1, 1], [2, 0], [0, 0], [1, 0], [2, 1], [0, 1]])
    return labels if len(entry.sizes) == 2 else labels[:, 0]


def verbs(entry, model, images):
    """Name -> the verb, its arguments for seven images, and the shape of its result."""
    z = np.linspace(-1, 1, 2 * model.latent_dim, dtype="float32").reshape(2, -1)
    given = {
        "encode": (model.encode, (images,), (7, model.latent_dim)),
        "decode": (model.decode, (z,), (2, *small.IMAGE_SHAPE)),
        "reconstruct": (model.reconstruct, (images,), images.shape),
        "interpolate": (model.interpolate, (images[:2], images[2:4]), (2, 10, *small.IMAGE_SHAPE)),
        "generate": (model.generate, (to_generate(entry), 3), (3, *small.IMAGE_SHAPE)),
        **entry.verbs(model, images),
    }
    if intervenes(model):
        shape = (3, *small.IMAGE_SHAPE)
        given["intervene"] = (model.intervene, (images[:3], 0, 2, 5), shape)
        given["swap"] = (model.swap, (images[:3], images[3:6]), shape)
    if classifies(model):
        given["classify"] = (model.classify, (images,), (7, sum(entry.sizes)))
    return given


def answers(entry, model, images):
    """The results of the verbs, `call` and `posterior`, by name."""
    given = {name: verb(*arguments) for name, (verb, arguments, _) in verbs(entry, model, images).items()}
    given |= {f"call/{name}": value for name, value in model(images).items()}
    return given | {f"posterior/{name}": value for name, value in model.posterior(images).items()}


def forever(batch):
    """Repeats one batch of `step_losses` without end, in the form that `fit` takes."""
    images = {name: part for name, part in batch.items() if name != "labels"}
    while True:
        yield (images, batch["labels"]) if "labels" in batch else (images,)


def fit(model, batch, steps=2, **arguments):
    """Fits the same batch `steps` times in each epoch; returns the logs: name -> the value of each epoch."""
    return model.fit(forever(batch), steps_per_epoch=steps, shuffle=False, verbose=0, **arguments).history


def variables(model):
    """The variables of a model and its optimizer, except the seeds of dropout, which each step sets."""
    together = (*model.weights, *model.optimizer.variables)
    return [variable for variable in together if not variable.path.endswith("seed_generator_state")]


def state(model):
    """The path and value of each of `variables`."""
    return [(variable.path, ops.convert_to_numpy(variable)) for variable in variables(model)]


def evaluation_means(entry, model, images, batch_size):
    """What `evaluate` must return: the means of the evaluation terms over all images, and the loss."""
    labels, terms = true_labels(entry), {}
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        for name, values in model.evaluation_terms(images[rows], None if labels is None else labels[rows]).items():
            terms.setdefault(name, []).append(ops.convert_to_numpy(values))
    means = {name: np.mean(np.concatenate(values)) for name, values in terms.items() if name in model.test_terms}
    return {"loss": float(model.validation_objective(means, model.steps_taken)), **means}


def assert_same_bits(given, expected):
    """Compares two results of `state`. Paths may differ, since Keras numbers the layers of a process."""
    for (path, value), (_, expected_value) in zip(given, expected, strict=True):
        np.testing.assert_array_equal(value, expected_value, err_msg=path)


def dtype_of(value):
    return keras.backend.standardize_dtype(value.dtype)


def to_numpy(tensors):
    return {name: ops.convert_to_numpy(value) for name, value in tensors.items()}
