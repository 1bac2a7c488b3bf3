"""`--data-parallel`: the devices that share a batch, and what they can share."""

from typing import Any

import keras

from keras_ssvae.runs.errors import UserError

EVALUATION_BATCH = 500


def start(data_parallel: bool) -> tuple[Any, int]:
    """Tells the backend to use all devices of this machine.

    Returns:
        The `tf.distribute` strategy (None without the flag, and on JAX, which has it as a global setting), and the
        number of devices that will share a batch.
    """
    if not data_parallel:
        return None, 1
    if keras.backend.backend() == "jax":
        distribution = keras.distribution.DataParallel()
        keras.distribution.set_distribution(distribution)
        return None, distribution.num_model_replicas
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy()
    return strategy, strategy.num_replicas_in_sync


def check(settings: dict[str, Any], test_images: int) -> None:
    """Finds before the training what the devices could not share equally.

    JAX shares nothing else; on TensorFlow Keras takes the mean of the devices' means, whatever share they had.

    Raises:
        UserError: When the number of devices does not divide a batch, or a set that is evaluated.
    """
    devices, labels, labeled = (settings[name] for name in ("replicas", "labels", "labeled_batch_size"))
    unlabeled, short = settings["batch_size"] - labeled, labels % labeled
    sizes = {
        f"--labeled-batch-size is {labeled}": labeled,
        f"--batch-size less --labeled-batch-size is {unlabeled}": unlabeled,
        f"--labels {labels} in batches of --labeled-batch-size {labeled} end with one of {short}": short,
        f"--validation is {settings['validation']}": settings["validation"],
        f"{settings['dataset']} has {test_images} test images": test_images,
    }
    for what, size in sizes.items():
        if size % devices:
            raise UserError(
                f"{what}, which --data-parallel cannot share equally among {devices} devices: it must be a multiple of "
                f"{devices}. Change that number, or let the run see fewer devices (on GPUs by CUDA_VISIBLE_DEVICES)."
            )


def evaluation_batch(settings: dict[str, Any], images: int) -> int:
    """How many of so many images are evaluated at once: where devices share them, no batch may be short."""
    devices = settings["replicas"]
    if devices == 1 or not images:
        return EVALUATION_BATCH
    largest = max(EVALUATION_BATCH // devices, 1) * devices
    return next(size for size in range(largest, 0, -devices) if images % size == 0)
