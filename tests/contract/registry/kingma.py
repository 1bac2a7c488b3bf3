"""M1, M2 and M1+M2."""

from contract import small
from contract.registry.entry import Entry

from keras_ssvae import likelihoods
from keras_ssvae.models import M1, M1M2, M2
from keras_ssvae.networks import kingma
from keras_ssvae.optimizers import Adam
from keras_ssvae.schedules import LinearWarmUp


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

OF_M2 = {"num_classes": small.K, "z_dim": small.D, "class_priors": [small.UNEVEN], "alpha": 3.0, "weight_prior": 0.02}


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


def m2_entry(stacked):
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
            "class_names": small.SEVERAL_NAMES[0],
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


M2_ENTRY = m2_entry(stacked=False)
ENTRIES = (M1_ENTRY, M2_ENTRY, m2_entry(stacked=True))
