"""The Inception Score: it rises with a classifier's certainty about generated images, and with their variety."""

import hashlib
import http.client
import os
import shutil
import threading
import time
import urllib.request
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy.special import rel_entr

from keras_ssvae.backend import inference
from keras_ssvae.checks import check_whole_number, generator
from keras_ssvae.evaluation.inputs import check_probabilities, image_batches
from keras_ssvae.models.batched import decode_batches
from keras_ssvae.models.capabilities import require_class_prior

_WEIGHTS_FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"
_WEIGHTS_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/{_WEIGHTS_FILE}"
_WEIGHTS_MD5 = "9a0d58056eeedaa3f26cb7ebd46da564"
# A download that brings no new byte for this time is given up.
_PATIENCE_SECONDS = 10.0


class ClassifierUnavailableError(RuntimeError):
    """The classifier of the Inception Score is not on this machine and cannot be downloaded, or its file is damaged."""


class InceptionScore(NamedTuple):
    """An Inception Score, and the facts that decide whether it can be compared with another one.

    Attributes:
        mean: The mean over the splits, from 1 (the classifier sees no difference between the images) to the
            classifier's number of classes. Higher is better.
        deviation: The standard deviation over the splits.
        splits: Number of splits.
        classifier: Name of the classifier. Scores of different classifiers cannot be compared.
    """

    mean: float
    deviation: float
    splits: int
    classifier: str


def inception_score_from_probs(
    probs: ArrayLike, splits: int = 50, classifier: str = "the given probabilities", seed: int | None = 0
) -> InceptionScore:
    """The Inception Score of class probabilities: in each split exp(mean of KL(p(y | x) || mean of p(y | x))).

    The score of a split grows with its number of images. So compare only scores with equal numbers of images and of
    splits.

    Args:
        probs: Class probabilities, shape (N, K), in any order.
        splits: Number of parts of equal size (plus or minus one) into which the images are split.
        classifier: Name of the classifier in the result.
        seed: Seed of the random order in which the images are split. None keeps the order of `probs`; if that is the
            order of the classes, the score is near 1, however good the images are.

    Returns:
        An `InceptionScore`.

    Raises:
        ValueError: If the rows are not probabilities, or there are fewer images than splits.

    Example:

    ```python
    inception_score_from_probs([[1, 0]] * 10 + [[0, 1]] * 10, splits=1).mean  # 2.0: two classes, without any doubt
    ```

    Reference: Salimans et al.: Improved techniques for training GANs, 2016.
    """
    probs = np.asarray(probs, dtype="float64")
    if probs.ndim != 2 or probs.shape[1] < 2:
        raise ValueError(f"`probs` has shape {probs.shape}; it must be (images, classes), with at least 2 classes.")
    check_probabilities("`probs` holds", probs)
    splits = _check_splits(splits, len(probs))
    if seed is not None:
        probs = generator(seed).permutation(probs)
    scores = []
    for part in np.array_split(probs, splits):
        divergence = rel_entr(part, part.mean(axis=0)).sum(axis=1)
        scores.append(np.exp(divergence.mean()))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), splits, classifier)


def inception_score(
    images: ArrayLike,
    classifier: keras.Model | str | PathLike | None = None,
    splits: int = 50,
    batch_size: int = 100,
    seed: int | None = 0,
) -> InceptionScore:
    """The Inception Score of images, by the ImageNet classifier InceptionV3 or by a classifier of your own.

    The images are resized to the classifier's size by nearest neighbour, and the channel of grey images is repeated
    as often as the classifier needs. Only scores of InceptionV3 can be compared with published scores. The result
    names the classifier.

    Args:
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1], in any order.
        classifier: A Keras model, or the path of a `.keras` file, that maps images in [-1, 1] to class probabilities.
            By default InceptionV3 with its ImageNet weights; see `load_classifier`.
        splits: Number of parts into which the images are split.
        batch_size: Number of images in a batch.
        seed: Seed of the random order in which the images are split; None keeps the order of `images`.

    Returns:
        An `InceptionScore`.

    Raises:
        ClassifierUnavailableError: If `classifier` is None and the weights of InceptionV3 cannot be obtained.
        ValueError: If the images are not as described, or the classifier has another input or output than it must.

    Example:

    ```python
    print(inception_score(sample_classes(model)))  # EXoN's setting
    ```

    Reference: EXoN, Table 2; Salimans et al.: Improved techniques for training GANs, 2016.
    """
    images = np.asarray(images)
    batches = image_batches(images, batch_size)
    splits = _check_splits(splits, len(images))
    if classifier is None:
        name = "InceptionV3 (ImageNet)"
    else:
        name = classifier.name if isinstance(classifier, keras.Model) else str(classifier)
    model = load_classifier(classifier)
    shape = images.shape[1:]
    height, width, channels = input_size(model, f"`classifier` {name}", shape)
    # Indices instead of `ops.image.resize`, whose nearest neighbours differ between the backends.
    rows, columns = _nearest(shape[0], height), _nearest(shape[1], width)
    repeats = channels if shape[2] == 1 else 1
    classify = inference(model)
    probs = []
    for x in batches:
        x = ops.take(ops.take(ops.convert_to_tensor(x), rows, axis=1), columns, axis=2)
        batch = ops.convert_to_numpy(classify(ops.repeat(x, repeats, axis=3))).astype("float64")
        if batch.ndim != 2 or batch.shape[1] < 2:
            raise ValueError(
                f"`classifier` {name} gives {batch.shape} for a batch of {len(x)}; it must give class probabilities, "
                f"({len(x)}, classes), of at least 2 classes."
            )
        check_probabilities(f"`classifier` {name} gives", batch)
        probs.append(batch)
    return inception_score_from_probs(np.concatenate(probs), splits, name, seed)


def sample_classes(
    model: keras.Model, images_per_class: int = 1000, seed: int = 0, batch_size: int = 500
) -> np.ndarray:
    """Generates equally many images of each class from the prior, in random order, for the Inception Score.

    Args:
        model: A model with `decode(z)` and a prior with one component for each class (`HasClassPrior`), such as `EXoN`.
        images_per_class: Number of latent points drawn from each component of the prior. EXoN has 10,000 in all.
        seed: The same seed gives the same latent points in the same order.
        batch_size: Number of images that are decoded at once.

    Returns:
        The images, float32 of shape (K images_per_class, H, W, C).

    Raises:
        ValueError: If `images_per_class` is below 1, or the model has no such prior.

    Example:

    ```python
    images = sample_classes(model)
    ```

    Reference: EXoN, Table 2 and its released code.
    """
    check_whole_number("images_per_class", images_per_class, 1)
    instead = "Draw images of another model with its `generate`, and score them."
    prior = require_class_prior(model, "sample_classes", instead)
    rng = generator(seed)
    labels = rng.permutation(np.repeat(np.arange(prior.num_classes), images_per_class))
    noise = rng.standard_normal((len(labels), prior.latent_dim), dtype=np.float32)
    return decode_batches(model, prior.means[labels] + np.sqrt(prior.variances[labels]) * noise, batch_size)


def load_classifier(classifier: keras.Model | str | PathLike | None = None) -> keras.Model:
    """Returns the classifier that `inception_score` would use. Call it early, to find a problem before the work.

    Args:
        classifier: A Keras model, which is returned unchanged; the path of a `.keras` file; or None for InceptionV3.
            Its ImageNet weights are read from `models/` in `$KERAS_HOME` or `~/.keras`, where Keras keeps them, or
            else downloaded (96 MB). The download is given up after 10 seconds without data.

    Returns:
        The Keras model.

    Raises:
        ClassifierUnavailableError: If the weights of InceptionV3 cannot be obtained.
        ValueError: If a path is not that of a Keras model.

    Example:

    ```python
    classifier = load_classifier()  # before a long training
    ```
    """
    if isinstance(classifier, keras.Model):
        return classifier
    if classifier is None:
        weights, policy = str(_inception_weights()), keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")  # in half precision the probabilities would not add up to 1
        try:
            return keras.applications.InceptionV3(weights=weights)
        finally:
            keras.config.set_dtype_policy(policy)
    if not Path(classifier).is_file():
        raise ValueError(f"`classifier` is {str(classifier)!r}, but there is no such file; it must be a `.keras` file.")
    try:
        return keras.models.load_model(classifier, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise ValueError(
            f"`classifier` is {str(classifier)!r}, but that file cannot be read as a Keras model ({error})."
        ) from error


def _inception_weights() -> Path:
    path = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models" / _WEIGHTS_FILE
    remedy = (
        f"put a copy of {_WEIGHTS_URL} there (where there is a network, `KERAS_BACKEND={keras.backend.backend()} "
        'python -c "import keras; keras.applications.InceptionV3()"` fetches it), or name a classifier of your own, a '
        "`.keras` file whose outputs are class probabilities; its score is then not the published one"
    )
    if path.exists():
        if _md5(path) != _WEIGHTS_MD5:
            raise ClassifierUnavailableError(f"{path} is not the file of Keras' InceptionV3, or is damaged: {remedy}.")
        return path
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        reason = _download(_WEIGHTS_URL, temporary)
        if reason is None and _md5(temporary) != _WEIGHTS_MD5:
            reason = "the download brought another file"
        if reason is None:
            os.replace(temporary, path)
            return path
    except OSError as error:
        reason = str(error)
    finally:
        temporary.unlink(missing_ok=True)
    raise ClassifierUnavailableError(
        f"The weights of InceptionV3 are not at {path} and could not be downloaded ({reason}): {remedy}."
    )


def _download(url: str, path: Path) -> str | None:
    """Downloads a file; returns None, or why it failed. It uses a thread, since a name lookup has no time limit."""
    failure = []

    def fetch():
        try:
            with urllib.request.urlopen(url, timeout=_PATIENCE_SECONDS) as response, path.open("wb") as file:
                shutil.copyfileobj(response, file)
        except (OSError, http.client.HTTPException) as error:
            failure.append(str(error))

    worker = threading.Thread(target=fetch, daemon=True)
    worker.start()
    size, since = 0, time.monotonic()
    while worker.is_alive():
        worker.join(0.2)
        current = path.stat().st_size if path.exists() else 0
        if current != size:
            size, since = current, time.monotonic()
        elif time.monotonic() - since > _PATIENCE_SECONDS:
            return f"no progress for {_PATIENCE_SECONDS:g} seconds"
    return failure[0] if failure else None


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def input_size(model: keras.Model, whose: str, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of a network's input; those of the images where the network leaves them open."""
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ValueError(f"{whose} takes {shape}; it must have one input, images (None, height, width, channels).")
    height, width, channels = (
        own if given is None else given for given, own in zip(shape[1:], image_shape, strict=True)
    )
    if image_shape[2] not in (1, channels):
        raise ValueError(
            f"{whose} takes images of {channels} channels, but `images` have {image_shape[2]}; they must "
            "have the same number, or 1."
        )
    return height, width, channels


def _nearest(size: int, new_size: int) -> np.ndarray:
    """The indices of the old pixels in which the centres of the new pixels lie."""
    return ((2 * np.arange(new_size) + 1) * size // (2 * new_size)).astype("int32")


def _check_splits(splits: int, num_images: int) -> int:
    splits = check_whole_number("splits", splits, 1)
    if splits > num_images:
        raise ValueError(f"`splits` is {splits}; it must be at most the number of images, {num_images}.")
    return splits
