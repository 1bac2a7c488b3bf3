"""VAE on MNIST with a standard normal, a mixture or a VampPrior as prior: rows of Table 3 of the CP-VAE paper.

The published negative bound of the test images is 88.75 nats with the standard normal, 87.94 with a VampPrior of 10
components, 89.43 with a mixture of 10. The settings are those of VampPrior's released code: a run trains for up to
2,000 epochs of 500 steps, and stops when the bound of the validation images has not improved for more than 50 epochs.
On one CPU core an epoch takes about 15 s. `--dataset digits` (1,437 images embedded in scikit-learn, no download) takes
a minute or two and has its own settings. With KERAS_BACKEND=jax it trains on JAX, without TensorFlow.

The images are binary. Training images are drawn anew at each step, validation and test images once. After the training
the bound is estimated from one sample of each test image, as in the table, and the likelihood (nll) from
`--nll-samples` of each, which takes about half an hour on one core for all test images of MNIST.
"""

import argparse
from typing import Any

import quiet  # noqa: F401

# isort: split
import keras
from matplotlib.figure import Figure

from keras_ssvae import callbacks, evaluation, plots, priors
from keras_ssvae.models import VAE
from keras_ssvae.networks.vae import LATENT_DIM
from keras_ssvae.optimizers import NormalizedAdam
from keras_ssvae.runs import flags
from keras_ssvae.runs.errors import UserError, check_number
from keras_ssvae.runs.experiment import Experiment
from keras_ssvae.runs.plan import Run
from keras_ssvae.runs.run import main
from keras_ssvae.runs.sets import Binary
from keras_ssvae.runs.work import forward_gflop
from keras_ssvae.schedules import LinearWarmUp

COMPONENTS, NLL_SAMPLES = 10, 5000
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
    add("--prior", choices=list(PRIORS), default="vampprior", help="prior p(z) (default %(default)s)")
    add(
        "--components",
        type=int,
        metavar="K",
        help=f"number of components: Gaussians of mog, pseudo-inputs of vampprior (default {COMPONENTS})",
    )
    add_nll_samples(parser, NLL_SAMPLES, "%(default)s")


def add_nll_samples(parser: argparse.ArgumentParser, default: int | None, shown: str) -> None:
    parser.add_argument(
        "--nll-samples",
        type=int,
        default=default,
        help=f"importance-weighted samples of each test image that estimate the likelihood (default {shown})",
    )


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    if args.prior == "normal":
        if args.components is not None:
            raise UserError(f"--components is {args.components}, but --prior normal has one component. Leave it out.")
    else:
        args.components = COMPONENTS if args.components is None else args.components
        check_number("components", args.components, 1)
    check_number("nll_samples", args.nll_samples, 2)
    return check_validation(args)


def check_validation(args: argparse.Namespace) -> argparse.Namespace:
    if args.validation == 0:
        raise UserError(
            "--validation is 0, but the training stops by the validation images, and keeps the weights that are best "
            "for them. Hold out some images."
        )
    return args


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    return {"prior": args.prior, "components": args.components}


def run_suffix(args: argparse.Namespace) -> str:
    return f"_{args.prior}{args.components or ''}"


def build_model(settings: dict[str, Any], given: None = None) -> keras.Model:
    keras.utils.set_random_seed(settings["seed"])  # before the prior, whose first weights are random too
    prior = PRIORS[settings["prior"]](settings["components"])
    return compiled(VAE(prior=prior, beta=warm_up(settings), seed=settings["seed"]), settings)


def step_gflop(model: VAE, labeled: int, unlabeled: int) -> float:
    """Counts three forward passes for each image, and three of the encoder for each pseudo-input."""
    pseudo_inputs = model.prior.num_components if isinstance(model.prior, priors.VampPrior) else 0
    of_encoder = (unlabeled + pseudo_inputs) * forward_gflop(model.encoder)
    return 3 * (of_encoder + unlabeled * forward_gflop(model.decoder))


def warm_up(settings: dict[str, Any]) -> LinearWarmUp:
    return LinearWarmUp(1.0, settings["warm_up_epochs"], settings["steps_per_epoch"])


def compiled(model: keras.Model, settings: dict[str, Any], learning_rate: float = 5e-4) -> keras.Model:
    """Compiles a model with Adam on normalised gradients, as in the released code, and returns it."""
    model.compile(NormalizedAdam(learning_rate, epsilon=1e-8), **flags.compile_options(settings))
    return model


def early_stopping(settings: dict[str, Any]) -> keras.callbacks.Callback:
    return callbacks.EarlyStopping(patience=settings["patience"], start_from_epoch=settings["warm_up_epochs"] - 1)


def metrics(run: Run) -> dict[str, Any]:
    """The likelihood of the test images."""
    return nll(run, run.options["nll_samples"])


def nll(run: Run, samples: int, name: str = "nll", **how: Any) -> dict[str, Any]:
    """The likelihood of the test images and its errors, as entries of the metrics whose names begin with `name`."""
    print(f"Estimating the likelihood of {len(run.test_images)} images from {samples} samples of each.", flush=True)
    result = evaluation.nll(run.model, run.test_images, samples, **how)
    return {
        name: result.mean,
        f"{name}_standard_error": result.standard_error,
        f"{name}_monte_carlo_error": result.monte_carlo_error,
        f"{name}_samples": samples,
    }


def summary(model: keras.Model, metrics: dict[str, Any]) -> dict[str, str]:
    kl = metrics["bound"] - metrics["reconstruction"]
    of_bound = f"reconstruction {metrics['reconstruction']:.2f}, KL {kl:.2f}"
    return {
        "bound": f"{metrics['bound']:.2f} nats, negative, from 1 sample ({of_bound})",
        "nll": nll_line(metrics, "nll"),
    }


def nll_line(metrics: dict[str, Any], name: str) -> str:
    errors = (metrics[f"{name}_{kind}_error"] for kind in ("standard", "monte_carlo"))
    of_nll = "standard error {:.2f}, Monte Carlo error {:.3f}".format(*errors)
    return f"{metrics[name]:.2f} nats from {metrics[f'{name}_samples']} samples ({of_nll})"


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    """Reconstructions, generated images, the decoded means of a mixture and the pseudo-inputs of a VampPrior."""
    model, prior = run.model, run.model.prior
    drawn = {
        "reconstructions": plots.reconstructions(model, run.test_images[:20]),
        "generated": plots.images(model.generate(SHOWN, seed=1), title="Images from the prior"),
    }
    # The prior of a model with two layers is that of one layer, which cannot be decoded alone.
    if not isinstance(prior, priors.StandardNormal) and prior.latent_dim == model.latent_dim:
        drawn["components"] = plots.images(
            model.decode(prior.means[:SHOWN]), title="The decoded means of the prior's components"
        )
    if isinstance(prior, priors.VampPrior):
        # Training takes their pixels out of [0, 1]; the figure shows them clipped, as the encoder gets them.
        shown = {"value_range": (0.0, 1.0), "title": "The pseudo-inputs"}
        drawn["pseudo_inputs"] = plots.images(prior.pseudo_inputs[:SHOWN], **shown)
    return drawn


EXPERIMENT = Experiment(
    name="VAE",
    description=__doc__,
    settings=SETTINGS,
    labels=None,
    sets=Binary,
    own_settings=own_settings,
    build_model=build_model,
    step_gflop=step_gflop,
    steps_per_execution=5,
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
