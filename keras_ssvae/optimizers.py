"""Adam to the last digit, and several optimizers over groups of variables behind one Keras optimizer."""

import math
from collections.abc import Mapping, Sequence

import keras
from keras import ops

from keras_ssvae.backend import apply_adam, private
from keras_ssvae.distributions import Tensor


@keras.saving.register_keras_serializable("keras_ssvae")
class Adam(keras.optimizers.Adam):
    """Adam by the backend's fused kernel, with decoupled weight decay where `weight_decay` is given.

    Keras computes `1 - beta_2^t` by subtraction and `1 - beta_2` exactly, so its first steps are 6e-6 too short:
    enough to leave the original codes' numbers behind. `amsgrad` is not supported.

    Args:
        *args: As those of `keras.optimizers.Adam`.
        corrected_epsilon: Adds epsilon to the root of the corrected second moment, as the paper and PyTorch do, and not
            to that of the moment itself, as TensorFlow and Keras do.
        **kwargs: As those of `keras.optimizers.Adam`.

    Raises:
        ValueError: For `amsgrad=True`.

    Example:
        >>> optimizer = Adam(3e-3, weight_decay=5e-4)

    Reference:
        Kingma, Ba: Adam. Loshchilov, Hutter: Decoupled weight decay regularization.
    """

    def __init__(self, *args, corrected_epsilon: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        self.corrected_epsilon = corrected_epsilon
        if self.amsgrad:
            raise ValueError("`amsgrad` is True; this Adam has no such variant. Use `keras.optimizers.Adam`.")

    def update_step(self, gradient, variable, learning_rate):
        momentum, velocity = private.adam_moments(self, variable)
        epsilon = self.epsilon
        if self.corrected_epsilon:
            power = ops.power(ops.cast(self.beta_2, "float32"), ops.cast(self.iterations + 1, "float32"))
            epsilon = epsilon * ops.sqrt(1.0 - power)
        apply_adam(
            variable,
            momentum,
            velocity,
            gradient,
            learning_rate,
            self.iterations + 1,
            self.beta_1,
            self.beta_2,
            epsilon,
        )

    def get_config(self):
        return {**super().get_config(), "corrected_epsilon": self.corrected_epsilon}


@keras.saving.register_keras_serializable("keras_ssvae")
class PlateauAdam(Adam):
    """Adam whose rate falls when the mean loss of an epoch does not, as by PyTorch's `ReduceLROnPlateau`.

    After more than `patience` epochs in a row whose mean loss is not below `1 - threshold` times the best so far, the
    rate is multiplied by `factor`; the `cooldown` epochs after that do not count. Unlike a callback it is a part of the
    optimizer: what it remembers is saved and restored with it.

    The training step calls `observe(loss)` after `apply`; those of this library do.

    Args:
        learning_rate: The rate at the beginning, a number.
        steps_per_epoch: Steps in an epoch.
        factor: Between 0 and 1.
        patience: Epochs without improvement before the rate falls.
        threshold: By which share of the best mean loss so far a mean loss must be smaller to count as an improvement.
        cooldown: Epochs after a fall of the rate that do not count.
        **kwargs: As those of `Adam`.

    Raises:
        ValueError: If the rate is a schedule, or `steps_per_epoch` is below 1.

    Example:
        >>> optimizer = PlateauAdam(1.5e-3, steps_per_epoch=938, patience=2, threshold=0.01, cooldown=4)
    """

    # What it remembers, made by `build`: the best mean loss, the mean of this epoch so far, and the epochs without
    # improvement and of cooling down.
    _best: keras.Variable
    _mean: keras.Variable
    _stalled: keras.Variable
    _cooling: keras.Variable

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        steps_per_epoch: int,
        factor: float = 0.5,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        **kwargs,
    ):
        super().__init__(learning_rate, **kwargs)
        if isinstance(private.learning_rate(self), keras.optimizers.schedules.LearningRateSchedule):
            raise ValueError("`learning_rate` is a schedule; it must be a number, which falls on a plateau.")
        if steps_per_epoch < 1:
            raise ValueError(f"`steps_per_epoch` is {steps_per_epoch}; it must be at least 1.")
        self.steps_per_epoch, self.factor = steps_per_epoch, factor
        self.patience, self.threshold, self.cooldown = patience, threshold, cooldown

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        for name, value in (("best", math.inf), ("mean", 0.0), ("stalled", 0.0), ("cooling", 0.0)):
            variable = self.add_variable(
                (), keras.initializers.Constant(value), "float32", aggregation="only_first_replica", name=name
            )
            setattr(self, f"_{name}", variable)

    def observe(self, loss: Tensor) -> None:
        """Takes note of the loss of the step that was just applied; at the end of an epoch the rate may fall."""
        mean = self._mean + ops.cast(loss, "float32") / self.steps_per_epoch
        ended = ops.equal(self.iterations % self.steps_per_epoch, 0)
        better = mean < self._best * (1.0 - self.threshold)
        stalled = ops.where(ops.logical_or(better, self._cooling > 0.0), 0.0, self._stalled + 1.0)
        falls = stalled > self.patience
        rate = private.learning_rate(self)
        at_the_end = [
            (rate, ops.where(falls, self.factor, 1.0) * rate),
            (self._best, ops.where(better, mean, self._best.value)),
            (self._stalled, ops.where(falls, 0.0, stalled)),
            (self._cooling, ops.where(falls, float(self.cooldown), ops.maximum(self._cooling - 1.0, 0.0))),
        ]
        for variable, value in at_the_end:
            variable.assign(ops.where(ended, value, variable.value))
        self._mean.assign(ops.where(ended, 0.0, mean))

    def get_config(self):
        names = ("steps_per_epoch", "factor", "patience", "threshold", "cooldown")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("keras_ssvae")
class GroupedOptimizer(keras.optimizers.Optimizer):
    """Gives each named group of variables an optimizer of its own.

    It is one optimizer to `compile`, `save`, `load_model` and every callback, so nothing of its state is lost on the
    way. A weight decay reaches the variables of its own group only. Groups may share variables where a training step
    calls the `members` one after the other, as that of `PartedVAE`; `apply` is for groups that do not.

    Args:
        optimizers: Group name -> Keras optimizer.
        name: Name of the whole.

    Raises:
        ValueError: When `bind` was not called, or a variable is in no group.

    Example:
        >>> optimizer = GroupedOptimizer(
        ...     {"autoencoder": Adam(3e-3), "classifier": Adam(3e-3, weight_decay=5e-4)}
        ... )
        >>> model.compile(optimizer)  # a model of this library binds its groups; elsewhere call `bind`
    """

    def __init__(self, optimizers: Mapping[str, keras.optimizers.Optimizer], name: str = "grouped_optimizer"):
        super().__init__(learning_rate=1.0, name=name)
        self.members = dict(optimizers)
        self._groups: dict[str, frozenset[int]] | None = None

    def bind(self, groups: Mapping[str, Sequence[keras.Variable]]) -> None:
        """Says which variables belong to which optimizer.

        Args:
            groups: Group name -> trainable variables; the names are those of `optimizers`.
        """
        if set(groups) != set(self.members):
            raise ValueError(
                f"`optimizers` has the groups {sorted(self.members)}, but the model's variables come in the groups "
                f"{sorted(groups)}. Give each of these an optimizer."
            )
        # Numbers only: a list of variables in an attribute would be tracked, and saved, as the optimizer's own.
        self._groups = {name: frozenset(map(id, variables)) for name, variables in groups.items()}

    def build(self, variables):
        bound = frozenset.union(*self._bound().values())
        if set(map(id, variables)) != bound:
            raise ValueError(
                f"The optimizer was bound to {len(bound)} variables and is built on {len(variables)} others. "
                "Each trainable variable of the model must be in a group."
            )
        if not self.built:
            super().build(variables)
            for name, optimizer in self.members.items():
                optimizer.build(self._of_group(name, variables, variables))

    def _bound(self):
        if self._groups is None:
            raise ValueError("The groups of variables are not known: call `bind` before `build`.")
        return self._groups

    def _of_group(self, name, variables, values):
        group = self._bound()[name]
        return [value for variable, value in zip(variables, values, strict=True) if id(variable) in group]

    def apply(self, grads, trainable_variables=None):
        if trainable_variables is None:
            trainable_variables = private.optimized_variables(self)
        self.build(trainable_variables)
        if sum(len(group) for group in self._bound().values()) > len(trainable_variables):
            raise ValueError(
                "A variable is in several groups, so `apply` does not know which optimizer its gradient is for; each "
                "must be in exactly one group, or the training step must call the `members` themselves."
            )
        for name, optimizer in self.members.items():
            optimizer.apply(
                self._of_group(name, trainable_variables, grads),
                self._of_group(name, trainable_variables, trainable_variables),
            )
        self.iterations.assign_add(1)

    def observe(self, loss: Tensor) -> None:
        """Tells the loss to those members that want it, as `PlateauAdam`."""
        for optimizer in self.members.values():
            if hasattr(optimizer, "observe"):
                optimizer.observe(loss)

    @property
    def variables(self):
        return super().variables + [v for optimizer in self.members.values() for v in optimizer.variables]

    def save_own_variables(self, store):
        # Keras saves the optimizers in `members` by itself.
        store["iterations"] = self.iterations.numpy()

    def load_own_variables(self, store):
        self.iterations.assign(store["iterations"])

    @property
    def learning_rate(self):
        """The rate of the first group, which is what loggers show; set, it is that of all groups."""
        return next(iter(self.members.values())).learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        for optimizer in self.members.values():
            optimizer.learning_rate = value

    def get_config(self):
        optimizers = {k: keras.saving.serialize_keras_object(v) for k, v in self.members.items()}
        return {"optimizers": optimizers, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        optimizers = {
            name: keras.saving.deserialize_keras_object(optimizer, custom_objects)
            for name, optimizer in config["optimizers"].items()
        }
        return cls(optimizers, config["name"])
