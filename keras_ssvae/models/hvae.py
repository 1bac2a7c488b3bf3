"""VAE with two layers of latent variables and any prior: HVAE and HVP (Tomczak, Welling)."""

from typing import Any

import keras
from keras import ops

from keras_ssvae.checks import check_whole_number
from keras_ssvae.distributions import Tensor, gaussian_log_prob, sample_gaussian
from keras_ssvae.likelihoods import Likelihood, to_unit
from keras_ssvae.models import probes
from keras_ssvae.models.checks import image_shape
from keras_ssvae.models.importance import log_likelihood
from keras_ssvae.models.objective_weights import ObjectiveWeight
from keras_ssvae.models.passes import in_use
from keras_ssvae.models.unlabeled import UnlabeledVAE
from keras_ssvae.networks import hvae, vae
from keras_ssvae.noise import Stream, normal
from keras_ssvae.priors import Prior, StandardNormal

_NETWORKS = ("encoder", "encoder_z1", "prior_z1", "decoder")


@keras.saving.register_keras_serializable("keras_ssvae")
class HVAE(UnlabeledVAE):
    """Variational autoencoder without labels, with two layers of latent variables and a prior of your choice.

    **Generation**: `z2 ~ p(z2)`, the `prior`; `z1 | z2 ~ N(m(z2), diag s^2(z2))`, where a network gives m and s. The
    decoder gives, from z1 and z2, the parameters of the `likelihood`, from which x follows.

    **Inference**: `q(z2 | x) q(z1 | x, z2)`, both Gaussian.

    **Objective**, minimised: `reconstruction + beta (kl_z1 + kl_z2)`, in nats per image, as means over the batch. With
    beta 1 it is the negative evidence lower bound (ELBO).

    | VampPrior's paper                         | code                                                              |
    |-------------------------------------------|-------------------------------------------------------------------|
    | `q(z2 given x)`                           | `encoder`                                                         |
    | `q(z1 given x, z2)`                       | `encoder_z1`                                                      |
    | `p(z1 given z2)`                          | `prior_z1`                                                        |
    | `p(x given z1, z2)`                       | `decoder` and `likelihood`; the decoder takes z1, z2 side by side |
    | `p(z2)`                                   | `prior`                                                           |
    | HVP, `p(z2) = 1/K sum_k q(z2 given u_k)`  | `HVAE(prior=priors.VampPrior(K))`                                 |
    | `-log p(x given z1, z2)`                  | `reconstruction`, at one sample, with all constants               |
    | `log q(z1 given x, z2) - log p(z1 given z2)` | `kl_z1`, at the same sample                                    |
    | `log q(z2 given x) - log p(z2)`           | `kl_z2`, at the same sample                                       |
    | `beta`                                    | `beta`; the warm-up is `schedules.LinearWarmUp`                   |

    Clipping of pixels and log-variances, `binarize`, batches and validation are as in `VAE`. `encode` returns the mean
    of `q(z1 | x, z2)` at the mean of `q(z2 | x)`, and the latter mean. `posterior` returns the parameters of both
    distributions.

    Args:
        encoder: Keras model that maps images `(B, H, W, C)` with pixels in [0, 1] to `(mean, logvar)` of z2, each
            `(B, d2)`. Default: two gated layers of 300 units.
        encoder_z1: Keras model that maps `[images, z2]` to `(mean, logvar)` of z1, each `(B, d1)`. Default: a gated
            layer of 300 units for each input, and one for both.
        prior_z1: Keras model that maps z2 to `(mean, logvar)` of z1. Default: two gated layers of 300 units.
        decoder: Keras model that maps (z1, z2), side by side `(B, d1 + d2)`, to the outputs that the likelihood takes,
            `(B, H, W, C)`. Default: a gated layer of 300 units for each part, and one for both.
        prior: A `priors.Prior` of z2. Default: the standard normal in 40 dimensions.
        z1_dim: Dimensions d1 of z1.
        likelihood: One of `likelihoods`. Default: `Bernoulli(1e-5)`.
        beta: Weight of both divergences.
        binarize: Whether each training step draws binary images; only for a Bernoulli likelihood.
        seed: Seed of the training noise. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.

    Raises:
        ValueError: If an argument is invalid or does not fit the others.

    Example:
        >>> model = HVAE(prior=priors.VampPrior(500), beta=LinearWarmUp(1.0, epochs=100, steps_per_epoch=500))
        >>> model.compile(NormalizedAdam(5e-4, epsilon=1e-8))
        >>> model.fit(batches, steps_per_epoch=500, epochs=2000, validation_data=(binary_images,))
        >>> model.split_latent(model.encode(images))["z1"]

    Reference:
        [Tomczak, Welling: VAE with a VampPrior, 2018](https://arxiv.org/abs/1705.07120), Section 4.
    """

    training_terms = ("reconstruction", "kl_z1", "kl_z2")
    test_terms = ("loss", "reconstruction", "kl_z1", "kl_z2")
    forward_passes = dict.fromkeys(_NETWORKS, 1)

    made_by = {  # noqa: RUF012
        "encoder": "networks.vae.encoder(image_shape, z2_dim)",
        "encoder_z1": "networks.hvae.encoder_z1(image_shape, z1_dim, z2_dim)",
        "prior_z1": "networks.hvae.prior_z1(z1_dim, z2_dim)",
        "decoder": "networks.hvae.decoder(image_shape, z1_dim, z2_dim)",
    }

    def __init__(
        self,
        encoder: keras.Model | None = None,
        encoder_z1: keras.Model | None = None,
        prior_z1: keras.Model | None = None,
        decoder: keras.Model | None = None,
        prior: Prior | None = None,
        z1_dim: int = vae.LATENT_DIM,
        likelihood: Likelihood | None = None,
        beta: ObjectiveWeight = 1.0,
        binarize: bool = True,
        seed: int = 0,
        name: str = "hvae",
    ):
        super().__init__(seed=seed, name=name)
        self._set_choices(StandardNormal(vae.LATENT_DIM) if prior is None else prior, likelihood, beta, binarize)
        z1, z2 = check_whole_number("z1_dim", z1_dim, 1), self.prior.latent_dim
        self.latents = {"z1": z1, "z2": z2}
        self.encoder = encoder or vae.encoder(latent_dim=z2)
        self.image_shape = image_shape("encoder", self.encoder)
        self.encoder_z1 = encoder_z1 or hvae.encoder_z1(self.image_shape, z1, z2)
        self.prior_z1 = prior_z1 or hvae.prior_z1(z1, z2)
        self.decoder = decoder or hvae.decoder(self.decoded_shape, z1, z2)
        heads = [(None, z1)] * 2
        shapes = {
            "encoder": (self.image_shape, [(None, z2)] * 2),
            "encoder_z1": ([self.image_shape, (z2,)], heads),
            "prior_z1": ((z2,), heads),
            "decoder": ((z1 + z2,), (None, *self.decoded_shape)),
        }
        given = {"encoder": encoder, "encoder_z1": encoder_z1, "prior_z1": prior_z1, "decoder": decoder}
        kinds = {name: {1: probes.LOGVAR} for name in given} | {"decoder": {0: self.likelihood.takes}}
        self._check_networks(given, shapes, kinds, unit_pixels=("encoder", "encoder_z1"))
        self.prior.bind(self.encoder)
        self.build((None, *self.image_shape))

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """`autoencoder` (all networks) and, if it is learned, `prior`, that of z2."""
        groups = {"autoencoder": [v for name in _NETWORKS for v in getattr(self, name).trainable_variables]}
        return groups | ({"prior": self.prior.trainable_variables} if self.prior.trainable_variables else {})

    # Training

    def terms(self, run, images, noise, step) -> dict[str, Tensor]:
        epsilon, x = self.split_latent(noise["epsilon"]), ops.convert_to_tensor(to_unit(images))
        q_z2 = run(self.encoder, x)
        z2 = sample_gaussian(q_z2[0], q_z2[1], epsilon["z2"])
        q_z1 = run(self.encoder_z1, [x, z2])
        z1 = sample_gaussian(q_z1[0], q_z1[1], epsilon["z1"])
        outputs = run(self.decoder, ops.concatenate([z1, z2], axis=-1))
        return {
            "reconstruction": -self.likelihood.log_prob(images, outputs),
            "kl_z1": gaussian_log_prob(z1, *q_z1) - gaussian_log_prob(z1, *run(self.prior_z1, z2)),
            "kl_z2": gaussian_log_prob(z2, *q_z2) - self.prior.log_prob(z2),
        }

    # Use: deterministic, tensors in, tensors out

    def call(self, images, training=False) -> dict[str, Tensor]:
        """Returns all outputs of inference: those of `posterior`, `z` (see `encode`) and `reconstruction`."""
        outputs = self.posterior(images)
        z = _means(outputs)
        return {**outputs, "z": z, "reconstruction": self.decode(z)}

    def posterior(self, images: Tensor) -> dict[str, Tensor]:
        """`q(z2 | x)`: `z2_mean` and `z2_logvar`; and `q(z1 | x, z2)` at this mean: `z1_mean` and `z1_logvar`."""
        x = ops.convert_to_tensor(to_unit(self.as_images(images)))
        z2_mean, z2_logvar = in_use(self.encoder, x)
        z1_mean, z1_logvar = in_use(self.encoder_z1, [x, z2_mean])
        return {"z1_mean": z1_mean, "z1_logvar": z1_logvar, "z2_mean": z2_mean, "z2_logvar": z2_logvar}

    def encode(self, images: Tensor) -> Tensor:
        """Latent variables (z1, z2) `(B, d1 + d2)`: the means that `posterior` returns."""
        return _means(self.posterior(images))

    def sample_latent(self, n: int, seed: int | Tensor) -> Tensor:
        """Draws `z2 ~ p(z2)` and `z1 ~ p(z1 | z2)`: side by side, z1 first, `(n, d1 + d2)`."""
        stream = Stream(seed, 0)
        z2 = self.prior.random(n, stream)
        mean, logvar = in_use(self.prior_z1, z2)
        z1 = sample_gaussian(mean, logvar, normal((n, self.latents["z1"]), stream))
        return ops.concatenate([z1, z2], axis=-1)

    def log_weights(self, images, noise) -> Tensor:
        images, samples = ops.convert_to_tensor(self.as_images(images)), ops.shape(noise["epsilon"])[1]
        epsilon = self.split_latent(noise["epsilon"])
        q_z2 = [values[:, None] for values in in_use(self.encoder, to_unit(images))]
        z2 = sample_gaussian(q_z2[0], q_z2[1], epsilon["z2"])
        rows = ops.reshape(z2, (-1, self.latents["z2"]))
        given = [ops.repeat(to_unit(images), samples, axis=0), rows]
        q_z1, p_z1 = (
            [ops.reshape(values, (-1, samples, self.latents["z1"])) for values in heads]
            for heads in (in_use(self.encoder_z1, given), in_use(self.prior_z1, rows))
        )
        z1 = sample_gaussian(q_z1[0], q_z1[1], epsilon["z1"])
        log_ratio = self.prior.log_prob(z2) - gaussian_log_prob(z2, *q_z2)
        log_ratio += gaussian_log_prob(z1, *p_z1) - gaussian_log_prob(z1, *q_z1)
        return log_likelihood(self.decoder, self.likelihood, images, ops.concatenate([z1, z2], axis=-1)) + log_ratio

    # Serialisation

    def get_config(self) -> dict[str, Any]:
        objects = (*_NETWORKS, "prior", "likelihood")
        return {
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in objects},
            "z1_dim": self.latents["z1"],
            "binarize": self.binarize,
            **super().get_config(),
        }


def _means(posterior):
    return ops.concatenate([posterior["z1_mean"], posterior["z2_mean"]], axis=-1)
