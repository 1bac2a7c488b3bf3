"""The devices that a run trains on, and how several devices share a batch (`--data-parallel`)."""

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
    """The devices that share a batch.

    Attributes:
        number: Number of devices.
        strategy: A strategy of `tf.distribute`. None without `--data-parallel`, and on JAX, where the distribution is a
            global setting.
    """

    number: int = 1
    strategy: Any = None

    def scope(self) -> contextlib.AbstractContextManager:
        """The context in which a model must be made and compiled."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def share(self, batches: Any) -> Any:
        """Returns the batches in the form that `fit` needs on these devices."""
        return batches if self.strategy is None else data.distribute(batches, self.strategy)


@functools.cache  # the runs of a table share them
def start(data_parallel: bool) -> Devices:
    """Returns the devices of a run; with `data_parallel` the backend uses all devices of this machine."""
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
    """The name of the device that Keras computes on: `cpu`, or the model of the GPU."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.devices()[0].device_kind
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "gpu") if gpus else "cpu"


def check(settings: Mapping[str, Any], test_images: int) -> None:
    """Checks before the training that the devices can share every batch equally.

    JAX refuses unequal shares. On TensorFlow, Keras would average the means of the devices without regard to the sizes
    of their shares, which is a wrong mean.

    Args:
        settings: The settings of the run.
        test_images: Number of test images that are evaluated after each epoch.

    Raises:
        UserError: When the size of a batch, or of a set that is evaluated, is not a multiple of the number of devices.
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
    """The batch size for an evaluation of `images` images; it divides their number if several devices share them."""
    devices = settings["replicas"]
    if devices == 1 or not images:
        return EVALUATION_BATCH
    largest = max(EVALUATION_BATCH // devices, 1) * devices
    return next(size for size in range(largest, 0, -devices) if images % size == 0)
