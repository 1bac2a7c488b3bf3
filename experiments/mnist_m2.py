"""M1, M2 and M1+M2 on MNIST with 100, 600, 1,000 or 3,000 labels: Table 1 of M2's paper.

Published test error with 100 labels: M2 11.97 %, M1+M2 3.33 %. For M1+M2 first run `--model m1`, which uses no labels.
Then `--model m1m2` takes the M1 of runs/m1_<dataset>_seed<seed>, or the one that `--m1 FILE` names. `--model m2` needs
no other model. With several numbers of labels, `--labels 100 600 1000 3000`, each is a run, and they make a table.

The settings are those of the released code: 10,000 epochs of 50 steps for M1, 3,000 epochs of 100 or 200 steps for the
others. A shorter run makes the first of these epochs; its error says little about that of a whole run. The code has no
script for M2 with few labels; here M2 has the settings of M1+M2, but the usual Adam. Labelled images are not among the
unlabelled ones. Each epoch draws new batches; the released code has fixed ones, always in the same order. `--dataset
digits` (1,437 images embedded in scikit-learn, no download) takes a few minutes for a model and has its own settings.
With KERAS_BACKEND=jax it trains on JAX, without TensorFlow.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import quiet  # noqa: F401

# isort: split
import keras
import numpy as np
from matplotlib.figure import Figure

from keras_ssvae import plots
from keras_ssvae.models import M1, M1M2, M2
from keras_ssvae.networks import kingma
from keras_ssvae.optimizers import Adam
from keras_ssvae.runs import flags, run, sweep
from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.experiment import Experiment
from keras_ssvae.runs.plan import Run
from keras_ssvae.runs.sets import InMemory, Rest, load_data

LEARNING_RATE, ALPHA, LABELS = 3e-4, 0.1, 100
OF_M1 = {"epochs": 10_000, "steps_per_epoch": 50, "batch_size": 1000, "validation": 10_000}
# With 100 labels each of the 100 batches has one; more labels are spread over 200 batches, see `check_flags`.
OF_M2 = {"epochs": 3000, "steps_per_epoch": 100, "batch_size": 500, "labeled_batch_size": 1, "validation": 10_000}
MORE_LABELS = {"steps_per_epoch": 200, "batch_size": 250}
DIGITS = {"epochs": 100, "steps_per_epoch": 20, "batch_size": 62, "labeled_batch_size": 5, "validation": 200}
M2_DIGITS, M1M2_DIGITS = {**DIGITS, "learning_rate": 3e-3}, {**DIGITS, "epochs": 300, "learning_rate": 1e-3}
M1_DIGITS = {"epochs": 200, "steps_per_epoch": 12, "batch_size": 100, "validation": 200, "learning_rate": 1e-3}
ROWS = 5  # of the figure of analogies
# Labels -> test error in percent, of the paper's Table 1; those of 600 and 3,000 labels are quoted from memory.
PUBLISHED = {
    "M2": {100: 11.97, 600: 4.94, 1000: 3.60, 3000: 3.92},
    "M1M2": {100: 3.33, 600: 2.59, 1000: 2.40, 3000: 2.18},
}


def settings(of_paper: dict[str, Any], digits: dict[str, Any]) -> dict[str, dict[str, Any]]:
    of_paper = {**of_paper, "learning_rate": LEARNING_RATE}
    return {"mnist": of_paper, "fashion_mnist": of_paper, "digits": digits}


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=list(EXPERIMENTS), default="m2", help="model to train (default %(default)s)")


def add_m1(parser: argparse.ArgumentParser) -> None:
    add_flags(parser)
    parser.add_argument(
        "--m1",
        type=Path,
        metavar="FILE",
        help="file of a trained M1 (default runs/m1_<dataset>_seed<seed>/model.keras)",
    )


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    """Fills in the sizes of the batches that depend on the number of labels."""
    labels = number_of_labels(args)
    if labels > LABELS and load_data(args.dataset, args.data_dir).name != "digits":
        sizes = {**MORE_LABELS, "labeled_batch_size": labels // MORE_LABELS["steps_per_epoch"]}
        for name, value in sizes.items():
            if getattr(args, name) is None:
                setattr(args, name, max(value, 1))
    return args


def number_of_labels(args: argparse.Namespace) -> int:
    indices = flags.read_indices(args.labeled_indices)
    return args.labels if args.labels is not None else LABELS if indices is None else len(indices)


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    """The weight of the prior of the networks' weights: 1 / N for N training images without those for validation."""
    held_out = EXPERIMENTS[args.model].settings[dataset]["validation"] if args.validation is None else args.validation
    return {"weight_prior": 1 / (len(load_data(args.dataset, args.data_dir).train_images) - held_out)}


def settings_of_m1m2(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    """The settings of `own_settings`, the M1, and the units of the hidden layers, fewer for 100 labels."""
    file = file_of_m1(args, dataset)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}). Train an M1 with --model m1, or name one with --m1 FILE."
        ) from error
    own = own_settings(args, dataset, epochs)
    hidden = 300 if number_of_labels(args) <= LABELS else 500
    return {**own, "hidden": hidden, "m1": flags.by_content(file, content)}


def file_of_m1(args: argparse.Namespace, dataset: str) -> Path:
    return args.m1 or Path("runs") / f"m1_{dataset}_seed{args.seed}" / "model.keras"


def build_m1(settings: dict[str, Any], prior: None = None) -> M1:
    keras.utils.set_random_seed(settings["seed"])
    model = M1(weight_prior=settings["weight_prior"], seed=settings["seed"])
    model.compile(Adam(settings["learning_rate"], epsilon=1e-8), **flags.compile_options(settings))
    return model


def build_m2(settings: dict[str, Any], prior: None = None) -> M2:
    keras.utils.set_random_seed(settings["seed"])
    model = M2(alpha=ALPHA, weight_prior=settings["weight_prior"], seed=settings["seed"])
    model.compile(Adam(settings["learning_rate"], epsilon=1e-8), **flags.compile_options(settings))
    return model


def build_m1m2(settings: dict[str, Any], prior: None, given: tuple[Path, InMemory]) -> M1M2:
    file, sets = given
    m1 = keras.models.load_model(file)
    if not isinstance(m1, M1) or m1.image_shape != sets.images.train_images.shape[1:]:
        raise UserError(f"{file} holds {m1.name!r}; it must be an M1 that was trained on images of this data set.")
    active = m1.active_dimensions(sets.images.train_images[sets.split.unlabeled])
    if not active:
        raise UserError(f"No dimension of the M1 in {file} says anything about the images. Train it for more --epochs.")
    keras.utils.set_random_seed(settings["seed"])
    hidden = {"hidden": (settings["hidden"],)}
    features = len(active)
    networks = {
        "encoder": kingma.m2_encoder((features,), **hidden),
        "decoder": kingma.m2_decoder((2 * features,), **hidden),
        "classifier": kingma.m2_classifier((features,), **hidden),
    }
    weights = {"alpha": ALPHA, "weight_prior": settings["weight_prior"]}
    model = M1M2(m1, **networks, active=active, **weights, seed=settings["seed"])
    # The released code has no epsilon; this one is far below the root of any gradient's square.
    optimizer = Adam(settings["learning_rate"], epsilon=1e-16, bias_correction=False)
    model.compile(optimizer, **flags.compile_options(settings))
    return model


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    """Reconstructions and, for M2 and M1+M2, the paper's analogies: a row for each z, a column for each label."""
    model = run.model
    drawn = {"reconstructions": plots.reconstructions(model, run.test_images[:20])}
    if isinstance(model, M1):
        drawn["generated"] = plots.images(model.generate(50, seed=1), title="Images from the prior")
    else:
        labels, seeds = np.tile(np.arange(model.num_classes), ROWS), np.repeat(np.arange(ROWS), model.num_classes)
        images = model.generate(labels, seed=keras.ops.convert_to_tensor(seeds))
        drawn["analogies"] = plots.images(images, title="One z in each row, one label in each column")
    return drawn


def summary(model: M1M2, metrics: dict[str, Any]) -> dict[str, str]:
    terms = ", ".join(f"{name} {metrics[name]:.2f}" for name in ("reconstruction", "kl_z", "kl_y"))
    return {"test terms": terms, "features": f"{len(model.active)} of {model.m1.latent_dim} dimensions of M1"}


COMMON = {"description": __doc__, "sets": Rest, "figures": figures, "add_flags": add_flags}
COMMON |= {"own_settings": own_settings}
WITH_LABELS = {**COMMON, "labels": LABELS, "check_flags": check_flags}
EXPERIMENTS = {
    "m1": Experiment(**COMMON, name="M1", settings=settings(OF_M1, M1_DIGITS), labels=None, build_model=build_m1),
    "m2": Experiment(**WITH_LABELS, name="M2", settings=settings(OF_M2, M2_DIGITS), build_model=build_m2),
    "m1m2": Experiment(
        **{**WITH_LABELS, "own_settings": settings_of_m1m2, "add_flags": add_m1},
        name="M1M2",
        settings=settings(OF_M2, M1M2_DIGITS),
        build_model=build_m1m2,
        given=lambda args, sets: (file_of_m1(args, sets.images.name), sets),
        summary=summary,
    ),
}


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """The error against the number of labels, beside the published one, as a table and a figure."""
    plan, rows, errors = results[0].plan, [], {}
    name = plan.experiment.name
    for labels, runs in sweep.by(results, "labels").items():
        errors[labels] = [each.metrics["test_error_percent"] for each in runs]
        published = PUBLISHED[name].get(labels) if plan.settings["dataset"] == "mnist" else None
        cells = [sweep.Cell(errors[labels], 2), "" if published is None else f"{published:.2f}"]
        rows.append([str(labels), str(len(runs)), *cells])
    table = sweep.write_tables(output_dir, results, ["labels", "runs", "error %", "published"], rows)
    figure = plots.errors({name: errors}, title=f"Test error on {plan.data_title}")
    figure.savefig(output_dir / "errors.png", dpi=150)
    return table


def table(model: str) -> sweep.Sweep:
    """The table of a model for several numbers of labels."""
    axes = [sweep.Axis("labels", int, list(PUBLISHED["M2"]), "numbers of labelled images"), sweep.SEEDS]
    return sweep.Sweep(EXPERIMENTS[model], __doc__ or "", axes, ["test_error_percent"], finish)


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_flags(parser)
    parser.add_argument("--labels", nargs="*", default=[])
    chosen, _ = parser.parse_known_args(sys.argv[1:])
    if len(chosen.labels) > 1 and chosen.model != "m1":
        sweep.main(table(chosen.model))
    else:
        run.main(EXPERIMENTS[chosen.model])


if __name__ == "__main__":
    main()
