"""What the systems share: the training step, its noise, and its report."""

import contextlib
import numbers
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

from keras_ssvae.backend import WHOLE_BATCH, gradient_step, private, replica, replicas, run_step, several_steps
from keras_ssvae.distributions import Tensor, blocks
from keras_ssvae.noise import Stream

# Random numbers are a function of (seed, step): each step owns this many counters, the first half of them for the
# noise of the model, the rest for the networks' dropout: up to `_COUNTERS_PER_PASS` layers in each forward pass.
_COUNTERS_PER_STEP = 1024
_COUNTERS_PER_PASS = 32


class SemiSupervisedVAE(keras.Model):
    """Base of the models: a training step that is a pure function of weights, batch, noise and step.

    A subclass gives `draw_noise`, `step_losses`, `evaluation_terms`, the names of the terms, the verbs and the shapes
    that they take. `train_step` draws the noise, differentiates the total and reports each term as its mean per
    example.

    Args:
        seed: Of all the noise that training draws. The noise depends on nothing else than the seed and the step
            (`optimizer.iterations`), so a resumed run continues as if it had never stopped.
        name: Model name.
    """

    image_shape: tuple[int, int, int]
    latent_dim: int
    num_classes: int | tuple[int, ...]  # of each image's label, or of each of its several labels
    training_terms: tuple[str, ...] = ()
    test_terms: tuple[str, ...] = ()
    total_is_mean = False  # over the batch; else it is a sum

    def __init__(self, seed: int = 0, name: str | None = None):
        # The networks follow the global dtype policy; sums and logarithms of the losses are float32 under any.
        super().__init__(name=name, dtype="float32")
        self.seed = seed
        self._means = {
            name: keras.metrics.Mean(name) for name in dict.fromkeys(("loss", *self.training_terms, *self.test_terms))
        }

    def draw_noise(self, batch: dict[str, Tensor], step: Tensor) -> dict[str, Tensor]:
        """Every random number of one training step. This is the only place that draws any."""
        raise NotImplementedError

    def step_losses(self, batch: dict[str, Tensor], noise: dict[str, Tensor], step: Tensor) -> dict[str, Tensor]:
        """The named terms, one number per example (nats), and `total`, the scalar that training minimises.

        A term of the whole batch is a scalar.
        """
        raise NotImplementedError

    def check_batch(self, images: dict[str, Tensor], labels: Tensor | None) -> None:
        """Raises ValueError for a batch that does not fit; runs once, when the step is traced."""
        raise NotImplementedError

    def evaluation_terms(self, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """The named figures of validation, one number per example, without randomness."""
        raise NotImplementedError

    def classify(self, images: Tensor) -> Tensor:
        """Class probabilities `(B, K)` of images `(B, H, W, C)` in [-1, 1]; of several labels side by side."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> Tensor:
        """Latent variables `(B, d)` of images `(B, H, W, C)` in [-1, 1], without randomness."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Images `(B, H, W, C)` in [-1, 1] at latent variables `(B, d)`."""
        raise NotImplementedError

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """The trainable variables by the optimizer that they belong to, when there are several."""
        raise NotImplementedError

    @property
    def metrics(self):
        return list(self._means.values())

    def compile(self, optimizer, **kwargs):
        """As `keras.Model.compile`; a `GroupedOptimizer` learns this model's groups of variables.

        Raises:
            ValueError: For a loss or metrics, which the model has of its own, and for networks with regularisers,
                which the objective does not hold.
        """
        ignored = [name for name in ("loss", "metrics", "weighted_metrics") if kwargs.get(name) is not None]
        if ignored:
            raise ValueError(f"`compile` was given {ignored}; this model has its own loss and metrics. Leave them out.")
        if self.losses:
            raise ValueError(
                "A network has a regulariser, which the objective does not hold. Give its optimizer a `weight_decay`."
            )
        if hasattr(optimizer, "bind"):
            optimizer.bind(self.variable_groups())
        super().compile(optimizer, **kwargs)
        self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config):
        # Keras skips this for models with a `compile` of their own, and the optimizer's state would be lost.
        self.compile(**keras.saving.deserialize_keras_object(config))

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # After `compile` nothing is left to build. Keras would draw a batch and average it over the workers of a
        # `MultiWorkerMirroredStrategy`, which fails for a dictionary.
        pass

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            super().make_train_function(force)
            self.train_function = several_steps(self, self.train_function)

    def train_step(self, *args):
        return run_step(self, self._train_on, *args)

    def test_step(self, *args):
        return run_step(self, self._test_on, *args)

    def _train_on(self, data):
        images, labels = _unpack(data)
        self.check_batch(images, labels)
        images = images if isinstance(images, dict) else {"unlabeled": images}
        if replicas() > 1 and WHOLE_BATCH not in images:
            raise ValueError(
                "The batches are not those of `data.distribute`, and under a strategy each replica must see the whole "
                "of a batch. Train with `model.fit(data.distribute(batches, strategy), ...)`."
            )
        batch = {**images, "labels": labels}
        terms = self.replay_step(batch, self.draw_noise(batch, self.optimizer.iterations))
        # A replica has its share of the batch in the terms.
        counted = next(terms[name] for name in (*self.test_terms, *self.training_terms) if name in terms)
        num_images = ops.cast(ops.shape(counted)[0], "float32")
        loss = terms["total"] if self.total_is_mean else terms["total"] / num_images
        self._means["loss"].update_state(loss, sample_weight=num_images)
        return {"loss": self._means["loss"].result(), **self._report(terms, self.training_terms)}

    def _test_on(self, data):
        images, labels = _unpack(data)
        return self._report(self.evaluation_terms(images, labels), self.test_terms)

    def replay_step(self, batch: dict[str, Tensor], noise: dict[str, Tensor]) -> dict[str, Tensor]:
        """One training step with the given noise: differentiates, applies the optimizer, returns `step_losses`."""
        # As a tensor: on JAX a variable of the optimizer has no value where the losses are differentiated.
        step = ops.convert_to_tensor(self.optimizer.iterations)
        return gradient_step(self, lambda: self.step_losses(batch, noise, step))

    def check_images(self, name: str, images: Tensor) -> None:
        """Raises ValueError for images that are not as the networks take them."""
        dtype, shape = keras.backend.standardize_dtype(images.dtype), tuple(images.shape)
        if dtype != "float32" or shape[1:] != self.image_shape:
            raise ValueError(
                f"`{name}` is {dtype} of shape {shape}; it must be float32 images in [-1, 1] of shape "
                f"{(None, *self.image_shape)}. `data.scale` converts uint8."
            )

    # Verbs of every system that encodes and decodes

    def reconstruct(self, images: Tensor) -> Tensor:
        """`decode(encode(images))`."""
        return self.decode(self.encode(images))

    def interpolate(self, a: Tensor, b: Tensor, n: int = 10) -> Tensor:
        """Images on the straight line from `encode(a)` to `encode(b)`, both ends included.

        Args:
            a: Images `(B, H, W, C)`.
            b: As many images.
            n: Points on the line, at least 2.

        Returns:
            `(B, n, H, W, C)`.
        """
        if isinstance(n, numbers.Integral) and n < 2:
            raise ValueError(f"`n` is {n}; a line has two ends, so it must be at least 2.")
        share = ops.cast(ops.arange(n), "float32")[None, :, None] / ops.cast(n - 1, "float32")
        z = (1.0 - share) * self.encode(a)[:, None] + share * self.encode(b)[:, None]
        images = self.decode(ops.reshape(z, (-1, self.latent_dim)))
        return ops.reshape(images, (-1, n, *self.image_shape))

    def predicted_labels(self, probs: Tensor) -> Tensor:
        """The most probable classes, integers `(B,)` or, of n labels, `(B, n)`, of what `classify` gives."""
        if isinstance(self.num_classes, int):
            return ops.argmax(probs, axis=-1)
        return ops.stack([ops.argmax(each, axis=-1) for each in blocks(probs, self.num_classes)], axis=-1)

    def error_percent(self, probs: Tensor, labels: Tensor) -> Tensor:
        """Of each image the share of its labels that `probs` of `classify` miss, 0 to 100: `(B,)`.

        `labels` are true classes, integers as `predicted_labels` gives them, or one-hot as `probs`.
        """
        wrong = self._wrong(probs, labels)
        return 100.0 * ops.mean(ops.reshape(wrong, (ops.shape(probs)[0], -1)), axis=-1)

    def error_terms(self, probs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """`error`, `error_percent` of each image; with several labels also `error_per_label`, 0 or 100, `(B, n)`."""
        terms = {"error": self.error_percent(probs, labels)}
        if not isinstance(self.num_classes, int):
            terms["error_per_label"] = 100.0 * self._wrong(probs, labels)
        return terms

    def _wrong(self, probs, labels):
        """0.0 or 1.0 for each label, in the shape of `predicted_labels`."""
        if len(labels.shape) == 2 and labels.shape[-1] == probs.shape[-1]:
            labels = self.predicted_labels(labels)
        predicted = self.predicted_labels(probs)
        wrong = ops.not_equal(predicted, ops.cast(ops.reshape(labels, ops.shape(predicted)), predicted.dtype))
        return ops.cast(wrong, "float32")

    def check_labels(self, labels: Tensor) -> Tensor:
        """`labels` of images to generate as a tensor of integers; raises ValueError where they cannot be such."""
        if not ops.is_tensor(labels):
            given, several = np.asarray(labels), not isinstance(self.num_classes, int)
            shaped = given.ndim == 1 + several and (not several or given.shape[1] == len(self.num_classes))
            whole = shaped and np.issubdtype(given.dtype, np.integer)
            if not whole or not ((given >= 0) & (given < np.asarray(self.num_classes))).all():
                what = f"a list of classes, integers from 0 to {np.asarray(self.num_classes) - 1}"
                if several:
                    what = f"for each image a list of {len(self.num_classes)} classes, below {self.num_classes}"
                raise ValueError(f"`labels` is {labels!r}; it must be {what}.")
        return ops.cast(ops.convert_to_tensor(labels), "int32")

    def _report(self, terms, names):
        names = [name for name in names if name in terms]
        for name in names:
            self._means[name].update_state(terms[name])
        return {name: self._means[name].result() for name in names}

    def _noise_stream(self, step: Tensor) -> Stream:
        """The step's own random numbers."""
        return Stream(self.seed, ops.cast(step, "int32") * _COUNTERS_PER_STEP)

    @staticmethod
    def _dropout_counter(step: Tensor) -> Tensor:
        """The first of the step's counters that are for dropout."""
        return ops.cast(step, "int32") * _COUNTERS_PER_STEP + _COUNTERS_PER_STEP // 2

    def _seed_dropout(self, network: keras.Model, first_counter: Tensor, pass_index: int) -> None:
        """Gives each dropout layer of `network` a stream of its own for forward pass `pass_index` of this step."""
        states = private.seed_states(network)
        if len(states) > _COUNTERS_PER_PASS:
            raise ValueError(
                f"`{network.name}` has {len(states)} layers that draw random numbers; "
                f"at most {_COUNTERS_PER_PASS} are supported."
            )
        # Replicas compute different images: they drop out differently.
        stream = Stream(self.seed + replica() * 2**20, first_counter + pass_index * _COUNTERS_PER_PASS)
        for state in states:
            state.assign(stream.next())


def _unpack(data):
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise ValueError("A batch holds sample weights; it must be images and labels, `(x, y)`, and nothing else.")
    return images, labels


@contextlib.contextmanager
def without_dropout(network: keras.Model) -> Iterator[None]:
    """While it is open, no layer of the network that draws random numbers at a `rate` drops anything."""
    draws = [layer for layer in private.flatten_layers(network) if getattr(layer, "seed_generator", None) is not None]
    rates = [(layer, layer.rate) for layer in draws if getattr(layer, "rate", 0)]
    for layer, _ in rates:
        layer.rate = 0.0
    try:
        yield
    finally:
        for layer, rate in rates:
            layer.rate = rate
