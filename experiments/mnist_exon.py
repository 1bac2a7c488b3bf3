"""EXoN on MNIST with 100 labels: Section 4.1, Figures 1 to 3 and Table 3 of the paper.

Paper: test error 3.23 % after 100 epochs at beta 0.25. On 2 CPU cores a step takes about 0.1 s, so 100 epochs of 468
steps take about an hour and a half; `--dataset digits` (1,437 images embedded in scikit-learn, no download) takes two
minutes, with settings of its own: 20 epochs of 75 steps, batches of 64 with 16 labelled, dropout 0.1, and ramps in
proportion to the run (lambda2 over its first half).
"""

import argparse
import zlib
from pathlib import Path

import quiet  # noqa: F401

# isort: split
import keras
import numpy as np
from runner import Experiment, UserError, check_writable, claim_output_dir, load_data, main, train, usage_errors

from keras_ssvae import data, priors
from keras_ssvae.models import EXoN
from keras_ssvae.networks import mnist
from keras_ssvae.optimizers import Adam, GroupedOptimizer
from keras_ssvae.schedules import LateExponentialDecay, RampUp

LEARNING_RATE, WEIGHT_DECAY, LAMBDA1 = 3e-3, 5e-4, 6000.0
PAPER_EPOCHS = 100
# What depends on the data set: Table 7 for MNIST (and its like), and what 1,437 images want.
PAPER = {"epochs": 100, "steps_per_epoch": 468, "batch_size": 128, "labeled_batch_size": 32}
PAPER |= {"dropout": 0.5, "validation": 5000}
SETTINGS = {
    "mnist": PAPER,
    "fashion_mnist": PAPER,
    "digits": {"epochs": 20, "steps_per_epoch": 75, "batch_size": 64, "labeled_batch_size": 16}
    | {"dropout": 0.1, "validation": 200},
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument

    def default(name):
        return f"(default {PAPER[name]}; digits {SETTINGS['digits'][name]})"

    add(
        "--dataset",
        choices=["auto", *SETTINGS],
        default="auto",
        help="auto: MNIST, or the digits where it cannot be had (default %(default)s)",
    )
    add("--labels", type=int, help="labelled images, a multiple of the 10 classes (default 100)")
    add(
        "--labeled-indices",
        type=Path,
        metavar="FILE",
        help="their indices in the training set, one a line, counted from 0 (default: drawn by --seed, the same number "
        "from each class)",
    )
    add(
        "--beta",
        type=float,
        default=0.25,
        help="variance of the decoder, for pixels in [-1, 1], and so the weight of the KL (default %(default)s)",
    )
    add(
        "--epochs",
        type=int,
        help="epochs to train; the MNIST schedules are those of the paper's 100 epochs, of which a shorter run does "
        f"the first ones {default('epochs')}",
    )
    add("--steps-per-epoch", type=int, help=f"training steps in an epoch {default('steps_per_epoch')}")
    add("--batch-size", type=int, help=f"images in a batch, labelled and unlabelled {default('batch_size')}")
    add("--labeled-batch-size", type=int, help=f"labelled images in it {default('labeled_batch_size')}")
    add("--seed", type=int, default=1, help="of weights, split, order and noise (default %(default)s)")
    add("--data-dir", help="where tensorflow_datasets keeps its data (default $TFDS_DATA_DIR or ~/tensorflow_datasets)")
    add(
        "--output-dir",
        type=Path,
        help="where the run's files go (default runs/exon_<dataset>_<labels>_beta<beta>_seed<seed>)",
    )
    add(
        "--export-dir",
        type=Path,
        help="where the SavedModel goes, under the next free version number (default saved_models/"
        "exon_<dataset>_<labels>)",
    )
    add("--resume", action="store_true", help="go on with the unfinished run in --output-dir (default: off)")
    add(
        "--augment-on",
        choices=["host", "device"],
        default="host",
        help="where images are augmented, on the CPU or the accelerator; the images are the same (default %(default)s)",
    )
    add(
        "--jit-compile",
        action="store_true",
        help="compile the step with XLA: faster on a GPU, slower on a CPU (default: off)",
    )
    return parser.parse_args()


def read_indices(file: Path) -> np.ndarray:
    try:
        return np.array(file.read_text().strip().splitlines(), dtype=np.int64)
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"--labeled-indices {file} cannot be read as one index a line: {error}.") from error


def settings_of(args: argparse.Namespace, dataset: str, labels: int, indices: np.ndarray | None) -> dict:
    """All that the result depends on, with the data set's defaults filled in."""
    settings = {"dataset": dataset, "labels": labels, "beta": args.beta, "seed": args.seed, **SETTINGS[dataset]}
    for name in ("epochs", "steps_per_epoch", "batch_size", "labeled_batch_size"):
        given = getattr(args, name)
        settings[name] = settings[name] if given is None else given
        if settings[name] < 1:
            raise UserError(f"--{name.replace('_', '-')} is {settings[name]}; it must be at least 1.")
    if settings["labeled_batch_size"] >= settings["batch_size"]:
        raise UserError(
            f"--labeled-batch-size is {settings['labeled_batch_size']}; it must be smaller than --batch-size, "
            f"{settings['batch_size']}, which counts the unlabelled images too."
        )
    # The paper's schedules in epochs; in proportion to the run where 100 epochs of them do not fit.
    epochs = settings["epochs"]
    if dataset == "digits":
        schedule = {"schedule_epochs": epochs, "decay_start": max(1, epochs // 10), "ramp_epochs": max(1, epochs // 2)}
    else:
        schedule = {"schedule_epochs": max(PAPER_EPOCHS, epochs), "decay_start": 10, "ramp_epochs": 10}
    # By content, not by path: a resumed run must see the same images.
    file = None if indices is None else f"{args.labeled_indices.name} (CRC-32 {zlib.crc32(indices.tobytes()):08x})"
    # Compiled by XLA, the same seed draws other numbers; another device rounds differently.
    how = {"augment_on": args.augment_on, "jit_compile": args.jit_compile}
    return {**settings, **schedule, "labeled_indices": file, **how}


def build_model(settings: dict) -> EXoN:
    steps, seed = settings["steps_per_epoch"], settings["seed"]
    keras.utils.set_random_seed(seed)
    model = EXoN(
        classifier=mnist.classifier(dropout=settings["dropout"]),
        prior=priors.circle(),
        beta=settings["beta"],
        lambda1=LAMBDA1,
        lambda2=RampUp(LAMBDA1, settings["ramp_epochs"], steps),
        seed=seed,
    )
    rate = LateExponentialDecay(LEARNING_RATE, settings["decay_start"], settings["schedule_epochs"], steps)
    optimizer = GroupedOptimizer(
        {"autoencoder": Adam(LEARNING_RATE), "classifier": Adam(rate, weight_decay=WEIGHT_DECAY)}
    )
    model.compile(optimizer, jit_compile=settings["jit_compile"])
    return model


def run() -> None:
    args = arguments()
    indices = None if args.labeled_indices is None else read_indices(args.labeled_indices)
    images = load_data(args.dataset, args.data_dir)
    labels = args.labels
    if labels is None:
        labels = 100 if indices is None else len(indices)
    settings = settings_of(args, images.name, labels, indices)
    split = usage_errors(data.split, images.train_labels, labels, settings["validation"], args.seed, indices)
    model = usage_errors(build_model, settings)

    def batches(start_step):
        return data.semi_supervised(
            (images.train_images[split.labeled], images.train_labels[split.labeled]),
            images.train_images[split.unlabeled],
            num_classes=images.num_classes,
            labeled_batch_size=settings["labeled_batch_size"],
            unlabeled_batch_size=settings["batch_size"] - settings["labeled_batch_size"],
            steps_per_epoch=settings["steps_per_epoch"],
            seed=args.seed,
            start_step=start_step,
            augment=data.augment.mnist,
            augment_on=args.augment_on,
        )

    usage_errors(batches, 0)
    name = f"exon_{images.name}_{labels}"
    output_dir = args.output_dir or Path("runs") / f"{name}_beta{args.beta:g}_seed{args.seed}"
    export_dir = args.export_dir or Path("saved_models") / name
    check_writable(export_dir, "--export-dir")
    claim_output_dir(output_dir, settings, args.resume)
    print(
        f"EXoN on {images.name}: {labels} labels of {len(images.train_images)} images, beta {args.beta:g}; {output_dir}"
    )
    train(
        Experiment(
            title=f"EXoN on {images.name}, {labels} labels",
            settings=settings,
            images=images,
            split=split,
            model=model,
            batches=batches,
            epochs=settings["epochs"],
            steps_per_epoch=settings["steps_per_epoch"],
            output_dir=output_dir,
            export_dir=export_dir,
            resume=args.resume,
        )
    )


if __name__ == "__main__":
    main(run)
