"""Base of M2, M1+M2 and CVAE: encoder and decoder both see the label."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssvae.backend import argmax
from keras_ssvae.checks import check_whole_number
from keras_ssvae.distributions import (
    Tensor,
    as_floatx,
    gaussian_kl,
    gaussian_log_prob,
    of_components,
    sample_gaussian,
    sample_gumbel,
)
from keras_ssvae.likelihoods import Bernoulli, Likelihood, to_unit
from keras_ssvae.models import probes
from keras_ssvae.models.base import BaseVAE
from keras_ssvae.models.checks import check_network
from keras_ssvae.models.importance import log_likelihood
from keras_ssvae.models.labels import ClassifierMixin, Labels
from keras_ssvae.models.passes import in_use
from keras_ssvae.models.sampling import binary_images, check_likelihood
from keras_ssvae.noise import Stream, normal
from keras_ssvae.pixels import as_array


class ConditionalVAE(ClassifierMixin, BaseVAE):
    """Base of models with `q(z | x, y) = N(mu(x, y), diag sigma^2(x, y))`, `p(x | y, z)` and `z ~ N(0, I)`.

    A subclass gives

    * `_makers`: the default networks, which are `encoder` of `[x, y]`, `decoder` of (z, y) and its own ones. `made_by`
      names all of them;
    * `_shapes` and `_kinds` of its own networks;
    * `_log_q`: the log-probabilities of the labels of x;
    * the training step, and `evaluation_terms`;
    * with another prior of z: `_terms_of_rows`, `sample_latent`, `_log_weights_of` and `normal_parts`, which are those
      of N(0, I) here.
    """

    reduction = "mean"

    def _set_likelihood(self, likelihood: Likelihood | None, binarize: bool) -> None:
        self.likelihood, self.binarize = Bernoulli() if likelihood is None else likelihood, binarize
        check_likelihood(self.likelihood, binarize)

    def _set_labels(self, num_classes, z_dim, class_priors, class_names):
        self.labels = Labels(check_whole_number("num_classes", num_classes, 2))
        self.class_names = class_names
        self.z_dim = check_whole_number("z_dim", z_dim, 1)
        self.latents = {"z": self.z_dim, "y": self.labels.width}
        self.class_priors = self.labels.check_probs("class_priors", class_priors)

    def _set_networks(self, given, shape):
        """Sets and checks the networks for x of this shape: the given ones, or else the defaults."""
        outputs = (*shape[:-1], shape[-1] * self.likelihood.outputs_per_value)
        makers = self._makers(shape, outputs)
        for name, make in makers.items():
            setattr(self, name, given[name] or make())
        reason = f"{self.labels.width} classes, {self.z_dim} dimensions of z and {self._seen(shape)}"
        kinds = self._kinds()
        for name, (takes, gives) in self._shapes(shape, outputs).items():
            check_network(name, getattr(self, name), takes, gives, reason, self.made_by[name])
            probes.probe(name, given[name], kinds.get(name, {}), unit_pixels=name != "decoder")

    def _makers(self, shape: tuple[int, ...], outputs: tuple[int, ...]) -> dict[str, Callable[[], keras.Model]]:
        """Name -> function that makes the default network, for x and decoder outputs of these shapes."""
        raise NotImplementedError

    def _shapes(self, shape: tuple[int, ...], outputs: tuple[int, ...]) -> dict[str, tuple[Any, Any]]:
        """Name -> the shapes of the inputs and outputs that the network must have."""
        return {
            "encoder": ([shape, (self.labels.width,)], [(None, self.z_dim)] * 2),
            "decoder": ((self.latent_dim,), (None, *outputs)),
        }

    def _kinds(self) -> dict[str, dict[int, str | None]]:
        """Name -> the kinds of the network's outputs, as `probes.probe` takes them."""
        return {"encoder": {1: probes.LOGVAR}, "decoder": {0: self.likelihood.takes}}

    def _seen(self, shape):
        return f"images {shape} of a {type(self.likelihood).__name__} likelihood"

    @property
    def normal_parts(self) -> tuple[str, ...]:
        return ("z",)

    # Hooks that M1M2 overrides

    def _drawn(self, images: Tensor, noise: dict[str, Tensor], part: str) -> Tensor:
        """The x of a training step, from the images of one part of the batch."""
        return binary_images(images, noise[f"uniform_{part}"]) if self.binarize else images

    def _observed(self, images: Tensor) -> Tensor:
        """The x of images, in use."""
        return ops.convert_to_tensor(images)

    def _inputs(self, x: Tensor) -> Tensor:
        """The form of x that the networks see."""
        return to_unit(x)

    # Terms

    def _noise_of_x(self, part, rows, seed):
        if not self.binarize:
            return {}
        return {f"uniform_{part}": keras.random.uniform((rows, *self.image_shape), seed=seed)}

    def _log_p_y(self):
        (probs,) = self.class_priors
        return as_floatx(np.log(probs / probs.sum()))

    def _with_all_labels(self, x, epsilon=None):
        """Repeats each x `(B, ...)` with each of the K labels, `B K` rows, with their noise, given as `(B, K, d)`."""
        rows, k = ops.shape(x)[0], self.labels.width
        pairs = ops.repeat(x, k, axis=0), ops.tile(ops.eye(k), (rows, 1))
        return pairs if epsilon is None else (*pairs, ops.reshape(epsilon, (rows * k, self.z_dim)))

    def _terms_of_rows(self, run, x, y, epsilon):
        """The terms of x with given labels y; `run` runs a network."""
        x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)  # Keras rejects an array beside a tensor
        mean, logvar = run(self.encoder, [self._inputs(x), y])
        z = sample_gaussian(mean, logvar, epsilon)
        outputs = run(self.decoder, ops.concatenate([z, y], axis=-1))
        return {
            "reconstruction": -self.likelihood.log_prob(x, outputs),
            "kl_z": gaussian_kl(mean, logvar, 0.0, ops.ones(())),
        }

    # Use: deterministic, tensors in, tensors out

    def call(self, images, training=False) -> dict[str, Tensor]:
        """Returns all outputs of inference: those of `posterior`, `latent` (see `encode`) and `reconstruction`."""
        x = self._observed(self.as_images(images))
        outputs = self._posterior(x)
        latent = self._most_probable(x, outputs["probs"])
        return {**outputs, "latent": latent, "reconstruction": self.decode(latent)}

    def _log_q(self, x: Tensor) -> Tensor:
        """`log q(y | x)`, `(B, K)`, in inference."""
        raise NotImplementedError

    def classify(self, images: Tensor) -> Tensor:
        """Class probabilities `q(y | x)`, `(B, K)`, of images `(B, H, W, C)` in [-1, 1]."""
        return ops.exp(self._log_q(self._observed(self.as_images(images))))

    def posterior(self, images: Tensor) -> dict[str, Tensor]:
        """`q(y, z | x)`: `probs` `(B, K)`, and for each label `z_mean` and `z_logvar`, `(B, K, d)`."""
        return self._posterior(self._observed(self.as_images(images)))

    def _posterior(self, x):
        mean, logvar = self._q_of_all_labels(x)
        return {"probs": ops.exp(self._log_q(x)), "z_mean": mean, "z_logvar": logvar}

    def _q_of_all_labels(self, x):
        """Mean and log-variance of `q(z | x, y)` for each label, each `(B, K, d)`."""
        x, y = self._with_all_labels(x)
        shape = (-1, self.labels.width, self.z_dim)
        return [ops.reshape(values, shape) for values in in_use(self.encoder, [self._inputs(x), y])]

    def encode(self, images: Tensor) -> Tensor:
        """Latent variables (z, y) `(B, d + K)`: the most probable label, one-hot, and the mean of z given it."""
        x = self._observed(self.as_images(images))
        return self._most_probable(x, self._log_q(x))

    def _most_probable(self, x, scores):
        y = ops.one_hot(argmax(scores), self.labels.width, dtype=scores.dtype)
        mean, _ = in_use(self.encoder, [self._inputs(x), y])
        return ops.concatenate([mean, y], axis=-1)

    def decode(self, z: Tensor) -> Tensor:
        """Images `(B, H, W, C)` in [-1, 1] at latent variables (z, y) `(B, d + K)`: the mean of the likelihood."""
        return self.likelihood.mean(self.decoder(as_array("z", z), training=False))

    def sample_latent(self, labels: Tensor, seed: int | Tensor, scale: float = 1.0) -> Tensor:
        """`z ~ N(0, I)` beside the given labels, one-hot, `(B, d + K)`."""
        z = scale * normal((ops.shape(labels)[0], self.z_dim), Stream(seed, 0))
        return ops.concatenate([z, ops.one_hot(labels, self.labels.width, dtype=z.dtype)], axis=-1)

    def posterior_noise(self, num_images, num_samples, stream) -> dict[str, Tensor]:
        samples = (num_images, num_samples)
        return {
            "gumbel": sample_gumbel((*samples, self.labels.width), seed=stream),
            "epsilon": keras.random.normal((*samples, self.z_dim), seed=stream),
        }

    def log_weights(self, images, noise) -> Tensor:
        """As `BaseVAE.log_weights`; the label is also sampled, from `q(y | x)`."""
        return self._log_weights_of(self._observed(self.as_images(images)), noise)

    def _log_weights_of(self, x, noise):
        log_q, q = self._log_q(x), self._q_of_all_labels(x)
        chosen = argmax(log_q[:, None] + noise["gumbel"])
        mean, logvar = (of_components(values, chosen) for values in q)
        z, y = sample_gaussian(mean, logvar, noise["epsilon"]), ops.one_hot(chosen, self.labels.width, dtype=mean.dtype)
        log_ratio = gaussian_log_prob(z, 0.0, ops.zeros((self.z_dim,))) - gaussian_log_prob(z, mean, logvar)
        log_ratio += ops.sum(y * (self._log_p_y() - log_q[:, None]), axis=-1)
        return log_likelihood(self.decoder, self.likelihood, x, ops.concatenate([z, y], axis=-1)) + log_ratio

    # Serialisation

    def get_config(self) -> dict[str, Any]:
        objects = (*self.made_by, "likelihood")
        return {
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in objects},
            "num_classes": self.num_classes,
            "z_dim": self.z_dim,
            "class_priors": [probs.tolist() for probs in self.class_priors],
            "binarize": self.binarize,
            "class_names": self.class_names,
            **super().get_config(),
        }
