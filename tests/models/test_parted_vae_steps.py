"""Training of PartedVAE without labels, or without anything else."""

import numpy as np
import pytest


def test_images_alone_train_as_a_dictionary_of_them_does(make_parted, compile_parted, images, assert_same_bits):
    models = [compile_parted(make_parted()) for _ in range(2)]
    fits = [
        model.fit(x, batch_size=7, epochs=2, shuffle=False, verbose=0).history
        for model, x in zip(models, (images, {"unlabeled": images}), strict=True)
    ]
    assert fits[0] == fits[1]
    assert set(fits[0]) == {"loss", *models[0].training_terms} - {"warm_up"}
    assert_same_bits(*models)
    assert int(models[0].optimizer.members["main"].iterations) == 2
    assert int(models[0].optimizer.members["supervised"].iterations) == 0
    validation = models[0].evaluate(images, verbose=0, return_dict=True)
    assert set(validation) == {"loss", *models[0].test_terms} - {"error"}
    for name, value in models[0].evaluation_terms(images, None).items():
        np.testing.assert_allclose(validation[name], np.mean(value), rtol=1e-4, err_msg=name)


def test_the_loss_of_validation_has_the_capacities_of_the_end(make_parted, compile_parted, images):
    model = compile_parted(make_parted(capacity_steps=1000, capacity_z=4.0, capacity_u=6.0, gamma_z=2.0, gamma_u=3.0))
    logs = model.evaluate(images, batch_size=2, verbose=0, return_dict=True)
    expected = (
        logs["reconstruction"]
        + 2.0 * abs(4.0 - logs["kl_z"])
        + 3.0 * abs(6.0 - logs["kl_u"])
        + float(model.gamma_h.numpy()) * logs["entropy_c"]
    )
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_labelled_images_alone_train_the_classifier(make_parted, compile_parted, parted_batch, train):
    model = compile_parted(make_parted())
    batch = {name: part for name, part in parted_batch(model).items() if name != "unlabeled"}
    first = train(model, batch, 1)
    assert set(first) == {"loss", "warm_up"}
    assert first["loss"] == pytest.approx(first["warm_up"], rel=1e-6)
    train(model, batch, 30)
    assert train(model, batch, 1)["loss"] < 0.5 * first["loss"]
    assert int(model.optimizer.members["main"].iterations) == 0
