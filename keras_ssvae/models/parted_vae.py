"""PartedVAE: semi-supervised disentanglement of class-related and class-independent factors (Hajimiri et al.)."""

import itertools
import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from keras_ssvae import losses
from keras_ssvae.distributions import Tensor, gaussian_kl, sample_gaussian
from keras_ssvae.models.base import SemiSupervisedVAE
from keras_ssvae.networks import parted
from keras_ssvae.training import gradient_step

TEMPERATURE = 0.67  # of the Gumbel-softmax
# The slope of the attention rises by this with every training step, already the first, from 1 to the last one, which
# inference has too.
_SLOPE_STEP, _LAST_SLOPE = 2e-4, 8.0


@keras.saving.register_keras_serializable("keras_ssvae")
class PartedVAE(SemiSupervisedVAE):
    """To be documented."""

    training_terms = ("warm_up", "reconstruction", "kl_z", "kl_u", "kl_c", "entropy_c", "overlap")
    test_terms = ("error", "reconstruction", "kl_z", "kl_u", "entropy_c")

    def __init__(
        self,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        num_classes: Sequence[int] = (10,),
        u_dims: Sequence[int] = (10,),
        z_dim: int = 6,
        class_priors: Sequence[Sequence[float]] | None = None,
        pixel_loss: str = "cross_entropy",
        gamma_z: float = 15.0,
        gamma_u: float = 15.0,
        gamma_c: float = 15.0,
        gamma_h: float = 30.0,
        gamma_bc: float = 30.0,
        tolerance: float = 0.15,
        capacity_z: float = 7.0,
        capacity_u: float = 7.0,
        capacity_steps: int = 100_000,
        seed: int = 0,
        name: str = "parted_vae",
    ):
        super().__init__(seed=seed, name=name)
        self.num_classes, self.u_dims, self.z_dim = tuple(num_classes), tuple(u_dims), z_dim
        self.latent_dim = z_dim + sum(self.u_dims)
        self.encoder = encoder or parted.mnist_encoder()
        self.decoder = decoder or parted.mnist_decoder(self.latent_dim)
        self.image_shape = tuple(self.encoder.input_shape[1:])
        if class_priors is None:
            class_priors = [np.full(k, 1 / k) for k in self.num_classes]
        self.class_priors = [np.asarray(each, "float32") for each in class_priors]
        self.pixel_loss = pixel_loss
        self.gamma_z, self.gamma_u, self.gamma_c = gamma_z, gamma_u, gamma_c
        self.gamma_h, self.gamma_bc, self.tolerance = gamma_h, gamma_bc, tolerance
        self.capacity_z, self.capacity_u, self.capacity_steps = capacity_z, capacity_u, capacity_steps
        self.z_mean = layers.Dense(z_dim, name="z_mean")
        self.z_logvar = layers.Dense(z_dim, name="z_logvar")
        self.c_logits = layers.Dense(sum(self.num_classes), name="c_logits")
        features = self.encoder.output_shape[-1]
        self.attention = [layers.Dense(features, name=f"attention_{i}") for i in range(len(self.num_classes))]
        self.u_mean = [layers.Dense(d, name=f"u_mean_{i}") for i, d in enumerate(self.u_dims)]
        self.u_logvar = [layers.Dense(d, name=f"u_logvar_{i}") for i, d in enumerate(self.u_dims)]
        for layer in (self.z_mean, self.z_logvar, self.c_logits, *self.u_mean, *self.u_logvar):
            layer.build((None, features))
        for layer, k in zip(self.attention, self.num_classes, strict=True):
            layer.build((None, k))
        self.u_prior_means = [
            self.add_weight(name=f"u_prior_mean_{i}", shape=(k, d), initializer="random_normal")
            for i, (k, d) in enumerate(zip(self.num_classes, self.u_dims, strict=True))
        ]
        self.u_prior_free_logvars = [
            self.add_weight(name=f"u_prior_free_logvar_{i}", shape=(k, d), initializer="random_normal")
            for i, (k, d) in enumerate(zip(self.num_classes, self.u_dims, strict=True))
        ]
        self.build((None, *self.image_shape))

    def build(self, input_shape):
        self.built = True

    def variable_groups(self):
        supervised = [*self.encoder.trainable_variables, *self.c_logits.trainable_variables]
        return {"supervised": supervised, "main": self.trainable_variables}

    # Inference

    def _blocks(self, values: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        ends = itertools.accumulate(sizes)
        return [values[..., end - size : end] for size, end in zip(sizes, ends, strict=True)]

    def _log_c(self, h):
        return [ops.log_softmax(block) for block in self._blocks(ops.cast(self.c_logits(h), "float32"), self.num_classes)]

    def _u(self, h, c, slope):
        """Means and log-variances of u, given h and the (soft) one-hot c_i."""
        means, logvars = [], []
        for attention, mean, logvar, of_variable in zip(self.attention, self.u_mean, self.u_logvar, c, strict=True):
            attended = h * ops.sigmoid(slope * attention(of_variable))
            means.append(mean(attended))
            logvars.append(logvar(attended))
        return means, logvars

    def u_prior(self, i: int) -> tuple[Tensor, Tensor]:
        """Means and log-variances `(K_i, d_i)` of `p(u_i | c_i)`."""
        return self.u_prior_means[i] + 0.0, 2.0 * ops.tanh(self.u_prior_free_logvars[i]) - 1.0

    def bhattacharyya(self, i: int) -> Tensor:
        """Bhattacharyya coefficients `(K_i, K_i)` of the components of `p(u_i | c_i)`."""
        mean, logvar = self.u_prior(i)
        variance = ops.exp(logvar)
        average = 0.5 * (variance[:, None] + variance[None])
        squares = ops.square(mean[:, None] - mean[None]) / average
        logs = ops.log(average) - 0.5 * (logvar[:, None] + logvar[None])
        return ops.exp(-ops.sum(squares / 8.0 + logs / 2.0, axis=-1))

    # Training

    def draw_noise(self, batch, step):
        seed, rows = self._noise_stream(step), ops.shape(batch["unlabeled"])[0]
        return {
            "uniform_c": keras.random.uniform((rows, sum(self.num_classes)), seed=seed),
            "epsilon_z": keras.random.normal((rows, self.z_dim), seed=seed),
            "epsilon_u": keras.random.normal((rows, sum(self.u_dims)), seed=seed),
        }

    def supervised_losses(self, batch):
        """Cross entropy of the labelled images, whose mean the supervised step minimises."""
        log_c = self._log_c(self.encoder(to_unit(batch["labeled"]), training=True))
        labels = self._blocks(batch["labels"], self.num_classes)
        terms = -sum(ops.sum(y * each, axis=-1) for y, each in zip(labels, log_c, strict=True))
        return {"warm_up": terms, "total": ops.mean(terms)}

    def step_losses(self, batch, noise, step):
        images = to_unit(batch["unlabeled"])
        slope = ops.minimum(1.0 + _SLOPE_STEP * (ops.cast(step, "float32") + 1.0), _LAST_SLOPE)
        h = self.encoder(images, training=True)
        log_c = self._log_c(h)
        gumbel = -ops.log(-ops.log(noise["uniform_c"] + 1e-12) + 1e-12)
        c = [
            ops.softmax((each + g) / TEMPERATURE)
            for each, g in zip(log_c, self._blocks(gumbel, self.num_classes), strict=True)
        ]
        z_mean, z_logvar = self.z_mean(h), self.z_logvar(h)
        u_means, u_logvars = self._u(h, c, slope)
        z = sample_gaussian(z_mean, z_logvar, noise["epsilon_z"])
        u = sample_gaussian(ops.concatenate(u_means, -1), ops.concatenate(u_logvars, -1), noise["epsilon_u"])
        logits = ops.cast(self.decoder(ops.concatenate([z, u], axis=-1), training=True), "float32")
        kl_u, kl_c, entropy_c, overlap = 0.0, 0.0, 0.0, 0.0
        for i, each in enumerate(log_c):
            prior_mean, prior_logvar = self.u_prior(i)
            probs = ops.exp(each)
            kls = gaussian_kl(u_means[i][:, None], u_logvars[i][:, None], prior_mean, ops.exp(prior_logvar))
            kl_u += ops.sum(probs * kls, axis=-1)
            aggregate = ops.mean(probs, axis=0)
            kl_c += ops.sum(aggregate * (ops.log(aggregate) - ops.log(self.class_priors[i])))
            entropy_c += -ops.sum(probs * each, axis=-1)
            excess = ops.maximum(self.bhattacharyya(i) - self.tolerance, 0.0)
            overlap += ops.sum(ops.tril(excess, -1))
        terms = {
            "reconstruction": self._pixel_loss(images, logits),
            "kl_z": gaussian_kl(z_mean, z_logvar, 0.0, ops.ones(())),
            "kl_u": kl_u,
            "kl_c": kl_c,
            "entropy_c": entropy_c,
            "overlap": overlap,
        }
        share = ops.minimum((ops.cast(step, "float32") + 1.0) / self.capacity_steps, 1.0)
        means = {name: ops.mean(term) for name, term in terms.items()}
        terms["total"] = (
            means["reconstruction"]
            + self.gamma_z * ops.abs(self.capacity_z * share - means["kl_z"])
            + self.gamma_u * ops.abs(self.capacity_u * share - means["kl_u"])
            + self.gamma_c * kl_c
            + self.gamma_h * means["entropy_c"]
            + self.gamma_bc * overlap
        )
        return terms

    def _pixel_loss(self, images, logits):
        if self.pixel_loss == "cross_entropy":
            each = ops.softplus(logits) - images * logits
        else:
            each = ops.abs(images - ops.sigmoid(logits))
        return ops.sum(each, axis=(1, 2, 3))

    def replay_step(self, batch, noise):
        step = ops.convert_to_tensor(self.optimizer.iterations)
        warm_up = gradient_step(self, lambda: self.supervised_losses(batch), "supervised")
        terms = gradient_step(self, lambda: self.step_losses(batch, noise, step), "main")
        self.optimizer.iterations.assign_add(1)
        return {**terms, "warm_up": warm_up["warm_up"]}


def to_unit(images):
    return 0.5 * (images + 1.0)
