"""How fast a training step of the MNIST experiment is, as a share of what this machine can do.

Measures in one run, in turns so that a machine whose speed drifts does not favour any: the training step on a batch at
hand, the step with the data pipeline, the pipeline alone, and the float32 matrix product (2048 x 2048) that limits
them all. The step's work is counted: multiply and add are 2 operations, and forward and backward together 3 forwards.
"""

import argparse
import json
import statistics
import time

import quiet  # noqa: F401

# isort: split
import keras
import numpy as np
import tensorflow as tf
from mnist_exon import PAPER, build_model

from keras_ssvae import data

MATRIX_SIZE = 2048


def forward_gflop(network: keras.Model) -> float:
    """Multiplications and additions of one image's way through a network, in 1e9."""
    macs = 0
    for layer in network.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            # A convolution ('same') uses its kernel at each pixel of its input, a dense layer once.
            macs += int(np.prod(kernel.shape)) * int(np.prod(layer.input.shape[1:-1]))
    return 2e-9 * macs


def step_gflop(model: keras.Model, labeled: int, unlabeled: int) -> float:
    """Of one step: three forwards for each image in a pass with a gradient, one for the pseudo-labels."""
    images = labeled + unlabeled
    passes = 3 * (images + labeled + labeled + unlabeled) + unlabeled
    autoencoder = forward_gflop(model.encoder) + forward_gflop(model.decoder)
    return passes * forward_gflop(model.classifier) + 3 * images * autoencoder


def timed(function, repeats: int) -> float:
    """Milliseconds of one call."""
    began = time.perf_counter()
    for _ in range(repeats):
        function()
    return 1e3 * (time.perf_counter() - began) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="turns of each measurement (default %(default)s)")
    parser.add_argument("--steps", type=int, default=12, help="steps in a turn (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")
    args = parser.parse_args()

    settings = {**PAPER, "beta": 0.25, "seed": 1, "ramp_epochs": 10, "decay_start": 10, "schedule_epochs": 100}
    model = build_model({**settings, "jit_compile": False})
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60_000, 28, 28, 1), dtype=np.uint8)
    labels = np.arange(96) % 10  # a multiple of the batch: every step has the full 32 labelled images
    labeled, unlabeled = settings["labeled_batch_size"], settings["batch_size"] - settings["labeled_batch_size"]
    batches = data.semi_supervised(
        (images[:96], labels),
        images,
        num_classes=10,
        labeled_batch_size=labeled,
        unlabeled_batch_size=unlabeled,
        steps_per_epoch=settings["steps_per_epoch"],
        seed=1,
        augment=data.augment.mnist,
    )
    pipeline = iter(batches)
    batch = next(pipeline)
    train_step = tf.function(model.train_step, autograph=False)
    matrix = tf.random.normal((MATRIX_SIZE, MATRIX_SIZE))
    product = tf.function(lambda a: tf.matmul(a, a), autograph=False)
    measured = {
        "step_ms": (lambda: train_step(batch), args.steps),
        "step_with_pipeline_ms": (lambda: train_step(next(pipeline)), args.steps),
        "pipeline_ms": (lambda: next(pipeline), args.steps),
        "matmul_ms": (lambda: product(matrix), 4),
    }
    for function, _ in measured.values():
        for _ in range(3):
            function()
    rounds = [{name: timed(*measurement) for name, measurement in measured.items()} for _ in range(args.rounds)]

    gflop = step_gflop(model, labeled, unlabeled)
    # The share is taken within a round, where both run on the same machine, so to say.
    product_gflop = 2e-9 * MATRIX_SIZE**3
    shares = [(gflop / r["step_with_pipeline_ms"]) / (product_gflop / r["matmul_ms"]) for r in rounds]
    shares_alone = [(gflop / r["step_ms"]) / (product_gflop / r["matmul_ms"]) for r in rounds]
    medians = {name: statistics.median(r[name] for r in rounds) for name in measured}
    figures = {
        **{name: round(medians[name], 2) for name in ("step_ms", "step_with_pipeline_ms", "pipeline_ms")},
        "matmul_gflops": round(1e3 * product_gflop / medians["matmul_ms"], 1),
        "step_gflop": round(gflop, 2),
        "share_of_limit": round(statistics.median(shares), 3),
        "share_of_limit_without_pipeline": round(statistics.median(shares_alone), 3),
        "pipeline_cost": round(statistics.median(r["step_with_pipeline_ms"] / r["step_ms"] for r in rounds) - 1, 3),
    }
    for name, value in figures.items():
        print(f"{name:32s} {value}")
    if args.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
