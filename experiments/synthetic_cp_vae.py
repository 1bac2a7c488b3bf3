"""CP-VAE and its family on numbers from two Gaussians: Figures 3 to 5 of CP-VAE.

The data are 50,000 numbers from 1/2 N(0.3, 0.05^2) + 1/2 N(0.7, 0.05^2), and 10,000 each for validation and test, as
images of one grey pixel. (The paper does not say whether 0.05 is a standard deviation or a variance; a variance would
give a single mode.) The likelihood is VampPrior's for grey images, a discretized logistic in 256 bins, and z has 40
dimensions. Models, variants, networks and training are those of mnist_cp_vae.py. Each model, number of categories and
seed is a run. Finished runs are kept; the same command makes or resumes the others.

The distribution of x of a model is computed: it is the mean of p(x | z, c) over 2,000 draws of z and c from the prior.
The figures show it over the distribution of the data. The table has the divergence KL(data || model) in nats, which is
0 if the model has learned that distribution. Categories are drawn from q(c), as in the paper's Figure 3, and for Figure
5 also with 1/K each. `--epochs 20 --steps-per-epoch 100` gives a first look, while the weight of the KL still rises.

"bound, 100 samples" and "nll" come from 100 samples of each test image. They cannot be below the entropy of the data in
these bins, 4.6617 nats, but for chance. The other two bounds can: a relaxed category gives no bound, and the noise of a
single sample depends on the image alone, of which there are no more than 256 here, so their error is about 0.1 nats.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import quiet  # noqa: F401

# isort: split
import keras
import mnist_cp_vae
import mnist_vampprior
import numpy as np
from keras import ops
from matplotlib.figure import Figure
from mnist_vampprior import PAPER
from scipy.special import rel_entr
from scipy.stats import norm

from keras_ssvae import data, evaluation, plots
from keras_ssvae.likelihoods import DiscretizedLogistic
from keras_ssvae.models.cp_vae import CPVAE
from keras_ssvae.runs import sweep
from keras_ssvae.runs.plan import Run
from keras_ssvae.runs.sets import WithoutLabels

SIZES = {"train": 60_000, "test": 10_000}  # "train" includes the validation images
CENTRES, DEVIATION = (0.3, 0.7), 0.05
SHAPE = (1, 1, 1)
BINS = np.arange(256) / 256
DRAWS = 2000  # of z and c
SAMPLES = 100  # of each test image
COLUMNS = {
    "epochs": ("epochs_done", 0),
    "bound": ("bound", 4),
    "bound, c drawn": ("discrete_loss", 4),
    "bound, 100 samples": ("nll_bound", 4),
    "nll": ("nll", 4),
    "KL(data, model)": ("kl_of_data", 4),
    "the same, c with 1/K": ("kl_of_data_uniform", 4),
    "q(c) > 1/K": ("categories_in_use", 1),
    "perplexity of q(c)": ("category_perplexity", 2),
    "many-to-one %": ("accuracy_many_to_one_percent", 1),
}
TRUTH = "data"


@functools.cache  # several runs share it
def load(name: str, data_dir: str | None) -> data.ImageData:
    """The data, always the same; the label of an image is its Gaussian."""
    rng, parts = np.random.default_rng(0), []
    for size in SIZES.values():
        labels = rng.integers(0, len(CENTRES), size)
        x = rng.normal(np.take(CENTRES, labels), DEVIATION)
        parts += [np.clip(np.floor(256 * x), 0, 255).astype("uint8").reshape(-1, *SHAPE), labels]
    return data.ImageData("synthetic", *parts, tuple(f"around {centre}" for centre in CENTRES))


def data_probs() -> np.ndarray:
    """The probabilities of the bins under the two Gaussians, (256,), without those beyond [0, 1]."""
    edges = np.append(BINS, 1.0)
    return np.mean([np.diff(norm.cdf(edges, centre, DEVIATION)) for centre in CENTRES], axis=0)


def build_model(settings: dict[str, Any], given: None = None) -> keras.Model:
    model = mnist_cp_vae.make_model(settings, SHAPE, DiscretizedLogistic(), binarize=False)
    return mnist_vampprior.compiled(model, settings)


def model_probs(model: keras.Model, latent: Any) -> np.ndarray:
    """The mean of p(x | latent) of the bins, (256,), over latent variables (n, d)."""
    outputs = model.decoder(latent, training=False)
    images = ops.convert_to_tensor(data.scale(np.arange(256, dtype="uint8").reshape(-1, *SHAPE)))
    rows = outputs.shape[0]
    given = ops.repeat(images, rows, axis=0), ops.tile(outputs, (256, 1, 1, 1))
    masses = ops.exp(model.likelihood.log_prob(*given))
    return ops.convert_to_numpy(masses).reshape(256, rows).mean(axis=1, dtype="float64")


def from_prior(model: keras.Model, **how: Any) -> np.ndarray:
    return model_probs(model, model.sample_latent(DRAWS, 1, **how))


def reconstructed(run: Run) -> np.ndarray:
    """`model_probs` of test images, with the likeliest category and the mean of z of each."""
    return model_probs(run.model, run.model.encode(run.test_images[:DRAWS]))


def kl_of_data(probs: np.ndarray) -> float:
    truth = data_probs()
    return float(rel_entr(truth / truth.sum(), probs / probs.sum()).sum())


@functools.lru_cache(maxsize=1)  # figures and metrics share it
def training_clusters(run: Run) -> np.ndarray:
    return evaluation.clusters(run.model, run.images.train_images[run.sets.split.unlabeled])


def metrics(run: Run) -> dict[str, Any]:
    """How far the model's distribution is from that of the data, and how the model uses its categories."""
    model = run.model
    found = evaluation.nll(model, run.test_images, samples=SAMPLES, batch_size=100)
    likelihood = {"nll": found.mean, "nll_bound": found.bound}
    if not isinstance(model, CPVAE):
        probs = from_prior(model)
        return {**likelihood, "kl_of_data": kl_of_data(probs), "x_probs": probs.tolist()}
    clusters = training_clusters(run)
    mean = clusters.mean(axis=0, dtype="float64")
    drawn, uniform = from_prior(model, probs=mean), from_prior(model)
    use = evaluation.category_use(clusters)
    accuracy = evaluation.cluster_accuracy(evaluation.clusters(model, run.test_images), run.images.test_labels)
    return {
        **likelihood,
        "kl_of_data": kl_of_data(drawn),
        "kl_of_data_uniform": kl_of_data(uniform),
        "categories_in_use": use.in_use,
        "category_perplexity": use.perplexity,
        "accuracy_many_to_one_percent": accuracy.many_to_one,
        "x_probs": drawn.tolist(),
    }


def summary(model: keras.Model, metrics: dict[str, Any]) -> dict[str, str]:
    lines = {"bound": f"{metrics['nll_bound']:.4f} nats, negative; it cannot be below 4.6617, the entropy of the data"}
    if "discrete_loss" in metrics:
        lines["relaxed"] = f"{metrics['bound']:.4f} nats with a relaxed category, as in the released code: no bound"
    lines["structure"] = f"KL(data || model) {metrics['kl_of_data']:.4f} nats"
    if "categories_in_use" in metrics:
        use = metrics["categories_in_use"], metrics["category_perplexity"]
        lines["categories"] = "{} have q(c) > 1/K; perplexity of q(c) {:.2f}".format(*use)
    return lines


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    """Figure 3 for this model or, if it has categories, Figures 4 and 5, which include it."""
    model, truth = run.model, data_probs()
    if not isinstance(model, CPVAE):
        return {"x": plots.densities(BINS, {run.settings["model"]: from_prior(model)}, truth)}
    mean = training_clusters(run).mean(axis=0, dtype="float64")
    figure_5 = {
        "c from q(c)": from_prior(model, probs=mean),
        "c with 1/K each": from_prior(model),
        "reconstructions": reconstructed(run),
    }
    likeliest = np.argsort(-mean, kind="stable")[:8]
    figure_4 = {f"category {k}: {100 * mean[k]:.3g} %": from_prior(model, categories=int(k)) for k in likeliest}
    return {
        "x": plots.densities(BINS, figure_5, truth),
        "categories": plots.densities(BINS, figure_4, truth),
        "category_probs": plots.category_probs({"q(c)": mean}),
    }


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """The table, and Figure 3 for the first seed of each model."""
    groups = mnist_cp_vae.grouped(results)
    text = mnist_cp_vae.write_groups(groups, COLUMNS, output_dir)
    shown = {name: np.array(runs[0].metrics["x_probs"]) for name, runs in groups.items()}
    title = "p(x) over the distribution of the data"
    figure = plots.densities(BINS, {TRUTH: data_probs(), **shown}, data_probs(), title=title)
    figure.savefig(output_dir / "figure_3.png", dpi=150)
    return text


EXPERIMENT = dataclasses.replace(
    mnist_cp_vae.EXPERIMENT,
    description=__doc__,
    settings={"synthetic": PAPER},
    load=load,
    sets=WithoutLabels,
    build_model=build_model,
    figures=figures,
    metrics=metrics,
    summary=summary,
    options=(),
    add_flags=mnist_cp_vae.add_model_flags,
    check_flags=mnist_cp_vae.check_model,
)
DEFAULTS = {"model": ["cp", "indq", "vae"], "categories": [2, 150]}
AXES = [dataclasses.replace(axis, default=DEFAULTS.get(axis.name, axis.default)) for axis in mnist_cp_vae.AXES]
SWEEP = sweep.Sweep(EXPERIMENT, __doc__, AXES, ["bound", "x_probs"], finish, depends_on=mnist_cp_vae.depends_on)

if __name__ == "__main__":
    sweep.main(SWEEP)
