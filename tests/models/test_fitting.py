"""What `fit` watches: the terms of each step, in the order of the steps."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from keras_ssvae.models import VAE
from keras_ssvae.models.fitting import Watch
from keras_ssvae.optimizers import Adam


@pytest.mark.parametrize("each", [1, 3])
def test_of_steps_that_are_checked_at_a_time_the_first_is_named(each):
    model = VAE()
    model.compile(Adam(1e-3), steps_per_execution=each)
    watch = Watch(model, None)
    watch.on_epoch_begin(0)
    ends, logs = (each - 1, 2 * each - 1), {"reconstruction": float("nan")}
    with ThreadPoolExecutor() as threads:  # as Keras calls it on JAX; the second thread may be the faster one
        second = threads.submit(watch.on_train_batch_end, ends[1], logs)
        time.sleep(0.1)
        assert not second.done()
        first = threads.submit(watch.on_train_batch_end, ends[0], logs)
        for step, ended in ((each, first), (2 * each, second)):
            with pytest.raises(FloatingPointError, match=f"`reconstruction` is NaN at step {step}, so the training"):
                ended.result(timeout=10)
