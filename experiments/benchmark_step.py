"""Measures how fast a training step of an experiment is, as a share of what this machine can do.

It measures the training step on a batch in memory, the step with the data pipeline, the pipeline alone, and the matrix
product that limits them all, in the precision of the step (2048 x 2048; 8192 x 8192 on an accelerator). They take
turns, so that a machine whose speed drifts favours none of them. The operations of a step are counted: a multiplication
and an addition are 2 operations, and a forward and a backward pass count as 3 forward passes. The step runs as in
`fit`, with these flags of the experiment: --batch-size, --labeled-batch-size, --steps-per-epoch, --steps-per-execution,
--mixed-precision, --augment-on and --jit-compile, and for `--experiment mnist_vampprior` also --prior and --components.
It also reports the most memory that all of this took.

`--peer pythae` also measures, in the same turns, the step of pythae's VAE or VAMP; it needs `--experiment
mnist_vampprior`. Layers, batch size, and number and shape of the images are the same, but pythae takes grey images,
while our model draws binary ones anew at each step. Adam, data loader and trainer are pythae's, and it runs in a
process of its own. If pythae is not installed, the peer is skipped.
"""

import argparse
import functools
import importlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import quiet  # noqa: F401

# isort: split
import keras
import numpy as np
import peers
from keras import ops

from keras_ssvae import data
from keras_ssvae.models import VAE
from keras_ssvae.priors import StandardNormal, VampPrior
from keras_ssvae.runs import devices, flags
from keras_ssvae.runs.errors import UserError, flag_of
from keras_ssvae.runs.experiment import Experiment
from keras_ssvae.runs.script import script

# Name -> script, and number of training images.
EXPERIMENTS = {"mnist": ("mnist_exon", 60_000), "cifar10": ("cifar10_exon", 50_000)}
EXPERIMENTS |= {"mnist_parted": ("mnist_parted", 60_000), "mnist_vampprior": ("mnist_vampprior", 60_000)}
MEASURED = {"batch_size", "labeled_batch_size", "steps_per_epoch", "steps_per_execution", "mixed_precision"}
MEASURED |= {"augment_on", "jit_compile", "prior", "components"}
JAX = keras.backend.backend() == "jax"


def compiled(function: Callable) -> Callable:
    if JAX:
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, autograph=False)


def training(model: keras.Model) -> Callable[[Iterator], dict]:
    """A function that trains with the next batches of an iterator, `steps_per_execution` of them, as `fit` does."""
    model.make_train_function()
    if not JAX:
        return model.train_function
    parts = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")
    state = model._get_jax_state(**dict.fromkeys(parts, True), purge_model_variables=True)

    def train(batches):
        nonlocal state
        logs, state = model.train_function(state, batches)
        return logs

    return train


def wait(result) -> None:
    """Waits until the device has finished; calls for an accelerator return before that."""
    if JAX:
        import jax

        jax.block_until_ready(result)
    else:
        import tensorflow as tf

        tf.test.experimental.sync_devices()


def timed(function: Callable, repeats: int) -> float:
    """The mean time of a call in milliseconds."""
    began = time.perf_counter()
    for _ in range(repeats):
        result = function()
    wait(result)
    return 1e3 * (time.perf_counter() - began) / repeats


def repeated(batch) -> Iterator:
    """The same batch again and again, as an iterator of the kind that `fit` takes."""
    if JAX:
        return itertools.repeat(batch)
    import tensorflow as tf

    return iter(tf.data.Dataset.from_tensors(batch).repeat())


def peak_memory() -> dict[str, float]:
    """The most memory that this process, and on JAX its accelerator, used at a time, in GB."""
    peak = {}
    if sys.platform != "win32":  # Windows does not count it
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak["peak_memory_gb"] = 1e-9 * unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if JAX:
        import jax

        of_device = jax.local_devices()[0].memory_stats()  # None on a CPU
        if of_device:
            peak["peak_device_memory_gb"] = 1e-9 * of_device["peak_bytes_in_use"]
    return {name: round(value, 2) for name, value in peak.items()}


def arguments(experiment: Experiment, argv: list[str]) -> argparse.Namespace:
    """Parses the flags of the experiment, and refuses those that would change nothing here."""
    args, default = (vars(flags.arguments(experiment, given)) for given in (argv, []))
    ignored = [name for name in args if args[name] != default[name] and name not in MEASURED]
    if ignored:
        raise UserError(
            f"{flag_of(ignored[0])} is not measured here: the step is that of the paper's data set, with "
            "full batches of random images, on one device. Leave it out."
        )
    return argparse.Namespace(**args)


def peer_of(name: str, model: keras.Model, num_images: int, batch_size: int) -> peers.Peer | None:
    """The same model in another library, in a process of its own; None if the library is not installed."""
    if not isinstance(model, VAE):
        raise UserError(f"--peer {name} has no {type(model).__name__}. Use --experiment mnist_vampprior.")
    if not isinstance(model.prior, StandardNormal | VampPrior):
        raise UserError(f"--peer {name} has no mixture of Gaussians as prior. Use --prior normal or vampprior.")
    try:
        return peers.Peer(
            name,
            image_shape=model.image_shape,
            num_images=num_images,
            batch_size=batch_size,
            hidden=model.encoder.get_layer("gated_0").units,
            latent_dim=model.latent_dim,
            components=model.prior.num_components if isinstance(model.prior, VampPrior) else None,
        )
    except ImportError as error:
        print(f"--peer {name} is skipped: {error}. Install it with `pip install {name}`.", file=sys.stderr)
        return None


def against_peer(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The medians over the rounds of the peer's times, and of their ratios to ours in the same round."""
    figures = {}
    for ours in ("step_ms", "step_with_pipeline_ms"):
        theirs = f"peer_{ours}"
        if theirs in rounds[0]:
            figures[theirs] = round(statistics.median(r[theirs] for r in rounds), 2)
            figures[f"{theirs}_over_ours"] = round(statistics.median(r[theirs] / r[ours] for r in rounds), 2)
    return figures


def main() -> None:
    script(benchmark)


def benchmark() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--experiment", choices=list(EXPERIMENTS), default="mnist", help="experiment to measure (default %(default)s)")
    add("--rounds", type=int, default=10, help="turns of each measurement (default %(default)s)")
    add("--steps", type=int, default=12, help="executions of the step in a turn (default %(default)s)")
    add("--peer", choices=["pythae"], help="also measure the step of this library (default: none)")
    add("--json", action="store_true", help="print the figures as one JSON object on the last line")
    args, others = parser.parse_known_args()

    name, num_images = EXPERIMENTS[args.experiment]
    experiment = importlib.import_module(name).EXPERIMENT
    if experiment.step_gflop is None:
        raise UserError(
            f"--experiment {args.experiment} cannot be measured: its script does not say how much {experiment.name} "
            "computes in a step. Give its EXPERIMENT a `step_gflop`."
        )
    others = arguments(experiment, others)
    settings = flags.settings_of(experiment, others, next(iter(experiment.settings)))
    flags.apply_precision(settings)
    model = experiment.build_model(settings, experiment.prior(others, ()))
    labeled = settings.get("labeled_batch_size", 0)
    unlabeled = settings["batch_size"] - labeled
    images = np.random.default_rng(0).integers(0, 256, (num_images, *model.image_shape), dtype=np.uint8)
    known = {}
    if labeled:
        # A multiple of the batch, and at least one image of each class: every step has the full labelled batch.
        size = labeled * -(-model.num_classes // labeled)
        known = {"num_classes": model.num_classes, "labeled_batch_size": labeled}
    batches = data.semi_supervised(
        (images[:size], np.arange(size) % model.num_classes) if labeled else None,
        images,
        **known,
        unlabeled_batch_size=unlabeled,
        steps_per_epoch=settings["steps_per_epoch"],
        seed=1,
        augment=experiment.augment,
        augment_on=settings["augment_on"],
    )
    pipeline = (batches[i] for i in itertools.count()) if JAX else iter(batches)
    at_hand = repeated(next(pipeline))
    train, steps = training(model), settings["steps_per_execution"]
    matrix_size = 2048 if devices.device_name() == "cpu" else 8192
    matrix = ops.cast(
        keras.random.normal((matrix_size, matrix_size), seed=0), keras.config.dtype_policy().compute_dtype
    )
    product = compiled(lambda a: ops.matmul(a, a))
    peer = peer_of(args.peer, model, num_images, settings["batch_size"]) if args.peer else None
    # Function from a number of calls to the mean time of one, calls in a turn, and steps in a call.
    measured = {
        "step_ms": (functools.partial(timed, lambda: train(at_hand)), args.steps, steps),
        "step_with_pipeline_ms": (functools.partial(timed, lambda: train(pipeline)), args.steps, steps),
        "pipeline_ms": (functools.partial(timed, lambda: [next(pipeline) for _ in range(steps)]), args.steps, steps),
        "matmul_ms": (functools.partial(timed, lambda: product(matrix)), 4, 1),
    }
    if peer:
        measured |= {name: (functools.partial(peer.timed, name), args.steps * steps, 1) for name in peer.steps}
    for time_of, *_ in measured.values():
        time_of(3)
    rounds = [
        {name: time_of(calls) / each for name, (time_of, calls, each) in measured.items()} for _ in range(args.rounds)
    ]
    if peer:
        peer.close()

    gflop = experiment.step_gflop(model, labeled, unlabeled)
    # The share is taken within a round, during which the speed of the machine hardly drifts.
    product_gflop = 2e-9 * matrix_size**3
    shares = [(gflop / r["step_with_pipeline_ms"]) / (product_gflop / r["matmul_ms"]) for r in rounds]
    shares_alone = [(gflop / r["step_ms"]) / (product_gflop / r["matmul_ms"]) for r in rounds]
    medians = {name: statistics.median(r[name] for r in rounds) for name in measured}
    figures = {
        "experiment": args.experiment,
        "device": devices.device_name(),
        **{name: settings[name] for name in ("backend", "jit_compile", "mixed_precision", "steps_per_execution")},
        **{name: round(medians[name], 2) for name in ("step_ms", "step_with_pipeline_ms", "pipeline_ms")},
        "matmul_gflops": round(1e3 * product_gflop / medians["matmul_ms"], 1),
        "step_gflop": round(gflop, 2),
        "share_of_limit": round(statistics.median(shares), 3),
        "share_of_limit_without_pipeline": round(statistics.median(shares_alone), 3),
        **against_peer(rounds),
        "pipeline_cost": round(statistics.median(r["step_with_pipeline_ms"] / r["step_ms"] for r in rounds) - 1, 3),
        **peak_memory(),
    }
    for name, value in figures.items():
        print(f"{name:32s} {value}")
    if args.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
