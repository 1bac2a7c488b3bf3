"""EXoN and PartedVAE."""

from contract import small
from contract.registry.entry import Entry

from keras_ssvae.models import EXoN, PartedVAE
from keras_ssvae.optimizers import Adam, GroupedOptimizer, PlateauAdam
from keras_ssvae.priors import GaussianMixture
from keras_ssvae.schedules import RampUp

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


def parted_entry(several):
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
            "class_names": small.SEVERAL_NAMES if several else small.SEVERAL_NAMES[0],
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


ENTRIES = (EXON, parted_entry(several=False), parted_entry(several=True))
