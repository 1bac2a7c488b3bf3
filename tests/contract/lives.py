"""Each model of the registry, trained once for all tests that need it, since compiling its training step takes long."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from contract import asking, small
from contract.programs import program_of


@dataclass
class Life:
    """The results of two epochs of two steps, without interruption.

    Attributes:
        model: The model after both epochs.
        logs: Name -> its value in each epoch.
        states: `asking.state` before and after each epoch.
        traced: The arguments of each call of `step_losses`.
        folder: The folder of `model.keras`, saved after the first epoch, and of `given.npz`, the arguments of its verbs
            and the batch of a step.
        answers: Results of the model after the first epoch: those of the verbs as "verb/NAME", those of `predict` as
            "predict/NAME".
    """

    model: keras.Model
    folder: Path
    logs: dict = field(default_factory=dict)
    states: list = field(default_factory=list)
    traced: list = field(default_factory=list)
    answers: dict = field(default_factory=dict)


def lives_in(root):
    """A function `entry -> Life`, which makes each life once."""

    @functools.cache
    def life_of(entry):
        folder = root / str(len(list(root.iterdir())))
        folder.mkdir()
        names = {name: value for name, value in entry.arguments.items() if name in ("class_names", "cluster_names")}
        life = Life(entry.compiled(dropout=0.2, **names), folder)
        images, labels = small.images(7), asking.true_labels(entry)
        step_losses = life.model.step_losses
        life.model.step_losses = lambda *args: life.traced.append(args) or step_losses(*args)
        life.states.append(asking.state(life.model))

        def note(epoch, logs):
            life.states.append(asking.state(life.model))
            if epoch == 0:
                life.model.save(folder / "model.keras")
                life.answers = _answers(entry, life, images)

        validation = {"validation_data": (images, labels) if entry.sizes else (images,), "validation_batch_size": 4}
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=note)]
        life.logs = asking.fit(life.model, entry.batch(), epochs=2, callbacks=callbacks, **validation)
        return life

    return life_of


def _answers(entry, life, images):
    verbs = asking.verbs(entry, life.model, images)
    given = {f"verb/{name}/{i}": value for name, (_, args, _) in verbs.items() for i, value in enumerate(args)}
    given |= {f"batch/{name}": part for name, part in entry.batch().items()}
    np.savez(life.folder / "given.npz", **given)
    answers = program_of(life.model, lambda: [verb(*arguments) for verb, arguments, _ in verbs.values()])()
    values = {f"verb/{name}": answer for name, answer in zip(verbs, answers, strict=True)}
    predicted = program_of(life.model, life.model.call)(images)
    return asking.to_numpy(values | {f"predict/{name}": value for name, value in predicted.items()})
