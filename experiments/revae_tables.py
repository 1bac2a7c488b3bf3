"""REVAE, M2 and M3 for several shares of labels, with published figures beside ours: Tables 1, 2, 5 and 6 of REVAE.

Each model, share and seed is a run of fashion_mnist_revae.py, and this script has the flags of that one too. Finished
runs are kept; the same command makes or resumes the others. `--model revae10` is REVAE with m = 10: all of z belongs to
the label (Tables 5 and 6). The paper does not say how many runs its means and deviations are from. On 2 CPU cores a run
of 100 epochs takes half an hour or less. With `--dataset digits` (no download) a run takes two minutes; no figure is
published for it.

Classifiers of our own judge the generated images. The table has their error on real test images too: the column of
generated images can be compared with the paper's only as far as both have equally good classifiers. Our mutual
information is that of an ensemble, the paper's that of a Gaussian process: **they cannot be compared**.

The Mann-Whitney U test says which of two models is better, for every two models with at least two runs each; the
paper's bold face follows this test too. A test of few runs cannot find much: with 3 runs against 3 the smallest
possible p is 0.1.
"""

import argparse
import dataclasses
import itertools
import math
import re
from pathlib import Path

import quiet  # noqa: F401

# isort: split
import fashion_mnist_revae
from scipy.stats import mannwhitneyu

from keras_ssvae.runs import sweep
from keras_ssvae.runs.directory import write_table
from keras_ssvae.runs.errors import UserError, check_number

MODELS = ["revae", "revae10", "revae20", "m2", "m3"]
SHARES = (0.004, 0.06, 0.2)
# Data set -> model -> accuracy in %, share of generated images that are right in %, mutual information in nats; each
# for the three shares, with deviations except those printed as 0.00. Two figures are left out, since they cannot be
# told apart in the available text of the paper.
PUBLISHED = {
    "fashion_mnist": {
        "revae": ("68 (2), 82 (1), 85 (1)", "61 (2), 72 (2), 76", "0.03, 0.03, 0.02"),
        "revae10": ("75 (1), 83 (1), 86", "71 (2), , 80 (1)", "0.03, 0.03, 0.02"),
        "revae20": ("75 (2), 83 (1), 84 (1)", "70 (2), , 78 (2)", "0.03, 0.03, 0.03"),
        "m2": ("73 (3), 83, 85", "55 (1), 68 (1), 69", "0.06, 0.05, 0.05"),
        "m3": ("22 (7), 34 (14), 31 (6)", "19 (6), 27 (11), 21 (4)", "0.04 (0.01), 0.04 (0.01), 0.08 (0.02)"),
    },
    "mnist": {
        "revae10": ("93, 96, 97", "91 (1), 95, 96", "0.02, 0.01, 0.01"),
        "revae20": ("93 (1), 97, 97 (2)", "90 (1), 94, 94 (3)", "0.02, 0.02, 0.02"),
        "m2": ("90 (1), 94, 96", "79 (2), 89 (1), 90", "0.06, 0.04, 0.03"),
    },
}
ACCURACY, RIGHT = "accuracy %", "generated right %"
# Heading -> name in metrics.json, decimal places, index in PUBLISHED or None. The accuracy is 100 minus the error.
COLUMNS = {
    ACCURACY: ("test_error_percent", 2, 0),
    RIGHT: ("generated_right_percent", 2, 1),
    "judges' error %": ("judges_error_percent", 2, None),
    "mutual information (not comparable)": ("generated_mutual_information", 3, 2),
}
TESTS = ["share labelled", "model", "other model", "runs", f"p, {ACCURACY}", f"p, {RIGHT}", "smallest p"]


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    """The flags of the run of one model and share, as fashion_mnist_revae.py has them."""
    if args.m is not None:
        raise UserError(f"--m is {args.m}, but --model sets it here: use --model revae{args.m} instead.")
    check_number("judges", args.judges, 1)
    named = re.fullmatch(r"(revae)([1-9]\d*)", args.model)
    if named is not None:
        args.model, args.m = named[1], int(named[2])
    elif args.model not in fashion_mnist_revae.MODELS:
        raise UserError(f"--model is {args.model}; it must be revae, m2, m3, or revae with a value of m: revae10.")
    # A model ignores the flag that it does not have, since other models of the table may have it.
    setattr(args, "alpha" if args.model == "revae" else "unlabeled_term", None)
    return fashion_mnist_revae.check_flags(args)


def measured(heading: str, runs: list[sweep.Result]) -> list[float | None]:
    """The values of some runs in a column."""
    values = [run.metrics[COLUMNS[heading][0]] for run in runs]
    return [100.0 - value for value in values] if heading == ACCURACY else values


def published(dataset: str, model: str, share: float) -> list[str]:
    """Accuracy, generation and mutual information; "" where there is none."""
    found = PUBLISHED.get(dataset, {}).get(model)
    if found is None or share not in SHARES:
        return [""] * 3
    return [figures.split(", ")[SHARES.index(share)] for figures in found]


def groups(results: list[sweep.Result]) -> dict[tuple[float, str], list[sweep.Result]]:
    """The results by the share of labels and the model."""

    def key(result):
        settings, images = result.plan.settings, result.plan.sets.num_images
        share = round(settings["labels"] / (settings["labels"] + images), 4)
        return share, f"{settings['model']}{settings.get('m', '')}"

    return sweep.by(results, key)


def compared(found: dict[tuple[float, str], list[sweep.Result]]) -> list[list[str]]:
    """A row for each test: between two models with the same share of labels and at least two runs each."""
    rows = []
    for ((share, one), runs), ((other_share, other), others) in itertools.combinations(found.items(), 2):
        if share != other_share or min(len(runs), len(others)) < 2:
            continue
        # Exact; if runs are tied, p is somewhat too large.
        p = [
            mannwhitneyu(measured(name, runs), measured(name, others), alternative="two-sided", method="exact").pvalue
            for name in (ACCURACY, RIGHT)
        ]
        smallest = 2 / math.comb(len(runs) + len(others), len(runs))
        rows.append([f"{share:g}", one, other, f"{len(runs)} and {len(others)}", *(f"{x:.2g}" for x in (*p, smallest))])
    return rows


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """The table, and below it the tests."""
    dataset, found = results[0].plan.settings["dataset"], groups(results)
    header, rows = ["share labelled", "labels", "model", "runs"], []
    for heading, (_, _, place) in COLUMNS.items():
        header += [heading] if place is None else [heading, f"{heading}, published (100 epochs)"]
    for (share, model), runs in found.items():
        row = [f"{share:g}", str(runs[0].plan.settings["labels"]), model, str(len(runs))]
        for heading, (_, digits, place) in COLUMNS.items():
            row.append(sweep.Cell(measured(heading, runs), digits))
            if place is not None:
                row.append(published(dataset, model, share)[place])
        rows.append(row)
    text = sweep.write_tables(output_dir, results, header, rows)
    tests = compared(found)
    write_table(output_dir / "mann_whitney.csv", TESTS, tests)
    if not tests:
        return f"{text}\n\nNo test between models: no two of them have at least two runs each."
    shown = sweep.markdown(TESTS, tests)
    return f"{text}\n\nMann-Whitney U test: two-sided p, and the smallest p possible with these runs:\n\n{shown}"


MODEL = sweep.Axis("model", str, MODELS, "models: revae, m2, m3, or revae with a value of --m, such as revae10")
FRACTION = sweep.Axis("fraction", float, SHARES, "labelled shares of the training images without those for validation")
EXPERIMENT = dataclasses.replace(fashion_mnist_revae.EXPERIMENT, check_flags=check_flags)
SWEEP = sweep.Sweep(
    EXPERIMENT, __doc__, [FRACTION, MODEL, sweep.SEEDS], [name for name, *_ in COLUMNS.values()], finish
)

if __name__ == "__main__":
    sweep.main(SWEEP)
