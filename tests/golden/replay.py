"""Replays steps of an original code: the same weights, data and noise must give the same numbers."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

GOLDEN = Path(os.environ.get("KERAS_SSVAE_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))


@dataclass(frozen=True)
class Stored:
    """An array of the file, or a part of one, that is a variable of the model, or a part of one.

    Args:
        variable: The variable, or whatever else belongs to it and has its shape.
        name: Of the array, without what the file puts in front ("initial/", "final/norm/", ...).
        to_file: Makes the file's layout of the variable's: a permutation of its numbers, or some of them.
        where: The part of the array; by default all of it. What no variable has is 0 in the original, always.
    """

    variable: keras.Variable
    name: str
    to_file: Callable[[np.ndarray], np.ndarray] = np.asarray
    where: Any = ...


class Replay:
    """A model that starts with the weights of a file, and what its steps give.

    Args:
        file: The arrays of the golden file.
        model: The model, compiled.
        stored: How its variables lie in the file.
        initial: `(name, shape) -> array`: the first weights. The shape is that of the variables' part of the array.
        steps: The names of the steps.
        batch: `name -> batch` of a step, as `replay_step` takes it.
        noise: `name -> noise` of a step.
        prepare: `name -> None`, called before each step; by default nothing happens.
        observe: `batch -> outputs`, what the networks give before each step.
        optimizer: The one whose gradients are noted; by default the model's.

    Attributes:
        terms: Of each step the terms by name, one number per example.
        observed: What `observe` gave at each step.
        gradients: Name in the file -> gradient of the first step, in the file's layout.
        gradients_of_steps: The same of each step.
        weights: Name in the file -> value after the last step, in the file's layout.
    """

    def __init__(
        self,
        file: dict[str, np.ndarray],
        model: keras.Model,
        stored: Iterable[Stored],
        *,
        initial: Callable[[str, tuple[int, ...]], np.ndarray],
        steps: Sequence[str],
        batch: Callable[[str], dict],
        noise: Callable[[str], dict],
        prepare: Callable[[str], object] = lambda name: None,
        observe: Callable[[dict], dict] = lambda batch: {},
        optimizer: keras.optimizers.Optimizer | None = None,
    ):
        self.file, self.model, self.steps = file, model, steps
        self.stored = list(stored)
        self._shapes = {}
        self._load(initial)
        self.terms, self.observed, self.gradients_of_steps = [], [], []
        take = _with_gradients(model, optimizer or model.optimizer)
        for name in steps:
            prepare(name)
            given = batch(name)
            self.observed.append(_to_numpy(observe(given)))
            terms, gradients = take(given, noise(name))
            self.terms.append(_to_numpy(terms))
            self.gradients_of_steps.append(self._of_gradients(gradients))
        self.gradients = self.gradients_of_steps[0]
        self.weights = self._values(self.stored, ops.convert_to_numpy)

    def _load(self, initial):
        values = {}
        for stored in self.stored:
            # The layout of the places tells which of the variable's numbers each number of the file is.
            shape = tuple(stored.variable.shape)
            places = stored.to_file(np.arange(np.prod(shape)).reshape(shape))
            array = initial(stored.name, places.shape)
            self._shapes[stored.name] = array.shape
            flat = values.setdefault(id(stored.variable), np.full(np.prod(shape), np.nan))
            flat[places.ravel()] = array[stored.where].ravel()
        for stored in self.stored:
            value = values[id(stored.variable)].reshape(stored.variable.shape)
            assert not np.isnan(value).any(), f"{stored.name}: the file has not all of the variable"
            stored.variable.assign(value)

    def _of_gradients(self, gradients):
        given = {id(v): gradient for v, gradient in zip(self.model.trainable_variables, gradients, strict=True)}
        trainable = [stored for stored in self.stored if id(stored.variable) in given]
        return self._values(trainable, lambda variable: given[id(variable)])

    def _values(self, stored, value_of):
        values = {}
        for each in stored:
            part = each.to_file(np.asarray(value_of(each.variable)))
            whole = values.setdefault(each.name, np.zeros(self._shapes[each.name], part.dtype))
            whole[each.where] = part
        return values


def formula_numbers(seed: int, rank: int, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers in [-1, 1) that files give weights by, which they do not store: `rank` is that of the sorted name."""
    return 2.0 * np.random.Generator(np.random.PCG64([seed, rank])).random(np.prod(shape)).reshape(shape) - 1.0


def scaled(images: np.ndarray) -> np.ndarray:
    """Images in [-1, 1] of bytes."""
    return images if images.dtype == np.float32 else (images.astype("float32") - 127.5) / 127.5


def some(values: np.ndarray) -> np.ndarray:
    """The 16 values of an array that files of VampPrior's kind keep, spread over it."""
    flat = np.ravel(values)
    return flat[np.arange(16) * (flat.size - 1) // 15]


def unpacked(file: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Binary images 28x28 in [-1, 1], which such files keep in bits."""
    return 2.0 * np.unpackbits(file[name], axis=1).reshape(-1, 28, 28, 1).astype("float32") - 1.0


def _to_numpy(values):
    return {name: ops.convert_to_numpy(value) for name, value in values.items()}


def _with_gradients(model, optimizer):
    """`model.replay_step` that also gives what the optimizer was given; on JAX as one program, which is much faster."""
    taken = []
    apply = optimizer.apply

    def record_and_apply(gradients, variables):
        taken[:] = gradients
        apply(gradients, variables)

    optimizer.apply = record_and_apply

    def step(data):
        return model.replay_step(*data), list(taken)

    if keras.backend.backend() != "jax":
        return lambda *data: step(data)
    import jax

    from keras_ssvae.backend import run_step

    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    program = jax.jit(lambda state, *data: run_step(model, step, state, data))

    def launch(*data):
        results, state = program(tuple([v.value for v in group] for group in groups), *data)
        for group, values in zip(groups, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return results

    return launch
