"""N-VAE, CVAE and beta-VAE on MNIST, Fashion-MNIST or Extended Yale B: N-VAE's Figures 1 to 3, 5 to 8, 10 and 11.

The paper gives no result as a number, and states neither its networks nor its latent dimensions. The networks, Adam and
the 15 epochs are those of its first author's earlier experiments with beta-VAE on MNIST. N-VAE has 1 latent variable
for each class and 2 shared ones, CVAE has 3, and beta-VAE has 2 with beta 5, as in Figure 3. All training images are
labelled; beta-VAE does not see the labels.

Each model, beta_c, pair of dimensions and seed is a run. Finished runs are kept; the same command makes or resumes the
others. `--model nvae beta_vae` makes Figure 3, `--model nvae nvae_without_bias` Figure 10. `--beta-c 1 1.5 2 4` tests
the claim that all beta_c above 1 give similar results, and `--class-dims 1 2 --shared-dims 2 4 8 20` varies the
dimensions, on which the figures depend most. `--dataset digits` (1,437 images embedded in scikit-learn, no download)
has its own settings and smaller networks. With KERAS_BACKEND=jax it trains on JAX, without TensorFlow.

`--dataset yale` is the cropped Extended Yale B (64x64 pixels, 28 persons), from a folder `CroppedYale` of your own. Its
networks have one convolution more. It was tested on generated images only: the photographs could not be had.

The table has means over the test images. "own z_c" and "other z_c" are the KL divergences of the latent variables of
the image's own class and of the other classes, in nats for each variable (Figures 5 and 10). "class share" is the share
of the variance of z_s that the class explains. "KL of q(z)" is the divergence of the distribution of z_s over all
images from its prior, in nats; Figure 3 shows whether this distribution is unimodal. CVAE and beta-VAE have z in place
of z_s.
"""

import argparse
import functools
from pathlib import Path
from typing import Any

import quiet  # noqa: F401

# isort: split
import keras
import numpy as np
from keras import ops
from matplotlib.figure import Figure

from keras_ssvae import data, evaluation, plots
from keras_ssvae.models import CVAE, NVAE, BetaVAE
from keras_ssvae.networks import nvae
from keras_ssvae.optimizers import Adam
from keras_ssvae.priors import GaussianMixture, StandardNormal
from keras_ssvae.runs import flags, sweep
from keras_ssvae.runs.errors import UserError, check_choice, check_number, flag_of
from keras_ssvae.runs.experiment import Experiment, terms_line
from keras_ssvae.runs.plan import Run
from keras_ssvae.runs.sets import AllLabeled, InMemory, WithoutLabels, load_data

PAPER = {"epochs": 15, "steps_per_epoch": 469, "batch_size": 128, "validation": 0}
PAPER |= {"filters": list(nvae.FILTERS), "hidden": list(nvae.HIDDEN)}
SETTINGS = {
    "mnist": PAPER,
    "fashion_mnist": PAPER,
    "yale": PAPER | {"epochs": 600, "steps_per_epoch": 11, "filters": [64, 128, 128], "image_shape": [64, 64, 1]},
    "digits": {"epochs": 30, "steps_per_epoch": 40, "batch_size": 64, "validation": 200}
    | {"filters": [16, 32], "hidden": [256]},
}
MODELS = ("nvae", "nvae_without_bias", "cvae", "beta_vae")
BETA = 5.0  # of beta-VAE
SCALE = 1.4  # standard deviation of z in Figure 11
RANGE = np.linspace(-3.0, 3.0, 9).tolist()
SHOWN = 5  # generated images of each class
TRAVERSED = 10  # classes, at most
DRAWS = 10_000  # from q(z)
AXES = [
    sweep.Axis("model", str, ["nvae"], f"models: {', '.join(MODELS)}"),
    sweep.Axis("beta_c", float, [2.0], "weights of the KL of N-VAE's latent variables of classes"),
    sweep.Axis("class_dims", int, [nvae.CLASS_DIMS], "latent variables of each class; CVAE has them beside the shared"),
    sweep.Axis("shared_dims", int, [nvae.SHARED_DIMS], "shared latent variables; beta-VAE has only these"),
    sweep.SEEDS,
]
SIZES = {
    "filters": "filters of each convolution of the encoder; the decoder has them in reverse",
    "hidden": "units of each dense layer between the convolutions and the latent variables",
}
# Heading -> name in metrics.json and decimal places.
COLUMNS = {
    "error %": ("test_error_percent", 2),
    "reconstruction": ("reconstruction", 2),
    "own z_c": ("kl_own_class", 3),
    "other z_c": ("kl_other_classes", 3),
    "KL of z_s or z": ("kl_shared", 3),
    "class share %": ("class_share_percent", 1),
    "KL of q(z)": ("kl_aggregate", 3),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    for axis in AXES[:-1]:
        parser.add_argument(axis.flag, type=axis.type, default=axis.default[0], help=axis.help)
    for name, what in SIZES.items():
        shown = ", ".join(f"{dataset} {' '.join(map(str, each[name]))}" for dataset, each in SETTINGS.items())
        parser.add_argument(f"--{name}", type=int, nargs="*", metavar="N", help=f"{what} (default {shown})")


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    check_choice("model", args.model, MODELS)
    vars(args).update(depends_on({axis.name: getattr(args, axis.name) for axis in AXES}))
    check_number("beta_c", args.beta_c)
    check_dims({"class_dims": args.class_dims, "shared_dims": args.shared_dims})
    for name in SIZES:
        if min(getattr(args, name) or [1]) < 1:
            raise UserError(f"--{name} is {' '.join(map(str, getattr(args, name)))}; each number must be at least 1.")
    return args


def check_dims(dims: dict[str, Any]) -> None:
    """Raises a `UserError` for numbers of latent variables that no model has."""
    dims = {name: value for name, value in dims.items() if value is not None}
    if min(dims.values()) < 0 or not any(dims.values()):
        given = " and ".join(f"{flag_of(name)} is {value}" for name, value in dims.items())
        raise UserError(f"{given}; none may be negative, and one must be at least 1.")


def depends_on(values: dict[str, Any]) -> dict[str, Any]:
    """Takes out the values of flags that the model does not have."""
    absent = {"cvae": ("beta_c",), "beta_vae": ("beta_c", "class_dims")}.get(values["model"], ())
    return {**values, **dict.fromkeys(absent)}


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    own = {name: getattr(args, name) for name in (*(axis.name for axis in AXES[:-1]), *SIZES)}
    if dataset == "yale":  # some persons may be missing
        own["num_classes"] = load(dataset, args.data_dir).num_classes
    return {name: value for name, value in own.items() if value is not None}


def run_suffix(args: argparse.Namespace) -> str:
    parts = {"beta": args.beta_c, "c": args.class_dims, "s": args.shared_dims}
    given = "".join(f"_{name}{value:g}" for name, value in parts.items() if value is not None)
    sizes = {name: getattr(args, name) for name in SIZES}
    given += "".join(f"_{name}{'-'.join(map(str, size))}" for name, size in sizes.items() if size is not None)
    return f"_{args.model}{given}"


@functools.cache  # the flags and the run share it
def load(name: str, data_dir: str | None) -> data.ImageData:
    return data.load_yale(data_dir) if name == "yale" else load_data(name, data_dir)


def sets(images: data.ImageData, settings: dict[str, Any], *given: Any) -> InMemory:
    return (WithoutLabels if settings["model"] == "beta_vae" else AllLabeled)(images, settings, *given)


def build_model(settings: dict[str, Any], given: None = None) -> keras.Model:
    keras.utils.set_random_seed(settings["seed"])
    sizes = {name: settings[name] for name in SIZES} | {
        "image_shape": tuple(settings.get("image_shape", nvae.IMAGE_SHAPE))
    }
    name, shared, seed = settings["model"], settings["shared_dims"], settings["seed"]
    classes = {"num_classes": settings.get("num_classes", nvae.NUM_CLASSES)}
    if name == "beta_vae":
        networks = nvae.encoder(latent_dim=shared, **sizes), nvae.decoder(inputs=shared, **sizes)
        model = BetaVAE(*networks, prior=StandardNormal(shared), beta=BETA, seed=seed)
    elif name == "cvae":
        z_dim = settings["class_dims"] + shared
        encoder = nvae.label_encoder(latent_dim=z_dim, **classes, **sizes)
        decoder = nvae.decoder(inputs=z_dim + classes["num_classes"], **sizes)
        model = CVAE(encoder, decoder, z_dim=z_dim, **classes, seed=seed)
    else:
        bias, dims = name == "nvae", {"class_dims": settings["class_dims"], "shared_dims": shared}
        z_dim = classes["num_classes"] * settings["class_dims"] + shared
        encoder = nvae.class_encoder(latent_dim=z_dim, **classes, **sizes)
        decoder = nvae.decoder(inputs=z_dim + classes["num_classes"] * bias, **sizes)
        model = NVAE(encoder, decoder, **classes, **dims, class_bias=bias, beta_c=settings["beta_c"], seed=seed)
    model.compile(Adam(1e-3), **flags.compile_options(settings))
    return model


@functools.lru_cache(maxsize=1)  # figures and metrics share it
def posterior(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and log-variance of z_s of the test images, or of z; those of CVAE are given the true label."""
    batches = np.array_split(run.test_images, max(1, len(run.test_images) // 500))
    given = [run.model.posterior(ops.convert_to_tensor(batch)) for batch in batches]
    prefix = next((prefix for prefix in ("z_s_", "z_", "") if f"{prefix}mean" in given[0]), None)
    if prefix is None:
        return None
    mean, logvar = (
        np.concatenate([ops.convert_to_numpy(each[f"{prefix}{kind}"]) for each in given]) for kind in ("mean", "logvar")
    )
    if mean.ndim == 3:
        rows = np.arange(len(mean)), run.images.test_labels
        mean, logvar = mean[rows], logvar[rows]
    return mean, logvar


def samples(mean: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """One z of each image."""
    return mean + np.exp(logvar / 2) * np.random.default_rng(0).standard_normal(mean.shape)


def kl_by_variable(mean: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """The mean KL divergence of each variable from the standard normal, in nats."""
    return 0.5 * (np.square(mean) + np.exp(logvar) - logvar - 1).mean(axis=0, dtype="float64")


def metrics(run: Run) -> dict[str, Any]:
    """How much the latent variables tell about an image, and how far the shared ones are from their prior."""
    found, shared = {}, posterior(run)
    if isinstance(run.model, NVAE) and run.model.class_dims:
        by_class = of_classes(run)
        own = np.eye(len(by_class), dtype=bool)
        found["kl_own_class"], found["kl_other_classes"] = (float(by_class[chosen].mean()) for chosen in (own, ~own))
        found["kl_by_class"] = by_class.tolist()
    if shared is None:
        return found
    mean, logvar = shared
    dims, kl = mean.shape[1], kl_by_variable(mean, logvar)
    found |= {"kl_shared": float(kl.sum()), "kl_shared_by_variable": kl.tolist()}
    share = evaluation.variance_share_of_classes(samples(mean, logvar), run.images.test_labels)
    prior = GaussianMixture(np.zeros((1, dims)), np.ones((1, dims)))
    parts = evaluation.kl_decomposition(mean[:, None], logvar[:, None], np.ones((len(mean), 1)), prior, DRAWS)
    return found | {
        "class_share_percent": 100 * share,
        "kl_aggregate": parts.kl_z,
        "kl_aggregate_standard_error": parts.information_xz_standard_error,
        "information_xz": parts.information_xz,
        "information_xz_ceiling": parts.information_xz_ceiling,
    }


@functools.lru_cache(maxsize=1)
def of_classes(run: Run) -> np.ndarray:
    """The mean KL `(L, L, d_c)` by the class of the test images, the class of the variables, and the variable."""
    kl = evaluation.kl_per_dimension(run.model, run.test_images, run.images.test_labels)["z_c"]
    return kl.reshape(len(kl), len(kl), -1)


def summary(model: keras.Model, metrics: dict[str, Any]) -> dict[str, str]:
    lines = terms_line(model, metrics)
    if "kl_own_class" in metrics:
        lines["z_c"] = (
            f"KL {metrics['kl_own_class']:.3f} nats for each variable of the image's own class, "
            f"{metrics['kl_other_classes']:.3f} of another class"
        )
    if "kl_aggregate" in metrics:
        lines["z_s" if isinstance(model, NVAE) else "z"] = (
            f"the class explains {metrics['class_share_percent']:.1f} % of the variance; KL of q(z) "
            f"{metrics['kl_aggregate']:.3f} nats (standard error {metrics['kl_aggregate_standard_error']:.3f})"
        )
    return lines


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    """Figures 1 and 2, or 6 and 7 (traversals), 3 (latent), 5 (kl), 10 (kl_by_class) and 11 (generated_1.4)."""
    model, names, labels = run.model, run.images.class_names, range(run.images.num_classes)
    drawn = {"reconstructions": plots.reconstructions(model, run.test_images[:20])}
    if isinstance(model, BetaVAE):
        drawn["generated"] = plots.images(model.generate(SHOWN * 10, seed=1), title="Images from the prior")
        drawn["traversals_z"] = plots.traversals(model, None, deviations=RANGE)
    else:
        rows = np.tile(labels, SHOWN)
        for name, scale in {"generated": 1.0, f"generated_{SCALE}": SCALE}.items():
            title = f"Images generated for each class, deviation {scale:g} of z"
            drawn[name] = plots.images(model.generate(rows, seed=1, scale=scale), len(labels), title=title)
        for part in model.normal_parts:
            drawn[f"traversals_{part}"] = plots.traversals(
                model, labels[:TRAVERSED], part, deviations=RANGE, class_names=names, columns=2
            )
    kl, shared, part = {}, posterior(run), "z_s" if isinstance(model, NVAE) else "z"
    if isinstance(model, NVAE) and model.class_dims:
        by_class = of_classes(run)
        own = by_class[labels, labels].mean(axis=0)
        kl["z_c, own class"] = own
        drawn["kl_by_class"] = plots.kl_per_dimension({"z_c": by_class.reshape(len(by_class), -1)}, names)
    if shared is not None:
        kl[part] = kl_by_variable(*shared)
        if shared[0].shape[1] > 1:
            title = f"{part}, coloured by label"
            drawn["latent"] = plots.scatter(samples(*shared), run.images.test_labels, class_names=names, title=title)
    return {**drawn, "kl": plots.kl_per_dimension(kl)}


def name_of(settings: dict[str, Any]) -> str:
    return " ".join(str(settings[axis.name]) for axis in AXES[:-1] if axis.name in settings)


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """The table, a row for each model and its dimensions, and Figure 10 if both of its models have runs."""
    groups = sweep.by(results, lambda result: name_of(result.plan.settings))
    columns = sweep.filled(COLUMNS, results)
    rows: list[list[str | sweep.Cell]] = []
    for runs in groups.values():
        settings = runs[0].plan.settings
        cells = [sweep.Cell([run.metrics.get(name) for run in runs], digits) for name, digits in columns.values()]
        rows.append([*(str(settings.get(axis.name, "")) for axis in AXES[:-1]), str(len(runs)), *cells])
    _draw_figure_10(results, output_dir)
    return sweep.write_tables(output_dir, results, [*(axis.name for axis in AXES[:-1]), "runs", *columns], rows)


def _draw_figure_10(results, output_dir):
    """From the first run of each model."""
    titles = {"nvae": "z_c, with c_y", "nvae_without_bias": "z_c, without c_y"}
    kl = {}
    for result in results:
        title = titles.get(result.plan.settings["model"])
        if title is not None and title not in kl and "kl_by_class" in result.metrics:
            by_class = np.asarray(result.metrics["kl_by_class"])
            kl[title] = by_class.reshape(len(by_class), -1)
    if len(kl) == len(titles):
        names = results[0].plan.images.class_names
        plots.kl_per_dimension(kl, names).savefig(output_dir / "figure_10.png", dpi=150)


EXPERIMENT = Experiment(
    name="N-VAE",
    description=__doc__,
    settings=SETTINGS,
    labels=None,
    load=load,
    sets=sets,
    own_settings=own_settings,
    build_model=build_model,
    figures=figures,
    metrics=metrics,
    summary=summary,
    units={"loss": "nats per image", "reconstruction": "nats per image"},
    run_suffix=run_suffix,
    add_flags=add_flags,
    check_flags=check_flags,
)
SWEEP = sweep.Sweep(EXPERIMENT, __doc__, AXES, ["reconstruction"], finish, depends_on=depends_on)

if __name__ == "__main__":
    sweep.main(SWEEP)
