"""VAE on MNIST with a standard normal, a mixture or VampPrior as prior: rows of Table 3 of the CP-VAE paper.

Paper: the negative bound of the test images is 88.75 nats with the standard normal, 87.94 with a VampPrior of 10
components, 89.43 with a mixture of 10. Settings are those of VampPrior's released code: it trains for up to 2,000
epochs of 500 steps and stops when the bound of the validation images has not become better for more than 50. On one CPU
core an epoch takes about 15 s; `--dataset digits` (1,437 images embedded in scikit-learn, no download) takes a minute
or two, with settings of its own. With KERAS_BACKEND=jax it trains on JAX, without TensorFlow.

Images are binary: those of training are drawn anew at each step, those of validation and test once. At the end the
bound is estimated from one sample of each test image, as in the table, and the likelihood (nll) from `--nll-samples`,
which for all of MNIST's test images takes about half an hour on one core.
"""

import argparse
from typing import Any

import quiet  # noqa: F401

# isort: split
import keras
from matplotlib.figure import Figure

from keras_ssvae import callbacks, evaluation, plots, priors
from keras_ssvae.likelihoods import from_unit
from keras_ssvae.models import VAE
from keras_ssvae.networks.vae import LATENT_DIM
from keras_ssvae.optimizers import NormalizedAdam
from keras_ssvae.runs import flags
from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.experiment import Experiment
from keras_ssvae.runs.run import Run, main
from keras_ssvae.runs.sets import Binary
from keras_ssvae.schedules import LinearWarmUp

COMPONENTS = 10
# Early stopping counts the epochs from the end of the warm-up on; with more than 50 in a row it stops.
PAPER = {"epochs": 2000, "steps_per_epoch": 500, "batch_size": 100, "validation": 10_000}
PAPER |= {"warm_up_epochs": 100, "patience": 51}
SETTINGS = {
    "mnist": PAPER,
    "fashion_mnist": PAPER,
    "digits": {"epochs": 60, "steps_per_epoch": 12, "batch_size": 100, "validation": 200}
    | {"warm_up_epochs": 10, "patience": 51},
}
PRIORS = {
    "normal": lambda components: priors.StandardNormal(LATENT_DIM),
    "mog": lambda components: priors.LearnedMixture(components, LATENT_DIM, bounded=False),
    "vampprior": lambda components: priors.VampPrior(components, LATENT_DIM),
}
SHOWN = 50  # images in a figure


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--prior", choices=list(PRIORS), default="vampprior", help="p(z) (default %(default)s)")
    add(
        "--components",
        type=int,
        metavar="K",
        help=f"of a mixture: Gaussians, or pseudo-inputs of a VampPrior (default {COMPONENTS})",
    )
    add(
        "--nll-samples",
        type=int,
        default=5000,
        help="importance-weighted samples of each test image for the likelihood (default %(default)s)",
    )


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    if args.prior == "normal":
        if args.components is not None:
            raise UserError(f"--components is {args.components}, but --prior normal has one. Leave it out.")
    else:
        args.components = COMPONENTS if args.components is None else args.components
        if args.components < 1:
            raise UserError(f"--components is {args.components}; it must be at least 1.")
    if args.validation == 0:
        raise UserError("--validation is 0, but the training stops, and takes its weights, by validation images.")
    if args.nll_samples < 2:
        raise UserError(f"--nll-samples is {args.nll_samples}; it must be at least 2.")
    return args


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    return {"prior": args.prior, "components": args.components}


def run_suffix(args: argparse.Namespace) -> str:
    return f"_{args.prior}{args.components or ''}"


def build_model(settings: dict[str, Any], prior: None = None) -> VAE:
    keras.utils.set_random_seed(settings["seed"])  # before the prior too, whose weights it decides
    beta = LinearWarmUp(1.0, settings["warm_up_epochs"], settings["steps_per_epoch"])
    model = VAE(prior=PRIORS[settings["prior"]](settings["components"]), beta=beta, seed=settings["seed"])
    model.compile(NormalizedAdam(5e-4, epsilon=1e-8), **flags.compile_options(settings))
    return model


def early_stopping(settings: dict[str, Any]) -> keras.callbacks.Callback:
    return callbacks.EarlyStopping(patience=settings["patience"], start_from_epoch=settings["warm_up_epochs"] - 1)


def metrics(run: Run) -> dict[str, Any]:
    """The likelihood of the test images."""
    samples = run.options["nll_samples"]
    print(f"Estimating the likelihood of {len(run.test_images)} images from {samples} samples of each.", flush=True)
    result = evaluation.nll(run.model, run.test_images, samples)
    return {
        "nll": result.mean,
        "nll_standard_error": result.standard_error,
        "nll_monte_carlo_error": result.monte_carlo_error,
        "nll_samples": samples,
    }


def summary(model: VAE, metrics: dict[str, Any]) -> dict[str, str]:
    of_bound = f"reconstruction {metrics['reconstruction']:.2f}, KL {metrics['kl']:.2f}"
    errors = (metrics[f"nll_{name}_error"] for name in ("standard", "monte_carlo"))
    of_nll = "standard error {:.2f}, of the samples alone {:.3f}".format(*errors)
    return {
        "bound": f"{metrics['bound']:.2f} nats, negative, from 1 sample ({of_bound})",
        "nll": f"{metrics['nll']:.2f} nats from {metrics['nll_samples']} samples ({of_nll})",
    }


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    """Reconstructions, generated images and, of a mixture, its decoded means, with the pseudo-inputs of a VampPrior."""
    model = run.model
    drawn = {
        "reconstructions": plots.reconstructions(model, run.test_images[:20]),
        "generated": plots.images(model.generate(SHOWN, seed=1), title="Images from the prior"),
    }
    if run.settings["prior"] != "normal":
        means = model.decode(model.prior.means[:SHOWN])
        drawn["components"] = plots.images(means, title="The decoded means of the prior's components")
    if run.settings["prior"] == "vampprior":
        inputs = from_unit(model.prior.pseudo_inputs[:SHOWN])  # `images` clips as the prior does
        drawn["pseudo_inputs"] = plots.images(inputs, title="The pseudo-inputs")
    return drawn


EXPERIMENT = Experiment(
    name="VAE",
    description=__doc__,
    settings=SETTINGS,
    labels=None,
    sets=Binary,
    own_settings=own_settings,
    build_model=build_model,
    early_stopping=early_stopping,
    figures=figures,
    metrics=metrics,
    summary=summary,
    units={"loss": "nats per image", "reconstruction": "nats per image"},
    options=("nll_samples",),
    run_suffix=run_suffix,
    add_flags=add_flags,
    check_flags=check_flags,
)

if __name__ == "__main__":
    main(EXPERIMENT)
