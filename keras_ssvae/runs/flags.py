"""The flags that all experiments share, and the settings of a run that they make."""

import argparse
import math
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ssvae.runs import devices
from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.experiment import Experiment

# On an accelerator the host's work between two steps costs more than the steps.
_STEPS_PER_EXECUTION = 8


def arguments(experiment: Experiment, argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the flags of an experiment, those of the command line by default."""
    return experiment.check_flags(parser(experiment).parse_args(argv))


def parser(experiment: Experiment) -> argparse.ArgumentParser:
    """The flags that all experiments have, and those of this one; a flag that is added again replaces the first."""
    result = argparse.ArgumentParser(
        description=experiment.description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        conflict_handler="resolve",
    )
    add = result.add_argument
    settings, labels = experiment.settings, experiment.labels
    run_name = experiment.run_name("<dataset>", "<labels>")
    counted = ", labelled and unlabelled" if labels is not None else ""
    beta = "" if experiment.beta is None else "_beta<beta>"
    first, *others = settings

    def default(name):
        differing = (f"; {each} {settings[each][name]}" for each in others if settings[each] is not settings[first])
        return f"(default {settings[first][name]}{''.join(differing)})"

    if "digits" in others:
        add(
            "--dataset",
            choices=["auto", *settings],
            default="auto",
            help=f"auto: {first}, or the digits where it cannot be had (default %(default)s)",
        )
    else:
        add("--dataset", choices=list(settings), default=first, help="(default %(default)s)")
    if labels is not None:
        add("--labels", type=int, help=f"labelled images, of each class about the same number (default {labels})")
        add(
            "--labeled-indices",
            type=Path,
            metavar="FILE",
            help="their indices in the training set, one a line, counted from 0 (default: drawn by --seed, about the "
            "same number from each class)",
        )
    add("--validation", type=int, help=f"validation images, held out {default('validation')}")
    if experiment.beta is not None:
        add(
            "--beta",
            type=float,
            default=experiment.beta,
            help="variance of the decoder, for pixels in [-1, 1], and so the weight of the KL (default %(default)s)",
        )
    add(
        "--epochs",
        type=int,
        help="epochs to train; the schedules are those of the paper's epochs, of which a shorter run does the first "
        f"ones {default('epochs')}",
    )
    add("--steps-per-epoch", type=int, help=f"training steps in an epoch {default('steps_per_epoch')}")
    add("--batch-size", type=int, help=f"images in a batch{counted} {default('batch_size')}")
    if labels is not None:
        add("--labeled-batch-size", type=int, help=f"labelled images in it {default('labeled_batch_size')}")
    add("--seed", type=int, default=1, help="of weights, split, order and noise (default %(default)s)")
    add(
        "--data-dir",
        help="where the data set's files are (default: $TFDS_DATA_DIR or ~/tensorflow_datasets, and ~/.keras/datasets)",
    )
    add("--output-dir", type=Path, help=f"where the run's files go (default runs/{run_name}{beta}_seed<seed>)")
    add(
        "--export-dir",
        type=Path,
        help="where the SavedModel goes, under the next free version number; on JAX there is none (default "
        f"saved_models/{run_name})",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with the run in --output-dir: an unfinished one, or a finished one with more --epochs where its "
        "schedules do not depend on their number (default: off)",
    )
    add(
        "--augment-on",
        choices=["host", "device"],
        default="host",
        help="where images are augmented, on the CPU or the accelerator; the images are the same, and JAX always does "
        "it on the accelerator (default %(default)s)",
    )
    add(
        "--jit-compile",
        action="store_true",
        help="compile the step with XLA: faster on a GPU, slower on a CPU; JAX always does (default: off)",
    )
    add(
        "--mixed-precision",
        choices=["bfloat16"],
        help="compute in this precision, with float32 weights and losses: for a GPU (default: float32 everywhere)",
    )
    add(
        "--steps-per-execution",
        type=int,
        help="training steps that are launched at once, which saves the host's work between them; the result is the "
        "same. It must divide the steps per epoch (default: with JAX on an accelerator the largest divisor of the "
        f"steps per epoch up to {_STEPS_PER_EXECUTION}, else 1)",
    )
    add(
        "--data-parallel",
        action="store_true",
        help="share each batch among all devices of this machine, whose number must divide it (default: off)",
    )
    experiment.add_flags(result)
    return result


def read_indices(file: Path | None) -> np.ndarray | None:
    if file is None:
        return None
    try:
        return np.array(file.read_text().strip().splitlines(), dtype=np.int64)
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"--labeled-indices {file} cannot be read as one index a line: {error}.") from error


def by_content(file: Path, content: bytes) -> str:
    """A file as settings name it: by its content, not by its path, for a resumed run must have the same."""
    return f"{file.name} (CRC-32 {zlib.crc32(content):08x})"


def settings_of(
    experiment: Experiment,
    args: argparse.Namespace,
    dataset: str,
    indices: np.ndarray | None = None,
    replicas: int = 1,
) -> dict[str, Any]:
    """All that the result depends on, with the data set's defaults filled in.

    Args:
        experiment: The experiment.
        args: Its flags.
        dataset: The data set that is used.
        indices: The labelled images, if they were given.
        replicas: Devices that share a batch.

    Raises:
        UserError: When a number does not fit.
    """
    with_labels = experiment.labels is not None
    settings: dict[str, Any] = {"dataset": dataset}
    if with_labels:
        settings["labels"] = _number_of_labels(experiment, args, indices)
    settings["seed"] = args.seed
    if experiment.beta is not None:
        if not 0 < args.beta < math.inf:
            raise UserError(f"--beta is {args.beta}; it must be a finite number above 0.")
        settings["beta"] = args.beta
    settings |= experiment.settings[dataset]
    if experiment.classes is not None:
        settings["classes"] = list(experiment.classes)
    sizes = ["epochs", "steps_per_epoch", "batch_size", *(["labeled_batch_size"] if with_labels else []), "validation"]
    for name in sizes:
        least = 0 if name == "validation" else 1
        given = getattr(args, name)
        settings[name] = settings[name] if given is None else given
        if settings[name] < least:
            raise UserError(f"--{name.replace('_', '-')} is {settings[name]}; it must be at least {least}.")
    if with_labels and settings["labeled_batch_size"] >= settings["batch_size"]:
        raise UserError(
            f"--labeled-batch-size is {settings['labeled_batch_size']}; it must be smaller than --batch-size, "
            f"{settings['batch_size']}, which counts the unlabelled images too."
        )
    file = None if indices is None else by_content(args.labeled_indices, indices.tobytes())
    # Compiled by XLA or on another backend, the same seed draws other numbers; another device rounds differently.
    jax = keras.backend.backend() == "jax"
    how = {
        "backend": keras.backend.backend(),
        "augment_on": "device" if jax else args.augment_on,
        "jit_compile": jax or args.jit_compile,
        "mixed_precision": args.mixed_precision,
        "data_parallel": args.data_parallel,
        "replicas": replicas,
        "steps_per_execution": _steps_per_execution(args.steps_per_execution, settings["steps_per_epoch"]),
    }
    own = experiment.own_settings(args, dataset, settings["epochs"])
    return {**settings, **own, **({"labeled_indices": file} if with_labels else {}), **how}


def _number_of_labels(experiment, args, indices):
    labels = args.labels
    if labels is None:
        labels = experiment.labels if indices is None else len(indices)
    if labels == 0 and indices is None and experiment.needs_labels:
        raise UserError(f"--labels is 0; {experiment.name} needs labelled images of every class.")
    return labels


def _steps_per_execution(given, steps_per_epoch):
    """An execution never goes beyond the end of an epoch: else it would use up batches of the next."""
    if given is None:
        accelerated = keras.backend.backend() == "jax" and devices.device_name() != "cpu"
        most = min(_STEPS_PER_EXECUTION, steps_per_epoch) if accelerated else 1
        return next(number for number in range(most, 0, -1) if steps_per_epoch % number == 0)
    if given < 1 or steps_per_epoch % given:
        raise UserError(
            f"--steps-per-execution is {given}; it must be at least 1 and divide --steps-per-epoch, {steps_per_epoch}."
        )
    return given


def apply_precision(settings: dict[str, Any]) -> None:
    """Sets the precision that networks built from now on compute in."""
    precision = settings["mixed_precision"]
    keras.config.set_dtype_policy("float32" if precision is None else f"mixed_{precision}")


def compile_options(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `model.compile` that are flags."""
    return {name: settings[name] for name in ("jit_compile", "steps_per_execution")}
