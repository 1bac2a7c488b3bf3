"""EXoN on MNIST with 100 labels: cures for classes that do not lie where the prior puts them.

If a class lies elsewhere, images that are generated at its place in the prior show other classes. A cure changes the
training; `published` is the training of the paper, without a cure, and `+` joins several cures:

  settle       the Gaussian KL has a larger weight than beta at first, which falls to beta in 20 epochs
               (`settling_steps`)
  consistency  the classifier learns to recognise reconstructions (`consistency`)
  start        the encoder starts at the prior: its biases are m_k and log s_k^2, its kernels a tenth of the usual ones
  wait         the encoder and the decoder wait 3 epochs for the classifier
  labels       the ELBO of a labelled image uses the label, not the classifier's probabilities

Each cure and seed is a run of mnist_exon.py, and this script has the flags of that one too. Finished runs are kept; the
same command makes or resumes the others. The table has means over the seeds, for the test images. The figure shows the
latent space of each cure's first seed. On 2 CPU cores a run of `--epochs 20` takes about twenty minutes, one of
`--dataset digits` two.
"""

import argparse
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import quiet  # noqa: F401

# isort: split
import exon
import keras
import mnist_exon
import numpy as np
from keras import ops

from keras_ssvae import plots
from keras_ssvae.distributions import log_probs
from keras_ssvae.models import EXoN
from keras_ssvae.optimizers import Adam
from keras_ssvae.priors import GaussianMixture
from keras_ssvae.runs import sweep
from keras_ssvae.runs.errors import UserError

PUBLISHED, CURES = "published", ("settle", "consistency", "start", "wait", "labels")
SETTLING_EPOCHS, WAITING_EPOCHS, KERNEL_SHARE = 20, 3, 0.1
# Name in metrics.json -> heading, decimal places, and what makes one number of a list by class (None: it is no list).
COLUMNS = {
    "test_error_percent": ("error %", 2, None),
    "kl_gaussian": ("Gaussian KL", 2, None),
    "reconstruction": ("reconstruction", 1, None),
    "nearest_place_percent": ("nearest to their place %", 1, None),
    "place_distance_per_class": ("farthest class, deviations", 2, max),
    "generated_right_percent": ("generated right %", 1, None),
    "generated_right_percent_per_class": ("worst class %", 1, min),
    "generated_right_percent_independent": ("right by neighbours %", 1, None),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    mnist_exon.add_flags(parser)
    parser.add_argument("--cure")


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    unknown = [each for each in args.cure.split("+") if each not in CURES]
    if args.cure != PUBLISHED and unknown:
        raise UserError(f"--cure is {args.cure}; it must be {PUBLISHED}, or some of {', '.join(CURES)}, joined by +.")
    if args.settling_epochs is not None or args.consistency is not None:
        raise UserError("--cure sets --settling-epochs and --consistency: leave them out.")
    return args


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    cures = args.cure.split("+")
    added = {
        "settling_epochs": (epochs if dataset == "digits" else SETTLING_EPOCHS) if "settle" in cures else 0,
        "consistency": exon.CONSISTENCY if "consistency" in cures else 0.0,
    }
    return {**mnist_exon.own_settings(args, dataset, epochs), **added, "cure": args.cure}


@keras.saving.register_keras_serializable("mnist_places")
class AfterWaiting(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is 0 for the first `steps` steps, then `learning_rate`."""

    def __init__(self, learning_rate: float, steps: int):
        self.learning_rate, self.steps = learning_rate, steps

    def __call__(self, step):
        return ops.where(ops.cast(step, "int32") < self.steps, 0.0, self.learning_rate)

    def get_config(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate, "steps": self.steps}


@keras.saving.register_keras_serializable("mnist_places")
class LabelsInELBO(EXoN):
    """An EXoN whose ELBO of a labelled image uses the label in place of the classifier's probabilities."""

    def step_terms(self, batch, noise, step):
        self._true = batch["labels"]
        return super().step_terms(batch, noise, step)

    def passes(self, dropout, first=0):
        run, calls = super().passes(dropout, first), itertools.count()

        def with_labels(network, inputs):
            outputs = run(network, inputs)
            if network is self.classifier and next(calls) == 1:  # the first pass makes the pseudo-labels
                outputs = ops.concatenate([log_probs(self._true), outputs[ops.shape(self._true)[0] :]])
            return outputs

        return with_labels


def build_model(settings: dict[str, Any], prior: GaussianMixture) -> EXoN:
    cures = settings["cure"].split("+")
    rate = mnist_exon.LEARNING_RATE
    if "wait" in cures:
        rate = AfterWaiting(rate, WAITING_EPOCHS * settings["steps_per_epoch"])
    model = mnist_exon.build_model(settings, prior, Adam(rate), LabelsInELBO if "labels" in cures else EXoN)
    if "start" in cures:
        for name, values in (("mean", prior.means), ("logvar", np.log(prior.variances))):
            kernel, bias = (heads := model.encoder.get_layer(name)).get_weights()
            heads.set_weights([KERNEL_SHARE * kernel, np.reshape(values, bias.shape)])
    return model


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """The table and, if the latent space is a plane, the figure."""
    rows = []
    for cure, runs in sweep.by(results, "cure").items():
        cells = []
        for name, (_, digits, of_classes) in COLUMNS.items():
            values = [run.metrics[name] for run in runs]
            if of_classes is not None:
                values = [of_classes((each for each in value if each is not None), default=None) for value in values]
            cells.append(sweep.Cell(values, digits))
        rows.append([cure, str(len(runs)), *cells])
    header = ["cure", "runs", *(heading for heading, *_ in COLUMNS.values())]
    table = sweep.write_tables(output_dir, results, header, rows)
    if results[0].plan.prior.latent_dim == 2:
        models = {cure: runs[0].model() for cure, runs in sweep.by(results, "cure").items()}
        images = results[0].plan.images
        figure = plots.latent_spaces(models, images.test_images, images.test_labels, class_names=images.class_names)
        figure.savefig(output_dir / "latent_spaces.png", dpi=110)
    return table


EXPERIMENT = dataclasses.replace(
    mnist_exon.EXPERIMENT,
    own_settings=own_settings,
    build_model=build_model,
    run_suffix=lambda args: f"{mnist_exon.run_suffix(args)}_{args.cure}",
    add_flags=add_flags,
    check_flags=check_flags,
)
PAIRS = ["settle+consistency", "settle+start", "settle+labels", "start+wait"]
CURE = sweep.Axis(
    "cure",
    str,
    [PUBLISHED, *CURES, *PAIRS],
    f"cures: {PUBLISHED} for none, or some of {', '.join(CURES)}, joined by +",
)
SWEEP = sweep.Sweep(EXPERIMENT, __doc__, [CURE, sweep.SEEDS], list(COLUMNS), finish)

if __name__ == "__main__":
    sweep.main(SWEEP)
