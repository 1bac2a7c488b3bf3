"""REVAE and M3."""

from contract import small
from contract.registry.entry import Entry

from keras_ssvae import likelihoods
from keras_ssvae.models import M3, REVAE
from keras_ssvae.networks import revae as revae_networks
from keras_ssvae.optimizers import Adam


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


def revae_entry(several):
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
            "class_names": small.SEVERAL_NAMES if several else small.SEVERAL_NAMES[0],
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


REVAE_ENTRY = revae_entry(several=False)
M3_ENTRY = Entry(
    name="M3",
    variant=True,
    build=m3,
    optimizer=REVAE_ENTRY.optimizer,
    parts=REVAE_ENTRY.parts,
    needs=(),
    sizes=(small.K,),
    arguments={
        **{name: REVAE_ENTRY.arguments[name] for name in ("num_classes", "c_dims", "rest_dim", "likelihood")},
        "alpha": 4.0,
        "confidence": 0.7,
        "attempts": 9,
        "classifier_samples": 3,
        "class_names": small.SEVERAL_NAMES[0],
        "seed": 9,
        "name": "mine",
    },
    weights=("alpha",),
    networks=REVAE_ENTRY.networks,
    labelled_terms=("cross_entropy", "total"),
    falling={"loss": 0.97},
    as_published=REVAE_ENTRY.as_published,
    draws=("epsilon_labeled", "epsilon_unlabeled"),
    normal_parts=("z_rest",),
)


# M1, M2 and M1+M2

ENTRIES = (REVAE_ENTRY, revae_entry(several=True), M3_ENTRY)
