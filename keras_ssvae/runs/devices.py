"""The devices that train: which they are, and how several share a batch (`--data-parallel`)."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import keras

from keras_ssvae import data
from keras_ssvae.runs.errors import UserError

EVALUATION_BATCH = 500


@dataclasses.dataclass(frozen=True)
class Devices:
    """Those that share a batch.

    Attributes:
        number: How many they are.
        strategy: Of `tf.distribute`; None without the flag, and on JAX, which has it as a global setting.
    """

    number: int = 1
    strategy: Any = None

    def scope(self) -> contextlib.AbstractContextManager:
        """In which a model is made and compiled."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def share(self, batches: Any) -> Any:
        """The batches as `fit` takes them."""
        return batches if self.strategy is None else data.distribute(batches, self.strategy)


@functools.cache  # the runs of a table share them
def start(data_parallel: bool) -> Devices:
    """Tells the backend to use all devices of this machine, where the flag is set."""
    if not data_parallel:
        return Devices()
    if keras.backend.backend() == "jax":
        distribution = keras.distribution.DataParallel()
        keras.distribution.set_distribution(distribution)
        return Devices(distribution.num_model_replicas)
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy()
    return Devices(strategy.num_replicas_in_sync, strategy)


def device_name() -> str:
    """The device that Keras computes on: `cpu`, or the name of the GPU."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.devices()[0].device_kind
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "gpu") if gpus else "cpu"


def check(settings: Mapping[str, Any], test_images: int) -> None:
    """Finds before the training what the devices could not share equally.

    JAX shares nothing else; on TensorFlow Keras takes the mean of the devices' means, whatever share they had.

    Args:
        settings: Those of the run.
        test_images: As many are evaluated after each epoch.

    Raises:
        UserError: When the number of devices does not divide a batch, or a set that is evaluated.
    """
    devices, batch = settings["replicas"], settings["batch_size"]
    sizes = {f"--validation is {settings['validation']}": settings["validation"]}
    sizes[f"{settings['dataset']} has {test_images} test images"] = test_images
    if "labels" in settings:
        labels, labeled = settings["labels"], settings["labeled_batch_size"]
        unlabeled, short = batch - labeled, labels % labeled
        sizes = {
            f"--labeled-batch-size is {labeled}": labeled,
            f"--batch-size less --labeled-batch-size is {unlabeled}": unlabeled,
            f"--labels {labels} in batches of --labeled-batch-size {labeled} end with one of {short}": short,
            **sizes,
        }
    else:
        sizes = {f"--batch-size is {batch}": batch, **sizes}
    for what, size in sizes.items():
        if size % devices:
            raise UserError(
                f"{what}, which --data-parallel cannot share equally among {devices} devices: it must be a multiple of "
                f"{devices}. Change that number, or let the run see fewer devices (on GPUs by CUDA_VISIBLE_DEVICES)."
            )


def evaluation_batch(settings: Mapping[str, Any], images: int) -> int:
    """How many of so many images are evaluated at once: where devices share them, no batch may be short."""
    devices = settings["replicas"]
    if devices == 1 or not images:
        return EVALUATION_BATCH
    largest = max(EVALUATION_BATCH // devices, 1) * devices
    return next(size for size in range(largest, 0, -devices) if images % size == 0)
