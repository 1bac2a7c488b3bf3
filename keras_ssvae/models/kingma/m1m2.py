"""M1+M2: M2 on the latent variables of a trained M1 (Kingma et al., 2014)."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssvae.checks import is_integer
from keras_ssvae.distributions import Tensor, gaussian_log_prob, sample_gaussian
from keras_ssvae.likelihoods import HeteroscedasticGaussian
from keras_ssvae.models.importance import log_likelihood
from keras_ssvae.models.kingma.m1 import M1
from keras_ssvae.models.kingma.m2 import M2
from keras_ssvae.models.objective_weights import ObjectiveWeight
from keras_ssvae.networks import kingma
from keras_ssvae.pixels import trusted


@keras.saving.register_keras_serializable("keras_ssvae")
class M1M2(M2):
    """M1+M2, the stacked semi-supervised model: an `M2` of the latent variables of a trained, frozen `M1`.

    **Generation**: `y ~ p(y)`, `z_2 ~ N(0, I)`, `z_1 | y, z_2 ~ N(m(y, z_2), diag s^2(y, z_2))`. M1's decoder makes the
    image from z_1. Dimensions of z_1 that are not active have the prior `N(0, I)`, and are 0 when images are decoded.

    **Inference**: M1 gives `q(z_1 | image)`; then follow `q(y | z_1)` and `q(z_2 | z_1, y)`.

    **Objective**: that of `M2`, with `x = z_1`; it is a bound for z_1, not for the image. Each training step draws z_1
    of labelled and unlabelled images anew from M1's posterior; in use z_1 is the posterior mean.

    | paper of M1 and M2                      | code                                                                |
    |-----------------------------------------|---------------------------------------------------------------------|
    | `z_1`, `q(z_1 given x)`                 | `features(images)`, its means; `m1`                                 |
    | `z_2`                                   | the part `z` of the latent variables                                |
    | `q(y given z_1)`, `q(z_2 given z_1, y)` | `classifier`; `encoder`, of `[z_1, y]`                              |
    | `p(z_1 given y, z_2)`                   | `decoder`, of (z_2, y): first the means, then the log-variances     |
    | the rest                                | as in `M2`                                                          |

    All methods take and return images. Batches and validation are as in `M2`. M1 is saved with the model. It is frozen:
    its `trainable` is set to False here and at each `compile`.

    As in the released code, only the active dimensions of M1 are used. That code has one layer of 300 units in each
    network for 100 labels, and of 500 for more. The paper has 500, which is the default. M1 sees the images as they
    are; no binary images are drawn.

    Args:
        m1: A trained `M1`.
        encoder: Keras model that maps `[z_1, y]`, `(B, F)` and `(B, K)`, to `(mean, logvar)`, each `(B, d)`. Default: a
            softplus layer of 500 units.
        decoder: Keras model that maps (z_2, y), side by side `(B, d + K)`, to means and log-variances of z_1, side by
            side `(B, 2 F)`. Default: a softplus layer of 500 units.
        classifier: Keras model that maps z_1 `(B, F)` to logits `(B, K)`. Default: a softplus layer of 500 units.
        active: The F dimensions of M1 that are used, as `m1.active_dimensions(images)` gives them. Default: all.
        num_classes: Number K of classes.
        z_dim: Dimensions d of z_2.
        class_priors: Probabilities `p(y)` of the K classes, as `[probs]`: a list for the one label. Default: uniform.
        alpha: Weight of the cross entropy, as in `M2`.
        weight_prior: Weight of the prior of the network weights, without those of M1: 1 / N for N training images; 0
            leaves it out.
        seed: Seed of the training noise. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.
        class_names: Names of the classes, which the served model returns. Default: none.

    Raises:
        ValueError: If an argument is invalid or does not fit the others.

    Example:
        >>> m1 = keras.models.load_model("m1.keras")
        >>> model = M1M2(m1, active=m1.active_dimensions(unlabeled_images))
        >>> model.compile(Adam(3e-4, epsilon=1e-16, bias_correction=False))
        >>> model.fit(batches, steps_per_epoch=100, epochs=3000)
        >>> model.classify(images), model.generate([3, 7], seed=1)

    Reference:
        [Kingma, Rezende, Mohamed, Welling: Semi-supervised learning with deep generative models,
        2014](https://arxiv.org/abs/1406.5298).
    """

    made_by = {  # noqa: RUF012
        "encoder": "networks.kingma.m2_encoder((features,), num_classes, latent_dim)",
        "decoder": "networks.kingma.m2_decoder((2 * features,), num_classes, latent_dim)",
        "classifier": "networks.kingma.m2_classifier((features,), num_classes)",
    }

    def __init__(
        self,
        m1: M1,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        classifier: keras.Model | None = None,
        active: Sequence[int] | None = None,
        num_classes: int = kingma.NUM_CLASSES,
        z_dim: int = kingma.LATENT_DIM,
        class_priors: Sequence[Sequence[float]] | None = None,
        alpha: ObjectiveWeight = 0.1,
        weight_prior: ObjectiveWeight = 1 / 50_000,
        seed: int = 0,
        name: str = "m1m2",
        class_names: Sequence | None = None,
    ):
        super(M2, self).__init__(seed=seed, name=name)  # skips the constructor of M2, which makes networks for images
        if not isinstance(m1, M1):
            raise ValueError(f"`m1` is {m1!r}; it must be a trained `M1`, as `keras.models.load_model` gives it.")
        self.m1 = m1
        self.m1.trainable = False
        self.active = self._checked_active(active)
        self.likelihood, self.binarize = HeteroscedasticGaussian(), False
        self.alpha, self.weight_prior = alpha, weight_prior
        self._set_labels(num_classes, z_dim, class_priors, class_names)
        networks = {"encoder": encoder, "decoder": decoder, "classifier": classifier}
        self._set_networks(networks, (len(self.active),))
        self.image_shape = m1.image_shape
        self.build((None, *self.image_shape))

    def _checked_active(self, active):
        dimensions = self.m1.latent_dim
        if active is None:
            return tuple(range(dimensions))
        chosen = tuple(active) if np.iterable(active) else (None,)
        if (
            not all(is_integer(each) and 0 <= each < dimensions for each in chosen)
            or not chosen
            or list(chosen) != sorted({*chosen})
        ):
            raise ValueError(
                f"`active` is {active!r}; it must be numbers of M1's {dimensions} dimensions, counted from 0 and in "
                "ascending order, at least one. Where none is active, M1 has learned nothing yet: train it for longer."
            )
        return tuple(map(int, chosen))

    def compile(self, optimizer=None, **kwargs) -> None:
        self.m1.trainable = False  # `trainable = True` of the whole model reaches it
        super().compile(optimizer, **kwargs)

    def _seen(self, shape):
        return f"{shape[0]} features of `m1`"

    def _advice(self):
        return " The images are those of `m1`: for images of another shape train one on them."

    # x

    def features(self, images: Tensor) -> Tensor:
        """z_1 of images, `(B, F)`: the posterior means of the active dimensions of M1."""
        return self._observed(self.as_images(images))

    def _observed(self, images):
        return self._active_part(self._m1_posterior(images)["mean"])

    def _m1_posterior(self, images):
        with trusted():
            return self.m1.posterior(images)

    def _active_part(self, z):
        return z if len(self.active) == self.m1.latent_dim else ops.take(z, np.array(self.active), axis=-1)

    def _drawn(self, images, noise, part):
        mean, logvar = (self._active_part(values) for values in self._m1_posterior(images).values())
        return ops.stop_gradient(sample_gaussian(mean, logvar, noise[f"epsilon_m1_{part}"]))

    def _noise_of_x(self, part, rows, seed):
        return {f"epsilon_m1_{part}": keras.random.normal((rows, len(self.active)), seed=seed)}

    def _inputs(self, x):
        return x

    # Use

    def decode(self, z: Tensor) -> Tensor:
        """Images `(B, H, W, C)` in [-1, 1] at latent variables (z_2, y) `(B, d + K)`: M1 decodes the mean of z_1."""
        features = super().decode(z)
        if len(self.active) < self.m1.latent_dim:
            # Inactive dimensions take the last column, which is zeros.
            places = {dimension: place for place, dimension in enumerate(self.active)}
            columns = [places.get(dimension, len(self.active)) for dimension in range(self.m1.latent_dim)]
            padded = ops.concatenate([features, ops.zeros_like(features[:, :1])], axis=-1)
            features = ops.take(padded, np.array(columns), axis=-1)
        return self.m1.decode(features)

    def posterior_noise(self, num_images, num_samples, stream) -> dict[str, Tensor]:
        noise = super().posterior_noise(num_images, num_samples, stream)
        shape = (num_images, num_samples, self.m1.latent_dim)
        return {**noise, "epsilon_m1": keras.random.normal(shape, seed=stream)}

    def log_weights(self, images, noise) -> Tensor:
        """As `BaseVAE.log_weights`, for images: z_1, with all its dimensions, and the label are also sampled."""
        images = self.as_images(images)
        mean, logvar = (values[:, None] for values in self._m1_posterior(images).values())
        z = sample_gaussian(mean, logvar, noise["epsilon_m1"])
        # Each sample is an x of its own.
        x = ops.reshape(self._active_part(z), (-1, len(self.active)))
        noise_of_x = {name: ops.reshape(noise[name], (-1, 1, noise[name].shape[-1])) for name in ("gumbel", "epsilon")}
        log_joint = ops.reshape(self._log_weights_of(x, noise_of_x), ops.shape(z)[:2])
        others = [dimension for dimension in range(self.m1.latent_dim) if dimension not in self.active]
        if others:
            log_joint += gaussian_log_prob(ops.take(z, np.array(others), axis=-1), 0.0, ops.zeros((len(others),)))
        of_images = log_likelihood(self.m1.decoder, self.m1.likelihood, images, z)
        return of_images + log_joint - gaussian_log_prob(z, mean, logvar)

    # Serialisation

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["likelihood"], config["binarize"]
        m1 = keras.saving.serialize_keras_object(self.m1)
        if "compile_config" in m1:
            m1["compile_config"] = {}  # M1 trains no more, and its frozen variables would not fit its optimizer
        return {"m1": m1, "active": self.active, **config}
