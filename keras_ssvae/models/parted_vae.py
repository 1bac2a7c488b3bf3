"""PartedVAE: separate latent variables for class-related and class-independent factors (Hajimiri et al.)."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssvae.backend import argmax, batch_mean, gradient_step
from keras_ssvae.checks import is_integer
from keras_ssvae.distributions import (
    Tensor,
    as_floatx,
    blocks,
    gaussian_kl,
    gaussian_log_prob,
    gumbel_of_uniform,
    log_probs,
    mixture_log_prob,
    sample_gaussian,
    sample_gumbel,
    sample_mixture,
)
from keras_ssvae.likelihoods import Bernoulli, Laplace, to_unit
from keras_ssvae.models import probes
from keras_ssvae.models.base import BaseVAE
from keras_ssvae.models.checks import check_as_many, check_network, check_parts, image_shape
from keras_ssvae.models.importance import log_likelihood
from keras_ssvae.models.labels import ClassifierMixin, Labels
from keras_ssvae.models.objective_weights import ObjectiveWeight
from keras_ssvae.networks import parted_vae
from keras_ssvae.noise import Stream, normal
from keras_ssvae.optimizers import GroupedOptimizer
from keras_ssvae.pixels import as_array
from keras_ssvae.priors import LearnedMixture, StandardNormal

_TEMPERATURE = 0.67  # of the Gumbel-softmax
_FIRST_SLOPE, _LAST_SLOPE = 1.0, 8.0  # of the attention; inference uses the last one
_LIKELIHOODS = {"cross_entropy": Bernoulli, "absolute_error": Laplace}  # by `pixel_loss`
_TINY = 1e-12  # keeps the logarithms of the Gumbel noise finite


@keras.saving.register_keras_serializable("keras_ssvae")
class PartedVAE(ClassifierMixin, BaseVAE):
    """Semi-supervised VAE that separates the factors related to each label (u) from the factors of all images (z).

    z holds what all classes share, such as the thickness of a stroke, and u what belongs to a class. So `transfer` can
    give an image the style of another one and keep its class.

    **Generation**: labels `c_i ~ p(c_i)`; class-related factors `u_i | c_i = k ~ N(m_ik, diag s_ik^2)` with learned
    means and variances; class-independent factors `z ~ N(0, I)`; the decoder gives `x | z, u`.

    **Inference**: an encoder computes features `h(x)`. From these follow `q(z | x)`, `q(c_i | x)` and
    `q(u_i | c_i, x)`. For u, the features are multiplied by an attention `sigmoid(s (W c + b))`, whose slope s rises
    from 1 to 8 during training. In training `c` is a Gumbel-softmax sample (temperature 0.67); in use it is the most
    probable class.

    **Objective**, minimised, (6) and A.5 of PartedVAE's paper. The terms are means over the batch:

        reconstruction + gamma_z |C_z - kl_z| + gamma_u |C_u - kl_u| + gamma_c kl_c + gamma_h entropy_c
            + gamma_bc overlap

    | PartedVAE's paper                     | code                                                                    |
    |---------------------------------------|-------------------------------------------------------------------------|
    | `h`                                   | `encoder`                                                               |
    | `q(c given x)`                        | `heads.log_c`; `probs` after the exponential                            |
    | `q(z given x)`                        | `heads.z`: `z_mean`, `z_logvar`                                         |
    | `a`, `q(u given c, x)`                | `heads.u`: `u_mean`, `u_logvar`                                         |
    | `p(x given c, u, z)`                  | `decoder`, of (z, u)                                                    |
    | `p(u given c)`                        | `u_priors`, one `priors.LearnedMixture` for each label                  |
    | `-log p(x given c, u, z)`             | `reconstruction`: `pixel_loss`, of pixels in [0, 1]                     |
    | `KL(q(z given x), p(z))`              | `kl_z`                                                                  |
    | `E KL(q(u given c, x), p(u given c))` | `kl_u`, u at the sampled c, the prior's c weighted by `q(c given x)`    |
    | `KL(q(c), p(c))`                      | `kl_c`; q(c) is the mean of the batch                                   |
    | `H(q(c given x))`                     | `entropy_c`                                                             |
    | `max(BC - delta, 0)`                  | `overlap`, each pair of components once; `tolerance` is delta           |
    | `C_z`, `C_u`                          | rise to `capacity_z`, `capacity_u` in `capacity_steps` steps            |

    A training step has two parts:

    1. The optimizer `supervised` minimises the cross entropy of the labelled images (`warm_up`). It trains the encoder
       and the logits of c. A batch without labelled images skips this part.
    2. The optimizer `main` minimises the objective of the unlabelled images. It trains everything. A batch without
       unlabelled images skips this part, so that only the classifier is trained.

    Where the released code differs from PartedVAE's paper, the model follows the code: (6) prints `KL - C` without the
    absolute value, and the log-variances of the components are `2 tanh(free) - 1`.

    **Batch**: `(x, y)`, as `data.semi_supervised` makes it. `x` is a dictionary of float images in [-1, 1] with the
    keys `labeled` and `unlabeled`; augmented images are ignored. `y` holds one-hot labels of the labelled part, those
    of several c_i side by side. A batch without labels is `{"unlabeled": images}`, or only the images.

    **Validation** data is `(images, labels)`. Callbacks monitor `val_error` (percent) or `val_loss`. The latter is the
    objective without `kl_c` and `overlap`, computed from the means over all validation images. It uses the final
    capacities, so that epochs are comparable. Smaller is better for both.

    Args:
        encoder: Keras model that maps images `(B, H, W, C)` with pixels in [0, 1] to features h `(B, F)`. Default:
            Table 3 of PartedVAE's paper.
        decoder: Keras model that maps (z, u) `(B, z_dim + sum(u_dims))` to logits of the pixels. Default: Table 3.
        num_classes: Number of values of the label c; for several labels a tuple of these numbers.
        u_dims: Dimensions of u; for several labels a tuple with those of each u_i.
        z_dim: Dimensions of z.
        class_priors: For each label the probabilities `p(c_i)` of its values, as `data.class_frequencies` gives them.
            They are used as given, without normalisation. Default: uniform.
        pixel_loss: `"cross_entropy"` of Bernoulli pixels, or `"absolute_error"`.
        gamma_z, gamma_u, gamma_c, gamma_h, gamma_bc: Weights of the terms. The defaults are those that PartedVAE's
            paper uses for MNIST (Table 6).
        tolerance: Bhattacharyya coefficient up to which two components of a prior may overlap.
        capacity_z, capacity_u: Final values (nats) of `C_z` and `C_u`, to which the objective draws `kl_z` and `kl_u`.
        capacity_steps: Training steps in which `C_z` and `C_u` rise from 0 to these values.
        slope_steps: Training steps in which the slope of the attention rises to 8, the value that inference uses.
        seed: Seed of the training noise. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.
        class_names: Names of the classes, which the served model returns; for several labels the names of each.
            Default: none.

    Raises:
        ValueError: If an argument is invalid or does not fit the others.

    Example:
        >>> model = PartedVAE()
        >>> optimizers = {name: Adam(1.5e-3, epsilon=1e-8, corrected_epsilon=True) for name in ("supervised", "main")}
        >>> model.compile(GroupedOptimizer(optimizers))
        >>> model.fit(batches, steps_per_epoch=938, epochs=60)
        >>> model.classify(images)

    Reference:
        [Hajimiri, Lotfi, Soleymani Baghshah: Semi-Supervised Disentanglement of Class-Related and Class-Independent
        Factors in VAE, 2021](https://arxiv.org/abs/2102.00892).
    """

    training_terms = ("warm_up", "reconstruction", "kl_z", "kl_u", "kl_c", "entropy_c", "overlap")
    test_terms = ("error", "reconstruction", "kl_z", "kl_u", "entropy_c")
    reduction = "mean"
    objective_weights = (
        "gamma_z",
        "gamma_u",
        "gamma_c",
        "gamma_h",
        "gamma_bc",
        "tolerance",
        "capacity_z",
        "capacity_u",
    )
    forward_passes = {"encoder": 1, "decoder": 1}  # of each of the two steps  # noqa: RUF012

    made_by = {  # noqa: RUF012
        "encoder": "networks.parted_vae.encoder(image_shape, filters)",
        "decoder": "networks.parted_vae.decoder(latent_dim, smallest, filters)",
    }

    def __init__(
        self,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        num_classes: int | Sequence[int] = 10,
        u_dims: int | Sequence[int] = 10,
        z_dim: int = 6,
        class_priors: Sequence[Sequence[float]] | None = None,
        pixel_loss: str = "cross_entropy",
        gamma_z: ObjectiveWeight = 15.0,
        gamma_u: ObjectiveWeight = 15.0,
        gamma_c: ObjectiveWeight = 15.0,
        gamma_h: ObjectiveWeight = 30.0,
        gamma_bc: ObjectiveWeight = 30.0,
        tolerance: ObjectiveWeight = 0.15,
        capacity_z: ObjectiveWeight = 7.0,
        capacity_u: ObjectiveWeight = 7.0,
        capacity_steps: int = 100_000,
        slope_steps: int = 35_000,
        seed: int = 0,
        name: str = "parted_vae",
        class_names: Sequence | None = None,
    ):
        super().__init__(seed=seed, name=name)
        self.labels = Labels(num_classes)  # type: ignore[arg-type]  # any sequence becomes a tuple
        self.class_names = class_names
        self._u_dims = tuple(u_dims) if isinstance(u_dims, Sequence | np.ndarray) else (u_dims,)
        self.z_dim, self.pixel_loss = z_dim, pixel_loss
        self.capacity_steps, self.slope_steps = capacity_steps, slope_steps
        self._check_sizes(class_priors)
        # Python integers: a file cannot hold those of NumPy.
        self._u_dims, self.z_dim = tuple(map(int, self._u_dims)), int(z_dim)
        self.capacity_steps, self.slope_steps = int(capacity_steps), int(slope_steps)
        self.gamma_z, self.gamma_u, self.gamma_c = gamma_z, gamma_u, gamma_c
        self.gamma_h, self.gamma_bc, self.tolerance = gamma_h, gamma_bc, tolerance
        self.capacity_z, self.capacity_u = capacity_z, capacity_u
        self.latents = {"z": self.z_dim, "u": sum(self._u_dims)}
        self.encoder = encoder or parted_vae.mnist_encoder()
        self.decoder = decoder or parted_vae.mnist_decoder(self.latent_dim)
        self.image_shape = image_shape("encoder", self.encoder)
        reason = f"images {self.image_shape} and {z_dim} dimensions of z and {self._u_dims} of u"
        features: Any = self.encoder.output_shape[-1] if isinstance(self.encoder.output_shape, tuple) else "features"
        check_network("encoder", self.encoder, self.image_shape, (None, features), reason, self.made_by["encoder"])
        shapes = (self.latent_dim,), (None, *self.image_shape)
        check_network("decoder", self.decoder, *shapes, reason, self.made_by["decoder"])
        self.likelihood = _LIKELIHOODS[pixel_loss]()
        probes.probe("encoder", encoder, {}, unit_pixels=True)
        probes.probe("decoder", decoder, {0: self.likelihood.takes})
        self.heads = parted_vae.Heads(features, self.labels.sizes, self._u_dims, z_dim, name="heads")
        self.u_priors = [LearnedMixture(*sizes) for sizes in zip(self.labels.sizes, self._u_dims, strict=True)]
        self.build((None, *self.image_shape))

    def _check_sizes(self, class_priors):
        sizes = {"num_classes": self.labels.sizes, "u_dims": self._u_dims, "z_dim": (self.z_dim,)}
        steps = {"capacity_steps": (self.capacity_steps,), "slope_steps": (self.slope_steps,)}
        for name, values in {**sizes, **steps}.items():
            least = 2 if name == "num_classes" else 1
            if not values or not all(is_integer(value) and value >= least for value in values):
                raise ValueError(f"`{name}` is {values}; it must be made of integers of at least {least}.")
        if len(self._u_dims) != len(self.labels.sizes):
            raise ValueError(
                f"`u_dims` is {self._u_dims}; it must have one entry for each label of `num_classes`, "
                f"{self.labels.sizes}."
            )
        if self.pixel_loss not in _LIKELIHOODS:
            raise ValueError(f'`pixel_loss` is {self.pixel_loss!r}; it must be "cross_entropy" or "absolute_error".')
        self.class_priors = self.labels.check_probs("class_priors", class_priors)

    def compile(self, optimizer=None, **kwargs) -> None:
        """Compiles the model, as `keras.Model.compile`.

        Args:
            optimizer: A `GroupedOptimizer` with the members `supervised` and `main`.
            **kwargs: As for `keras.Model.compile`, without loss and metrics: the model has its own.

        Raises:
            ValueError: For another optimizer, for a loss or metrics, and for networks with regularisers, which the
                objective does not contain.
        """
        if not isinstance(optimizer, GroupedOptimizer):
            raise ValueError(
                f"`optimizer` is {optimizer!r}; a step of {type(self).__name__} has two parts with an optimizer each, "
                'so it must be a `GroupedOptimizer({"supervised": ..., "main": ...})`.'
            )
        super().compile(optimizer, **kwargs)

    @property
    def normal_parts(self) -> tuple[str, ...]:
        return ("z",)

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """`supervised` (encoder and logits of c) and `main` (everything)."""
        supervised = [*self.encoder.trainable_variables, *self.heads.c_logits.trainable_variables]
        return {"supervised": supervised, "main": self.trainable_variables}

    # Training

    def check_batch(self, images, labels) -> None:
        check_parts(self, images, labels)

    def draw_noise(self, batch, step) -> dict[str, Tensor]:
        seed, rows = self.noise_stream(step), ops.shape(batch.get("unlabeled", batch.get("labeled")))[0]
        return {
            "uniform_c": keras.random.uniform((rows, self.labels.width), seed=seed),
            "epsilon_z": keras.random.normal((rows, self.z_dim), seed=seed),
            "epsilon_u": keras.random.normal((rows, sum(self._u_dims)), seed=seed),
            "dropout": self.dropout_counter(step),
        }

    def replay_step(self, batch, noise) -> dict[str, Tensor]:
        step = ops.convert_to_tensor(self.steps_taken)
        terms = {}
        if "labeled" in batch:
            terms = gradient_step(self, lambda: self.supervised_losses(batch, noise, step), "supervised")
        if "unlabeled" in batch:
            terms |= gradient_step(self, lambda: self.step_losses(batch, noise, step), "main")
        self.optimizer.iterations.assign_add(1)
        return terms

    def supervised_losses(
        self, batch: dict[str, Tensor], noise: dict[str, Tensor], step: Tensor = 0
    ) -> dict[str, Tensor]:
        """`warm_up`, the cross entropy of each labelled image (nats), and `total`, its mean over the batch."""
        own = self.own_part(batch, noise)
        return self.with_total(*own, step, self._supervised_terms, lambda terms, step: terms["warm_up"])

    def _supervised_terms(self, batch, noise, step):
        run = self.passes(noise["dropout"])
        log_c = self.heads.log_c(run(self.encoder, to_unit(batch["labeled"])))
        labels = self.labels.split(batch["labels"])
        return {"warm_up": -sum(ops.sum(y * log_c_i, axis=-1) for y, log_c_i in zip(labels, log_c, strict=True))}

    def step_terms(self, batch, noise, step) -> dict[str, Tensor]:
        run = self.passes(noise["dropout"], first=1)  # pass 0 is that of the supervised step
        x = batch["unlabeled"]
        h = run(self.encoder, to_unit(x))
        log_c, z = self.heads.log_c(h), self.heads.z(h)
        gumbel = gumbel_of_uniform(noise["uniform_c"], _TINY)
        perturbed = zip(log_c, self.labels.split(gumbel), strict=True)
        c = [ops.softmax((log_c_i + gumbel_i) / _TEMPERATURE) for log_c_i, gumbel_i in perturbed]
        u = self.heads.u(h, c, self._slope(step))
        sampled = [sample_gaussian(*z, noise["epsilon_z"]), sample_gaussian(*u, noise["epsilon_u"])]
        logits = run(self.decoder, ops.concatenate(sampled, axis=-1))
        # One row for each image, though all are the same, so that replicas share its gradient too.
        tolerance = self.weights_at(step).tolerance
        overlap = sum(prior.overlap(tolerance) for prior in self.u_priors)
        return {
            **self._terms(x, log_c, z, u, logits),
            "overlap": ops.broadcast_to(overlap, ops.shape(x)[:1]),
            "kl_c": self._kl_c(log_c),
        }

    def objective(self, terms, step) -> Tensor:
        """(6) of PartedVAE's paper, from the means of the terms over the batch."""
        weights, share = self.weights_at(step), ops.minimum(_taken(step) / self.capacity_steps, 1.0)
        return (
            terms["reconstruction"]
            + weights.gamma_z * ops.abs(weights.capacity_z * share - terms["kl_z"])
            + weights.gamma_u * ops.abs(weights.capacity_u * share - terms["kl_u"])
            + weights.gamma_c * terms["kl_c"]
            + weights.gamma_h * terms["entropy_c"]
            + weights.gamma_bc * terms["overlap"]
        )

    def validation_objective(self, terms, step) -> Tensor:
        return super().validation_objective(terms, ops.maximum(ops.cast(step, "int32"), self.capacity_steps))

    def _slope(self, step):
        """Slope of the attention at a training step."""
        rise = (_LAST_SLOPE - _FIRST_SLOPE) / self.slope_steps
        return ops.minimum(_FIRST_SLOPE + rise * _taken(step), _LAST_SLOPE)

    def _kl_c(self, log_c):
        """`KL(q(c) || p(c))`, where q(c) is the mean over the batch: a scalar."""
        divergence = 0.0
        for log_c_i, prior in zip(log_c, self.class_priors, strict=True):
            aggregate = batch_mean(ops.exp(log_c_i))
            divergence += ops.sum(aggregate * (log_probs(aggregate) - np.log(prior)))
        return divergence

    def _terms(self, images, log_c, z, u, logits):
        """The terms of each image; z and u are means and log-variances."""
        z_mean, z_logvar = z
        u_means, u_logvars = (blocks(values, self._u_dims) for values in u)
        parts = zip(self.u_priors, log_c, u_means, u_logvars, strict=True)
        return {
            "reconstruction": self.likelihood.reconstruction(images, logits),
            "kl_z": gaussian_kl(z_mean, z_logvar, 0.0, ops.ones(())),
            "kl_u": sum(prior.kl(ops.exp(log_c_i), mean, logvar) for prior, log_c_i, mean, logvar in parts),
            "entropy_c": -sum(ops.sum(ops.exp(log_c_i) * log_c_i, axis=-1) for log_c_i in log_c),
        }

    def evaluation_terms(self, images, labels) -> dict[str, Tensor]:
        images = self.as_images(images, "x")
        log_c, z, u = self._infer(images)
        terms = self._terms(images, log_c, z, u, self.decoder(ops.concatenate([z[0], u[0]], axis=-1), training=False))
        if labels is None:
            return terms
        return {**terms, **self.error_terms(ops.concatenate(log_c, axis=-1), labels)}

    # Use: deterministic, tensors in, tensors out

    def call(self, images, training=False) -> dict[str, Tensor]:
        """Returns all outputs of inference: those of `posterior`, `latent` (see `encode`) and `reconstruction`."""
        outputs = self.posterior(images)
        latent = _means(outputs)
        return {**outputs, "latent": latent, "reconstruction": self.decode(latent)}

    def posterior(self, images: Tensor) -> dict[str, Tensor]:
        """Parameters of the posterior, in a dictionary.

        Returns:
            `probs`, `q(c | x)` `(B, sum(num_classes))`; `z_mean` and `z_logvar` of `q(z | x)`; `u_mean` and `u_logvar`
            of `q(u | c, x)` at the most probable c.
        """
        log_c, z, u = self._infer(images)
        names = ("z_mean", "z_logvar", "u_mean", "u_logvar")
        return {"probs": ops.exp(ops.concatenate(log_c, axis=-1)), **dict(zip(names, (*z, *u), strict=True))}

    def _infer(self, images):
        """The `log q(c_i | x)` of each label, and means and log-variances of z and u."""
        h = self.encoder(to_unit(self.as_images(images)), training=False)
        log_c = self.heads.log_c(h)
        c = [ops.one_hot(argmax(log_c_i), log_c_i.shape[-1]) for log_c_i in log_c]
        return log_c, self.heads.z(h), self.heads.u(h, c, _LAST_SLOPE)

    def classify(self, images: Tensor) -> Tensor:
        """Class probabilities `q(c | x)`, `(B, K)`, of images `(B, H, W, C)` in [-1, 1]; several c_i side by side."""
        return self.posterior(images)["probs"]

    def encode(self, images: Tensor) -> Tensor:
        """Latent variables (z, u) `(B, d)`: the posterior means, for u at the most probable class."""
        return _means(self.posterior(images))

    def decode(self, z: Tensor) -> Tensor:
        """Images `(B, H, W, C)` in [-1, 1] at latent variables (z, u) `(B, d)`."""
        return self.likelihood.mean(self.decoder(as_array("z", z), training=False))

    def sample_latent(self, labels: Tensor, seed: int | Tensor, scale: float = 1.0) -> Tensor:
        """Draws `z ~ N(0, I)` and `u_i ~ p(u_i | c_i)` for the given classes: (z, u) `(B, d)`."""
        rows, stream = ops.shape(labels)[0], Stream(seed, 0)
        labels = ops.reshape(labels, (rows, len(self.labels.sizes)))
        parts = [scale * normal((rows, self.z_dim), stream)]
        for i, prior in enumerate(self.u_priors):
            parts.append(prior.draw(labels[:, i], scale * normal((rows, prior.latent_dim), stream)))
        return ops.concatenate(parts, axis=-1)

    def posterior_noise(self, num_images, num_samples, stream) -> dict[str, Tensor]:
        samples = (num_images, num_samples)
        return {
            "gumbel": sample_gumbel((*samples, self.labels.width), seed=stream),
            "epsilon_z": keras.random.normal((*samples, self.z_dim), seed=stream),
            "epsilon_u": keras.random.normal((*samples, sum(self._u_dims)), seed=stream),
        }

    def log_weights(self, images, noise) -> Tensor:
        images = self.as_images(images)
        # Samples u_i from the whole mixture q(u_i | x); its prior is the whole mixture: x depends on (z, u) alone.
        h = self.encoder(to_unit(images), training=False)
        mean, logvar = (values[:, None] for values in self.heads.z(h))
        z = sample_gaussian(mean, logvar, noise["epsilon_z"])
        parts = [z]
        log_ratio = StandardNormal(self.z_dim).log_prob(z) - gaussian_log_prob(z, mean, logvar)
        of_labels = zip(
            self._u_posteriors(h),
            self.labels.split(noise["gumbel"]),
            blocks(noise["epsilon_u"], self._u_dims),
            self.u_priors,
            self.class_priors,
            strict=True,
        )
        for (log_c, u_mean, u_logvar), gumbel, epsilon, prior, probs in of_labels:
            u = sample_mixture(log_c, u_mean, u_logvar, gumbel, epsilon)
            log_joint = prior.component_log_probs(u) + as_floatx(np.log(probs / probs.sum()))
            log_ratio += ops.logsumexp(log_joint, axis=-1) - mixture_log_prob(u, log_c, u_mean, u_logvar)
            parts.append(u)
        return log_likelihood(self.decoder, self.likelihood, images, ops.concatenate(parts, axis=-1)) + log_ratio

    def _u_posteriors(self, h):
        """Each mixture `q(u_i | x)`: log-weights `(B, K_i)`, means and log-variances `(B, K_i, d_i)` of its components.

        The heads see the k-th value of all labels in one row; a label with fewer values drops the surplus rows.
        """
        rows, most = ops.shape(h)[0], max(self.labels.sizes)
        c = [ops.tile(ops.eye(most, size), (rows, 1)) for size in self.labels.sizes]
        u = self.heads.u(ops.repeat(h, most, axis=0), c, _LAST_SLOPE)
        means, logvars = (blocks(ops.reshape(values, (-1, most, sum(self._u_dims))), self._u_dims) for values in u)
        of_values = zip(self.heads.log_c(h), means, logvars, self.labels.sizes, strict=True)
        return [(log_c, mean[:, :size], logvar[:, :size]) for log_c, mean, logvar, size in of_values]

    def transfer(self, images: Tensor, attributes: Tensor) -> Tensor:
        """Gives images the class-independent attributes of others: `decode(z(attributes), u(images))`, Figure 5.

        Args:
            images: `(B, H, W, C)` in [-1, 1]. They keep their c and u.
            attributes: As many images, which give z.

        Returns:
            `(B, H, W, C)`.
        """
        images, attributes = self.as_images(images), self.as_images(attributes, "attributes")
        check_as_many(images, "attributes", attributes)
        z, u = self.posterior(attributes)["z_mean"], self.posterior(images)["u_mean"]
        return self.decode(ops.concatenate([z, u], axis=-1))

    # Serialisation

    def get_config(self) -> dict[str, Any]:
        return {
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "num_classes": self.num_classes,
            "u_dims": self._u_dims,
            "z_dim": self.z_dim,
            "class_priors": [probs.tolist() for probs in self.class_priors],
            "pixel_loss": self.pixel_loss,
            "capacity_steps": self.capacity_steps,
            "slope_steps": self.slope_steps,
            "class_names": self.class_names,
            **super().get_config(),
        }


def _means(posterior):
    """(z, u) `(B, d)`: the posterior means."""
    return ops.concatenate([posterior["z_mean"], posterior["u_mean"]], axis=-1)


def _taken(step):
    """Steps taken, including the present one: slope and capacities rise before the first step."""
    return as_floatx(step) + 1.0
