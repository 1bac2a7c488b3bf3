"""The flags that all experiments share, and the settings of a run that follow from them."""

import argparse
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ssvae.runs import devices
from keras_ssvae.runs.errors import UserError, check_number
from keras_ssvae.runs.experiment import Experiment

# On an accelerator the host's work between two steps costs more than the steps.
_STEPS_PER_EXECUTION = 8


def arguments(experiment: Experiment, argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the flags of an experiment, by default from the command line."""
    return experiment.check_flags(parser(experiment).parse_args(argv))


def parser(experiment: Experiment) -> argparse.ArgumentParser:
    """Returns a parser with the shared flags and the experiment's own, which replace shared ones of the same name."""
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

    def divisor_up_to(most):
        return "1" if most == 1 else f"the largest divisor of --steps-per-epoch up to {most}"

    if "digits" in others:
        add(
            "--dataset",
            choices=["auto", *settings],
            default="auto",
            help=f"data set; auto: {first}, or the digits if it is not available (default %(default)s)",
        )
    else:
        add("--dataset", choices=list(settings), default=first, help="data set (default %(default)s)")
    if labels is not None:
        add("--labels", type=int, help=f"labelled images, about equally many of each class (default {labels})")
        add(
            "--labeled-indices",
            type=Path,
            metavar="FILE",
            help="file with the indices of the labelled images in the training set, one per line, counted from 0 "
            "(default: drawn by --seed, about equally many of each class)",
        )
    add("--validation", type=int, help=f"images held out for validation {default('validation')}")
    if experiment.beta is not None:
        add(
            "--beta",
            type=float,
            default=experiment.beta,
            help="variance of the decoder, for pixels in [-1, 1]; the larger, the more the KL weighs against the "
            "reconstruction (default %(default)s)",
        )
    add(
        "--epochs",
        type=int,
        help=f"epochs to train; a shorter run follows the first epochs of the paper's schedules {default('epochs')}",
    )
    add("--steps-per-epoch", type=int, help=f"training steps in an epoch {default('steps_per_epoch')}")
    add("--batch-size", type=int, help=f"images in a batch{counted} {default('batch_size')}")
    if labels is not None:
        add("--labeled-batch-size", type=int, help=f"labelled images in a batch {default('labeled_batch_size')}")
    add("--seed", type=int, default=1, help="seed of weights, split, order and noise (default %(default)s)")
    add(
        "--data-dir",
        help="directory with the files of the data set (default: $TFDS_DATA_DIR or ~/tensorflow_datasets, and "
        "~/.keras/datasets)",
    )
    add(
        "--output-dir", type=Path, help=f"directory for the files of the run (default runs/{run_name}{beta}_seed<seed>)"
    )
    add(
        "--export-dir",
        type=Path,
        help="directory for the SavedModel, which gets the next free version number; JAX does not export one (default "
        f"saved_models/{run_name})",
    )
    add(
        "--resume",
        action="store_true",
        help="continue the run in --output-dir: an unfinished run, or a finished one with more --epochs if its "
        "schedules do not depend on the number of epochs (default: off)",
    )
    add(
        "--augment-on",
        choices=["host", "device"],
        default="host",
        help="where images are augmented: on the CPU (host) or the accelerator (device). Both give the same images; "
        "JAX always uses the accelerator (default %(default)s)",
    )
    add(
        "--jit-compile",
        action="store_true",
        help="compile the training step with XLA: faster on a GPU, slower on a CPU; JAX always does (default: off)",
    )
    add(
        "--mixed-precision",
        choices=["bfloat16"],
        help="compute in this precision, with weights and losses in float32; meant for GPUs (default: float32 "
        "everywhere)",
    )
    add(
        "--steps-per-execution",
        type=int,
        help="training steps that are launched at once, which saves time of the host and does not change the result. "
        "It must divide --steps-per-epoch "
        f"(default: {divisor_up_to(experiment.steps_per_execution)}; with JAX on an accelerator, "
        f"{divisor_up_to(_STEPS_PER_EXECUTION)})",
    )
    add(
        "--data-parallel",
        action="store_true",
        help="share each batch among all devices of this machine; the size of the batch must be a multiple of their "
        "number (default: off)",
    )
    experiment.add_flags(result)
    return result


def read_indices(file: Path | None) -> np.ndarray | None:
    """The indices of the labelled images in a file of one integer a line, None for no file.

    Raises:
        UserError: If the file cannot be read so.
    """
    if file is None:
        return None
    try:
        return np.array(file.read_text().strip().splitlines(), dtype=np.int64)
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"--labeled-indices {file} cannot be read as one index a line: {error}.") from error


def by_content(file: Path, content: bytes) -> str:
    """The name of a file in the settings. It has the content's CRC-32: a resumed run needs the same content."""
    return f"{file.name} (CRC-32 {zlib.crc32(content):08x})"


def settings_of(
    experiment: Experiment,
    args: argparse.Namespace,
    dataset: str,
    indices: np.ndarray | None = None,
    replicas: int = 1,
) -> dict[str, Any]:
    """Returns the settings of a run: everything that the result depends on.

    Args:
        experiment: The experiment.
        args: Its flags. Those that were not given get the defaults of the data set.
        dataset: The data set that is used.
        indices: Indices of the labelled images, if they were given.
        replicas: Number of devices that share a batch.

    Raises:
        UserError: When a number is out of its range.
    """
    with_labels = experiment.labels is not None
    settings: dict[str, Any] = {"dataset": dataset}
    if with_labels:
        settings["labels"] = _number_of_labels(experiment, args, indices)
    settings["seed"] = args.seed
    if experiment.beta is not None:
        check_number("beta", args.beta, above=True)
        settings["beta"] = args.beta
    settings |= experiment.settings[dataset]
    if experiment.classes is not None:
        settings["classes"] = list(experiment.classes)
    sizes = ["epochs", "steps_per_epoch", "batch_size", *(["labeled_batch_size"] if with_labels else []), "validation"]
    for name in sizes:
        given = getattr(args, name)
        settings[name] = settings[name] if given is None else given
        check_number(name, settings[name], 0 if name == "validation" else 1)
    if with_labels and settings["labeled_batch_size"] >= settings["batch_size"]:
        raise UserError(
            f"--labeled-batch-size is {settings['labeled_batch_size']}; it must be smaller than --batch-size, "
            f"{settings['batch_size']}, which counts labelled and unlabelled images."
        )
    file = None if indices is None else by_content(args.labeled_indices, indices.tobytes())
    # With XLA or on another backend, the same seed draws other numbers; another device rounds differently.
    jax = keras.backend.backend() == "jax"
    how = {
        "backend": keras.backend.backend(),
        "augment_on": "device" if jax else args.augment_on,
        "jit_compile": jax or args.jit_compile,
        "mixed_precision": args.mixed_precision,
        "data_parallel": args.data_parallel,
        "replicas": replicas,
        "steps_per_execution": _steps_per_execution(
            args.steps_per_execution, settings["steps_per_epoch"], experiment.steps_per_execution
        ),
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


def _steps_per_execution(given, steps_per_epoch, default):
    """The number of steps per execution. It divides an epoch: else an execution would use batches of the next epoch."""
    if given is None:
        accelerated = keras.backend.backend() == "jax" and devices.device_name() != "cpu"
        most = min(_STEPS_PER_EXECUTION if accelerated else default, steps_per_epoch)
        return next(number for number in range(most, 0, -1) if steps_per_epoch % number == 0)
    if given < 1 or steps_per_epoch % given:
        raise UserError(
            f"--steps-per-execution is {given}; it must be at least 1 and divide --steps-per-epoch, {steps_per_epoch}."
        )
    return given


def apply_precision(settings: dict[str, Any]) -> None:
    """Sets the precision of the computations of all networks that are built from now on."""
    precision = settings["mixed_precision"]
    keras.config.set_dtype_policy("float32" if precision is None else f"mixed_{precision}")


def compile_options(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `model.compile` that flags set."""
    return {name: settings[name] for name in ("jit_compile", "steps_per_execution")}
