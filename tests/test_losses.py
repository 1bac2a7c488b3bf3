import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from keras_ssvae.losses import absolute_error, binary_cross_entropy, cross_entropy, mix, reconstruction, sci

B, K = 5, 3
PARTNERS = np.array([3, 0, 4, 2, 1])


def probabilities(rng):
    return scipy.special.softmax(rng.normal(size=(B, K)), axis=-1).astype("float32")


def sci_formula(labels, probs, partners, weight):
    """Equation (7), written as it stands: two cross entropies, in float64."""
    log_probs = np.log(probs.astype("float64"))
    own = -np.sum(labels * log_probs, axis=-1)
    partner = -np.sum(labels[partners] * log_probs, axis=-1)
    return weight * partner + (1 - weight) * own


def test_reconstruction_is_half_the_squared_error_summed_over_all_pixels():
    images = np.zeros((2, 3, 2, 1), "float32")
    reconstructed = images.copy()
    reconstructed[0] = 0.5
    reconstructed[1, 2, 1, 0] = -2.0
    np.testing.assert_allclose(reconstruction(images, reconstructed), [6 * 0.125, 2.0])


def test_reconstruction_is_beta_times_the_gaussian_log_likelihood_without_its_constant():
    rng = np.random.default_rng(0)
    a, b, mean = rng.uniform(-1, 1, (3, 1, 4, 4, 2)).astype("float32")
    beta = 0.25

    def negative_log_likelihood(x):
        return -scipy.stats.norm.logpdf(x, mean, np.sqrt(beta)).sum()

    difference = reconstruction(a, mean)[0] - reconstruction(b, mean)[0]
    np.testing.assert_allclose(difference, beta * (negative_log_likelihood(a) - negative_log_likelihood(b)), rtol=1e-5)


def test_binary_cross_entropy_is_the_bernoulli_log_likelihood_of_the_pixels_summed_over_all_of_them():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (2, 3, 2, 1)).astype("float32")
    logits = rng.normal(scale=3.0, size=images.shape).astype("float32")
    expected = -scipy.stats.bernoulli.logpmf(images, scipy.special.expit(logits.astype("float64")))
    np.testing.assert_allclose(binary_cross_entropy(images, logits), expected.sum(axis=(1, 2, 3)), rtol=1e-5)


def test_binary_cross_entropy_of_grey_pixels_is_least_at_their_own_value():
    grey = np.full((1, 2, 2, 1), 0.25, "float32")
    at, below, above = (
        float(binary_cross_entropy(grey, scipy.special.logit(p * 4 * grey))[0]) for p in (0.25, 0.2, 0.3)
    )
    np.testing.assert_allclose(at, 4 * scipy.stats.entropy([0.25, 0.75]), rtol=1e-6)
    assert at < min(below, above)


@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_binary_cross_entropy_of_certain_pixels_is_exact_and_its_gradient_finite(differentiate, logit):
    images, logits = np.float32([[[[0.0], [1.0], [0.5]]]]), np.full((1, 1, 3, 1), logit, "float32")
    value, (_, gradient) = differentiate(binary_cross_entropy, [images, logits])
    np.testing.assert_allclose(value, [1.5e4], rtol=1e-6)
    np.testing.assert_allclose(gradient, (logit > 0) - images, atol=1e-6)


def test_with_a_floor_probabilities_are_clipped_and_their_gradient_is_zero_there(differentiate):
    rng, floor = np.random.default_rng(0), 1e-5
    logits = np.concatenate([rng.normal(scale=6.0, size=(2, 5, 5, 1)), np.full((2, 1, 5, 1), 40.0)], axis=1)
    logits[1] *= -1.0
    images = rng.choice([0.0, 1.0, 0.3], size=logits.shape)
    p = scipy.special.expit(logits)
    clipped = p.clip(floor, float(np.float32(1.0 - floor)))
    by_pixel = images * np.log(clipped) + (1.0 - images) * np.log1p(-clipped)
    given = [images.astype("float32"), logits.astype("float32")]
    upstream = np.float32([1.0, -2.0])
    value, gradients = differentiate(lambda *args: binary_cross_entropy(*args, floor), given, upstream=upstream)
    np.testing.assert_allclose(value, -by_pixel.sum(axis=(1, 2, 3)), rtol=1e-6)
    scale = upstream[:, None, None, None]
    np.testing.assert_allclose(gradients[0], -scale * scipy.special.logit(clipped), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradients[1], scale * (clipped == p) * (p - images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_with_a_floor_images_of_any_dtype_are_taken_also_in_a_program(compiled, differentiate, dtype):
    images, logits = np.array([[0, 1, 1]], dtype), np.float32([[0.5, -1.0, 20.0]])
    expected = binary_cross_entropy(images.astype("float32"), logits, 1e-5)
    np.testing.assert_allclose(compiled(lambda x: binary_cross_entropy(images, x, 1e-5))(logits), expected)
    _, (gradient,) = differentiate(lambda x: binary_cross_entropy(images, x, 1e-5), [logits])
    np.testing.assert_allclose(gradient, [[scipy.special.expit(0.5), scipy.special.expit(-1.0) - 1.0, 0.0]], rtol=1e-6)


def test_a_floor_that_float32_cannot_take_from_1_clips_too():
    images, logits = np.zeros((1, 1), "float32"), np.full((1, 1), 50.0, "float32")
    np.testing.assert_allclose(binary_cross_entropy(images, logits, 1e-9), [-np.log(1e-9)], rtol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends derive the gradient themselves")
def test_with_a_floor_the_gradient_has_a_derivative_too():
    import tensorflow as tf

    logits = tf.constant([[0.3, -2.0, 5.0, 14.0, -14.0]])
    images = tf.constant([[0.0, 1.0, 0.3, 1.0, 0.0]])
    with tf.GradientTape() as outer:
        outer.watch(logits)
        with tf.GradientTape() as inner:
            inner.watch(logits)
            value = binary_cross_entropy(images, logits, 1e-5)
        gradient = inner.gradient(value, logits)
    p = scipy.special.expit(logits.numpy().astype("float64"))
    expected = p * (1.0 - p) * (np.abs(logits) < 11.5)
    np.testing.assert_allclose(outer.gradient(gradient, logits), expected, rtol=1e-4)


def test_absolute_error_is_summed_over_all_pixels():
    images = np.zeros((2, 3, 2, 1), "float32")
    reconstructed = images.copy()
    reconstructed[0] = 0.5
    reconstructed[1, 2, 1, 0] = -2.0
    np.testing.assert_allclose(absolute_error(images, reconstructed), [3.0, 2.0])


def test_cross_entropy_of_one_hot_and_soft_labels():
    probs = np.float32([[0.5, 0.25, 0.25]] * 2)
    labels = np.float32([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    np.testing.assert_allclose(cross_entropy(labels, probs), [np.log(4.0), 1.5 * np.log(2.0)], rtol=1e-6)


def test_cross_entropy_of_an_impossible_label_is_finite():
    value = cross_entropy(np.float32([[0.0, 1.0]]), np.float32([[1.0, 0.0]]))
    np.testing.assert_allclose(value, [-np.log(1e-10)], rtol=1e-6)


def test_mix_takes_the_weight_of_the_partner():
    images = np.arange(B, dtype="float32")[:, None, None, None] * np.ones((1, 2, 2, 1), "float32")
    np.testing.assert_allclose(
        mix(images, PARTNERS, 0.25)[:, 1, 1, 0], 0.25 * PARTNERS + 0.75 * np.arange(B), rtol=1e-6
    )


@pytest.mark.parametrize(("weight", "partners"), [(0.0, PARTNERS), (0.3, np.arange(B))])
def test_mix_with_weight_0_or_with_themselves_leaves_the_values(weight, partners):
    values = np.random.default_rng(0).normal(size=(B, 4)).astype("float32")
    np.testing.assert_allclose(mix(values, partners, weight), values, rtol=1e-6)


def test_mix_with_weight_1_permutes():
    values = np.random.default_rng(0).normal(size=(B, 4)).astype("float32")
    np.testing.assert_array_equal(mix(values, PARTNERS, 1.0), values[PARTNERS])


@given(st.floats(0.0, 1.0, width=32), st.permutations(range(B)), st.integers(0, 2**16))
def test_sci_equals_the_two_cross_entropies_of_equation_7(weight, partners, seed):
    rng = np.random.default_rng(seed)
    labels, probs, partners = probabilities(rng), probabilities(rng), np.array(partners)
    np.testing.assert_allclose(
        sci(labels, labels[partners], probs, weight), sci_formula(labels, probs, partners, weight), rtol=1e-5
    )


@given(st.floats(0.0, 1.0, width=32), st.floats(0.0, 1.0, width=32), st.integers(0, 2**16))
def test_sci_is_linear_in_the_labels(weight, share, seed):
    rng = np.random.default_rng(seed)
    a, b, probs = (probabilities(rng) for _ in range(3))
    share = np.float32(share)

    def of(labels):
        return sci(labels, labels[PARTNERS], probs, weight)

    together, apart = of(share * a + (1 - share) * b), share * of(a) + (1 - share) * of(b)
    np.testing.assert_allclose(together, apart, rtol=1e-5)


@pytest.mark.parametrize(("weight", "labels_of"), [(0.0, np.arange(B)), (1.0, PARTNERS)])
def test_sci_with_weight_0_or_1_is_one_cross_entropy(weight, labels_of):
    rng = np.random.default_rng(0)
    labels, probs = probabilities(rng), probabilities(rng)
    np.testing.assert_allclose(
        sci(labels, labels[PARTNERS], probs, weight), cross_entropy(labels[labels_of], probs), rtol=1e-6
    )


def test_sci_of_images_mixed_with_themselves_is_the_cross_entropy():
    rng = np.random.default_rng(0)
    labels, probs = probabilities(rng), probabilities(rng)
    np.testing.assert_allclose(sci(labels, labels, probs, 0.7), cross_entropy(labels, probs), rtol=1e-6)
