"""Versions of a model that TensorFlow Serving loads: written whole, or not at all."""

import json
import os
import shutil
import uuid
from pathlib import Path

import keras
import numpy as np

import keras_ssvae
from keras_ssvae.models.base import BaseVAE
from keras_ssvae.models.capabilities import HasClusters, HasLabels

__all__ = ["export_saved_model", "next_version", "write_warmup_requests"]

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
    | `classify_uint8`              | `image` uint8, pixels 0 to 255        | as `classify`                      |
    | `classify_png`                | `image_bytes` (B,), PNG files         | as `classify`                      |
    | `encode`                      | `image`                               | `z` (B, d)                         |
    | `decode`                      | `z` (B, d)                            | `image`                            |
    | `reconstruct`                 | `image`                               | `image`                            |
    | `generate`                    | `label` int64 (B,), `seed` int64 (B,) | `image`                            |
    | `interpolate`                 | images `a` and `b`, `n` int64 (B,)    | `images` (B, n, H, W, C)           |
    | `intervene`                   | `image`, `label` and `seed` as above  | `image`                            |
    | `swap`                        | images `image` and `donor`            | `image`                            |
    | `clusters`                    | `image`                               | `probs`, `cluster` int64 (B,)      |
    | `generate_cluster`            | `cluster` and `seed`, int64 (B,)      | `image`                            |

    `intervene` and `swap` are of models that have these verbs, as `REVAE` and `M3`. `intervene` gives an image other
    labels: -1 keeps the characteristics of a label that the image has, another value draws them by the seed, and the
    seed -1 takes the mean of those of this value in place of a draw (of `M3`, which knows no mean, it is a seed as any
    other).
    Row i is `model.intervene(image[i:i + 1], 0, label[i], seed[i])`, of n labels `[0, ..., n - 1]` in place of 0.
    `swap` gives an image the characteristics of all labels of its donor.

    The last two are of models that find categories by themselves, as `CPVAE`. There are `clusters_uint8` and
    `clusters_png` too, as of `classify`. Where the model knows its `cluster_names`, `cluster_name`, strings (B,), is a
    third output.

    Of a model with several labels for each image `label` is (B, labels), and `probs` has theirs side by side. Where
    the model knows its `class_names`, `label_name`, strings in the shape of `label`, is a third output. A model without
    labels has no `classify`: its `serving_default` is `encode`, and its `generate` takes `seed` alone.

    A picture of `classify_png` may be grey, coloured, of a palette, transparent (on black, as images of training are)
    and of 8 or 16 bits; it is made grey as Pillow does where the model's images are, and resized as
    `data.ImageData.resized` does, within 1 of 255. It may have up to 2^22 pixels.

    Each input is checked before anything is computed, and an error says in a sentence which input it was, what it was
    and what it must be: its shape, that numbers are finite and pixels in [-1, 1] (within 0.001), that labels are
    classes and that the inputs of a request are equally many. Where a small request has a large answer, it is bounded:
    10,000 images of `decode`, `generate` and `classify_png`, and as many points of all lines of `interpolate`. An empty
    batch has an empty answer. More than 1,000 images are computed 1,000 at a time. What has no place in a signature
    is in `assets.extra/about.json`: size and range of the images, the classes' names, the latent variables' parts.

    All are deterministic. **Every input has the batch dimension**, `seed` and `n` included: a request by row cannot
    hold a scalar, and a server that batches requests refuses one. So `generate` takes one seed per image, and an image
    depends on nothing but its own label and seed: row i is `model.generate(label[i:i + 1], seed[i])`, or, without
    labels, `model.generate(1, seed[i])`. `n`, the number of points, sets the shape of the answer and so must be the
    same, and at least 2, for the whole batch. (The order of a sum, and so its rounding, may depend on the size of a
    batch: answers are the same within 1e-5.)

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
        ValueError: it is another Keras model, as one that holds a model of this library as a layer.
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
    if not isinstance(model, BaseVAE):
        raise ValueError(
            f"`model` is a {type(model).__name__}; it must be a model of `keras_ssvae.models`. Other Keras models are "
            "exported by their own `model.export(...)`; of one that holds such a model as a layer, give that layer."
        )
    import tensorflow as tf

    from keras_ssvae.export.signatures import signatures

    archive, given = keras.export.ExportArchive(), signatures(model)
    for name, signature in given.items():
        archive.add_endpoint(name, signature.function, signature.inputs)
    requests = {name: signature.request for name, signature in given.items()}
    requests["serving_default"] = next(iter(requests.values()))

    directory = Path(directory)
    # Not a number, so TF Serving passes over it even if a kill leaves it behind.
    temporary = directory / f".incomplete-{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        archive.write_out(str(temporary), verbose=False)
        write_warmup_requests(temporary, directory.resolve().name, requests)
        _write_about(temporary, model)
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


def _write_about(version_directory: Path, model: BaseVAE) -> None:
    """Writes `assets.extra/about.json`, what a person who has nothing but the SavedModel must know."""
    kinds = {HasLabels: ("num_classes", "class_names"), HasClusters: ("num_categories", "cluster_names")}
    classes = {name: getattr(model, name) for kind, names in kinds.items() if isinstance(model, kind) for name in names}
    about = {
        "model": type(model).__name__,
        "image": {"shape": model.image_shape, "pixels": [-1, 1], "from_0_to_255": "pixel / 127.5 - 1"},
        "latents": model.latents,
        **classes,
        "made_with": {"keras_ssvae": keras_ssvae.__version__, "keras": keras.__version__},
    }
    path = version_directory / "assets.extra" / "about.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


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
