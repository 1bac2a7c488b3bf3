"""`--data-parallel`: what several devices cannot share, and that a table asks for them once."""

import keras
import pytest

from keras_ssvae.runs import devices, errors


def settings(**changed):
    given = {"dataset": "cifar10", "labels": 4000, "batch_size": 128, "labeled_batch_size": 32, "validation": 5000}
    return {**given, "replicas": 8, **changed}


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"labels": 100}, "--labels 100 .* end with one of 4, .* multiple of 8"),
        ({"labeled_batch_size": 20}, "--labeled-batch-size is 20, .* multiple of 8"),
        ({"batch_size": 100}, "--batch-size less --labeled-batch-size is 68, .* multiple of 8"),
        ({"validation": 500}, "--validation is 500, .* multiple of 8"),
        ({"replicas": 32, "validation": 0}, "cifar10 has 10000 test images, .* multiple of 32"),
    ],
)
def test_what_the_devices_cannot_share_is_found_before_the_training(changed, match):
    devices.check(settings(), 10_000)
    devices.check(settings(**{**changed, "replicas": 1}), 10_000)
    with pytest.raises(errors.UserError, match=match):
        devices.check(settings(**changed), 10_000)


def test_all_batches_of_an_evaluation_can_be_shared():
    for replicas, images, batch in ((1, 10_000, 500), (8, 10_000, 400), (2, 360, 360), (16, 10_000, 400), (8, 0, 500)):
        assert devices.evaluation_batch(settings(replicas=replicas), images) == batch


def test_the_runs_of_a_table_share_one_strategy(monkeypatch):
    devices.start.cache_clear()
    made = []
    if keras.backend.backend() == "jax":
        monkeypatch.setattr(keras.distribution, "set_distribution", made.append)
    else:
        import tensorflow as tf

        strategy = tf.distribute.OneDeviceStrategy("CPU:0")
        monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: made.append(strategy) or strategy)
    assert devices.start(True) is devices.start(True)
    assert len(made) == devices.start(True).number == 1
    assert devices.start(False) == devices.Devices(1, None)
    devices.start.cache_clear()


def test_without_labels_the_whole_batch_is_shared():
    plain = {"dataset": "mnist", "batch_size": 100, "validation": 0, "replicas": 4}
    devices.check(plain, 10_000)
    with pytest.raises(errors.UserError, match=r"--batch-size is 100, .* multiple of 8"):
        devices.check({**plain, "replicas": 8}, 10_000)
