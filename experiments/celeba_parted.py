"""PartedVAE on CelebA with 800 labelled images: Section 5.2 of the paper, Figures 6 and 7.

The faces have 218x178 pixels and seven labels: hair colour, beard, hairline, eyeglasses, smile, hat and gender. The
paper also has skin tone, which its authors labelled by hand and did not publish; `keras_ssvae.data.load_celeba` says
how the labels follow from CelebA's attributes. The paper trains for 80 epochs of 2,544 steps, 203,520 in all, so a run
needs a GPU.

The data set is read as tensorflow_datasets prepares it, on the TensorFlow backend only, image by image during the
training. The files are in a random order, and each epoch shuffles them again in a window of 4,096 images. The window
takes 0.5 GB of memory, each labelled image 0.1 MB.

This script was tested for a few steps on generated images of the right shape only: CelebA itself was not available, so
nothing here was compared with the paper's figures.
"""

import argparse
import functools
from typing import Any

import quiet  # noqa: F401

# isort: split
import parted
from matplotlib.figure import Figure

from keras_ssvae import data, plots
from keras_ssvae.data import CELEBA_LABELS, CELEBA_PRIORS
from keras_ssvae.models import PartedVAE
from keras_ssvae.networks.parted_vae import celeba_decoder, celeba_encoder
from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.plan import Run
from keras_ssvae.runs.run import main
from keras_ssvae.runs.sets import OnDisk

PAPER = {"epochs": 80, "steps_per_epoch": 2544, **parted.BATCHES, "validation": 1024}
Z_DIM = 10
WINDOW = 4096
DATA_DIR = "directory of tensorflow_datasets (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Replaces the shared flags that have another meaning here."""
    parser.add_argument(
        "--labels",
        type=int,
        help="labelled images, drawn by --seed from the images with a known value of each label (default 800)",
    )
    parser.add_argument(
        "--validation",
        type=int,
        help="labelled images of CelebA's validation part, which are evaluated after each epoch (default "
        f"{PAPER['validation']})",
    )
    parser.add_argument("--data-dir", help=DATA_DIR)
    parser.add_argument("--labeled-indices", help=argparse.SUPPRESS)


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    if args.labeled_indices is not None:
        raise UserError("--labeled-indices is not for CelebA, whose labelled images are drawn by --seed. Leave it out.")
    return args


def build_model(settings: dict[str, Any], prior: None = None) -> PartedVAE:
    """The networks of Table 5 and the settings of Table 6; where the released code differs, those of the code."""
    return parted.build(
        settings,
        5e-4,
        lambda: {"encoder": celeba_encoder(), "decoder": celeba_decoder(latent_dim=Z_DIM + len(CELEBA_LABELS))},
        num_classes=[len(values) for values in CELEBA_LABELS.values()],
        class_names=[list(values) for values in CELEBA_LABELS.values()],
        u_dims=(1,) * len(CELEBA_LABELS),
        z_dim=Z_DIM,
        class_priors=CELEBA_PRIORS,
        pixel_loss="absolute_error",
        gamma_z=1000.0,
        gamma_u=1000.0,
        gamma_c=2000.0,
        gamma_h=10.0,
        gamma_bc=500.0,
        tolerance=0.2,
        capacity_z=30.0,
        capacity_u=15.0,
        capacity_steps=125_000,
    )


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    """Figures 6 (z) and 7 (the learned prior of each label), the transfer of attributes and reconstructions."""
    model, test = run.model, run.images.test
    images, _ = test.read(test.complete[:16])
    half, names = len(images) // 2, {label: list(values) for label, values in CELEBA_LABELS.items()}
    gender = list(names).index("gender")
    return {
        "traversals_z": plots.traversals(model, [0, 1], variable=gender, class_names=names["gender"]),
        "transfer": plots.transfer(model, images[:half], images[half:]),
        "reconstructions": plots.reconstructions(model, images),
        **{
            f"learned_prior_{label.replace(' ', '_')}": plots.learned_prior(model, i, class_names=names[label])
            for i, label in enumerate(names)
        },
    }


EXPERIMENT = parted.experiment(
    description=__doc__,
    settings={"celeba": PAPER},
    labels=800,
    build_model=build_model,
    figures=figures,
    load=lambda name, data_dir: data.load_celeba(data_dir),
    sets=functools.partial(OnDisk, label_names=tuple(CELEBA_LABELS), shuffle_buffer=WINDOW),
    add_flags=add_flags,
    check_flags=check_flags,
)

if __name__ == "__main__":
    main(EXPERIMENT)
