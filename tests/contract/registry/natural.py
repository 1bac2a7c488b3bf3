"""N-VAE, CVAE and beta-VAE."""

from contract import small
from contract.registry.entry import Entry
from contract.registry.kingma import M2_ENTRY
from contract.registry.unlabeled import VAE_ENTRY

from keras_ssvae import likelihoods, priors
from keras_ssvae.models import CVAE, NVAE, BetaVAE
from keras_ssvae.networks import nvae as nvae_networks
from keras_ssvae.optimizers import Adam
from keras_ssvae.schedules import LinearWarmUp


def nvae(dropout=0.0, weights_seed=33, **arguments):
    """N-VAE with the term of unlabelled images, which its paper does not have; its own tests run it without that."""
    given = {"num_classes": small.K, "class_dims": 1, "shared_dims": small.D, "beta_c": 1.5, "unlabeled_term": True}
    parts = {"encoder": lambda: small.class_encoder(dropout), "decoder": lambda: small.label_decoder(2 * small.K + 2)}
    given |= {name: build() for name, build in parts.items() if name not in arguments}
    return small.with_weights(NVAE(**{**given, **arguments}), weights_seed)


def nvae_of_arguments(**arguments):
    without_bias = arguments.get("class_bias") is False
    own = {"decoder": small.label_decoder(small.K + small.D)} if without_bias else {}
    return nvae(**own | arguments)


NVAE_ENTRY = Entry(
    name="N-VAE",
    build=nvae_of_arguments,
    optimizer=lambda **adam: Adam(1e-2, **adam),
    parts=("labeled", "unlabeled"),
    needs=(),
    sizes=(small.K,),
    must_have_labels=True,
    arguments={
        "num_classes": small.K,
        "class_dims": 1,
        "shared_dims": small.D,
        "class_bias": False,
        "likelihood": likelihoods.Laplace(0.5),
        "beta_c": LinearWarmUp(2.0, 10, 468),
        "unlabeled_term": True,
        "class_names": small.SEVERAL_NAMES[0],
        "seed": 9,
        "name": "mine",
    },
    weights=("beta_c",),
    fixed=("class_dims", "shared_dims"),
    networks={
        "encoder": (small.features, lambda: small.class_encoder(latent_dim=small.K)),
        "decoder": (
            lambda: small.label_decoder(small.K + small.D),
            lambda: small.label_decoder(2 * small.K + 2, shape=(8, 8, 1)),
        ),
    },
    labelled_terms=("reconstruction", "cross_entropy", "total"),
    falling={"loss": 0.97},
    as_published=lambda: {
        "encoder": nvae_networks.class_encoder(small.IMAGE_SHAPE, small.K, small.K + 2, filters=(4,), hidden=(8,)),
        "decoder": nvae_networks.decoder(small.IMAGE_SHAPE, 2 * small.K + 2, filters=(4,), hidden=(8,)),
    },
    draws=("epsilon_labeled", "epsilon_unlabeled"),
    normal_parts=("z_c", "z_s"),
)


def cvae(dropout=0.0, weights_seed=8, **arguments):
    given = {"num_classes": small.K, "z_dim": small.D, "class_priors": [small.UNEVEN], "beta": 0.7, "binarize": True}
    parts = {"encoder": lambda: small.label_encoder(dropout), "decoder": small.label_decoder}
    given |= {name: build() for name, build in parts.items() if name not in arguments}
    return small.with_weights(CVAE(**{**given, **arguments}), weights_seed)


CVAE_ENTRY = Entry(
    name="CVAE",
    variant=True,
    build=cvae,
    optimizer=M2_ENTRY.optimizer,
    parts=("labeled",),
    needs=("labeled",),
    sizes=(small.K,),
    must_have_labels=True,
    arguments={
        "num_classes": small.K,
        "z_dim": small.D,
        "class_priors": [[0.2, 0.2, 0.6]],
        "likelihood": likelihoods.Bernoulli(1e-4),
        "beta": LinearWarmUp(2.0, 10, 468),
        "binarize": True,
        "class_names": small.SEVERAL_NAMES[0],
        "seed": 9,
        "name": "mine",
    },
    weights=("beta",),
    networks={name: M2_ENTRY.networks[name] for name in ("encoder", "decoder")},
    labelled_terms=("reconstruction", "kl_z", "total"),
    falling={"loss": 0.97},
    as_published=lambda: {
        "encoder": nvae_networks.label_encoder(small.IMAGE_SHAPE, small.K, small.D, filters=(4,), hidden=(8,)),
        "decoder": nvae_networks.decoder(small.IMAGE_SHAPE, small.K + small.D, filters=(4,), hidden=(8,)),
    },
    draws=("epsilon_labeled", "uniform_labeled"),
    normal_parts=("z",),
)


def beta_vae(dropout=0.0, weights_seed=3, **arguments):
    parts = {"encoder": lambda: small.gaussian_encoder(dropout), "decoder": lambda: small.decoder(activation=None)}
    parts |= {"prior": lambda: priors.StandardNormal(small.D)}
    given = {name: build() for name, build in parts.items() if name not in arguments}
    return small.with_weights(BetaVAE(**{**given, **arguments}), weights_seed)


BETA_VAE_ENTRY = Entry(
    name="beta-VAE",
    variant=True,
    build=beta_vae,
    optimizer=lambda **adam: Adam(1e-2, **adam),
    parts=VAE_ENTRY.parts,
    needs=VAE_ENTRY.needs,
    arguments={**VAE_ENTRY.arguments, "likelihood": likelihoods.Bernoulli(1e-4), "binarize": True, "kl": "sampled"},
    weights=("beta",),
    networks=VAE_ENTRY.networks,
    falling={"loss": 0.97},
    as_published=lambda: {
        "encoder": nvae_networks.encoder(small.IMAGE_SHAPE, small.D, filters=(4,), hidden=(8,)),
        "decoder": nvae_networks.decoder(small.IMAGE_SHAPE, small.D, filters=(4,), hidden=(8,)),
    },
    draws=("epsilon",),
    normal_parts=("z",),
)

ENTRIES = (NVAE_ENTRY, CVAE_ENTRY, BETA_VAE_ENTRY)
