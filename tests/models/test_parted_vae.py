"""What the verbs of PartedVAE give, and its groups of variables."""

import numpy as np
import pytest
from keras import ops

SEVERAL = [False, True]


@pytest.fixture(params=SEVERAL, ids=["one label", "several labels"])
def model(request, make_parted):
    return make_parted(several=request.param)


def to_numpy(tensors):
    return {name: ops.convert_to_numpy(value) for name, value in tensors.items()}


def sizes(model):
    return (model.num_classes,) if isinstance(model.num_classes, int) else model.num_classes


def test_encode_is_the_means_of_z_and_of_u_at_the_most_probable_class(model, images):
    outputs = to_numpy(model.posterior(images))
    u_dims = sum(prior.latent_dim for prior in model.u_priors)
    assert {name: value.shape for name, value in outputs.items()} == {
        "probs": (7, sum(sizes(model))),
        "z_mean": (7, 2),
        "z_logvar": (7, 2),
        "u_mean": (7, u_dims),
        "u_logvar": (7, u_dims),
    }
    z = ops.convert_to_numpy(model.encode(images))
    np.testing.assert_array_equal(z, np.concatenate([outputs["z_mean"], outputs["u_mean"]], axis=-1))
    assert z.shape == (7, model.latent_dim)


def test_reconstruct_decodes_what_encode_gives_to_pixels_between_minus_1_and_1(model, images):
    z = model.encode(images)
    decoded = ops.convert_to_numpy(model.decode(z))
    np.testing.assert_allclose(decoded, np.tanh(ops.convert_to_numpy(model.decoder(z)) / 2), atol=1e-6)
    np.testing.assert_array_equal(model.reconstruct(images), decoded)


def test_calling_the_model_gives_all_of_it(model, images):
    outputs = to_numpy(model(images))
    expected = {**model.posterior(images), "latent": model.encode(images), "reconstruction": model.reconstruct(images)}
    assert set(outputs) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(outputs[name], value, err_msg=name)


def test_transfer_keeps_the_class_related_part_and_takes_the_rest_of_the_other_image(model, images):
    a, b = images[:3], images[3:6]
    u, z = model.posterior(a)["u_mean"], model.posterior(b)["z_mean"]
    swapped = ops.convert_to_numpy(model.transfer(a, b))
    np.testing.assert_array_equal(swapped, model.decode(ops.concatenate([z, u], axis=-1)))
    np.testing.assert_array_equal(model.transfer(a, a), model.reconstruct(a))
    for other in (a, b):
        assert np.abs(swapped - ops.convert_to_numpy(model.reconstruct(other))).max() > 1e-2


def test_generate_draws_z_of_the_normal_prior_and_u_of_the_labels_components(make_parted, monkeypatch):
    model = make_parted(several=True)
    monkeypatch.setattr(model, "decode", ops.convert_to_numpy)
    labels = np.repeat([[0, 1], [2, 0]], 3000, axis=0)
    latent = model.generate(labels, seed=1)
    assert latent.shape == (6000, 5)
    components = [(np.zeros((2, 2)), np.ones((2, 2)))]  # of z, for both labels
    for prior, classes in zip(model.u_priors, labels[::3000].T, strict=True):
        components.append((prior.now().means[classes], prior.now().variances[classes]))
    means, variances = (np.concatenate(parts, axis=-1) for parts in zip(*components, strict=True))
    for drawn, mean, variance in zip(np.split(latent, 2), means, variances, strict=True):
        np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=4 * np.sqrt(variance / 3000).max())
        np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.12)  # 4 standard errors
        assert np.abs(np.corrcoef(drawn.T) - np.eye(5)).max() < 0.08


# Groups


def test_the_main_group_is_everything_and_the_supervised_one_leads_to_the_logits_of_c(model):
    groups = {name: {id(v) for v in group} for name, group in model.variable_groups().items()}
    assert groups["main"] == {id(v) for v in model.trainable_variables}
    expected = (*model.encoder.trainable_variables, *model.heads.c_logits.trainable_variables)
    assert groups["supervised"] == {id(v) for v in expected}
    # The components that are learned belong to the model.
    assert {id(prior.free_means) for prior in model.u_priors} <= groups["main"]
