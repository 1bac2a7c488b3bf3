"""VAE with any prior: the standard normal, a mixture, or a VampPrior (Kingma, Welling; Tomczak, Welling)."""

from typing import Any

import keras

from keras_ssvae.distributions import Tensor, as_floatx, gaussian_log_prob, sample_gaussian
from keras_ssvae.likelihoods import Likelihood, to_unit
from keras_ssvae.models import probes
from keras_ssvae.models.checks import image_shape
from keras_ssvae.models.importance import log_likelihood
from keras_ssvae.models.objective_weights import ObjectiveWeight
from keras_ssvae.models.unlabeled import UnlabeledVAE
from keras_ssvae.networks import vae
from keras_ssvae.noise import Stream
from keras_ssvae.priors import Prior, StandardNormal


@keras.saving.register_keras_serializable("keras_ssvae")
class VAE(UnlabeledVAE):
    """Variational autoencoder without labels, with a prior of your choice: standard normal, mixture or VampPrior.

    **Generation**: `z ~ p(z)`, the `prior`. The decoder gives the parameters of the `likelihood`, from which x follows.

    **Inference**: `q(z | x) = N(mu(x), diag sigma^2(x))`.

    **Objective**, minimised: `reconstruction + beta kl`, in nats per image, as means over the batch. With beta 1 it is
    the negative evidence lower bound (ELBO).

    | papers                                   | code                                                              |
    |------------------------------------------|-------------------------------------------------------------------|
    | `q(z given x)`                           | `encoder`: `mean`, `logvar`, each `(B, d)`                        |
    | `p(x given z)`                           | `decoder` and `likelihood`                                        |
    | `p(z)`                                   | `prior`                                                           |
    | VampPrior, `1/K sum_k q(z given u_k)`    | `priors.VampPrior(K)`, with the model's encoder; `pseudo_inputs`  |
    | mixture of Gaussians                     | `priors.LearnedMixture(K, d, bounded=False)`                      |
    | `-log p(x given z)`                      | `reconstruction`, at one sample z, with all constants             |
    | `KL(q(z given x), p(z))`                 | `kl`: `log q(z given x) - log p(z)` at the same z                 |
    | `beta`                                   | `beta`; the warm-up is `schedules.LinearWarmUp`                   |

    Where the papers give no detail, the model follows the released code of VampPrior. The KL-divergence is sampled even
    if it has a closed form (`kl="closed_form"` uses that form). Pixel probabilities are clipped to [1e-5, 1 - 1e-5],
    and the log-variances of the encoder to [-6, 2]. Networks see pixels in [0, 1].

    With `binarize` each training step draws its images anew as binary images, in which a pixel is 1 with a probability
    equal to its grey value in [0, 1]. Binary images do not change. Validation uses its images as they are: draw binary
    ones once beforehand.

    **Batch**: float images in [-1, 1], or a dictionary with the keys `unlabeled`, `labeled` or both, as
    `data.semi_supervised` makes it. The model trains on all of these images and ignores labels.

    **Validation** data is images, or `(images, labels)`. Callbacks monitor `val_loss`, the negative bound at beta 1.
    Its z is sampled with noise that is a function of each image alone, so the result does not depend on how the images
    are divided into batches.

    Args:
        encoder: Keras model that maps images `(B, H, W, C)` with pixels in [0, 1] to `(mean, logvar)`, each `(B, d)`
            for d latent dimensions. Default: two gated layers of 300 units.
        decoder: Keras model that maps `(B, d)` to the outputs that the likelihood takes, `(B, H, W, C)`. Default: two
            gated layers of 300 units.
        prior: A `priors.Prior`. Default: the standard normal in 40 dimensions.
        likelihood: One of `likelihoods`. Default: `Bernoulli(1e-5)`.
        beta: Weight of the KL-divergence.
        binarize: Whether each training step draws binary images; only for a Bernoulli likelihood.
        kl: `"sampled"`, or `"closed_form"` for a prior that is a single Gaussian.
        seed: Seed of the training noise. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.

    Raises:
        ValueError: If an argument is invalid or does not fit the others.

    Example:
        >>> model = VAE(prior=priors.VampPrior(500), beta=LinearWarmUp(1.0, epochs=100, steps_per_epoch=500))
        >>> model.compile(NormalizedAdam(5e-4, epsilon=1e-8))
        >>> model.fit(batches, steps_per_epoch=500, epochs=2000, validation_data=(binary_images,))
        >>> model.encode(images), model.generate(25, seed=1)

    Reference:
        [Tomczak, Welling: VAE with a VampPrior, 2018](https://arxiv.org/abs/1705.07120);
        [Kingma, Welling: Auto-encoding variational Bayes, 2014](https://arxiv.org/abs/1312.6114).
    """

    training_terms: tuple[str, ...] = ("reconstruction", "kl")
    test_terms = ("loss", "reconstruction", "kl")
    forward_passes = {"encoder": 1, "decoder": 1}  # noqa: RUF012

    made_by = {  # noqa: RUF012
        "encoder": "networks.vae.encoder(image_shape, latent_dim)",
        "decoder": "networks.vae.decoder(image_shape, latent_dim)",
    }

    def __init__(
        self,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        prior: Prior | None = None,
        likelihood: Likelihood | None = None,
        beta: ObjectiveWeight = 1.0,
        binarize: bool = True,
        kl: str = "sampled",
        seed: int = 0,
        name: str = "vae",
    ):
        super().__init__(seed=seed, name=name)
        self._set_choices(StandardNormal(vae.LATENT_DIM) if prior is None else prior, likelihood, beta, binarize)
        self.kl = kl
        self._check_kl()
        self.latents = {"z": self.prior.latent_dim}
        self.encoder = encoder or self._make_encoder()
        self.image_shape = image_shape("encoder", self.encoder)
        self.decoder = decoder or self._make_decoder()
        shapes = {
            "encoder": (self.image_shape, [(None, self.latent_dim)] * 2),
            "decoder": ((self.latent_dim,), (None, *self.decoded_shape)),
        }
        kinds: dict[str, dict[int, str | None]] = {"encoder": {1: probes.LOGVAR}, "decoder": {0: self.likelihood.takes}}
        self._check_networks({"encoder": encoder, "decoder": decoder}, shapes, kinds)
        self.prior.bind(self.encoder)
        self.build((None, *self.image_shape))

    # The default networks

    def _make_encoder(self) -> keras.Model:
        return vae.encoder(latent_dim=self.latent_dim)

    def _make_decoder(self) -> keras.Model:
        return vae.decoder(self.decoded_shape, self.latent_dim)

    def _check_kl(self):
        if self.kl not in ("sampled", "closed_form"):
            raise ValueError(f'`kl` is {self.kl!r}; it must be "sampled" or "closed_form".')
        if self.kl == "closed_form" and self.prior.num_components > 1:
            raise ValueError(
                f'`kl` is "closed_form" with a `prior` of {self.prior.num_components} components; the divergence from '
                'a mixture has no closed form. Set `kl="sampled"`.'
            )

    @property
    def normal_parts(self) -> tuple[str, ...]:
        return ("z",) if isinstance(self.prior, StandardNormal) else ()

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """`autoencoder` (encoder and decoder) and, if it is learned, `prior`."""
        groups = {"autoencoder": [*self.encoder.trainable_variables, *self.decoder.trainable_variables]}
        return groups | ({"prior": self.prior.trainable_variables} if self.prior.trainable_variables else {})

    # Training

    def terms(self, run, images, noise, step) -> dict[str, Tensor]:
        mean, logvar = run(self.encoder, to_unit(images))
        z = sample_gaussian(mean, logvar, noise["epsilon"])
        if self.kl == "closed_form":
            kl = self.prior.kl_per_component(mean, logvar)[:, 0]
        else:
            kl = gaussian_log_prob(z, mean, logvar) - self.prior.log_prob(z)
        return {"reconstruction": -self.likelihood.log_prob(images, run(self.decoder, z)), "kl": kl}

    # Use: deterministic, tensors in, tensors out

    def call(self, images, training=False) -> dict[str, Tensor]:
        """Returns all outputs of inference for images: `mean`, `logvar`, `z` and `reconstruction`."""
        outputs = self.posterior(images)
        return {**outputs, "z": outputs["mean"], "reconstruction": self.decode(outputs["mean"])}

    def posterior(self, images: Tensor) -> dict[str, Tensor]:
        """`q(z | x)`: its `mean` and `logvar`, each `(B, d)`."""
        mean, logvar = map(as_floatx, self.encoder(to_unit(self.as_images(images)), training=False))
        return {"mean": mean, "logvar": logvar}

    def encode(self, images: Tensor) -> Tensor:
        """Latent variables `(B, d)`: the posterior means."""
        return self.posterior(images)["mean"]

    def sample_latent(self, n: int, seed: int | Tensor) -> Tensor:
        """Draws `z ~ p(z)`: `(n, d)`."""
        return self.prior.random(n, Stream(seed, 0))

    def log_weights(self, images, noise) -> Tensor:
        images = self.as_images(images)
        mean, logvar = (values[:, None] for values in self.posterior(images).values())
        z = sample_gaussian(mean, logvar, noise["epsilon"])
        log_ratio = self.prior.log_prob(z) - gaussian_log_prob(z, mean, logvar)
        return log_likelihood(self.decoder, self.likelihood, images, z) + log_ratio

    # Serialisation

    def get_config(self) -> dict[str, Any]:
        objects = ("encoder", "decoder", "prior", "likelihood")
        return {
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in objects},
            "binarize": self.binarize,
            "kl": self.kl,
            **super().get_config(),
        }
