"""The divergence of each latent variable, and traversals at a fixed label, of the models that have them."""

import numpy as np
import pytest
from contract import asking, registry, small
from keras import ops

from keras_ssvae import evaluation, plots
from keras_ssvae.priors import GaussianMixture

IMAGES, LABELS = small.images(7), np.array([0, 1, 2, 0, 1, 2, 0])


def test_the_divergences_of_a_part_add_up_to_its_term():
    model = registry.nvae()
    terms = asking.to_numpy(model.evaluation_terms(IMAGES, LABELS))
    given = evaluation.kl_per_dimension(model, IMAGES)
    for part in ("z_c", "z_s"):
        np.testing.assert_allclose(given[part].sum(), terms[f"kl_{part[-1]}"].mean(), rtol=1e-5)


def test_a_class_without_an_image_and_a_prior_of_another_kind_are_sentences():
    model = registry.vae()
    with pytest.raises(ValueError, match=r"`labels` hold no image of the classes \[1\]"):
        evaluation.kl_per_dimension(model, IMAGES, 2 * (LABELS > 0))
    of_labels = registry.nvae()
    with pytest.raises(ValueError, match=r"`labels` hold no image of the classes \[2\]"):
        evaluation.kl_per_dimension(of_labels, IMAGES, LABELS % 2)
    with pytest.raises(ValueError, match="`labels` run from 1 to 3; with 3 classes they must be 0 to 2"):
        evaluation.kl_per_dimension(of_labels, IMAGES, LABELS + 1)
    mixture = registry.vae(prior=GaussianMixture([[-1.0, 0.0], [1.0, 0.0]], 1.0))
    with pytest.raises(ValueError, match="`model` is a VAE without latent variables whose prior"):
        evaluation.kl_per_dimension(mixture, IMAGES)
    with pytest.raises(ValueError, match="`kl` has the shapes"):
        plots.kl_per_dimension({"z": np.zeros((2, 2, 2))})


class Recording:
    """Remembers what a model decodes."""

    def __init__(self, model):
        self.model, self.points = model, []
        for name in ("labels", "latents", "normal_parts", "sample_latent", "coordinates", "num_classes"):
            setattr(self, name, getattr(model, name))

    def decode(self, z):
        self.points.append(ops.convert_to_numpy(z))
        return self.model.decode(z)


@pytest.mark.parametrize("name", ["N-VAE", "CVAE", "M2", "REVAE, one label"])
def test_a_traversal_moves_one_coordinate_from_the_centre_of_the_class(name):
    entries = {entry.name: entry for entry in registry.ENTRIES}
    if name not in entries:
        pytest.skip("it is a variant")
    recording = Recording(entries[name].build())
    model = recording.model
    for part in model.normal_parts:
        recording.points.clear()
        figure = plots.traversals(recording, [2, 0], part, deviations=(-3.0, 0.0, 3.0))
        assert len(figure.axes) == 2
        centres = ops.convert_to_numpy(model.sample_latent(ops.convert_to_tensor([2, 0]), 0, scale=0.0))
        points = np.concatenate(recording.points).reshape(2, -1, 3, model.latent_dim) - centres[:, None, None]
        for k, of_class in zip((2, 0), points, strict=True):
            places = model.coordinates(part, k)
            assert len(of_class) == len(places)
            for row, place in zip(of_class, places, strict=True):
                np.testing.assert_allclose(row, np.outer([-3, 0, 3], np.eye(model.latent_dim)[place]), atol=1e-6)


def test_the_coordinates_of_a_class_are_those_that_its_images_depend_on():
    model = registry.nvae()
    base = ops.convert_to_numpy(model.sample_latent(ops.convert_to_tensor([0, 1, 2]), 1))
    before = ops.convert_to_numpy(model.decode(base))
    for label in range(small.K):
        (place,) = model.coordinates("z_c", label)
        moved = base.copy()
        moved[:, place] += 2.0
        changed = np.abs(ops.convert_to_numpy(model.decode(moved)) - before).max(axis=(1, 2, 3)) > 1e-3
        np.testing.assert_array_equal(changed, np.arange(small.K) == label)
    with pytest.raises(ValueError, match=r"`part` is 'z'; it must be one of \['y', 'z_c', 'z_s'\]"):
        model.coordinates("z", 0)
    with pytest.raises(ValueError, match=r"`part` is 'y'; for this NVAE it must be one of \['z_c', 'z_s'\]"):
        plots.traversals(model, [0], "y")


def test_a_traversal_without_labels_moves_one_coordinate_from_the_origin():
    points, model = [], registry.beta_vae()

    class Watched:
        latents, normal_parts = model.latents, model.normal_parts

        def posterior(self, images):
            return model.posterior(images)

        def decode(self, z):
            points.append(ops.convert_to_numpy(z))
            return model.decode(z)

    (ax,) = plots.traversals(Watched(), None, deviations=(-3.0, 0.0, 3.0)).axes
    assert len(ax.get_yticks()) == small.D
    expected = [step * direction for direction in np.eye(small.D) for step in (-3, 0, 3)]
    np.testing.assert_allclose(np.concatenate(points), expected, atol=1e-6)
    with pytest.raises(ValueError, match="`labels` is None, but NVAE has classes"):
        plots.traversals(registry.nvae(), None)
    with pytest.raises(ValueError, match=r"`part` is 'u'; it must be one .* of \['z'\]"):
        plots.traversals(Watched(), None, "u")


def test_a_model_without_a_standard_normal_prior_has_no_traversals():
    with pytest.raises(ValueError, match=r"`plots.traversals` draws .* standard normal, and this HVAE has none"):
        plots.traversals(registry.hvae(), None)
    for deviations in ([0.0, np.nan], ["a", "b"], 3):
        with pytest.raises(ValueError, match=r"`deviations` is .*; it must be at least 2 finite numbers"):
            plots.traversals(registry.beta_vae(), None, deviations=deviations)


def test_panels_of_a_traversal_stand_in_rows():
    figure = plots.traversals(registry.nvae(), [0, 1, 2], "z_c", deviations=(-1.0, 1.0), columns=2)
    shown = [ax for ax in figure.axes if ax.get_title("left")]
    assert [ax.get_title("left") for ax in shown] == ["0", "1", "2"]
    left, lower = ({round(getattr(ax.get_position(), side), 2) for ax in shown} for side in ("x0", "y0"))
    assert (len(left), len(lower)) == (2, 2)


def test_the_share_of_the_variance_that_the_classes_explain():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [3000, 1000])
    means = np.array([[0.0, 1.0], [2.0, 1.0]])[labels]
    # Of the means it is 4 * 3/16; of each of the two variables the classes have the variance 1.
    share = evaluation.variance_share_of_classes(means + rng.standard_normal(means.shape), labels)
    np.testing.assert_allclose(share, 0.75 / 2.75, atol=0.02)
    assert evaluation.variance_share_of_classes(means, labels) == pytest.approx(1.0)
    assert evaluation.variance_share_of_classes([[1.0], [-1.0], [1.0], [-1.0]], [0, 0, 1, 1]) == 0.0
    assert evaluation.variance_share_of_classes([[1.0], [-1.0], [3.0]], [0, 0, 2]) == pytest.approx(6 / 8)
    for z, given in ((np.ones((3, 2)), [0, 1, 0]), (np.full((2, 1), np.nan), [0, 1]), ([1.0, 2.0], [0, 1])):
        with pytest.raises(ValueError, match="`z` has shape"):
            evaluation.variance_share_of_classes(z, given)
    with pytest.raises(ValueError, match="`labels`"):
        evaluation.variance_share_of_classes(means, labels[1:])
