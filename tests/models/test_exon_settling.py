"""The option of EXoN by which classes settle where the prior puts them."""

import keras
import numpy as np
import pytest
from contract import asking
from keras import ops

BETA = 0.3  # of `make_model`
FIRST = 8 * 8 * 3 / 16  # what the Gaussian KL weighs at first, of the small model's images


def kl_weight(model, batch, step=0):
    """What the Gaussian KL weighs in the objective of a step, computed from the terms."""
    terms = asking.to_numpy(model.step_losses(batch, model.draw_noise(batch, step), step))
    sums = {name: values.sum(dtype="float64") for name, values in terms.items()}
    others = (
        sums["reconstruction"]
        + BETA * (sums["kl_categorical"] + sums["cross_entropy"])
        + 5.0 * (sums["cross_entropy"] + sums["sci_labeled"])
        + 7.0 * sums["sci_unlabeled"]
    )
    return (sums["total"] - others) / sums["kl_gaussian"]


def test_the_gaussian_kl_weighs_less_by_the_same_factor_at_each_step_and_at_last_beta(
    make_model, compile_model, batch, train
):
    model = compile_model(make_model(settling_steps=4))
    weights = []
    for _ in range(6):
        weights.append(kl_weight(model, batch))
        train(model, batch, 1)
    expected = [FIRST ** (1 - share) * BETA**share for share in (0, 0.25, 0.5, 0.75, 1, 1)]
    assert weights == pytest.approx(expected, rel=1e-4)


def test_a_beta_above_the_first_weight_is_never_lowered(make_model, compile_model, batch):
    model = compile_model(make_model(settling_steps=4, beta=2 * FIRST))
    terms = asking.to_numpy(model.step_losses(batch, model.draw_noise(batch, 0), 0))
    plain = asking.to_numpy(make_model(beta=2 * FIRST).step_losses(batch, model.draw_noise(batch, 0), 0))
    assert terms["total"] == pytest.approx(plain["total"], rel=1e-6)


def test_without_it_nothing_is_added_to_the_model_or_its_steps(make_model, batch):
    model = make_model()
    assert len(model.variables) == len(make_model(settling_steps=0).variables)
    assert len(make_model(settling_steps=1).variables) == len(model.variables) + 1
    assert kl_weight(model, batch) == pytest.approx(BETA, rel=1e-4)


def test_what_has_settled_goes_on_after_another_compile_and_in_a_loaded_model(
    make_model, compile_model, batch, train, tmp_path
):
    model = compile_model(make_model(settling_steps=4))
    train(model, batch, 3)
    before = kl_weight(model, batch)
    assert before == pytest.approx(FIRST**0.25 * BETA**0.75, rel=1e-4)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    others = [loaded, make_model(settling_steps=4)]
    others[1].load_weights(tmp_path / "model.weights.h5")
    for other in (model, *others):
        compile_model(other)  # to fine-tune it, with a new optimizer
        assert kl_weight(other, batch) == pytest.approx(before, rel=1e-4)
        train(other, batch, 1)
        assert kl_weight(other, batch) == pytest.approx(BETA, rel=1e-4)


def test_weights_go_from_a_model_without_it_to_one_with_it_and_back(make_model, batch, tmp_path):
    for given, taken, weight in ((0, 4, FIRST), (4, 0, BETA)):
        make_model(settling_steps=given).save_weights(tmp_path / f"{given}.weights.h5")
        model = make_model(settling_steps=taken)
        model.load_weights(tmp_path / f"{given}.weights.h5")
        assert kl_weight(model, batch) == pytest.approx(weight, rel=1e-4)


def test_a_clone_settles_anew(make_model, compile_model, batch, train):
    model = compile_model(make_model(settling_steps=4))
    train(model, batch, 4)
    clone = keras.models.clone_model(model)
    assert kl_weight(clone, batch) == pytest.approx(FIRST, rel=1e-4)


def test_the_validation_loss_has_the_weights_that_training_ends_with(make_model, compile_model, batch):
    model, plain = compile_model(make_model(settling_steps=4)), compile_model(make_model())
    images, labels = batch["labeled"], np.argmax(batch["labels"], axis=1)
    losses = [each.evaluate(images, labels, verbose=0, return_dict=True)["loss"] for each in (model, plain)]
    assert losses[0] == losses[1]


def test_a_run_that_is_stopped_and_resumed_settles_as_one_that_is_not(
    make_model, compile_model, batch, train, assert_same_bits
):
    whole = compile_model(make_model(settling_steps=5))
    train(whole, batch, 4)
    first = compile_model(make_model(settling_steps=5))
    train(first, batch, 2)
    second = compile_model(make_model(settling_steps=5))
    for variable, value in zip(second.variables, first.variables, strict=True):
        variable.assign(ops.convert_to_numpy(value))
    for variable, value in zip(second.optimizer.variables, first.optimizer.variables, strict=True):
        variable.assign(ops.convert_to_numpy(value))
    train(second, batch, 2)
    assert_same_bits(second, whole)


def test_neither_option_can_be_set_later(make_model):
    model = make_model(settling_steps=4, consistency=0.4)
    for name in ("settling_steps", "consistency"):
        with pytest.raises(AttributeError):
            setattr(model, name, 0)


@pytest.mark.parametrize("value", [-1, 0.5, "many", None, True])
def test_the_number_of_steps_must_be_a_whole_number(make_model, value):
    with pytest.raises(ValueError, match=r"`settling_steps` is .*It must be an integer of at least 0"):
        make_model(settling_steps=value)
