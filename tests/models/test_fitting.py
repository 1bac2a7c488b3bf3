"""What `fit` watches: the terms of each step, all of them, in the order of the steps."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
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


class Forgetful(VAE):
    """Computes a term that it does not list."""

    def step_terms(self, batch, noise, step):
        return {**super().step_terms(batch, noise, step), "extra": 0.0 * noise["epsilon"][:, 0]}

    def evaluation_terms(self, images, labels):
        terms = super().evaluation_terms(images, labels)
        return {**terms, "extra": 0.0 * terms["kl"]}


def test_a_term_that_is_not_listed_is_an_error_and_not_lost():
    model = Forgetful()
    model.compile(Adam(1e-3))
    images = np.full((4, 28, 28, 1), -1.0, "float32")
    images[0] = 1.0
    for ask in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=r"Forgetful computes the terms \['extra'\], which it does not list"):
            ask(images, verbose=0)
