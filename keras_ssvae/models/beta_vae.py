"""beta-VAE: a VAE with a standard normal prior and a constant weight of its divergence (Higgins et al., 2017)."""

import keras

from keras_ssvae.likelihoods import Bernoulli, Likelihood
from keras_ssvae.models.objective_weights import ObjectiveWeight
from keras_ssvae.models.vae import VAE
from keras_ssvae.networks import nvae
from keras_ssvae.priors import Prior, StandardNormal


@keras.saving.register_keras_serializable("keras_ssvae")
class BetaVAE(VAE):
    """VAE without labels, with a constant beta above 1 to disentangle the latent variables: `VAE` with other defaults.

    **Objective**, minimised: `reconstruction + beta kl`, in nats per image, as means over the batch. The first term is
    taken at one sample of z; `kl` has a closed form.

    The defaults are those of earlier MNIST experiments by N-VAE's first author: two convolutions and a dense layer in
    each network, 20 dimensions of z, beta 5, grey pixels without binarization, a Bernoulli likelihood without clipping.
    Batches and validation are as for `VAE`; `val_loss` is the loss at beta 1.

    Args:
        encoder: As for `VAE`. Default: `networks.nvae.encoder`.
        decoder: As for `VAE`. Default: `networks.nvae.decoder`.
        prior: As for `VAE`. Default: the standard normal in 20 dimensions.
        likelihood: As for `VAE`. Default: `Bernoulli()`.
        beta: Weight of the KL-divergence.
        binarize: As for `VAE`.
        kl: As for `VAE`.
        seed: Seed of the training noise. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.

    Example:
        >>> model = BetaVAE()
        >>> model.compile(Adam(1e-3))
        >>> model.fit(images, batch_size=128, epochs=15)

    Reference:
        Higgins et al.: beta-VAE: Learning basic visual concepts with a constrained variational framework, 2017;
        [Antoran, Miguel: Disentangling and learning robust representations with natural clustering,
        2019](https://arxiv.org/abs/1901.09415), Figure 3.
    """

    made_by = {  # noqa: RUF012
        "encoder": "networks.nvae.encoder(image_shape, latent_dim)",
        "decoder": "networks.nvae.decoder(image_shape, latent_dim)",
    }

    def __init__(
        self,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        prior: Prior | None = None,
        likelihood: Likelihood | None = None,
        beta: ObjectiveWeight = 5.0,
        binarize: bool = False,
        kl: str = "closed_form",
        seed: int = 0,
        name: str = "beta_vae",
    ):
        super().__init__(
            encoder=encoder,
            decoder=decoder,
            prior=StandardNormal(nvae.LATENT_DIM) if prior is None else prior,
            likelihood=Bernoulli() if likelihood is None else likelihood,
            beta=beta,
            binarize=binarize,
            kl=kl,
            seed=seed,
            name=name,
        )

    def _make_encoder(self):
        return nvae.encoder(latent_dim=self.latent_dim)

    def _make_decoder(self):
        return nvae.decoder(self.decoded_shape, self.latent_dim)
