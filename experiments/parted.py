"""What the experiments with PartedVAE share: building and compiling, figures, summary, and operations of a step."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_ssvae import callbacks, plots
from keras_ssvae.models import PartedVAE
from keras_ssvae.optimizers import GroupedOptimizer, PlateauAdam
from keras_ssvae.runs import flags
from keras_ssvae.runs.experiment import Experiment
from keras_ssvae.runs.plan import Run
from keras_ssvae.runs.work import forward_gflop

# Half of a batch is labelled: each of the two steps of the released code has a batch of 64.
BATCHES = {"batch_size": 128, "labeled_batch_size": 64}


def build(
    settings: dict[str, Any],
    learning_rate: float,
    make_networks: Callable[[], dict[str, keras.Model]] = dict,
    patience: int = 2,
    supervised_cooldown: int = 3,
    kind: type[PartedVAE] = PartedVAE,
    **options,
) -> PartedVAE:
    """The compiled model of a run.

    Args:
        settings: The settings of the run.
        learning_rate: First rate of the two optimizers of the released code. A rate halves when the mean loss of its
            step over an epoch stops falling.
        make_networks: () -> arguments of `PartedVAE`; called after the seed of the weights is set.
        patience: Epochs without improvement that both optimizers tolerate before their rates fall.
        supervised_cooldown: Epochs after a fall of the supervised step's rate that do not count as epochs without
            improvement.
        kind: The class of the model.
        **options: Further arguments of `PartedVAE`.
    """
    keras.utils.set_random_seed(settings["seed"])
    model = kind(**make_networks(), seed=settings["seed"], **options)
    plateaus = {"supervised": (0.1, supervised_cooldown), "main": (0.01, 4)}  # relative threshold, cooldown
    optimizer = GroupedOptimizer(
        {
            name: PlateauAdam(
                learning_rate,
                steps_per_epoch=settings["steps_per_epoch"],
                patience=patience,
                threshold=threshold,
                cooldown=cooldown,
                epsilon=1e-8,
                corrected_epsilon=True,
            )
            for name, (threshold, cooldown) in plateaus.items()
        }
    )
    model.compile(optimizer, **flags.compile_options(settings))
    return model


def epoch_figures(run: Run, where: dict[str, Any]) -> list[keras.callbacks.Callback]:
    return [
        callbacks.LatentScatter(run.test_images, run.images.test_labels, class_names=run.images.class_names, **where)
    ]


def figures(run: Run, classes: Sequence[int]) -> dict[str, Figure]:
    """Traversals of z and u in some classes (the paper's Figures 4 and 9), its Figures 5 and 7, and reconstructions."""
    model, test_images = run.model, run.images.test_images
    names = run.images.class_names if run.settings["labels"] else None  # unsupervised, c need not be the label
    return {
        "traversals_z": plots.traversals(model, classes, class_names=names),
        "traversals_u": plots.traversals(model, classes, part="u", class_names=names),
        "transfer": plots.transfer(model, test_images[:8], test_images[8:16]),
        "learned_prior": plots.learned_prior(model, class_names=names),
        "reconstructions": plots.reconstructions(model, test_images[:20]),
    }


def summary(model: PartedVAE, metrics: dict[str, Any]) -> dict[str, str]:
    return {"KL": f"z {metrics['kl_z']:.2f}, u {metrics['kl_u']:.2f} nats"}


def step_gflop(model: PartedVAE, labeled: int, unlabeled: int) -> float:
    """Counts three forward passes for each image: up to the class if it is labelled, through all networks if not."""
    kernels = [variable for variable in model.heads.weights if variable.path.endswith("kernel")]
    heads = 2e-9 * sum(int(np.prod(kernel.shape)) for kernel in kernels)
    encoder = forward_gflop(model.encoder)
    supervised = encoder + 2e-9 * int(np.prod(model.heads.c_logits.kernel.shape))
    return 3 * (labeled * supervised + unlabeled * (encoder + forward_gflop(model.decoder) + heads))


experiment = functools.partial(Experiment, name="PartedVAE", summary=summary, step_gflop=step_gflop)
