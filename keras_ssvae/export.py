"""Export of a trained model as a SavedModel for TensorFlow Serving."""

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from keras_ssvae.models.base import BaseVAE
from keras_ssvae.models.capabilities import HasLabels

__all__ = ["export_saved_model", "next_version", "write_warmup_requests"]


# Of an interpolation: one request must not take the server's memory.
_MAX_POINTS = 1000

NEEDS_TENSORFLOW = (
    "Exporting a SavedModel needs TensorFlow, and Keras does not run on it here. Save the model as a `.keras` file and "
    "export that where TensorFlow is installed: `KERAS_BACKEND=tensorflow python experiments/export.py --model "
    "model.keras --export-dir saved_models/NAME`."
)


def next_version(directory: str | os.PathLike) -> int:
    """The next free version number of a served model: one more than the largest in use, 1 for a new directory.

    Args:
        directory: the model's directory, `<name>` in TF Serving's `<name>/<version>/`. It need not exist.
    """
    directory = Path(directory)
    entries = os.listdir(directory) if directory.is_dir() else []
    return 1 + max((int(name) for name in entries if name.isascii() and name.isdigit()), default=0)


def export_saved_model(model: BaseVAE, directory: str | os.PathLike) -> Path:
    """Write a model as a SavedModel under the next free version number of a directory.

    The SavedModel answers with TensorFlow alone: neither Keras nor this package is needed to load it. Images are
    float32 of shape (B, H, W, C) with pixels in [-1, 1]; the batch size B is free.

    | signature                     | inputs                                | outputs                            |
    |-------------------------------|---------------------------------------|------------------------------------|
    | `classify`, `serving_default` | `image`                               | `probs` (B, K), `label` int64 (B,) |
    | `encode`                      | `image`                               | `z` (B, d)                         |
    | `decode`                      | `z` (B, d)                            | `image`                            |
    | `reconstruct`                 | `image`                               | `image`                            |
    | `generate`                    | `label` int64 (B,), `seed` int64 (B,) | `image`                            |
    | `interpolate`                 | images `a` and `b`, `n` int64 (B,)    | `images` (B, n, H, W, C)           |

    Of a model with several labels for each image `label` is (B, labels), and `probs` has theirs side by side. A model
    without labels has no `classify`: its `serving_default` is `encode`, and its `generate` takes `seed` alone.

    All are deterministic. **Every input has the batch dimension**, `seed` and `n` included: a request by row cannot
    hold a scalar, and a server that batches requests refuses one. So `generate` takes one seed per image, and an image
    depends on nothing but its own label and seed: row i is `model.generate(label[i:i + 1], seed[i])`, or, without
    labels, `model.generate(1, seed[i])`. `n`, the number of points, sets the shape of the answer and so must be the
    same, and at least 2, for the whole batch.

    The version appears by one rename when it is complete, so a server that watches the directory never loads half of
    one, and an existing version is never touched. Where `tensorflow-serving-api` is installed (extra `serving`), the
    version also holds warm-up requests (see `write_warmup_requests`).

    Args:
        model: a model of this library.
        directory: where the versions lie, for example `saved_models/exon_mnist_100`; made if it does not exist. Its
            name is the model's name in the warm-up requests.

    Returns:
        The path of the new version, `<directory>/<version>`.

    Raises:
        RuntimeError: Keras does not run on TensorFlow, which a SavedModel is a program of.
        OSError: the directory cannot be written to.

    Example:

    ```python
    path = export_saved_model(model, "saved_models/my_model")
    served = tf.saved_model.load(path)
    served.signatures["classify"](image=images)["label"]
    ```
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(NEEDS_TENSORFLOW)
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    for name, (function, inputs) in _signatures(model).items():
        archive.add_endpoint(name, function, inputs)

    directory = Path(directory)
    # Not a number, so TF Serving passes over it even if a kill leaves it behind.
    temporary = directory / f".incomplete-{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        archive.write_out(str(temporary), verbose=False)
        write_warmup_requests(temporary, directory.resolve().name, _warmup_inputs(model))
        return _publish(temporary, directory)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or error
        raise OSError(
            f"The SavedModel could not be written: directory={str(directory)!r} must be a directory with write "
            f"permission and free space, but the system says: {reason}. Choose another directory; nothing in this one "
            "was changed."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_warmup_requests(
    version_directory: str | os.PathLike, model_name: str, inputs: dict[str, dict[str, np.ndarray]]
) -> Path | None:
    """Write the requests that TF Serving replays when it loads a version, so that the first user does not wait.

    Args:
        version_directory: a SavedModel, `<name>/<version>`.
        model_name: the name the model is served under.
        inputs: the inputs of one request for each signature: `{signature: {input: array}}`.

    Returns:
        The file, `assets.extra/tf_serving_warmup_requests`; or None, with nothing written, where
        `tensorflow-serving-api` is not installed (extra `serving`). A server works without the file.
    """
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError:
        return None
    import tensorflow as tf

    path = Path(version_directory) / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, arrays in inputs.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature
            for name, array in arrays.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
    return path


def _signatures(model: BaseVAE) -> dict[str, tuple[Callable, list]]:
    """The functions to export and the `TensorSpec`s of their inputs; `serving_default` is Keras' alias of the first."""
    import tensorflow as tf

    def image(name="image"):
        return tf.TensorSpec((None, *model.image_shape), tf.float32, name=name)

    def integers(name, shape=()):
        return tf.TensorSpec((None, *shape), tf.int64, name=name)

    def classify(image):
        probs = model.classify(image)
        return {"probs": probs, "label": tf.cast(model.predicted_labels(probs), tf.int64)}

    def encode(image):
        return {"z": model.encode(image)}

    def decode(z):
        return {"image": model.decode(z)}

    def reconstruct(image):
        return {"image": model.reconstruct(image)}

    def generate_classes(label, seed):
        checks = [
            tf.debugging.assert_equal(
                tf.shape(label)[0],
                tf.shape(seed)[0],
                message="`label` and `seed` must be equally long: one seed per image.",
            ),
            tf.debugging.assert_non_negative(label, message="`label` must not be negative."),
            tf.debugging.assert_less(
                label, tf.constant(model.num_classes, tf.int64), message="`label` must be below the number of classes."
            ),
        ]
        with tf.control_dependencies(checks):  # otherwise a failing look-up may speak first
            label, seed = tf.identity(label), tf.identity(seed)
        return {"image": row_by_row(lambda row: model.generate(row[0][None], row[1])[0], (label, seed))}

    def generate(seed):
        return {"image": row_by_row(lambda seed: model.generate(1, seed)[0], seed)}

    def row_by_row(function, rows):
        # Each row has its own noise: an answer must not depend on what else is in the batch.
        return tf.map_fn(function, rows, fn_output_signature=tf.TensorSpec(model.image_shape, tf.float32))

    def interpolate(a, b, n):
        checks = [
            tf.debugging.assert_equal(n, n[0], message="`n` must be the same for the whole batch."),
            tf.debugging.assert_greater(n, tf.constant(1, tf.int64), message="`n` must be at least 2."),
            tf.debugging.assert_less_equal(
                n, tf.constant(_MAX_POINTS, tf.int64), message=f"`n` must be at most {_MAX_POINTS}."
            ),
            tf.debugging.assert_equal(tf.shape(a)[0], tf.shape(b)[0], message="`a` and `b` must be equally many."),
        ]
        with tf.control_dependencies(checks):
            points = tf.identity(n[0])
        return {"images": model.interpolate(a, b, points)}

    signatures: dict[str, tuple[Callable, list]] = {
        "encode": (encode, [image()]),
        "decode": (decode, [tf.TensorSpec((None, model.latent_dim), tf.float32, name="z")]),
        "reconstruct": (reconstruct, [image()]),
        "interpolate": (interpolate, [image("a"), image("b"), integers("n")]),
    }
    if not isinstance(model, HasLabels):
        return {**signatures, "generate": (generate, [integers("seed")])}
    labels = integers("label", model.labels.shape)
    return {
        "classify": (classify, [image()]),
        **signatures,
        "generate": (generate_classes, [labels, integers("seed")]),
    }


def _warmup_inputs(model: BaseVAE) -> dict[str, dict[str, np.ndarray]]:
    """One request of one blank image, latent point or label for each signature."""
    image, seed = np.zeros((1, *model.image_shape), "float32"), np.zeros(1, "int64")
    inputs: dict[str, dict[str, np.ndarray]] = {
        "serving_default": {"image": image},
        "encode": {"image": image},
        "decode": {"z": np.zeros((1, model.latent_dim), "float32")},
        "reconstruct": {"image": image},
        "generate": {"seed": seed},
        "interpolate": {"a": image, "b": image, "n": np.full(1, 10, "int64")},
    }
    if isinstance(model, HasLabels):
        inputs["classify"] = {"image": image}
        inputs["generate"] = {"label": np.zeros((1, *model.labels.shape), "int64"), "seed": seed}
    return inputs


def _publish(temporary: Path, directory: Path) -> Path:
    """Rename a complete version to the next free number, counting on if another process takes it meanwhile."""
    while True:
        path = directory / str(next_version(directory))
        try:
            temporary.rename(path)
        except OSError:
            if not path.exists():
                raise
        else:
            return path
