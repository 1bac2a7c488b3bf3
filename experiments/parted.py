"""What the experiments with PartedVAE share: the optimizers of its two steps, and its figures."""

from collections.abc import Sequence
from typing import Any

import keras
from matplotlib.figure import Figure

from keras_ssvae import callbacks, plots
from keras_ssvae.optimizers import GroupedOptimizer, PlateauAdam
from keras_ssvae.runs.run import Run


def optimizer(
    learning_rate: float, steps_per_epoch: int, patience: int = 2, supervised_cooldown: int = 3
) -> GroupedOptimizer:
    """The original's two optimizers, whose rates halve when their mean loss of an epoch does not fall.

    Args:
        learning_rate: Of both.
        steps_per_epoch: Steps in an epoch.
        patience: Epochs without progress that both bear.
        supervised_cooldown: Epochs that do not count after a fall of the supervised step's rate.
    """
    plateaus = {"supervised": (0.1, supervised_cooldown), "main": (0.01, 4)}  # relative threshold, cooldown
    return GroupedOptimizer(
        {
            name: PlateauAdam(
                learning_rate,
                steps_per_epoch=steps_per_epoch,
                patience=patience,
                threshold=threshold,
                cooldown=cooldown,
                epsilon=1e-8,
                corrected_epsilon=True,
            )
            for name, (threshold, cooldown) in plateaus.items()
        }
    )


def epoch_figures(run: Run, where: dict[str, Any]) -> list[keras.callbacks.Callback]:
    return [
        callbacks.LatentScatter(run.test_images, run.images.test_labels, class_names=run.images.class_names, **where)
    ]


def figures(run: Run, classes: Sequence[int]) -> dict[str, Figure]:
    """The traversals of z and u in some classes (the paper's Figures 4 and 9), its Figures 5 and 7, reconstructions."""
    model, test_images = run.model, run.images.test_images
    names = run.images.class_names if run.settings["labels"] else None  # unsupervised, c need not be the label
    return {
        "traversals_z": plots.traversals(model, classes, class_names=names),
        "traversals_u": plots.traversals(model, classes, part="u", class_names=names),
        "transfer": plots.transfer(model, test_images[:8], test_images[8:16]),
        "learned_prior": plots.learned_prior(model, class_names=names),
        "reconstructions": plots.reconstructions(model, test_images[:20]),
    }
