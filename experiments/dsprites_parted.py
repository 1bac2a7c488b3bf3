"""PartedVAE on dSprites for several numbers of labels: Tables 1 and 2 and Figure 9 of the paper, and its ablation.

Each number of labels, weight of the Bhattacharyya coefficient and seed is a run; one value of each gives a single run.
A label is the shape; 0 labels is unsupervised training (Table 1). Finished runs are kept; the same command makes or
resumes the others. The paper has five runs for each number of labels, each of 30 epochs of 11,520 steps. Its ablation,
3,686 labels without the coefficient, is `--labels 3686 --gamma-bc 10 0 --output-dir runs/ablation`. A run has 345,600
steps, so it needs a GPU.

The data set is read as tensorflow_datasets prepares it, on the TensorFlow backend only. It takes 3 GB of memory, and
9 GB while a run trains: the process of the table, that of the run and TensorFlow each hold a copy. This script was
tested on a small generated set of the same format only: dSprites itself was not available, so none of its figures was
compared with the paper's.

The metrics.json of a run has the Factor score over all images, as the paper's code computes it and as it was first
published, and the beta-VAE score, SAP, MIG and DCI over 10,000 images. The scores compare the posterior means of z and
u with all factors except the colour, which is always white. Without labels no value of c stands for a certain shape, so
the test error has no meaning.
"""

import argparse
import dataclasses
import functools
from pathlib import Path
from typing import Any

import quiet  # noqa: F401

# isort: split
import parted

from keras_ssvae import data, evaluation, plots
from keras_ssvae.evaluation.inputs import encode_batches
from keras_ssvae.models import PartedVAE
from keras_ssvae.networks.parted_vae import dsprites_decoder, dsprites_encoder
from keras_ssvae.runs import sweep
from keras_ssvae.runs.errors import check_number
from keras_ssvae.runs.plan import Run

PAPER = {"epochs": 30, "steps_per_epoch": 11_520, **parted.BATCHES, "validation": 0}
GAMMA_BC = 10.0
# Tables 1 and 2 and Section 5.3: labels and gamma_bc -> Factor score, and its deviation over five runs.
PUBLISHED = {
    (0, GAMMA_BC): ("0.775", "0.02"),
    (100, GAMMA_BC): ("0.626", "0.04"),
    (737, GAMMA_BC): ("0.718", "0.03"),
    (1000, GAMMA_BC): ("0.735", "0.04"),
    (3686, GAMMA_BC): ("0.881", "0.11"),
    (10_000, GAMMA_BC): ("0.905", "0.10"),
    (3686, 0.0): ("0.829", ""),
}
# Name in metrics.json -> heading.
SCORES = {
    "factor_score": "Factor score",
    "factor_vae_score": "as first published",
    "beta_vae_score": "beta-VAE",
    "sap": "SAP",
    "mig": "MIG",
    "dci_disentanglement": "DCI disentanglement",
    "dci_completeness": "DCI completeness",
    "dci_informativeness": "DCI informativeness",
}


@functools.cache  # the runs of a table share it
def load(name: str, data_dir: str | None) -> data.FactorData:
    return data.load_dsprites(data_dir)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gamma-bc", type=float, default=GAMMA_BC)


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    check_number("gamma_bc", args.gamma_bc)
    return args


def build_model(settings: dict[str, Any], prior: None = None) -> PartedVAE:
    """The networks of Table 4, and the settings of Table 6."""
    return parted.build(
        settings,
        5e-4,
        lambda: {"encoder": dsprites_encoder(), "decoder": dsprites_decoder(latent_dim=6)},
        patience=1,
        supervised_cooldown=2,
        num_classes=3,
        u_dims=1,
        z_dim=5,
        gamma_z=50.0,
        gamma_u=50.0,
        gamma_c=100.0,
        gamma_h=10.0,
        gamma_bc=settings["gamma_bc"],
        tolerance=0.1,
        capacity_z=30.0,
        capacity_u=5.0,
        capacity_steps=300_000,
    )


def metrics(run: Run) -> dict[str, float]:
    """The scores of (z, u): those that vote over all images, the others, which are slower, over the test images."""
    images = run.images
    named = images.factor_names.index("shape") - 1  # without the colour
    latents, factors = encode_batches(run.model, images.train_images), images.train_factors[:, 1:]
    few, few_factors = encode_batches(run.model, images.test_images), images.test_factors[:, 1:]
    dci = evaluation.dci(few, few_factors)
    return {
        "factor_score": evaluation.factor_score(latents, factors),
        "factor_vae_score": evaluation.factor_vae_score(latents, factors),
        "beta_vae_score": evaluation.beta_vae_score(few, few_factors),
        "sap": evaluation.sap(few, few_factors, categorical=[named]),
        "mig": evaluation.mig(few, few_factors),
        **{f"dci_{name}": score for name, score in dci._asdict().items()},
    }


def summary(model: PartedVAE, metrics: dict[str, Any]) -> dict[str, str]:
    return {**parted.summary(model, metrics), "Factor score": f"{metrics['factor_score']:.3f}"}


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """Tables 1 and 2 with the other scores beside them, and Figure 9 of the first run with the most labels."""
    header = ["labels", "gamma_bc", "runs", *SCORES.values(), "error %"]
    header[4:4] = ["published (30 epochs)", "published deviation"]
    by_labels, rows = sweep.by(results, "labels"), []
    for labels, of_labels in by_labels.items():
        for gamma_bc, runs in sweep.by(of_labels, "gamma_bc").items():
            cells = [sweep.Cell([run.metrics[name] for run in runs], 3) for name in SCORES]
            cells[1:1] = PUBLISHED.get((labels, gamma_bc), ("", ""))
            errors = sweep.Cell([run.metrics["test_error_percent"] for run in runs], 2)
            rows.append([str(labels), f"{gamma_bc:g}", str(len(runs)), *cells, errors])
    table = sweep.write_tables(output_dir, results, header, rows)
    first = by_labels[max(by_labels)][0]
    names = first.plan.images.class_names
    figure = plots.traversals(first.model(), range(len(names)), class_names=names if max(by_labels) else None)
    figure.savefig(output_dir / "figure_9.png", dpi=150)
    return table


EXPERIMENT = parted.experiment(
    description=__doc__,
    settings={"dsprites": PAPER},
    labels=3686,
    own_settings=lambda args, dataset, epochs: {"gamma_bc": args.gamma_bc},
    build_model=build_model,
    epoch_figures=parted.epoch_figures,
    figures=lambda run, report: parted.figures(run, range(run.images.num_classes)),
    load=load,
    needs_labels=False,
    metrics=metrics,
    summary=summary,
    run_suffix=lambda args: "" if args.gamma_bc == GAMMA_BC else f"_gamma_bc{args.gamma_bc:g}",
    add_flags=add_flags,
    check_flags=check_flags,
)
LABELS = sweep.Axis("labels", int, [0, 100, 737, 1000, 3686, 10_000], "numbers of images whose shape is known")
GAMMAS = sweep.Axis("gamma_bc", float, [GAMMA_BC], "weights of the Bhattacharyya coefficient")
SEEDS = dataclasses.replace(sweep.SEEDS, default=[1, 2, 3, 4, 5])
SWEEP = sweep.Sweep(EXPERIMENT, __doc__, [LABELS, GAMMAS, SEEDS], [*SCORES, "test_error_percent"], finish)

if __name__ == "__main__":
    sweep.main(SWEEP)
