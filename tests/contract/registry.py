"""The models that the contract tests run, with one `Entry` each. A new model needs an entry here; no test changes.

The tests know a model only by its entry and by its capabilities: see `contract.asking`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
from contract import small

from keras_ssvae import likelihoods, priors
from keras_ssvae.models import (
    CPVAE,
    CVAE,
    HVAE,
    M1,
    M1M2,
    M2,
    M3,
    NVAE,
    REVAE,
    VAE,
    BetaVAE,
    EXoN,
    PartedVAE,
)
from keras_ssvae.networks import cp_vae as cp_vae_networks
from keras_ssvae.networks import hvae as hvae_networks
from keras_ssvae.networks import kingma
from keras_ssvae.networks import nvae as nvae_networks
from keras_ssvae.networks import revae as revae_networks
from keras_ssvae.networks import vae as networks
from keras_ssvae.optimizers import Adam, GroupedOptimizer, NormalizedAdam, PlateauAdam
from keras_ssvae.priors import GaussianMixture
from keras_ssvae.schedules import AnnealedTemperature, LinearWarmUp, RampUp


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """What the contract tests need to know about a model and cannot find out from it.

    Args:
        name: Name of the model in the names of the tests.
        build: `(dropout=0.0, weights_seed=..., **arguments) -> model`: a small model of `small.IMAGE_SHAPE` with the
            same weights each time, not compiled. The arguments are the constructor's.
        optimizer: `(**adam) -> optimizer`: makes the optimizer that the model is compiled with.
        parts: The parts of its batches, except "labels".
        needs: The parts that every batch must have.
        sizes: Number of values of each label of an image; empty for a model without labels.
        must_have_labels: Whether a batch without labels is refused.
        arguments: A value other than the default for each argument of the constructor except the networks, as in
            `get_config` before objects are serialised.
        weights: The arguments that are weights of the objective.
        networks: Name of each network that the constructor takes -> wrong networks, which it must refuse by that name.
        labelled_terms: The terms of a step that may depend on labels.
        falling: Terms that training on a single batch must lower -> the share of the first value that they must reach.
        rowwise: `dropout -> arguments`: networks that treat each image independently, without batch normalisation.
            Only then do replicas end with the same weights as one device.
        as_published: Arguments for networks with the kinds of layers of the paper and float32 outputs under every
            policy: under `mixed_bfloat16` the terms are within 1 % of those in float32.
        fixed: The arguments that cannot have another value here.
        gradient_tolerance: Tolerated difference of gradients on two backends, as a share of the largest number.
        draws: Names of the arrays of `draw_noise` that hold continuous random numbers.
        normal_parts: The parts of its latent variables whose prior is N(0, I) for every label.
        verbs: `(model, images) -> {name: (verb, arguments, shape)}`: further verbs of the model.
        variant: Whether another entry runs most of the same code. The tests of a variant are slow in files that set
            `VARIANTS_ARE_SLOW`. With WITHOUT_VARIANTS in the environment, for a second round on another backend, it
            has no tests.
    """

    name: str
    build: Callable[..., keras.Model]
    optimizer: Callable[..., keras.optimizers.Optimizer]
    parts: tuple[str, ...]
    needs: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    must_have_labels: bool = False
    arguments: dict[str, object]
    weights: tuple[str, ...]
    networks: dict[str, tuple[Callable[[], keras.Model], ...]]
    labelled_terms: tuple[str, ...] = ()
    falling: dict[str, float] = field(default_factory=lambda: {"loss": 0.8})
    rowwise: Callable[[float], dict] = field(default=lambda dropout: {})
    as_published: Callable[[], dict] = dict
    fixed: tuple[str, ...] = ()
    gradient_tolerance: float = 2e-5
    draws: tuple[str, ...]
    normal_parts: tuple[str, ...] = ()
    verbs: Callable[[keras.Model, object], dict] = field(default=lambda model, images: {})
    variant: bool = False

    def compiled(self, **arguments) -> keras.Model:
        model = self.build(**arguments)
        model.compile(self.optimizer())
        return model

    def batch(self) -> dict:
        """A batch of `step_losses`."""
        batch = small.batch(self.sizes or (small.K,))
        return {name: batch[name] for name in (*self.parts, *(["labels"] if self.sizes else []))}


# EXoN. All numbers are different, so that a test fails if one is taken for another.

PRIOR = GaussianMixture([[-3.0, 0.0], [2.0, 1.0], [0.5, 4.0]], [[1.0, 2.0], [0.5, 1.5], [3.0, 0.7]])
OTHER_PRIOR = GaussianMixture([[-1.0, 0.0], [2.0, 2.0], [0.0, 3.0]], [[1.0, 2.0], [0.7, 1.5], [2.0, 0.7]])


def exon(dropout=0.0, weights_seed=7, **arguments):
    networks = {"encoder": small.encoder, "decoder": small.decoder}
    networks |= {"classifier": lambda: small.classifier(dropout=dropout)}
    given = {name: build() for name, build in networks.items() if name not in arguments}
    given |= {"prior": PRIOR, "beta": 0.3, "lambda1": 5.0, "lambda2": 7.0}
    return small.with_weights(EXoN(**{**given, **arguments}), weights_seed)


def exon_with_all(**arguments):
    """EXoN with the extensions too; the tests of the golden files run it without them."""
    return exon(**{"settling_steps": 3, "consistency": 0.25, **arguments})


def two_adams(rate=1e-2, **adam):
    members = {"autoencoder": Adam(rate, **adam), "classifier": Adam(rate, weight_decay=1e-2, **adam)}
    return GroupedOptimizer(members)


EXON = Entry(
    name="EXoN",
    build=exon_with_all,
    optimizer=two_adams,
    parts=("labeled", "unlabeled", "labeled_augmented", "unlabeled_augmented"),
    needs=("labeled", "unlabeled", "labeled_augmented", "unlabeled_augmented"),
    sizes=(small.K,),
    must_have_labels=True,
    arguments={
        "prior": OTHER_PRIOR,
        "beta": 0.4,
        "lambda1": 11.0,
        "lambda2": RampUp(7.5, 10, 468),
        "pseudo_label_dropout": False,
        "settling_steps": 5,
        "consistency": 0.5,
        "class_names": ["cat", "dog", "truck"],
        "seed": 9,
        "name": "mine",
    },
    weights=("beta", "lambda1", "lambda2"),
    networks={
        "encoder": (
            lambda: small.encoder(num_classes=small.K + 1),
            lambda: small.encoder(latent_dim=small.D + 1),
            small.features,  # one output
        ),
        "decoder": (
            lambda: small.decoder(latent_dim=small.D + 1),
            lambda: small.decoder(image_shape=(8, 8, 1)),
        ),
        "classifier": (lambda: small.classifier(num_classes=small.K - 1),),
    },
    labelled_terms=("cross_entropy", "sci_labeled", "total"),
    rowwise=lambda dropout: {"classifier": small.rowwise_classifier(dropout)},
    as_published=lambda: small.convolutional(rate=0.5),
    draws=("epsilon", "gumbel", "mix_weight_unlabeled"),
)

# PartedVAE. All numbers are different here too, and all that rises reaches its end in five steps.

PARTED_WEIGHTS = {"gamma_z": 2.0, "gamma_u": 3.0, "gamma_c": 5.0, "gamma_h": 0.7, "gamma_bc": 1.1, "tolerance": 0.3}
PARTED_WEIGHTS |= {"capacity_z": 4.0, "capacity_u": 6.0}
SEVERAL_NAMES = [["cat", "dog", "truck"], ["by day", "by night"]]
SEVERAL_LABELS = {
    "num_classes": (small.K, 2),
    "u_dims": (2, 1),
    "class_priors": [(0.5, 0.3, 0.2), (0.6, 0.4)],
    "pixel_loss": "absolute_error",
}


def parted(several=False, dropout=0.0, weights_seed=5, **arguments):
    given = {"num_classes": small.K, "u_dims": 2, "z_dim": 2, "capacity_steps": 5, "slope_steps": 4, **PARTED_WEIGHTS}
    given |= SEVERAL_LABELS if several else {}
    networks = {
        "encoder": lambda: small.features(dropout),
        "decoder": lambda: small.decoder(5 if several else 4, activation=None),
    }
    given |= {name: build() for name, build in networks.items() if name not in arguments}
    return small.with_weights(PartedVAE(**{**given, **arguments}), weights_seed)


def two_plateaus(rate=1e-2, **adam):
    """The rates halve after steps 4, 8, ... unless a loss falls to a tenth."""
    plateau = {"steps_per_epoch": 2, "patience": 0, "threshold": 0.9, "cooldown": 1}
    return GroupedOptimizer({name: PlateauAdam(rate, **plateau, **adam) for name in ("supervised", "main")})


def _parted(several):
    latent_dim, sizes = (5, (small.K, 2)) if several else (4, (small.K,))

    def transfer(model, images):
        return {"transfer": (model.transfer, (images[:3], images[3:6]), (3, *small.IMAGE_SHAPE))}

    given = SEVERAL_LABELS if several else {"num_classes": small.K, "u_dims": (2,), "class_priors": [(0.5, 0.3, 0.2)]}
    return Entry(
        name="PartedVAE, several labels" if several else "PartedVAE, one label",
        variant=not several,
        build=lambda **arguments: parted(several, **arguments),
        optimizer=two_plateaus,
        parts=("labeled", "unlabeled"),
        needs=(),
        sizes=sizes,
        arguments={
            **given,
            "z_dim": 2,
            "pixel_loss": "absolute_error",
            **PARTED_WEIGHTS,
            "capacity_steps": 6,
            "slope_steps": 7,
            "class_names": SEVERAL_NAMES if several else SEVERAL_NAMES[0],
            "seed": 9,
            "name": "mine",
        },
        weights=tuple(PARTED_WEIGHTS),
        networks={
            "encoder": (small.encoder, small.flat_images),  # two outputs; images
            "decoder": (
                lambda: small.decoder(latent_dim=latent_dim - 1),
                lambda: small.decoder(latent_dim=latent_dim, image_shape=(8, 8, 1)),
            ),
        },
        labelled_terms=("warm_up",),
        as_published=lambda: small.convolutional_parted(latent_dim),
        falling={"warm_up": 0.9, "reconstruction": 1.0},
        draws=("uniform_c", "epsilon_z", "epsilon_u"),
        normal_parts=("z",),
        verbs=transfer,
    )


# VAE


def vae(vamp=False, dropout=0.0, weights_seed=3, **arguments):
    given = {"beta": 0.7}
    prior = (
        (lambda: priors.VampPrior(4, small.D, small.IMAGE_SHAPE)) if vamp else (lambda: priors.StandardNormal(small.D))
    )
    parts = {"encoder": lambda: small.gaussian_encoder(dropout), "decoder": lambda: small.decoder(activation=None)}
    parts |= {"prior": prior}
    given |= {name: build() for name, build in parts.items() if name not in arguments}
    return small.with_weights(VAE(**{**given, **arguments}), weights_seed)


def _vae(vamp):
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


def revae(several=False, dropout=0.0, weights_seed=None, **arguments):
    given = {"num_classes": small.K, "c_dims": 2, "rest_dim": 2, "mu": 0.5, "unlabeled_term": "enumerated"}
    if several:
        given = {"num_classes": (small.K, 2), "c_dims": (2, 1), "rest_dim": 1, "unlabeled_term": "sampled"}
    given |= {"classifier_samples": 5, "weight_constant": "z_c" if several else "numerator"}
    given["bounded_weight"] = not several
    networks = {
        "encoder": lambda: small.gaussian_encoder(dropout, latent_dim=4),
        "decoder": lambda: small.decoder(latent_dim=4, activation=None),
        "classifier": lambda: (
            revae_networks.factorized_classifier((small.K, 2), (2, 1))
            if several
            else revae_networks.classifier(small.K, 2, hidden=4)
        ),
    }
    given |= {name: build() for name, build in networks.items() if name not in arguments}
    # With these the classes of the images differ.
    seed = (32 if several else 7) if weights_seed is None else weights_seed
    return small.with_weights(REVAE(**{**given, **arguments}), seed)


def _revae(several):
    sizes, width = ((small.K, 2), small.K + 2) if several else ((small.K,), small.K)
    given = {"num_classes": sizes, "c_dims": [2, 1], "rest_dim": 1} if several else {"num_classes": small.K}
    given = {"c_dims": 2, "rest_dim": 2, **given}

    def traverse(model, images):
        return {"traverse": (model.traverse, (images[:2], 0, 3), (2, 3, *small.IMAGE_SHAPE))}

    return Entry(
        name="REVAE, several labels" if several else "REVAE, one label",
        variant=not several,
        build=lambda **arguments: revae(several, **arguments),
        optimizer=lambda **adam: Adam(1e-2, **adam),
        parts=("labeled", "unlabeled"),
        needs=(),
        sizes=sizes,
        arguments={
            **given,
            "likelihood": likelihoods.Gaussian(0.5),
            "class_priors": [(0.5, 0.3, 0.2), (0.6, 0.4)] if several else "learned",
            "unlabeled_term": "marginal" if several else "sampled",
            "kl": "sampled",
            "classifier_samples": 3,
            "weight_constant": "z_c",
            "bounded_weight": False,
            "mu": 0.0 if several else 2.0,
            "class_names": SEVERAL_NAMES if several else SEVERAL_NAMES[0],
            "seed": 9,
            "name": "mine",
        },
        weights=("mu",),
        fixed=("mu",) if several else (),
        gradient_tolerance=5e-5,  # terms as large as the bound nearly cancel
        networks={
            "encoder": (small.features, lambda: small.gaussian_encoder(latent_dim=5)),
            "decoder": (
                lambda: small.decoder(latent_dim=3),
                lambda: small.decoder(latent_dim=4, image_shape=(8, 8, 1)),
            ),
            "classifier": (lambda: revae_networks.classifier(width, 4), lambda: revae_networks.classifier(9, 2)),
        },
        labelled_terms=("reconstruction", "kl_c", "kl_rest", "kl_y", "cross_entropy", "total"),
        # The loss need not fall: importance weights of so few samples are too noisy.
        falling={"cross_entropy": 0.8},
        as_published=lambda: {
            "encoder": revae_networks.encoder(small.IMAGE_SHAPE, 4, hidden=12),
            "decoder": revae_networks.decoder(small.IMAGE_SHAPE, 4, hidden=12),
        },
        draws=("epsilon_labeled", "epsilon_unlabeled", "epsilon_classifier"),
        normal_parts=("z_rest",),
        verbs=traverse,
    )


# M3


def m3(dropout=0.0, weights_seed=7, **arguments):
    given = {"num_classes": small.K, "c_dims": 2, "rest_dim": 2, "alpha": 3.0, "confidence": 0.5, "attempts": 8}
    networks = {
        "encoder": lambda: small.gaussian_encoder(dropout, latent_dim=4),
        "decoder": lambda: small.decoder(latent_dim=4, activation=None),
        "classifier": lambda: revae_networks.classifier(small.K, 2, hidden=4),
    }
    given |= {name: build() for name, build in networks.items() if name not in arguments}
    given |= {"classifier_samples": 5}
    return small.with_weights(M3(**{**given, **arguments}), weights_seed)


_ONE_LABEL = _revae(several=False)
M3_ENTRY = Entry(
    name="M3",
    variant=True,
    build=m3,
    optimizer=_ONE_LABEL.optimizer,
    parts=_ONE_LABEL.parts,
    needs=(),
    sizes=(small.K,),
    arguments={
        **{name: _ONE_LABEL.arguments[name] for name in ("num_classes", "c_dims", "rest_dim", "likelihood")},
        "alpha": 4.0,
        "confidence": 0.7,
        "attempts": 9,
        "classifier_samples": 3,
        "class_names": SEVERAL_NAMES[0],
        "seed": 9,
        "name": "mine",
    },
    weights=("alpha",),
    networks=_ONE_LABEL.networks,
    labelled_terms=("cross_entropy", "total"),
    falling={"loss": 0.97},
    as_published=_ONE_LABEL.as_published,
    draws=("epsilon_labeled", "epsilon_unlabeled"),
    normal_parts=("z_rest",),
)


# M1, M2 and M1+M2


def m1(dropout=0.0, weights_seed=3, **arguments):
    given = {"z_dim": small.D, "weight_prior": 0.02, "beta": 0.7}
    parts = {"encoder": lambda: small.gaussian_encoder(dropout), "decoder": lambda: small.decoder(activation=None)}
    given |= {name: build() for name, build in parts.items() if name not in arguments}
    return small.with_weights(M1(**{**given, **arguments}), weights_seed)


M1_ENTRY = Entry(
    name="M1",
    variant=True,
    build=m1,
    optimizer=lambda **adam: Adam(1e-2, **adam),
    parts=("unlabeled",),
    needs=("unlabeled",),
    arguments={
        "z_dim": small.D,
        "likelihood": likelihoods.Gaussian(0.5),
        "weight_prior": 0.01,
        "beta": LinearWarmUp(1.0, 10, 468),
        "binarize": False,
        "seed": 9,
        "name": "mine",
    },
    weights=("beta", "weight_prior"),
    networks={
        "encoder": (small.features, lambda: small.gaussian_encoder(latent_dim=small.D + 1)),
        "decoder": (
            lambda: small.decoder(latent_dim=small.D + 1),
            lambda: small.decoder(image_shape=(8, 8, 1)),
        ),
    },
    falling={"loss": 0.97},
    as_published=lambda: {
        "encoder": kingma.m1_encoder(small.IMAGE_SHAPE, small.D, hidden=(8, 8)),
        "decoder": kingma.m1_decoder(small.IMAGE_SHAPE, small.D, hidden=(8, 8)),
    },
    draws=("epsilon", "uniform"),
    normal_parts=("z",),
)

UNEVEN = [0.5, 0.3, 0.2]
OF_M2 = {"num_classes": small.K, "z_dim": small.D, "class_priors": [UNEVEN], "alpha": 3.0, "weight_prior": 0.02}


def m2(dropout=0.0, weights_seed=8, **arguments):
    parts = {
        "encoder": lambda: small.label_encoder(dropout),
        "decoder": small.label_decoder,
        "classifier": lambda: small.label_classifier(dropout),
    }
    given = OF_M2 | {name: build() for name, build in parts.items() if name not in arguments}
    return small.with_weights(M2(**{**given, **arguments}), weights_seed)


FEATURES = 3  # chosen from the four dimensions of M1


def trained_m1():
    encoder, decoder = small.gaussian_encoder(latent_dim=4), small.decoder(latent_dim=4, activation=None)
    return small.with_weights(M1(encoder, decoder, z_dim=4), 2)


def m1m2(dropout=0.0, weights_seed=4, **arguments):
    parts = {
        "m1": trained_m1,
        "encoder": lambda: small.label_encoder(dropout, shape=(FEATURES,)),
        "decoder": lambda: small.label_decoder(shape=(2 * FEATURES,)),
        "classifier": lambda: small.label_classifier(dropout, shape=(FEATURES,)),
    }
    given = OF_M2 | {"active": [0, 2, 3]}
    given |= {name: build() for name, build in parts.items() if name not in arguments}
    return small.with_weights(M1M2(**{**given, **arguments}), weights_seed)


def _m2(stacked):
    shape, outputs = ((FEATURES,), (2 * FEATURES,)) if stacked else (small.IMAGE_SHAPE,) * 2
    of_its_kind = {"likelihood": likelihoods.Laplace(0.5), "binarize": False}

    def features(model, images):
        return {"features": (model.features, (images,), (7, FEATURES))}

    return Entry(
        name="M1M2" if stacked else "M2",
        variant=not stacked,
        build=m1m2 if stacked else m2,
        optimizer=lambda **adam: Adam(1e-2, **adam),
        parts=("labeled", "unlabeled"),
        needs=(),
        sizes=(small.K,),
        arguments={
            **({"m1": trained_m1(), "active": [0, 1, 3]} if stacked else of_its_kind),
            **OF_M2,
            "class_priors": [[0.2, 0.2, 0.6]],
            "class_names": SEVERAL_NAMES[0],
            "seed": 9,
            "name": "mine",
        },
        weights=("alpha", "weight_prior"),
        networks={
            "encoder": (
                small.features,  # one input
                lambda: small.label_encoder(num_classes=small.K + 1, shape=shape),
                lambda: small.label_encoder(latent_dim=small.D + 1, shape=shape),
            ),
            "decoder": (
                lambda: small.label_decoder(latent_dim=small.D, shape=outputs),
                lambda: small.label_decoder(shape=(*outputs[:-1], outputs[-1] + 1)),
            ),
            "classifier": (lambda: small.label_classifier(num_classes=small.K - 1, shape=shape),),
        },
        labelled_terms=("reconstruction", "kl_z", "kl_y", "cross_entropy", "total"),
        falling={"loss": 0.9 if stacked else 0.97},
        as_published=lambda: {
            "encoder": kingma.m2_encoder(shape, small.K, small.D, hidden=(16,)),
            "decoder": kingma.m2_decoder(outputs, small.K, small.D, hidden=(16,)),
            "classifier": kingma.m2_classifier(shape, small.K, hidden=(16,)),
        },
        draws=("epsilon_labeled", "epsilon_unlabeled")
        + (("epsilon_m1_labeled", "epsilon_m1_unlabeled") if stacked else ("uniform_labeled", "uniform_unlabeled")),
        normal_parts=("z",),
        verbs=features if stacked else lambda model, images: {},
    )


# N-VAE, beta-VAE and CVAE


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
        "class_names": SEVERAL_NAMES[0],
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
    given = {"num_classes": small.K, "z_dim": small.D, "class_priors": [UNEVEN], "beta": 0.7, "binarize": True}
    parts = {"encoder": lambda: small.label_encoder(dropout), "decoder": small.label_decoder}
    given |= {name: build() for name, build in parts.items() if name not in arguments}
    return small.with_weights(CVAE(**{**given, **arguments}), weights_seed)


_OF_M2 = _m2(stacked=False)
CVAE_ENTRY = Entry(
    name="CVAE",
    variant=True,
    build=cvae,
    optimizer=_OF_M2.optimizer,
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
        "class_names": SEVERAL_NAMES[0],
        "seed": 9,
        "name": "mine",
    },
    weights=("beta",),
    networks={name: _OF_M2.networks[name] for name in ("encoder", "decoder")},
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


_OF_VAE = _vae(vamp=False)
BETA_VAE_ENTRY = Entry(
    name="beta-VAE",
    variant=True,
    build=beta_vae,
    optimizer=lambda **adam: Adam(1e-2, **adam),
    parts=_OF_VAE.parts,
    needs=_OF_VAE.needs,
    arguments={**_OF_VAE.arguments, "likelihood": likelihoods.Bernoulli(1e-4), "binarize": True, "kl": "sampled"},
    weights=("beta",),
    networks=_OF_VAE.networks,
    falling={"loss": 0.97},
    as_published=lambda: {
        "encoder": nvae_networks.encoder(small.IMAGE_SHAPE, small.D, filters=(4,), hidden=(8,)),
        "decoder": nvae_networks.decoder(small.IMAGE_SHAPE, small.D, filters=(4,), hidden=(8,)),
    },
    draws=("epsilon",),
    normal_parts=("z",),
)


_ALL = (
    EXON,
    _parted(several=False),
    _parted(several=True),
    _OF_VAE,
    _vae(vamp=True),
    HVAE_ENTRY,
    CP_VAE,
    _ONE_LABEL,
    _revae(several=True),
    M3_ENTRY,
    M1_ENTRY,
    _OF_M2,
    _m2(stacked=True),
    NVAE_ENTRY,
    CVAE_ENTRY,
    BETA_VAE_ENTRY,
)
ENTRIES = tuple(entry for entry in _ALL if not (entry.variant and "WITHOUT_VARIANTS" in os.environ))
