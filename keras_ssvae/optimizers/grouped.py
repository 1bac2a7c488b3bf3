"""Several optimizers over groups of variables behind one Keras optimizer."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras

from keras_ssvae.backend import private
from keras_ssvae.distributions import Tensor


@keras.saving.register_keras_serializable("keras_ssvae")
class GroupedOptimizer(keras.optimizers.Optimizer):
    """Gives each named group of variables an optimizer of its own.

    It is one optimizer to `compile`, `save`, `load_model` and every callback, so nothing of its state is lost on the
    way. What a member does, it does to the variables of its own group only: weight decay, clipping, accumulation of
    gradients, a moving average of the weights. Groups may share variables where a training step calls the `members` one
    after the other, as that of `PartedVAE`; `apply` is for groups that do not.

    A callback that sets `learning_rate` sets that of the first group, and moves those of the others in proportion. To
    set one alone, set `members[name].learning_rate`.

    Args:
        optimizers: Group name -> Keras optimizer. A `loss_scale_factor` is that of the one loss: all have the same.
        name: Name of the whole.

    Raises:
        ValueError: When `bind` was not called, a variable is in no group, two moving averages share one, or the
            optimizers scale the loss by different factors; when `learning_rate` is set where a group has a schedule.

    Example:
        >>> optimizer = GroupedOptimizer(
        ...     {"autoencoder": Adam(3e-3), "classifier": Adam(3e-3, weight_decay=5e-4)}
        ... )
        >>> model.compile(optimizer)  # a model of this library binds its groups; elsewhere call `bind`
    """

    def __init__(self, optimizers: Mapping[str, keras.optimizers.Optimizer], name: str = "grouped_optimizer"):
        super().__init__(learning_rate=1.0, name=name)
        self.members = dict(optimizers)
        for group, member in self.members.items():
            if isinstance(member, keras.optimizers.LossScaleOptimizer):
                raise ValueError(
                    f"The optimizer of the group {group!r} is a `LossScaleOptimizer`, which cannot be in a group. Give "
                    "each group's optimizer a `loss_scale_factor`."
                )
        factors = {group: member.loss_scale_factor for group, member in self.members.items()}
        if len(set(factors.values())) > 1:
            raise ValueError(f"`loss_scale_factor` is {factors}; the groups have one loss, so it must be the same.")
        self.loss_scale_factor = next(iter(factors.values()), None)
        self._groups: dict[str, frozenset[int]] | None = None
        self._proportions: dict[str, float] = {}
        self._note_proportions()

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
        averaged = [name for name, optimizer in self.members.items() if optimizer.use_ema]
        ids = [id(variable) for name in averaged for variable in groups[name]]
        if len(set(ids)) < len(ids):
            raise ValueError(
                f"`use_ema` is True in the groups {averaged}, which share variables; a variable has one average. Set "
                "it in one of them only."
            )
        # Numbers only: a list of variables in an attribute would be tracked, and saved, as the optimizer's own.
        self._groups = {name: frozenset(map(id, variables)) for name, variables in groups.items()}

    def build(self, variables) -> None:
        bound = frozenset.union(*self._bound().values())
        if set(map(id, variables)) != bound:
            raise ValueError(
                f"The optimizer was bound to {len(bound)} variables and is built on {len(variables)} others. "
                "Each trainable variable of the model must be in a group; call `compile` again where `trainable` has "
                "changed."
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

    def apply(self, grads, trainable_variables=None) -> None:
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
    def variables(self) -> list[keras.Variable]:
        return super().variables + [v for optimizer in self.members.values() for v in optimizer.variables]

    def save_own_variables(self, store) -> None:
        # Keras saves the optimizers in `members` by itself.
        store["iterations"] = self.iterations.numpy()

    def load_own_variables(self, store) -> None:
        self.iterations.assign(store["iterations"])

    @property
    def _model_variables_moving_average(self) -> list[keras.Variable]:
        """What Keras' `SwapEMAWeights` exchanges the variables with: a variable without an average, with a copy."""
        members = [optimizer for optimizer in self.members.values() if optimizer.use_ema]
        if not members:
            raise AttributeError("No group has `use_ema`.")
        averages = {id(variable): average for each in members for variable, average in private.moving_averages(each)}
        return [
            averages[id(variable)] if id(variable) in averages else keras.Variable(variable, trainable=False)
            for variable in private.optimized_variables(self)
        ]

    def finalize_variable_values(self, var_list) -> None:
        """Gives variables the values of their moving averages, where their group has `use_ema`; `fit` ends with it."""
        ids = set(map(id, var_list))
        for optimizer in self.members.values():
            if optimizer.use_ema:
                for variable, average in private.moving_averages(optimizer):
                    if id(variable) in ids:
                        variable.assign(average)

    @property
    def learning_rate(self) -> Any:
        """The rate of the first group, which is what loggers show; set, it moves all rates in proportion."""
        return next(iter(self.members.values())).learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        scheduled = [name for name, optimizer in self.members.items() if _rate(optimizer) is None]
        if scheduled or callable(value):
            what = f"the groups {scheduled} have schedules" if scheduled else f"it is set to {value!r}"
            raise ValueError(
                f"`learning_rate` of a `GroupedOptimizer` moves the rates of all groups in proportion, but {what}. Set "
                "`members[name].learning_rate`, or give every group a number where a callback shall move them."
            )
        self._note_proportions()
        if not self._proportions:
            raise ValueError(
                "The rate of the first group is 0, so nobody knows in which proportion the others move. Set "
                "`members[name].learning_rate`."
            )
        for name, optimizer in self.members.items():
            optimizer.learning_rate = value * self._proportions[name]

    def _note_proportions(self):
        """Keeps the rates' proportion to the first, also through a rate of 0, as a warm-up begins with."""
        rates = {name: _rate(optimizer) for name, optimizer in self.members.items()}
        first = next(iter(rates.values()), None)
        if first and None not in rates.values():
            self._proportions = {name: rate / first for name, rate in rates.items()}

    def get_config(self) -> dict[str, Any]:
        optimizers = {k: keras.saving.serialize_keras_object(v) for k, v in self.members.items()}
        return {"optimizers": optimizers, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None) -> Self:
        optimizers = {
            name: keras.saving.deserialize_keras_object(optimizer, custom_objects)
            for name, optimizer in config["optimizers"].items()
        }
        return cls(optimizers, config["name"])


def _rate(optimizer):
    """The rate as a number, or None of a schedule."""
    rate = private.learning_rate(optimizer)
    return float(keras.ops.convert_to_numpy(rate)) if isinstance(rate, keras.Variable) else None
