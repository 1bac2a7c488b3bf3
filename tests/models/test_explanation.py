"""`EXoN.explain` with linear networks, whose answers are known."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ssvae import evaluation
from keras_ssvae.models import EXoN
from keras_ssvae.priors import GaussianMixture

IMAGE_SHAPE = (2, 3, 1)
PRIOR = GaussianMixture([[-3.0, 0.0, 1.0], [2.0, 1.0, -1.0]], [[1.0, 4.0, 0.25], [0.5, 1.5, 1.0]])
K, D = PRIOR.means.shape
LOGVAR = np.array([[0.5, -3.0, -4.0], [-1.0, -8.0, -2.0]], "float32")
V_NAT = np.log(PRIOR.variances) - LOGVAR  # class 0: -0.5, 4.4, 2.6; class 1: 0.3, 8.4, 2.0
DRAWN = np.array([[1, 0, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0], [0, 0, 0, 0, 0, 3]], "float32")  # pixels of a unit of z


def linear(name, inputs, shapes, dtype=None):
    """A network of linear outputs."""
    x = keras.Input(inputs)
    flat = layers.Flatten()(x)
    outputs = [
        layers.Reshape(shape)(layers.Dense(int(np.prod(shape)), name=f"{name}{i}", dtype=dtype)(flat))
        for i, shape in enumerate(shapes)
    ]
    return keras.Model(x, outputs if len(outputs) > 1 else outputs[0], name=name)


def linear_exon():
    """The mean of a component is its centre plus s times the first three pixels; the fourth decides on the class."""
    model = EXoN(
        encoder=linear("encoder", IMAGE_SHAPE, [(K, D), (K, D)]),
        decoder=linear("decoder", (D,), [IMAGE_SHAPE]),
        classifier=linear("classifier", IMAGE_SHAPE, [(K,)]),
        prior=PRIOR,
    )
    scale = np.sqrt(PRIOR.variances)
    mean = np.concatenate([np.stack([np.diag(row) for row in scale], axis=1), np.zeros((3, K, D))]).reshape(6, K * D)
    logits = np.zeros((6, K))
    logits[3] = [4.0, -4.0]
    for network, name, kernel, bias in (
        (model.encoder, "encoder0", mean, PRIOR.means.ravel()),
        (model.encoder, "encoder1", np.zeros((6, K * D)), LOGVAR.ravel()),
        (model.decoder, "decoder0", DRAWN, np.zeros(6)),
        (model.classifier, "classifier0", logits, np.zeros(K)),
    ):
        network.get_layer(name).set_weights([kernel, bias])
    return model


@pytest.fixture(scope="module")
def model():
    return linear_exon()


def image(offsets, evidence=1.0):
    """The image of class 0, or 1 if `evidence` is negative, with these offsets."""
    return np.array([*offsets, evidence, 0.3, -0.3], "float32").reshape(1, *IMAGE_SHAPE)


def draw(z):
    return (np.asarray(z) @ DRAWN).reshape(*np.shape(z)[:-1], *IMAGE_SHAPE)


def test_an_image_falls_in_its_most_probable_component_and_its_offsets_count_in_standard_deviations(model):
    (result,) = model.explain(image([0.5, -1.0, 0.25], evidence=-0.5))
    np.testing.assert_allclose(result.probs, [1 / (1 + np.exp(4)), 1 / (1 + np.exp(-4))], rtol=1e-5)
    assert result.component == 1
    np.testing.assert_allclose(result.offsets, [0.5, -1.0, 0.25], atol=1e-6)
    assert result.distance == pytest.approx(np.sqrt(1.3125))
    explained = np.maximum(0, 1 - np.exp(-result.v_nat))
    assert result.usual_distance == pytest.approx(np.sqrt(explained.sum()), rel=1e-6)
    z = PRIOR.means[1] + np.sqrt(PRIOR.variances[1]) * [0.5, -1.0, 0.25]
    np.testing.assert_allclose(result.z, z, rtol=1e-6)
    np.testing.assert_allclose(result.reconstruction, draw(z), rtol=1e-5)


def test_v_nat_is_that_of_a_class_of_one_image_and_the_active_coordinates_fall_by_it(model):
    for evidence, k, active in ((1.0, 0, [1, 2]), (-1.0, 1, [1, 2])):
        (result,) = model.explain(image([0, 0, 0], evidence))
        np.testing.assert_allclose(result.v_nat, V_NAT[k], rtol=1e-5)
        np.testing.assert_allclose(result.v_nat, evaluation.v_nat(LOGVAR[None], [k], PRIOR)[k], rtol=1e-5)
        np.testing.assert_array_equal(result.active, active)
    assert [list(model.explain(image([0, 0, 0]), delta)[0].active) for delta in (-1, 2.7)] == [[1, 2, 0], [1]]


def test_low_and_high_change_one_coordinate_to_two_standard_deviations_beside_the_centre(model):
    (result,) = model.explain(image([0.9, -0.4, 0.7]))
    assert result.low.shape == result.high.shape == (2, *IMAGE_SHAPE)
    scale = np.sqrt(PRIOR.variances[0])
    for images, end in ((result.low, PRIOR.means[0] - 2 * scale), (result.high, PRIOR.means[0] + 2 * scale)):
        for row, j in enumerate([1, 2]):
            z = result.z.copy()
            z[j] = end[j]
            np.testing.assert_allclose(images[row], draw(z), rtol=1e-5, atol=1e-6)


def test_at_the_centre_the_distance_is_0(model):
    (result,) = model.explain(image([0, 0, 0]))
    assert result.distance == 0
    np.testing.assert_array_equal(result.z, PRIOR.means[0])


def test_without_an_active_coordinate_there_are_no_decoded_ones(model):
    (result,) = model.explain(image([0, 0, 0]), delta=100.0)
    assert result.active.shape == (0,)
    assert np.issubdtype(result.active.dtype, np.integer)
    assert result.low.shape == result.high.shape == (0, *IMAGE_SHAPE)
    assert (result.delta, result.reconstruction.shape) == (100.0, IMAGE_SHAPE)


def arrays(result):
    return {name: value for name, value in vars(result).items() if isinstance(value, np.ndarray)}


@pytest.fixture
def random_images():
    """More than go through the networks at once; of both classes, which have 2 and 3 active coordinates."""
    return np.random.default_rng(0).uniform(-1, 1, (45, *IMAGE_SHAPE)).astype("float32")


def test_many_images_are_explained_as_one_by_one_and_as_the_other_verbs_say(model, random_images):
    results = model.explain(random_images, delta=0.2)
    assert sorted({len(result.active) for result in results}) == [2, 3]
    for i in (0, 1, 31, 32, 44):
        (alone,) = model.explain(random_images[i : i + 1], delta=0.2)
        for name, value in arrays(alone).items():
            np.testing.assert_allclose(arrays(results[i])[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    for name, verb in (("probs", model.classify), ("z", model.encode), ("reconstruction", model.reconstruct)):
        stacked = np.stack([getattr(result, name) for result in results])
        np.testing.assert_allclose(stacked, ops.convert_to_numpy(verb(random_images)), rtol=1e-5, atol=1e-5)
    assert model.explain(random_images[:0]) == []


def test_one_explanation_does_not_hold_the_images_of_all(model, random_images):
    result = model.explain(random_images[:20])[7]
    assert result.low.base.nbytes == (1 + 2 * len(result.active)) * result.reconstruction.nbytes


def test_in_mixed_precision_the_results_are_float32(random_images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = linear_exon()
    assert model.decoder.get_layer("decoder0").compute_dtype == "bfloat16"
    (result,) = model.explain(random_images[:1])
    assert {value.dtype.name for name, value in arrays(result).items() if name != "active"} == {"float32"}


def test_a_sentence_says_where_the_image_falls(model):
    (result,) = model.explain(image([1.0, -0.5, 0.0], evidence=-1.0))
    assert result.sentence() == (
        "The image falls in component 1, 1.1 prior standard deviations from its centre (+1.0, -0.5, +0.0)."
    )
    assert "component 1 (dog)," in result.sentence(["cat", "dog"])
    assert "component 1," in result.sentence("01")
    many = dataclasses.replace(result, offsets=np.zeros(4), z=np.zeros(4), usual_distance=1.25)
    assert many.sentence().endswith(" from its centre (usual: 1.2).")


@pytest.mark.parametrize(
    ("images", "delta", "match"),
    [
        (image([0, 0, 0]), float("nan"), "`delta` is nan; it must be a finite number"),
        (image([0, 0, 0]), "1", "`delta` is '1'; it must be a finite number"),
        (
            image([0, 0, 0])[0],
            1.0,
            r"`images` is float32 of shape \(2, 3, 1\).*\(None, 2, 3, 1\).*`images\[None\]`",
        ),
        (np.zeros((1, 3, 3, 1)), 1.0, r"`images` is float64 of shape \(1, 3, 3, 1\)"),
        (np.zeros((1, *IMAGE_SHAPE), "int64"), 1.0, "`images` is int64; it must be uint8"),
        (np.full((1, *IMAGE_SHAPE), 255.0), 1.0, "`images` has pixels from 255 to 255; it must be floats"),
        (np.full((1, *IMAGE_SHAPE), np.nan), 1.0, "`images` holds NaN"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(model, images, delta, match):
    with pytest.raises(ValueError, match=match):
        model.explain(images, delta)
