"""Base of all models: the training step, its noise, its logs, and the methods for use."""

from collections.abc import Callable
from typing import Any, Self

import keras
from keras import ops

from keras_ssvae.backend import (
    WHOLE_BATCH,
    batch_mean,
    gradient_step,
    own_rows,
    private,
    replicas,
    run_step,
    several_steps,
)
from keras_ssvae.checks import is_integer
from keras_ssvae.distributions import Tensor, blocks
from keras_ssvae.models import fitting
from keras_ssvae.models.checked_data import ChecksData
from keras_ssvae.models.checks import check_not_of_training, check_optimizer, check_variables
from keras_ssvae.models.marks import marks, obeyed
from keras_ssvae.models.objective_weights import WeightedObjective
from keras_ssvae.models.passes import COUNTERS_PER_STEP, first_counter, passes
from keras_ssvae.models.probes import without_probes
from keras_ssvae.noise import Stream
from keras_ssvae.pixels import as_images, check_form, to_float, trusted


class BaseVAE(WeightedObjective, ChecksData):
    """Base of all models. Its training step is a pure function of weights, batch, noise and step.

    A subclass gives

    * `draw_noise`, `step_terms` and `objective`: the random numbers of a training step, its terms (one number per
      example), and the scalar that it minimises, computed from the reduced terms;
    * `evaluation_terms`, and the names of all terms in `training_terms` and `test_terms`;
    * `posterior`, `encode`, `decode` and `sample_latent`, with `image_shape` and the named parts of the `latents`. Each
      method that takes images first calls `as_images`;
    * `posterior_noise` and `log_weights`, from which `evaluation.nll` estimates the likelihood;
    * `check_batch`, `variable_groups`, and `get_config`.

    The base runs the step. It gives each replica its own rows of the batch, counts the passes of dropout (`passes`),
    casts the outputs of the networks to the precision of the losses, reduces the terms over the batch (`reduction`),
    differentiates the objective, and logs each term as its mean per example.

    Args:
        seed: Seed of all noise in training. The noise depends only on the seed and the step (`steps_taken`), so a
            resumed run continues as if it had never stopped.
        name: Model name.
    """

    image_shape: tuple[int, ...]  # (H, W, C)
    latents: dict[str, int]  # the parts of the decoder's input, side by side, with their dimensions
    training_terms: tuple[str, ...] = ()
    test_terms: tuple[str, ...] = ()
    reduction = "sum"  # how the objective reduces the terms over the batch: "sum" or "mean"
    forward_passes: dict[str, int] = {}  # how often a training step runs each network, for its dropout  # noqa: RUF012

    made_by: dict[str, str] = {}  # network -> the call that makes one, for error messages  # noqa: RUF012

    def __init__(self, seed: int = 0, name: str | None = None):
        # The networks follow the global dtype policy. Sums and logarithms of the losses are always float32.
        super().__init__(name=name, dtype="float32")
        if not is_integer(seed):
            raise ValueError(f"`seed` is {seed!r}; it must be an integer.")
        self.seed = int(seed)
        self._means = {
            name: keras.metrics.Mean(name) for name in dict.fromkeys(("loss", *self.training_terms, *self.test_terms))
        }

    def add_training_term(self, name: str) -> None:
        """Adds a training term that depends on an argument of the model."""
        self.training_terms = (*self.training_terms, name)
        self._means[name] = keras.metrics.Mean(name)

    # To be implemented by a subclass

    def draw_noise(self, batch: dict[str, Tensor], step: Tensor) -> dict[str, Tensor]:
        """Draws all random numbers of one training step. No other method of a training step draws any."""
        raise NotImplementedError

    def join_rows(
        self, batch: dict[str, Tensor], noise: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Computes what combines different rows of the batch, before each replica takes its own rows.

        In the result each entry of batch and noise that is not a scalar has one row for each image of one part.
        """
        return batch, noise

    def step_terms(self, batch: dict[str, Tensor], noise: dict[str, Tensor], step: Tensor) -> dict[str, Tensor]:
        """Named terms of a training step, one number per example (nats); a term of the whole batch is a scalar."""
        raise NotImplementedError

    def objective(self, terms: dict[str, Tensor], step: Tensor) -> Tensor:
        """The scalar that training minimises, from the terms reduced over the batch."""
        raise NotImplementedError

    def validation_objective(self, terms: dict[str, Tensor], step: Tensor) -> Tensor:
        """`val_loss`: the objective of the means of the evaluation terms; terms that do not exist there count as 0."""
        return self.objective({**dict.fromkeys(self.training_terms, 0.0), **terms}, step)

    def check_batch(self, images: dict[str, Tensor], labels: Tensor | None) -> None:
        """Raises ValueError for an unsuitable batch; runs once, when the step is traced."""
        raise NotImplementedError

    def evaluation_terms(self, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Named terms of validation, one number per example; the same images always give the same numbers."""
        raise NotImplementedError

    def posterior(self, images: Tensor) -> dict[str, Tensor]:
        """Parameters of `q(z | x)` by name, in inference mode, for images `(B, H, W, C)` in [-1, 1]."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> Tensor:
        """Latent variables `(B, d)` of images `(B, H, W, C)` in [-1, 1], without randomness."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Images `(B, H, W, C)` in [-1, 1] at latent variables `(B, d)`."""
        raise NotImplementedError

    def sample_latent(self, n: int, seed: int | Tensor) -> Tensor:
        """Draws latent variables `(n, d)` from the prior. A model with labels draws them for given classes instead."""
        raise NotImplementedError

    def posterior_noise(
        self, num_images: int, num_samples: int, stream: keras.random.SeedGenerator
    ) -> dict[str, Tensor]:
        """Draws the noise of `log_weights` for S samples of each of B images: each entry is `(B, S, ...)`."""
        raise NotImplementedError

    def log_weights(self, images: Tensor, noise: dict[str, Tensor]) -> Tensor:
        """Log importance weights `log p(x, z) - log q(z | x)` at S samples `z ~ q(z | x)` of each image.

        They are computed in inference mode and include all constants. Their exponentials estimate `p(x)` without bias.
        So the logarithm of the mean of the exponentials is a lower bound of `log p(x)`, which gets tighter with more
        samples. The mean of the log weights is the evidence lower bound (ELBO). Each image is encoded once.

        Args:
            images: `(B, H, W, C)` in [-1, 1].
            noise: Output of `posterior_noise`.

        Returns:
            `(B, S)`, in nats.
        """
        raise NotImplementedError

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """Trainable variables by group; a `GroupedOptimizer` has one optimizer for each group."""
        raise NotImplementedError

    # Keras

    @property
    def latent_dim(self) -> int:
        """Total dimensions of all parts of the latent variables."""
        return sum(self.latents.values())

    @property
    def normal_parts(self) -> tuple[str, ...]:
        """The parts of the latent variables whose prior is N(0, I) for every label."""
        return ()

    @property
    def steps_taken(self) -> keras.Variable | int:
        """Training steps so far, 0 before `compile`; unlike `iterations`, each step of an accumulation counts."""
        return private.steps_taken(self.optimizer) if self.compiled else 0

    @property
    def metrics(self) -> list[keras.Metric]:
        return list(self._means.values())

    def build(self, input_shape) -> None:
        # The networks are built already. Keras needs this flag to save and export the model.
        self.built = True

    def save(self, filepath, *args, **kwargs) -> None:
        """As `keras.Model.save`, in the `.keras` format."""
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(f"`filepath` is {str(filepath)!r}; its name must end in `.keras`, the only format here.")
        super().save(filepath, *args, **kwargs)

    def save_own_variables(self, store) -> None:
        super().save_own_variables(store)
        for name, values in marks(self).items():
            store[name] = values

    def load_own_variables(self, store) -> None:
        super().load_own_variables(obeyed(self, store))

    def compile(self, optimizer=None, **kwargs) -> None:
        """Compiles the model, as `keras.Model.compile`, without loss and metrics: the model has its own.

        A `GroupedOptimizer` receives the variable groups of this model. Call `compile` again after you change
        `trainable` of a network. You may pass the same optimizer if it was first built for all variables; it keeps the
        state of frozen variables.

        Raises:
            ValueError: For a loss or metrics; for networks with regularisers, which the objective does not contain; for
                networks in float16 without a `loss_scale_factor`; for an optimizer that was built for other variables.
        """
        ignored = [
            name for name in ("loss", "loss_weights", "metrics", "weighted_metrics") if kwargs.get(name) is not None
        ]
        if ignored:
            raise ValueError(f"`compile` was given {ignored}; this model has its own loss and metrics. Leave them out.")
        if self.losses:
            raise ValueError(
                "A network has a regulariser, which the objective does not hold. Give its optimizer a `weight_decay`."
            )
        optimizer = keras.optimizers.get(optimizer)
        check_optimizer(optimizer, [layer.compute_dtype for layer in private.flatten_layers(self)])
        if hasattr(optimizer, "bind"):
            optimizer.bind(self.variable_groups())
        optimizer.build(self.trainable_variables)
        check_variables(optimizer, self.trainable_variables)
        super().compile(optimizer, **kwargs)
        self._compiled_variables = list(map(id, self.trainable_variables))

    def compile_from_config(self, config) -> None:
        # Keras skips this for a model that overrides `compile`; the optimizer's state would then be lost.
        self.compile(**keras.saving.deserialize_keras_object(config))

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs) -> None:
        """Exports `call`, as `keras.Model.export`, also before the first call of the model.

        For a server use `keras_ssvae.export.export_saved_model`: it exports all methods and checks their inputs.
        """
        if input_signature is None:
            spec = keras.InputSpec(dtype="float32", shape=(None, *self.image_shape), name="images")
            input_signature = [spec]
        super().export(filepath, format, verbose, input_signature, **kwargs)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Nothing is left to build after `compile`. Keras would draw a batch here and average it over the workers of a
        # `MultiWorkerMirroredStrategy`, which fails for a dictionary.
        pass

    def fit(self, *args, **kwargs) -> keras.callbacks.History:
        """Trains the model, as `keras.Model.fit`, with additions for the batches of `data.semi_supervised`.

        These batches know the length of an epoch, so `steps_per_epoch` is optional. A second `fit` on the same batches
        continues where the first one ended, so two times two epochs equal four. In another process set the position
        with `start_step`.

        Callbacks that monitor `val_loss` or a term need no `mode`: smaller is better. Training stops at the first NaN
        or infinite term with an error that names the term and the step. With Keras' `TerminateOnNaN` it is a warning.

        Raises:
            ValueError: Before `compile`; if `trainable` has changed since `compile`; for weights of samples or classes;
                for endless data without a length; for a callback that sets a learning rate that is a schedule.
            FloatingPointError: If a term is not finite.
        """
        if not self.compiled:
            raise ValueError("This model has no optimizer. Call `compile` before `fit`.")
        if self._compiled_variables != list(map(id, self.trainable_variables)):
            raise ValueError("`trainable` of a network has changed since `compile`. Call `compile` again before `fit`.")
        with fitting.prepared(self, *args, **kwargs) as arguments:
            return super().fit(**arguments)

    def _get_metrics_result_or_logs(self, logs):
        # Means over the epoch. Keras reports only the last step's logs if some steps lack terms (alternating batches).
        means = {name: mean.result() for name, mean in self._means.items() if ops.convert_to_numpy(mean.count) > 0}
        if means and "loss" not in means:  # of validation
            means = {"loss": self.validation_objective(means, self.steps_taken), **means}
        means = {name: float(ops.convert_to_numpy(value)) for name, value in means.items()}
        return {**means, **{name: value for name, value in (logs or {}).items() if name not in self._means}}

    def make_train_function(self, force=False) -> None:
        if self.train_function is None or force:
            super().make_train_function(force)
            self.train_function = several_steps(self, self.train_function)

    def train_step(self, *args) -> Any:
        return run_step(self, self._train_on, *args)

    def test_step(self, *args) -> Any:
        return run_step(self, self._test_on, *args)

    def get_config(self) -> dict[str, Any]:
        return {**self.weights_config(), "seed": self.seed, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None) -> Self:
        objects = {
            name: keras.saving.deserialize_keras_object(value, custom_objects)
            for name, value in config.items()
            if isinstance(value, dict)
        }
        with without_probes():
            return cls(**{**config, **objects})

    # The training step

    def step_losses(self, batch: dict[str, Tensor], noise: dict[str, Tensor], step: Tensor) -> dict[str, Tensor]:
        """Named terms of a step with the given noise, one number per example (nats), and `total`, the objective.

        It is a pure function of the weights and its arguments. Under a `tf.distribute` strategy the terms are those of
        this replica's rows.
        """
        return self.with_total(*self.own_part(batch, noise), step, self.step_terms, self.objective)

    def replay_step(self, batch: dict[str, Tensor], noise: dict[str, Tensor]) -> dict[str, Tensor]:
        """One training step with the given noise: differentiates, applies the optimizer, returns `step_losses`."""
        # As a tensor: on JAX a variable of the optimizer has no value while the losses are differentiated.
        step = ops.convert_to_tensor(self.steps_taken)
        return gradient_step(self, lambda: self.step_losses(batch, noise, step))

    def own_part(
        self, batch: dict[str, Tensor], noise: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """This replica's rows of a batch, and of its noise, that every replica holds; scalars stay as they are."""
        own_batch, own_noise = (
            {name: own_rows(value) if len(getattr(value, "shape", ())) else value for name, value in values.items()}
            for values in self.join_rows(batch, noise)
        )
        return own_batch, own_noise

    def with_total(
        self,
        batch: dict[str, Tensor],
        noise: dict[str, Tensor],
        step: Tensor,
        terms: Callable[..., dict[str, Tensor]],
        objective: Callable[[dict[str, Tensor], Tensor], Tensor],
    ) -> dict[str, Tensor]:
        """The terms, and `total`, the objective of the reduced terms."""
        given = terms(batch, noise, step)
        return {**given, "total": objective({name: self._reduced(term) for name, term in given.items()}, step)}

    def _reduced(self, term):
        if not len(term.shape):
            return term
        return ops.sum(term) if self.reduction == "sum" else batch_mean(term)

    def _train_on(self, data):
        images, labels = _unpack(data)
        self.check_batch(images, labels)
        images = images if isinstance(images, dict) else {"unlabeled": images}
        images = {name: part if name == WHOLE_BATCH else to_float(part) for name, part in images.items()}
        if replicas() > 1 and WHOLE_BATCH not in images:
            raise ValueError(
                "The batches are not those of `data.distribute`, and under a strategy each replica must see the whole "
                "of a batch. Train with `model.fit(data.distribute(batches, strategy), ...)`."
            )
        batch = images if labels is None else {**images, "labels": ops.cast(labels, "float32")}
        terms = self.replay_step(batch, self.draw_noise(batch, self.steps_taken))
        # The images of this replica. Terms of labelled images alone have fewer rows: `reconstruction` comes first.
        counted = next(terms[name] for name in ("reconstruction", *self.training_terms) if name in terms)
        num_images = ops.cast(ops.shape(counted)[0], "float32")
        loss = terms["total"] if self.reduction == "mean" else terms["total"] / num_images
        self._means["loss"].update_state(loss, sample_weight=num_images)
        return {"loss": self._means["loss"].result(), **self._report(terms, self.training_terms)}

    def _test_on(self, data):
        images, labels = _unpack(data)
        return self._report(self.evaluation_terms(images, labels), self.test_terms)

    def _report(self, terms, names):
        # A term with several numbers for each image, as `error_per_label`, is for reports and not logged.
        unknown = sorted({name for name, term in terms.items() if len(term.shape) < 2} - {*names, "total"})
        if unknown:
            raise ValueError(
                f"{type(self).__name__} computes the terms {unknown}, which it does not list. Add them to its class "
                "attributes `training_terms` and `test_terms`, where the names of all terms must be."
            )
        names = [name for name in names if name in terms]
        for name in names:
            self._means[name].update_state(terms[name])
        return {name: self._means[name].result() for name in names}

    # Noise

    def noise_stream(self, step: Tensor) -> Stream:
        """The stream of random numbers of this step."""
        return Stream(self.seed, first_counter(step))

    @staticmethod
    def dropout_counter(step: Tensor) -> Tensor:
        """The first counter of this step for dropout."""
        return first_counter(step) + COUNTERS_PER_STEP // 2

    def passes(self, dropout: Tensor, first: int = 0) -> Callable[[keras.Model, Tensor], Any]:
        """As `passes.passes`, for the networks that `forward_passes` names."""
        networks = {getattr(self, name): number for name, number in self.forward_passes.items()}
        return passes(networks, self.seed, dropout, first)

    # Use

    def check_images(self, name: str, images: Tensor) -> None:
        """Raises ValueError for images whose dtype or shape does not fit the networks."""
        check_form(name, images, self.image_shape, self._advice())

    def as_images(self, images: Tensor, name: str = "images") -> Tensor:
        """Checks images and returns them as float32 in [-1, 1]. Each method that takes images calls it first.

        `uint8` images are scaled. Images in range that look wrong cause only a warning, because a single correct image
        can look like that.

        Raises:
            ValueError: For another dtype or shape, no image, or pixels that are out of range.
        """
        check_not_of_training(name, images)
        images = as_images(name, images, self.image_shape, in_doubt="warn", advice=self._advice())
        if images.shape[0] == 0:
            raise ValueError(f"`{name}` has no image; it must be at least one.")
        return images

    def _advice(self):
        """Advice for images of another size, for an error message."""
        if not self.made_by:
            return ""
        arguments = ", ".join(f"`{name}=`" for name in self.made_by)
        made_by = "`, `".join(self.made_by.values())
        return f" For images of another shape give the model other networks, {arguments}: `{made_by}` make them."

    def generate(self, n: int, seed: int | Tensor) -> Tensor:
        """Images from the prior.

        Args:
            n: Number of images, B.
            seed: An integer; the same seed gives the same images.

        Returns:
            `(B, H, W, C)` in [-1, 1].
        """
        if not is_integer(n) or n < 0:
            raise ValueError(f"`n` is {n!r}; it must be the number of images, an integer of at least 0.")
        return self.decode(self.sample_latent(int(n), seed))

    def reconstruct(self, images: Tensor) -> Tensor:
        """`decode(encode(images))`."""
        return self.decode(self.encode(images))

    def interpolate(self, a: Tensor, b: Tensor, n: int = 10) -> Tensor:
        """Images on the straight line from `encode(a)` to `encode(b)`, both ends included.

        Args:
            a: Images `(B, H, W, C)`.
            b: As many images.
            n: Number of points on the line, at least 2.

        Returns:
            `(B, n, H, W, C)`.
        """
        a, b = self.as_images(a, "a"), self.as_images(b, "b")
        if is_integer(n) and n < 2:
            raise ValueError(f"`n` is {n}; a line has two ends, so it must be at least 2.")
        if not is_integer(n) and not ops.is_tensor(n):
            raise ValueError(f"`n` is {n!r}; it must be an integer of at least 2.")
        n = int(n) if is_integer(n) else n
        if None not in (a.shape[0], b.shape[0]) and a.shape[0] != b.shape[0]:
            raise ValueError(f"`a` has {a.shape[0]} images and `b` {b.shape[0]}; they must have the same number.")
        share = ops.cast(ops.arange(n), "float32")[None, :, None] / ops.cast(n - 1, "float32")
        with trusted():
            z = (1.0 - share) * self.encode(a)[:, None] + share * self.encode(b)[:, None]
        images = self.decode(ops.reshape(z, (-1, self.latent_dim)))
        return ops.reshape(images, (-1, n, *self.image_shape))

    def split_latent(self, z: Tensor) -> dict[str, Tensor]:
        """Splits latent variables `(..., d)` into their named parts, as `latents` defines them."""
        return dict(zip(self.latents, blocks(z, list(self.latents.values())), strict=True))


def _unpack(data):
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise ValueError("A batch holds sample weights; it must be images and labels, `(x, y)`, and nothing else.")
    return images, labels
