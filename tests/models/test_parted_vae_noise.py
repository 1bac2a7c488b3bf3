"""The noise of PartedVAE's training step, dropout included: a function of the seed and the step."""

import numpy as np
from keras import ops


def to_numpy(tensors):
    return {name: ops.convert_to_numpy(value) for name, value in tensors.items()}


def test_noise_is_a_function_of_seed_and_step_only(make_parted, compile_parted, parted_batch, train):
    model = make_parted(seed=4)
    batch = parted_batch(model)
    first = to_numpy(model.draw_noise(batch, 2))
    other = make_parted(seed=4, weights_seed=1)
    train(compile_parted(other), batch, 3)
    again = to_numpy(other.draw_noise(batch, ops.convert_to_tensor(2, "int32")))
    assert set(again) == set(first)
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)
    assert {name: value.shape for name, value in first.items()} == {
        "uniform_c": (6, 3),
        "epsilon_z": (6, 2),
        "epsilon_u": (6, 2),
        "dropout": (),
    }


def test_noise_of_other_steps_and_seeds_shares_no_number(make_parted, parted_batch):
    models = [make_parted(seed=seed) for seed in (0, 1)]
    draws = [to_numpy(model.draw_noise(parted_batch(model), step)) for model in models for step in (0, 1, 2)]
    for name in ("uniform_c", "epsilon_z", "epsilon_u"):
        numbers = np.concatenate([np.ravel(noise[name]) for noise in draws])
        assert len(np.unique(numbers)) == len(numbers), name
    normal = [np.ravel(noise[name]) for noise in draws for name in ("epsilon_z", "epsilon_u")]
    assert len(np.unique(normal)) == np.size(normal)
    assert len({int(noise["dropout"]) for noise in draws}) == 3


def test_each_pass_drops_out_by_the_step_and_in_its_own_way(make_parted, parted_batch, monkeypatch):
    """The labelled images and the unlabelled ones are the same here, so that only dropout tells them apart."""
    model = make_parted(dropout=0.5)
    labels = np.eye(3, dtype="float32")[[0, 1, 2, 0, 1, 2]]
    batch = parted_batch(model)
    batch |= {"labeled": batch["unlabeled"], "labels": labels}
    noise = model.draw_noise(batch, 0)
    masks, log_c = [], model.heads.log_c

    def record(h):
        masks.append(ops.convert_to_numpy(h) == 0)
        return log_c(h)

    monkeypatch.setattr(model.heads, "log_c", record)
    for step in (0, 1, 0):
        given = {**noise, "dropout": model.draw_noise(batch, step)["dropout"]}
        model.supervised_losses(batch, given)
        model.step_losses(batch, given, 0)
    assert [mask.shape for mask in masks] == [(6, 8)] * 6
    np.testing.assert_array_equal(masks[:2], masks[4:])
    assert len({mask.tobytes() for mask in masks[:4]}) == 4
    assert all(0.2 < mask.mean() < 0.8 for mask in masks)
