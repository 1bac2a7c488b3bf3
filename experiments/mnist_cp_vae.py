"""CP-VAE and its family on MNIST, Fashion-MNIST or Omniglot, with published bounds beside ours: Table 3 of CP-VAE.

Each model, number of categories and seed is a run. Finished runs are kept; the same command makes or resumes the
others. `--model vae mog vampprior hvae hvp cp indq indp indqp --categories 10 150 500` makes the whole table. The
settings are those of the released codes of CP-VAE and VampPrior: up to 2,000 epochs of batches of 100, a weight of the
KL that rises to 1 in 100 epochs, Adam on normalised gradients, and a stop when the bound of the validation images has
not improved for more than 50 epochs. `--dataset digits` (1,437 images embedded in scikit-learn, no download) takes one
or two minutes a run and has its own settings. With KERAS_BACKEND=jax it trains on JAX, without TensorFlow.

The column "bound" has one sample of each test image with a relaxed category, as in the released code. For a model with
categories this number is not a bound, so "bound, c drawn" has the bound with a drawn category. "nll" is the
importance-weighted likelihood with drawn categories. "nll, c summed" sums over all categories, from the same number of
decoded images and so from fewer samples. Categories are counted by q(c), the mean of q(c | x) over the training images;
the labels are only compared with the trained categories. I and KL are the terms of Table 1, over 1,000 test images. The
estimate of I of z cannot be above its ceiling; information beyond it is counted in the KL of q(z).

Omniglot is the paper's set of 28x28 images if `chardata.mat` is there. Otherwise it is the set of 105x105 images,
resized, with its own division into training and test images: then all names say omniglot_resized, and no figure is
published for these images.

`--variant` changes the models that have the variant. `frozen`: the prior is not trained. `released` and
`released_learned`: the choices of CP-VAE's released code, where the prior is not trained, and the same with a trained
prior. `each`: the KL of z has the posterior of each category. `probs`: z takes the probabilities of c in place of a
sample, as in Figure 2 of the paper.
"""

import argparse
import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any

import quiet  # noqa: F401

# isort: split
import keras
import mnist_vampprior
import numpy as np
from keras import ops
from matplotlib.figure import Figure
from mnist_vampprior import PAPER

from keras_ssvae import data, evaluation, plots
from keras_ssvae.likelihoods import Likelihood
from keras_ssvae.models import HVAE, VAE
from keras_ssvae.models.cp_vae import CPVAE
from keras_ssvae.networks import cp_vae, vae
from keras_ssvae.networks.vae import IMAGE_SHAPE, LATENT_DIM
from keras_ssvae.priors import LearnedMixture, StandardNormal, VampPrior
from keras_ssvae.runs import sweep
from keras_ssvae.runs.directory import write_table
from keras_ssvae.runs.errors import check_choice, check_number
from keras_ssvae.runs.plan import Run
from keras_ssvae.runs.sets import Binary, UnevenBinary, load_data
from keras_ssvae.schedules import AnnealedTemperature

SETTINGS = {
    "mnist": PAPER,
    "fashion_mnist": PAPER,
    "omniglot": {**PAPER, "steps_per_epoch": 230, "validation": 1345},
    "omniglot_resized": {**PAPER, "steps_per_epoch": 179, "validation": 1345},
    "digits": {"epochs": 150, "steps_per_epoch": 12, "batch_size": 100, "validation": 200}
    | {"warm_up_epochs": 40, "patience": 51, "learning_rate": 1e-3},
}
# Model -> whether z is independent of c in the posterior, and in the prior.
INDEPENDENT = {"cp": (False, False), "indq": (True, False), "indp": (False, True), "indqp": (True, True)}
WITHOUT_CATEGORIES = ("vae", "hvae")
MODELS = ("vae", "mog", "vampprior", "hvae", "hvp", *INDEPENDENT)
# Variant -> the models that have it.
VARIANTS = {"default": MODELS, "frozen": ("mog", "cp", "indq"), "released": ("mog", "cp", "indq")}
VARIANTS |= {"released_learned": VARIANTS["released"], "each": ("cp", "indp"), "probs": ("cp", "indp")}
_RELEASED = ("released", "released_learned")
SIZES = {"mnist": (10, 150, 500), "fashion_mnist": (10, 150, 500), "omniglot": (50, 500)}
# Negative bounds, nats: MNIST, Fashion-MNIST and Omniglot with the numbers of categories of SIZES. 270.83 of VampPrior
# looks like a slip of the paper.
PUBLISHED = {
    "cp": "87.15 88.53 89.91, 232.52 233.79 234.89, 117.51 120.64",
    "indq": "89.67 92.15 93.38, 232.71 234.41 234.93, 125.28 124.48",
    "indp": "88.20 88.77 88.53, 229.83 230.41 231.34, 120.92 121.83",
    "indqp": "87.93 88.21 88.98, 228.65 230.98 231.18, 119.99 120.82",
    "vae": "88.75, 231.49, 115.06",
    "mog": "89.43 88.96 88.85, 267.07 272.60 274.55, 116.31 116.12",
    "vampprior": "87.94 86.55 86.07, 230.87 229.82 270.83, 114.01 113.74",
    "hvae": "86.7, 230.10, 110.81",
    "hvp": "85.90 85.09 85.01, 229.67 229.36 229.62, 110.50 110.16",
}
AXES = [
    sweep.Axis("model", str, ["cp"], f"models: {', '.join(MODELS)}"),
    sweep.Axis("categories", int, [10], "K, numbers of categories or of components of the prior"),
    sweep.Axis("variant", str, ["default"], f"variants of the models that have them: {', '.join(VARIANTS)}"),
    sweep.SEEDS,
]
DECOMPOSED = 1000  # images
LABELS = 20  # data sets with more have no tables and figures by label
SHOWN = 50  # images
# Heading -> name in metrics.json and decimal places.
COLUMNS = {
    "epochs": ("epochs_done", 0),
    "bound": ("bound", 2),
    "bound, c drawn": ("discrete_loss", 2),
    "nll": ("nll", 2),
    "nll, c summed": ("nll_summed", 2),
    "q(c) > 1/K": ("categories_in_use", 1),
    "perplexity of q(c)": ("category_perplexity", 1),
    "one-to-one %": ("accuracy_one_to_one_percent", 1),
    "many-to-one %": ("accuracy_many_to_one_percent", 1),
    "I(c, x)": ("information_cx", 3),
    "KL of q(c)": ("kl_qc", 3),
    "I of z": ("information_z", 3),
    "its ceiling": ("information_z_ceiling", 3),
    "KL of q(z)": ("kl_qz", 3),
    "distinct of the labels' five": ("likeliest_distinct", 1),
    "in several labels": ("likeliest_shared", 1),
}
PAIRED = ("bound", "nll")


@functools.cache  # several runs share it
def load(name: str, data_dir: str | None) -> data.ImageData:
    if name.startswith("omniglot"):
        return data.load_omniglot(data_dir, resized=True if name == "omniglot_resized" else None)
    return load_data(name, data_dir)


def sets(images: data.ImageData, *given: Any) -> Binary:
    """The images of a run. Omniglot's alphabets are uneven: they have different numbers of characters."""
    return (UnevenBinary if images.name.startswith("omniglot") else Binary)(images, *given)


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_model_flags(parser)
    mnist_vampprior.add_nll_samples(parser, None, f"{mnist_vampprior.NLL_SAMPLES}; digits 200")


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a model with one value each; a table replaces them by flags that take lists."""
    for axis in AXES[:3]:
        parser.add_argument(axis.flag, type=axis.type, default=axis.default[0], help=axis.help)


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    if args.nll_samples is None:
        of_digits = load(args.dataset, args.data_dir).name == "digits"
        args.nll_samples = 200 if of_digits else mnist_vampprior.NLL_SAMPLES
    check_number("nll_samples", args.nll_samples, 2)
    return check_model(args)


def check_model(args: argparse.Namespace) -> argparse.Namespace:
    check_choice("model", args.model, MODELS)
    check_choice("variant", args.variant, list(VARIANTS))
    check_number("categories", args.categories, 1)
    vars(args).update(depends_on({axis.name: getattr(args, axis.name) for axis in AXES}))
    return mnist_vampprior.check_validation(args)


def depends_on(values: dict[str, Any]) -> dict[str, Any]:
    """Takes out the values of flags that the model does not have."""
    if values["model"] in WITHOUT_CATEGORIES:
        values = {**values, "categories": None}
    if values["model"] not in VARIANTS.get(values["variant"], MODELS):
        values = {**values, "variant": "default"}
    return values


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    variant = None if args.variant == "default" else args.variant
    own = {"model": args.model, "categories": args.categories, "variant": variant}
    return {name: value for name, value in own.items() if value is not None}


def run_suffix(args: argparse.Namespace) -> str:
    variant = "" if args.variant == "default" else f"_{args.variant}"
    return f"_{args.model}{args.categories or ''}{variant}"


def build_model(settings: dict[str, Any], given: None = None) -> keras.Model:
    return mnist_vampprior.compiled(make_model(settings), settings, settings.get("learning_rate", 5e-4))


def make_model(
    settings: dict[str, Any],
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    likelihood: Likelihood | None = None,
    binarize: bool = True,
) -> VAE | HVAE | CPVAE:
    """The model of a run, not compiled."""
    keras.utils.set_random_seed(settings["seed"])  # before the prior, whose first weights are random too
    name, k, variant = settings["model"], settings.get("categories"), settings.get("variant")
    given: dict[str, Any] = {"beta": mnist_vampprior.warm_up(settings), "seed": settings["seed"]}
    given |= {"likelihood": likelihood, "binarize": binarize}
    if name in INDEPENDENT:
        return _with_categories(name, k, variant, AnnealedTemperature(settings["steps_per_epoch"]), image_shape, given)
    if name in WITHOUT_CATEGORIES:
        prior = StandardNormal(LATENT_DIM)
    elif name == "mog":
        how = {"trainable": variant not in ("frozen", "released")}
        prior = LearnedMixture(k, LATENT_DIM, bounded=False, mean_of_logs=variant in _RELEASED, **how)
    else:
        prior = VampPrior(k, LATENT_DIM, image_shape)
    kind = HVAE if name in ("hvae", "hvp") else VAE
    return kind(encoder=vae.encoder(image_shape, LATENT_DIM), prior=prior, **given)


def _with_categories(name, k, variant, temperature, image_shape, given):
    posterior, prior = INDEPENDENT[name]
    given |= {"encoder": cp_vae.encoder(image_shape), "factorised_posterior": posterior, "factorised_prior": prior}
    given |= {"num_categories": k, "z_dim": LATENT_DIM, "temperature": temperature}
    if variant in _RELEASED:
        return CPVAE.as_released(train_prior=variant == "released_learned", **given)
    if variant == "frozen":
        given["prior"] = LearnedMixture(k, LATENT_DIM, bounded=False, trainable=False)
    own = {"each": {"posteriors": "each"}, "probs": {"z_heads": "probs"}}
    return CPVAE(**given, **own.get(variant, {}))


@functools.lru_cache(maxsize=1)  # figures and metrics share it
def training_clusters(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """q(c | x) of the training images, which are drawn once, and their labels."""
    chosen = run.sets.split.unlabeled
    drawn = data.binarize(run.images.train_images[chosen], run.settings["seed"])
    return evaluation.clusters(run.model, drawn), run.images.train_labels[chosen]


def metrics(run: Run) -> dict[str, Any]:
    """The likelihood, and how the model uses its categories."""
    samples = run.options["nll_samples"]
    found = mnist_vampprior.nll(run, samples)
    if not isinstance(run.model, CPVAE):
        return found
    found |= summed_nll(run, samples)
    probs, labels = training_clusters(run)
    use = evaluation.category_use(probs)
    found |= {"categories_in_use": use.in_use, "category_perplexity": use.perplexity}
    found["category_probs"] = probs.mean(axis=0, dtype="float64").tolist()
    accuracy = evaluation.cluster_accuracy(evaluation.clusters(run.model, run.test_images), run.images.test_labels)
    found |= {f"accuracy_{name}_percent": value for name, value in accuracy._asdict().items()}
    if len(run.images.class_names) <= LABELS:
        likeliest = evaluation.likeliest_categories(probs, labels)
        overlap = evaluation.category_overlap(likeliest)
        found |= {"likeliest_distinct": overlap.distinct, "likeliest_shared": overlap.shared}
        found["likeliest_categories"] = {run.images.class_names[label]: row for label, row in likeliest.items()}
    return found | decomposition(run.model, run.test_images)


def summed_nll(run: Run, samples: int) -> dict[str, Any]:
    """The likelihood with a sum over c, from as many decoded images as with a drawn c."""
    model, k = run.model, run.model.num_categories
    model.sum_categories = True
    try:
        return mnist_vampprior.nll(run, max(2, samples // k), "nll_summed", samples_per_batch=max(1, 100 // k))
    finally:
        model.sum_categories = False


def decomposition(model: CPVAE, images: np.ndarray) -> dict[str, float]:
    """The terms of Table 1."""
    images = images[:DECOMPOSED]
    batches = np.split(images, range(100, len(images), 100))
    parts = [model.posterior(ops.convert_to_tensor(x)) for x in batches]
    probs, mean, logvar = (
        np.concatenate([ops.convert_to_numpy(part[name]) for part in parts]) for name in ("probs", "z_mean", "z_logvar")
    )
    found = evaluation.kl_decomposition(mean, logvar, probs, model.prior.now(), draws=2000)
    return {
        "information_cx": found.information_xy,
        "kl_qc": found.kl_y,
        "information_z": found.information_xz,
        "information_z_standard_error": found.information_xz_standard_error,
        "information_z_ceiling": found.information_xz_ceiling,
        "kl_qz": found.kl_z,
    }


def summary(model: keras.Model, metrics: dict[str, Any]) -> dict[str, str]:
    lines = mnist_vampprior.summary(model, metrics)
    if not isinstance(model, CPVAE):
        return lines
    lines["c drawn"] = f"{metrics['discrete_loss']:.2f} nats, negative bound with a drawn category"
    lines["c summed"] = mnist_vampprior.nll_line(metrics, "nll_summed")
    k, use, perplexity = model.num_categories, metrics["categories_in_use"], metrics["category_perplexity"]
    lines["categories"] = f"{use} of {k} have q(c) > 1/{k}; perplexity of q(c) {perplexity:.1f}"
    one, many = (metrics[f"accuracy_{name}_percent"] for name in ("one_to_one", "many_to_one"))
    lines["clusters"] = f"{one:.1f} % agree with the labels one to one, {many:.1f} % many to one"
    return lines


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    """For a model with categories, figures like 6, 9, 10, 13 and 14 of the paper, but of the run's data."""
    model = run.model
    if not isinstance(model, CPVAE):
        return mnist_vampprior.figures(run, report)
    probs, labels = training_clusters(run)
    mean = probs.mean(axis=0, dtype="float64")
    drawn = {
        "reconstructions": plots.reconstructions(model, run.test_images[:20]),
        "generated": plots.images(
            model.generate(SHOWN, seed=1, probs=mean), title="Images from the prior, c from q(c)"
        ),
        "category_probs": plots.category_probs({"q(c)": mean}),
    }
    if evaluation.category_use(probs).in_use:
        drawn["categories"] = plots.categories(model, mean)
    names = run.images.class_names
    if len(names) <= LABELS:
        by_label = evaluation.category_probs_by_label(probs, labels)
        drawn["category_probs_by_label"] = plots.category_probs({names[k]: each for k, each in by_label.items()})
        panels = {
            f"{names[label]}: category {k}": model.generate(9, seed=1, categories=k)
            for label, row in evaluation.likeliest_categories(probs, labels).items()
            for k in row
        }
        columns = min(5, model.num_categories)
        title = "Images from the likeliest categories of each label"
        drawn["categories_of_labels"] = plots.panels(panels, columns, across=3, title=title)
    return drawn


def published(dataset: str, model: str, categories: int | None) -> str:
    """The number in Table 3, or "" if it has none."""
    if dataset not in SIZES:
        return ""
    numbers = PUBLISHED[model].split(", ")[list(SIZES).index(dataset)].split()
    if model in WITHOUT_CATEGORIES:
        return numbers[0]
    return numbers[SIZES[dataset].index(categories)] if categories in SIZES[dataset] else ""


def name_of(settings: dict[str, Any]) -> str:
    return " ".join(str(settings[name]) for name in ("model", "categories", "variant") if name in settings)


def grouped(results: list[sweep.Result]) -> dict[str, list[sweep.Result]]:
    """The runs of each model, number of categories and variant, by their name."""
    return sweep.by(results, lambda result: name_of(result.plan.settings))


def write_groups(groups: dict[str, list[sweep.Result]], columns: dict[str, tuple[str, int]], output_dir: Path) -> str:
    """The table with a row for each group; a column that no model has is left out."""
    results = [result for runs in groups.values() for result in runs]
    columns = sweep.filled(columns, results)
    dataset = results[0].plan.settings["dataset"]
    header = ["data set", "model", "K", "variant", "runs"]
    for heading in columns:
        header += [heading, "published"] if heading == "bound" and dataset in SIZES else [heading]
    rows: list[list[str | sweep.Cell]] = []
    for runs in groups.values():
        settings = runs[0].plan.settings
        row = [dataset, settings["model"], str(settings.get("categories", ""))]
        row += [settings.get("variant", ""), str(len(runs))]
        for heading, (name, digits) in columns.items():
            row.append(sweep.Cell([run.metrics.get(name) for run in runs], digits))
            if heading == "bound" and dataset in SIZES:
                row.append(published(dataset, settings["model"], settings.get("categories")))
        rows.append(row)
    return sweep.write_tables(output_dir, results, header, rows)


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """Table 3 with the differences between models of the same seed, Tables 2 and A1, and Figures 14 to 16."""
    groups = grouped(results)
    text = write_groups(groups, COLUMNS, output_dir)
    _write_likeliest(output_dir, results)
    drawn = {name: _generated(runs[0]) for name, runs in groups.items()}
    title = f"{results[0].plan.data_title}: images from the prior, c from q(c)"
    plots.panels(drawn, across=5, title=title).savefig(output_dir / "generated.png", dpi=150)
    return text + pairs(groups, output_dir)


def _write_likeliest(output_dir, results):
    rows = [
        [result.plan.settings["dataset"], name_of(result.plan.settings), result.plan.settings["seed"], label, *row]
        for result in results
        for label, row in result.metrics.get("likeliest_categories", {}).items()
    ]
    if rows:
        header = ["data set", "model", "seed", "label", *range(1, max(map(len, rows)) - 3)]
        write_table(output_dir / "likeliest_categories.csv", header, rows)


def _generated(result):
    model, probs = result.model(), result.metrics.get("category_probs")
    return model.generate(25, seed=1) if probs is None else model.generate(25, seed=1, probs=probs)


def pairs(groups: dict[str, list[sweep.Result]], output_dir: Path) -> str:
    """The differences between every two models with the same seeds, as `pairs.csv` and as text."""
    header, rows = ["model", "minus", "seeds", *PAIRED], []
    for (one, runs), (other, others) in itertools.combinations(groups.items(), 2):
        first, second = ({run.plan.settings["seed"]: run.metrics for run in each} for each in (runs, others))
        seeds = sorted({*first} & {*second})
        if seeds:
            cells = [sweep.Cell([first[seed][name] - second[seed][name] for seed in seeds], 2) for name in PAIRED]
            rows.append([one, other, str(len(seeds)), *map(str, cells)])
    write_table(output_dir / "pairs.csv", header, rows)
    if not rows:
        return ""
    table = sweep.markdown(header, rows)
    return f"\n\nDifferences between models with the same seed, mean (standard deviation), nats:\n\n{table}"


EXPERIMENT = dataclasses.replace(
    mnist_vampprior.EXPERIMENT,
    name="CP-VAE",
    description=__doc__,
    settings=SETTINGS,
    load=load,
    sets=sets,
    own_settings=own_settings,
    build_model=build_model,
    step_gflop=None,
    figures=figures,
    metrics=metrics,
    summary=summary,
    run_suffix=run_suffix,
    add_flags=add_flags,
    check_flags=check_flags,
)
SWEEP = sweep.Sweep(EXPERIMENT, __doc__, AXES, ["bound", "nll"], finish, depends_on=depends_on)

if __name__ == "__main__":
    sweep.main(SWEEP)
