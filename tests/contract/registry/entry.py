"""What the contract tests need to know about a model."""

from collections.abc import Callable
from dataclasses import dataclass, field

import keras
from contract import small


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
