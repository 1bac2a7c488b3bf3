"""The dropout of PartedVAE's training step."""

import numpy as np
from keras import ops


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
