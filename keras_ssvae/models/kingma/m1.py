"""M1: a VAE whose latent variables are features for a classifier (Kingma et al., 2014)."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssvae.checks import check_whole_number
from keras_ssvae.distributions import Tensor
from keras_ssvae.likelihoods import Bernoulli, Likelihood
from keras_ssvae.models.batched import as_float32
from keras_ssvae.models.kingma.weight_prior import negative_log_prior
from keras_ssvae.models.objective_weights import ObjectiveWeight
from keras_ssvae.models.vae import VAE
from keras_ssvae.networks import kingma
from keras_ssvae.pixels import trusted
from keras_ssvae.priors import StandardNormal


@keras.saving.register_keras_serializable("keras_ssvae")
class M1(VAE):
    """VAE without labels, with a standard normal prior of z and of its weights. Its z are the features for M1+M2.

    **Generation**: `z ~ N(0, I)`. The decoder gives the parameters of the `likelihood`, from which x follows.

    **Inference**: `q(z | x) = N(mu(x), diag sigma^2(x))`.

    **Objective**, minimised, in nats per image, as means over the batch:
    `reconstruction + beta kl + weight_prior (-log N(weights; 0, I))`.

    | paper of M1 and M2                 | code                                                                    |
    |------------------------------------|-------------------------------------------------------------------------|
    | `q(z given x)`                     | `encoder`: `mean`, `logvar`, each `(B, d)`                              |
    | `p(x given z)`                     | `decoder` and `likelihood`                                              |
    | `-log p(x given z)`                | `reconstruction`, at one sample z                                       |
    | `KL(q(z given x), p(z))`           | `kl`, in closed form                                                    |
    | `-log N(weights; 0, I)`            | `weight_prior`, of all kernels and biases, with its constants           |
    | 1 / N                              | the weight `weight_prior`                                               |

    Batches and validation are as in `VAE`. Probabilities and log-variances are not clipped. Networks see pixels in
    [0, 1]. The paper has two hidden layers of 600 units in each network, which is the default; the released code has
    500 units.

    Args:
        encoder: Keras model that maps images `(B, H, W, C)` with pixels in [0, 1] to `(mean, logvar)`, each `(B, d)`.
            Default: two softplus layers of 600 units.
        decoder: Keras model that maps `(B, d)` to the outputs that the likelihood takes. Default: two softplus layers
            of 600 units.
        z_dim: Dimensions d of z.
        likelihood: One of `likelihoods`. Default: `Bernoulli()`.
        weight_prior: Weight of the prior of the network weights: 1 / N for N training images; 0 leaves it out.
        beta: Weight of the KL-divergence.
        binarize: Whether each training step draws binary images, as in `VAE`; only for a Bernoulli likelihood.
        seed: Seed of the training noise. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.

    Raises:
        ValueError: If an argument is invalid or does not fit the others.

    Example:
        >>> model = M1()
        >>> model.compile(Adam(3e-4))
        >>> model.fit(batches, steps_per_epoch=50, epochs=10_000)
        >>> features = model.encode(images)[:, list(model.active_dimensions(images))]

    Reference:
        [Kingma, Rezende, Mohamed, Welling: Semi-supervised learning with deep generative models,
        2014](https://arxiv.org/abs/1406.5298).
    """

    training_terms = (*VAE.training_terms, "weight_prior")
    objective_weights = (*VAE.objective_weights, "weight_prior")

    made_by = {  # noqa: RUF012
        "encoder": "networks.kingma.m1_encoder(image_shape, latent_dim)",
        "decoder": "networks.kingma.m1_decoder(image_shape, latent_dim)",
    }

    def __init__(
        self,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        z_dim: int = kingma.LATENT_DIM,
        likelihood: Likelihood | None = None,
        weight_prior: ObjectiveWeight = 1 / 50_000,
        beta: ObjectiveWeight = 1.0,
        binarize: bool = True,
        seed: int = 0,
        name: str = "m1",
    ):
        z_dim = check_whole_number("z_dim", z_dim, 1)
        super().__init__(
            encoder or kingma.m1_encoder(latent_dim=z_dim),
            decoder or kingma.m1_decoder(latent_dim=z_dim),
            prior=StandardNormal(z_dim),
            likelihood=Bernoulli() if likelihood is None else likelihood,
            beta=beta,
            binarize=binarize,
            kl="closed_form",
            seed=seed,
            name=name,
        )
        self.weight_prior = weight_prior

    def step_terms(self, batch, noise, step) -> dict[str, Any]:
        terms = super().step_terms(batch, noise, step)
        weights = [*self.encoder.trainable_variables, *self.decoder.trainable_variables]
        return {**terms, "weight_prior": negative_log_prior(weights, ops.shape(terms["kl"])[0])}

    def objective(self, terms, step) -> Any:
        return super().objective(terms, step) + self.weights_at(step).weight_prior * terms["weight_prior"]

    def active_dimensions(self, images: Tensor, threshold: float = 0.1, batch_size: int = 500) -> tuple[int, ...]:
        """Finds the dimensions of z that carry information about images. M1+M2 uses only these.

        Args:
            images: `(N, H, W, C)` in [-1, 1]: the unlabelled images.
            threshold: A dimension is active if the posterior means of the images have a standard deviation above this.
            batch_size: Number of images that are encoded at once.

        Returns:
            The numbers of the active dimensions, in ascending order.
        """
        images = self.as_images(images)
        starts = range(0, len(images), batch_size)
        with trusted():
            means = np.concatenate([as_float32(self.encode(images[start : start + batch_size])) for start in starts])
        return tuple(np.flatnonzero(means.std(axis=0, dtype="float64") > threshold).tolist())

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["prior"], config["kl"]
        return {**config, "z_dim": self.latent_dim}
