"""N-VAE's bounds by enumeration of all images, and what its docstring says of the Dirichlet distributions."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy import special, stats

from keras_ssvae.models import NVAE

L, PIXELS, NODES = 3, 3, 24
SHAPE = (1, PIXELS, 1)
Z = L + 1  # d_c = d_s = 1
X = np.stack(np.meshgrid(*[[-1.0, 1.0]] * PIXELS, indexing="ij"), axis=-1).reshape(-1, *SHAPE).astype("float32")
POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(NODES)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
GRID = np.stack(np.meshgrid(POINTS, POINTS, indexing="ij"), axis=-1).reshape(-1, 2)
GRID_WEIGHTS = np.outer(WEIGHTS, WEIGHTS).ravel()
EYE = np.eye(L, dtype="float32")


@pytest.fixture(scope="module", params=[1, 2, 3])
def model(request):
    images, z = keras.Input(SHAPE), keras.Input((L + Z,))
    flat = layers.Flatten()(images)
    encoder = keras.Model(images, [layers.Dense(units)(flat) for units in (Z, Z, L)], name="encoder")
    hidden = layers.Dense(4, activation="tanh")(z)
    decoder = keras.Model(z, layers.Reshape(SHAPE)(layers.Dense(PIXELS)(hidden)), name="decoder")
    rng = np.random.default_rng(request.param)
    for weights in (*encoder.weights, *decoder.weights):
        weights.assign(rng.normal(scale=0.7, size=weights.shape))
    return NVAE(encoder, decoder, L, 1, 1, unlabeled_term=True)


def numpy(values):
    return ops.convert_to_numpy(values).astype("float64")


def at_nodes(y, others=0.0):
    """Points of z `(nodes, Z)` at the nodes of z_cy and z_s, with any value of the variables of other classes."""
    z = np.full((len(GRID), Z), others, "float32")
    z[:, y], z[:, L] = GRID.T
    return z


def log_p_xy(model, others=0.0):
    """`log p(x, y)`, `(X, L)`."""
    result = np.empty((len(X), L))
    for y in range(L):
        latent = np.concatenate([np.tile(EYE[y], (len(GRID), 1)), at_nodes(y, others)], axis=1)
        p = (numpy(model.decode(latent)).reshape(-1, PIXELS) + 1) / 2
        for i, x in enumerate(X.reshape(-1, PIXELS) > 0):
            result[i, y] = np.log(GRID_WEIGHTS @ np.prod(np.where(x, p, 1 - p), axis=1) / L)
    return result


def terms(model, i, y):
    """The terms of image i, labelled y, or unlabelled, in expectation over its own `q(z | x)`."""
    part = "unlabeled" if y is None else "labeled"
    batch = {part: np.repeat(X[i : i + 1], len(GRID), axis=0)}
    batch |= {} if y is None else {"labels": np.tile(EYE[y], (len(GRID), 1))}
    # Each label sees its own variable and z_s alone, so that all classes may have the same nodes.
    epsilon = np.concatenate([np.repeat(GRID[:, :1], L, axis=1), GRID[:, 1:]], axis=1).astype("float32")
    noise = {f"epsilon_{part}": epsilon, "dropout": np.int32(0)}
    given = model.step_losses(batch, noise, 0)
    return {name: float(GRID_WEIGHTS @ numpy(values)) for name, values in given.items() if name != "total"}


def bound(given, beta_c):
    return -given["reconstruction"] - given["kl_s"] - beta_c * given["kl_c"]


def test_images_and_labels_have_the_probability_1_together(model):
    np.testing.assert_allclose(np.exp(log_p_xy(model)).sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(log_p_xy(model, others=5.0), log_p_xy(model), rtol=1e-6)


def test_the_objective_is_a_bound_with_the_cross_entropy_and_without(model):
    exact = log_p_xy(model)
    for i in range(len(X)):
        for y in range(L):
            given = terms(model, i, y)
            for beta_c in (1.0, 2.0):
                assert bound(given, beta_c) - np.log(L) <= exact[i, y] + 1e-6
                assert bound(given, beta_c) - np.log(L) - given["cross_entropy"] <= exact[i, y] + 1e-6


def test_unlabelled_images_have_a_bound_which_is_best_at_the_softmax_of_the_bounds_of_labels(model):
    exact = special.logsumexp(log_p_xy(model), axis=1)
    q = numpy(model.classify(X))
    for i in range(len(X)):
        of_labels = np.array([bound(terms(model, i, y), 1.0) for y in range(L)])
        best = special.logsumexp(of_labels) - np.log(L)
        softmax = special.softmax(of_labels)
        np.testing.assert_allclose(softmax @ (of_labels - np.log(L) - np.log(softmax)), best, rtol=1e-10)
        given = terms(model, i, None)
        of_model = bound(given, 1.0) - given["kl_y"]
        np.testing.assert_allclose(of_model, q[i] @ (of_labels - np.log(L) - np.log(q[i])), rtol=1e-5)
        assert of_model <= best + 1e-5
        assert best <= exact[i] + 1e-6


# The Dirichlet distributions of the paper, which the model leaves out


def dirichlet_kl(a, b):
    a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
    constants = [special.gammaln(each.sum()) - special.gammaln(each).sum() for each in (a, b)]
    return constants[0] - constants[1] + ((a - b) * (special.digamma(a) - special.digamma(a.sum()))).sum()


def kl_of_classifier(p_y, alpha_p, alpha_q, num_classes=10):
    """`KL(Dir(alpha_q p), Dir(alpha_p + c_y))` of a classifier that gives the label p_y, and all others the same."""
    p = np.full(num_classes, (1 - p_y) / (num_classes - 1))
    p[0] = p_y
    return dirichlet_kl(alpha_q * p, np.full(num_classes, alpha_p) + np.eye(num_classes)[0])


def test_the_divergence_of_dirichlet_distributions():
    a, b = np.array([2, 3, 0.7]), np.array([1, 1.5, 0.5])
    np.testing.assert_allclose(dirichlet_kl(a, b), 0.195833, atol=1e-6)
    np.testing.assert_allclose(dirichlet_kl([1, 1], [2, 1]), 1 - np.log(2), rtol=1e-12)
    drawn = np.random.default_rng(0).dirichlet(a, 200_000)
    ratio = stats.dirichlet(a).logpdf(drawn.T) - stats.dirichlet(b).logpdf(drawn.T)
    np.testing.assert_allclose(ratio.mean(), dirichlet_kl(a, b), atol=4 * ratio.std() / 200_000**0.5)


def test_with_many_counts_it_is_the_cross_entropy_and_a_constant_at_one_prior_alone():
    for alpha_q, remainder in ((1e2, 0.094), (1e4, 8.8e-4), (1e6, 8.7e-6)):
        b = np.full(10, 0.5) + np.eye(10)[0]
        constant = special.gammaln(b).sum() - special.gammaln(b.sum()) + 4.5 * np.log(alpha_q / (2 * np.pi * np.e))
        given = kl_of_classifier(0.3, 0.5, alpha_q) - constant + np.log(0.3)
        np.testing.assert_allclose(given, remainder, rtol=0.02)
    # Another alpha_p adds what the other classes get.
    p = np.array([0.3, *[0.7 / 9] * 9])
    more = [kl_of_classifier(p_y, 1.0, 1e6) - kl_of_classifier(p_y, 0.5, 1e6) for p_y in (0.3, 0.1)]
    np.testing.assert_allclose(more[0] - more[1], -0.5 * (np.log(p).sum() - 10 * np.log(0.1)), rtol=1e-4)


def test_the_cross_entropy_is_no_bound_of_it_and_it_does_not_vanish():
    given = [kl_of_classifier(p_y, 0.5, 100) + np.log(p_y) for p_y in (0.1, 0.01, 0.001, 1e-4)]
    np.testing.assert_allclose(given, [8.31, 8.95, 19.6, 150], rtol=5e-3)
    one_hot = [kl_of_classifier(p_y, 0.5, 100) for p_y in (0.9, 0.99, 0.999)]
    np.testing.assert_allclose(one_hot, [9.30, 33.6, 379], rtol=5e-3)
