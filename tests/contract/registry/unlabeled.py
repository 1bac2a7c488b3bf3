"""VAE with several priors, HVAE and CP-VAE."""

from contract import small
from contract.registry.entry import Entry

from keras_ssvae import likelihoods, priors
from keras_ssvae.models import CPVAE, HVAE, VAE
from keras_ssvae.networks import cp_vae as cp_vae_networks
from keras_ssvae.networks import hvae as hvae_networks
from keras_ssvae.networks import vae as networks
from keras_ssvae.optimizers import NormalizedAdam
from keras_ssvae.schedules import AnnealedTemperature, LinearWarmUp


def vae(vamp=False, dropout=0.0, weights_seed=3, **arguments):
    given = {"beta": 0.7}
    prior = (
        (lambda: priors.VampPrior(4, small.D, small.IMAGE_SHAPE)) if vamp else (lambda: priors.StandardNormal(small.D))
    )
    parts = {"encoder": lambda: small.gaussian_encoder(dropout), "decoder": lambda: small.decoder(activation=None)}
    parts |= {"prior": prior}
    given |= {name: build() for name, build in parts.items() if name not in arguments}
    return small.with_weights(VAE(**{**given, **arguments}), weights_seed)


def vae_entry(vamp):
    return Entry(
        name="VampPrior" if vamp else "VAE",
        variant=not vamp,
        build=lambda **arguments: vae(vamp, **arguments),
        optimizer=lambda **adam: NormalizedAdam(1e-2, **adam),
        parts=("unlabeled",),
        needs=("unlabeled",),
        arguments={
            "prior": priors.StandardNormal(small.D),
            "likelihood": likelihoods.Gaussian(0.5),
            "beta": LinearWarmUp(1.0, 10, 468),
            "binarize": False,
            "kl": "closed_form",
            "seed": 9,
            "name": "mine",
        },
        weights=("beta",),
        networks={
            "encoder": (
                small.features,  # one output
                lambda: small.gaussian_encoder(latent_dim=small.D + 1),
            ),
            "decoder": (
                lambda: small.decoder(latent_dim=small.D + 1),
                lambda: small.decoder(image_shape=(8, 8, 1)),
            ),
        },
        falling={"loss": 0.97},
        as_published=lambda: {
            "encoder": networks.encoder(small.IMAGE_SHAPE, small.D, hidden=8),
            "decoder": networks.decoder(small.IMAGE_SHAPE, small.D, hidden=8),
        },
        draws=("epsilon", "uniform"),
        normal_parts=() if vamp else ("z",),
    )


# HVAE


def hvae(dropout=0.0, weights_seed=3, **arguments):
    parts = {
        "encoder": lambda: small.gaussian_encoder(dropout),
        "encoder_z1": lambda: small.encoder_z1(dropout),
        "prior_z1": small.prior_z1,
        "decoder": lambda: small.decoder(3 + small.D, activation=None),
        "prior": lambda: priors.VampPrior(4, small.D, small.IMAGE_SHAPE),
    }
    given = {"z1_dim": 3, "beta": 0.7} | {name: build() for name, build in parts.items() if name not in arguments}
    return small.with_weights(HVAE(**{**given, **arguments}), weights_seed)


HVAE_ENTRY = Entry(
    name="HVAE",
    variant=True,
    build=hvae,
    optimizer=lambda **adam: NormalizedAdam(1e-2, **adam),
    parts=("unlabeled",),
    needs=("unlabeled",),
    arguments={
        "prior": priors.StandardNormal(small.D),
        "z1_dim": 3,
        "likelihood": likelihoods.Gaussian(0.5),
        "beta": LinearWarmUp(1.0, 10, 468),
        "binarize": False,
        "seed": 9,
        "name": "mine",
    },
    weights=("beta",),
    networks={
        "encoder": (small.features, lambda: small.gaussian_encoder(latent_dim=small.D + 1)),
        "encoder_z1": (lambda: small.encoder_z1(z1_dim=2), lambda: small.encoder_z1(z2_dim=3)),
        "prior_z1": (lambda: small.prior_z1(z1_dim=2), lambda: small.prior_z1(z2_dim=3)),
        "decoder": (
            lambda: small.decoder(latent_dim=small.D),
            lambda: small.decoder(3 + small.D, image_shape=(8, 8, 1)),
        ),
    },
    falling={"loss": 0.97},
    as_published=lambda: {
        "encoder": networks.encoder(small.IMAGE_SHAPE, small.D, hidden=8),
        "encoder_z1": hvae_networks.encoder_z1(small.IMAGE_SHAPE, 3, small.D, hidden=8),
        "prior_z1": hvae_networks.prior_z1(3, small.D, hidden=8),
        "decoder": hvae_networks.decoder(small.IMAGE_SHAPE, 3, small.D, hidden=8),
    },
    draws=("epsilon", "uniform"),
)


# CP-VAE


def cp_vae(dropout=0.0, weights_seed=3, **arguments):
    given = {"num_categories": small.K, "z_dim": small.D, "beta": 0.7, "temperature": 0.8, "posteriors": "each"}
    given |= {"z_heads": "own_sample"} | arguments
    if "prior" not in arguments:
        factorised = arguments.get("factorised_prior", False)
        given["prior"] = priors.StandardNormal(small.D) if factorised else _of_categories()
    width = small.D + given["num_categories"]
    parts = {"encoder": lambda: small.features(dropout), "decoder": lambda: small.decoder(width, activation=None)}
    given |= {name: build() for name, build in parts.items() if name not in arguments}
    return small.with_weights(CPVAE(**given), weights_seed)


def _of_categories():
    return priors.LearnedMixture(small.K, small.D, bounded=False)


CP_VAE = Entry(
    name="CP-VAE",
    build=cp_vae,
    optimizer=lambda **adam: NormalizedAdam(1e-2, **adam),
    parts=("unlabeled",),
    needs=("unlabeled",),
    arguments={
        "prior": priors.StandardNormal(small.D),
        "num_categories": small.K,
        "z_dim": small.D,
        "factorised_posterior": True,
        "factorised_prior": True,
        "likelihood": likelihoods.Gaussian(0.5),
        "beta": LinearWarmUp(1.0, 10, 468),
        "temperature": AnnealedTemperature(468, 1e-4, 0.4),
        "z_heads": "probs",
        "posteriors": "each",
        "elu": False,
        "cluster_names": ["seven", "one", "seven"],
        "sum_categories": True,
        "binarize": False,
        "seed": 9,
        "name": "mine",
    },
    weights=("beta", "temperature"),
    networks={
        "encoder": (small.encoder, small.flat_images),  # two outputs; images
        "decoder": (
            lambda: small.decoder(latent_dim=small.D),
            lambda: small.decoder(small.D + small.K, image_shape=(8, 8, 1)),
        ),
    },
    falling={"loss": 0.97},
    as_published=lambda: {
        "encoder": cp_vae_networks.encoder(small.IMAGE_SHAPE, hidden=8),
        "decoder": cp_vae_networks.decoder(small.IMAGE_SHAPE, small.D, small.K, hidden=8),
    },
    draws=("epsilon", "uniform", "uniform_c", "uniform_heads"),
    verbs=lambda model, images: {"clusters": (model.clusters, (images,), (7, small.K))},
)


# REVAE


VAE_ENTRY = vae_entry(vamp=False)
ENTRIES = (VAE_ENTRY, vae_entry(vamp=True), HVAE_ENTRY, CP_VAE)
