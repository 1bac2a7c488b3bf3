"""Export of models as numbered versions for TensorFlow Serving. A version is written as a whole, or not at all."""

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
    """Returns the next free version number of a served model: the largest one in use plus 1, or 1 if there is none.

    Args:
        directory: The model's directory, `<name>` in TF Serving's `<name>/<version>/`. It need not exist.
    """
    directory = Path(directory)
    entries = os.listdir(directory) if directory.is_dir() else []
    return 1 + max((int(name) for name in entries if name.isascii() and name.isdigit()), default=0)


def export_saved_model(model: BaseVAE, directory: str | os.PathLike) -> Path:
    """Write a model as a SavedModel under the next free version number of a directory.

    The SavedModel needs TensorFlow only: neither Keras nor this package is needed to load it. Images are float32 of
    shape (B, H, W, C) with pixels in [-1, 1]. The batch size B is free.

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

    **Models with labels.** If each image has n labels, `label` has shape (B, n), and `probs` holds the probabilities of
    all labels side by side. If the model knows its `class_names`, `label_name` is a third output: strings in the shape
    of `label`. A model without labels has no `classify`: its `serving_default` is `encode`, and its `generate` takes
    `seed` only.

    **PNG files.** A picture of `classify_png` may be grey, coloured or have a palette, with 8 or 16 bits, and up to
    2^22 pixels. Transparent parts become black. The picture is made grey as by Pillow if the model's images are grey,
    and resized as by `data.ImageData.resized`; the pixels agree within 1 of 255.

    **`intervene` and `swap`** exist for models with these methods, such as `REVAE` and `M3`. `intervene` gives an image
    other labels. The value -1 keeps the image's own characteristics of a label. For any other value the characteristics
    are drawn by the seed, or, with the seed -1, their mean is taken (`M3` has no mean: there -1 is an ordinary seed).
    Row i is `model.intervene(image[i:i + 1], 0, label[i], seed[i])`, with `[0, ..., n - 1]` in place of 0 for n labels.
    `swap` gives an image the characteristics of all labels of its donor.

    **`clusters` and `generate_cluster`** exist for models that find categories without labels, such as `CPVAE`. There
    are `clusters_uint8` and `clusters_png` too, with the inputs of `classify_uint8` and `classify_png`. If the model
    knows its `cluster_names`, `cluster_name` is a third output: strings (B,).

    **Checks.** Each input is checked before anything is computed: its shape, that numbers are finite, that pixels are
    in [-1, 1] (within 0.001), that labels are classes, and that all inputs of a request have the same number of rows.
    The error names the input, says what it was and what it must be. Small requests with large answers are limited:
    `decode`, `generate` and `classify_png` to 10,000 images, `interpolate` to 10,000 points on all lines together. An
    empty batch has an empty answer. More than 1,000 images are computed 1,000 at a time. `assets.extra/about.json`
    holds what a signature cannot: size and range of the images, names of the classes, parts of the latent variables.

    **Batches.** Every input has the batch dimension, also `seed` and `n`: a request in TF Serving's row format cannot
    hold a scalar, and a server that batches requests refuses one. So `generate` takes one seed per image, and an image
    depends only on its own label and seed: row i is `model.generate(label[i:i + 1], seed[i])`, or, without labels,
    `model.generate(1, seed[i])`. `n`, the number of points, sets the shape of the answer; so it must be the same for
    the whole batch, and at least 2. All signatures are deterministic. (The order of a sum, and so its rounding, may
    depend on the size of the batch: answers agree within 1e-5.)

    **Files.** The new version is renamed into place when it is complete, so a server that watches the directory never
    loads an incomplete one. Existing versions are never changed. If `tensorflow-serving-api` is installed (extra
    `serving`), the version also holds warm-up requests (see `write_warmup_requests`).

    Args:
        model: A model of this library.
        directory: Directory of the versions, for example `saved_models/exon_mnist_100`; made if it does not exist. Its
            name is the model's name in the warm-up requests.

    Returns:
        The path of the new version, `<directory>/<version>`.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow, which writes SavedModels.
        ValueError: If `model` is another Keras model, for example one that holds a model of this library as a layer.
        OSError: If the directory cannot be written.

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
            f"`model` is a {type(model).__name__}; it must be a model of `keras_ssvae.models`. Export other Keras "
            "models by their own `model.export(...)`. If a model of this library is a layer of yours, give that layer."
        )
    import tensorflow as tf

    from keras_ssvae.export.signatures import signatures

    archive, given = keras.export.ExportArchive(), signatures(model)
    for name, signature in given.items():
        archive.add_endpoint(name, signature.function, signature.inputs)
    requests = {name: signature.request for name, signature in given.items()}
    requests["serving_default"] = next(iter(requests.values()))

    directory = Path(directory)
    # The name is not a number, so TF Serving ignores it, even if a killed process leaves it behind.
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
    """Write requests that TF Serving replays when it loads a version, so that the first user does not wait.

    Args:
        version_directory: A SavedModel, `<name>/<version>`.
        model_name: The name under which the model is served.
        inputs: The inputs of one request for each signature: `{signature: {input: array}}`.

    Returns:
        The path of the file, `assets.extra/tf_serving_warmup_requests`. None, and no file, if `tensorflow-serving-api`
        is not installed (extra `serving`). A server works without the file.
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
    """Writes `assets.extra/about.json`, which explains the model to a person who has only the SavedModel."""
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
    """Rename a complete version to the next free number; if another process takes it meanwhile, to the one after."""
    while True:
        path = directory / str(next_version(directory))
        try:
            temporary.rename(path)
        except OSError:
            if not path.exists():
                raise
        else:
            return path
