"""One Keras optimizer that holds several, each for a group of variables."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras

from keras_ssvae.backend import private
from keras_ssvae.distributions import Tensor


@keras.saving.register_keras_serializable("keras_ssvae")
class GroupedOptimizer(keras.optimizers.Optimizer):
    """Gives each named group of variables an optimizer of its own.

    `compile`, `save`, `load_model` and all callbacks see one optimizer, so saving and restoring keep its whole state.
    Each member acts on the variables of its own group only, also by weight decay, clipping, accumulation of gradients
    and moving averages of the weights. Groups may share variables if the training step calls the `members` one after
    the other, as `PartedVAE` does. `apply` needs groups that share no variable.

    Setting `learning_rate`, as some callbacks do, sets the rate of the first group and changes the others in
    proportion. To change one rate only, set `members[name].learning_rate`.

    Args:
        optimizers: Group name -> Keras optimizer. All must have the same `loss_scale_factor`, since there is one loss.
        name: Name of this optimizer.

    Raises:
        ValueError: If `bind` was not called, a variable is in no group, a variable is in two groups with moving
            averages, or the `loss_scale_factor`s differ; if `learning_rate` is set while a group has a schedule.

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
                    f"The optimizer of the group {group!r} is a `LossScaleOptimizer`, which a group cannot have. Give "
                    "each group's optimizer a `loss_scale_factor` instead."
                )
        factors = {group: member.loss_scale_factor for group, member in self.members.items()}
        if len(set(factors.values())) > 1:
            raise ValueError(
                f"`loss_scale_factor` is {factors}; all groups share one loss, so it must be the same for all."
            )
        self.loss_scale_factor = next(iter(factors.values()), None)
        self._groups: dict[str, frozenset[int]] | None = None
        self._proportions: dict[str, float] = {}
        self._note_proportions()

    def bind(self, groups: Mapping[str, Sequence[keras.Variable]]) -> None:
        """Assigns variables to the optimizers. `compile` of this library's models calls it.

        Args:
            groups: Group name -> trainable variables. The names must be those of `optimizers`.

        Raises:
            ValueError: If the names differ, or a variable is in two groups with `use_ema`.
        """
        if set(groups) != set(self.members):
            raise ValueError(
                f"`optimizers` has the groups {sorted(self.members)}, but the model's variables are in the groups "
                f"{sorted(groups)}. Give an optimizer for each of these."
            )
        averaged = [name for name, optimizer in self.members.items() if optimizer.use_ema]
        ids = [id(variable) for name in averaged for variable in groups[name]]
        if len(set(ids)) < len(ids):
            raise ValueError(
                f"`use_ema` is True in the groups {averaged}, which share variables, but a variable can have one "
                "average only. Set it in one of these groups."
            )
        # Ids, not variables: Keras would track and save variables in an attribute as the optimizer's own.
        self._groups = {name: frozenset(map(id, variables)) for name, variables in groups.items()}

    def build(self, variables) -> None:
        bound = frozenset.union(*self._bound().values())
        if set(map(id, variables)) != bound:
            raise ValueError(
                f"The groups of the optimizer hold {len(bound)} variables, but it is built for {len(variables)} other "
                "ones. Each trainable variable of the model must be in a group; call `compile` again if `trainable` "
                "was changed."
            )
        if not self.built:
            super().build(variables)
            for name, optimizer in self.members.items():
                optimizer.build(self._of_group(name, variables, variables))

    def _bound(self):
        if self._groups is None:
            raise ValueError("The optimizer does not know the groups of variables: call `bind` before `build`.")
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
                "A variable is in several groups, so `apply` cannot choose the optimizer for its gradient. Put each "
                "variable in exactly one group, or call the optimizers in `members` from the training step."
            )
        for name, optimizer in self.members.items():
            optimizer.apply(
                self._of_group(name, trainable_variables, grads),
                self._of_group(name, trainable_variables, trainable_variables),
            )
        self.iterations.assign_add(1)

    def observe(self, loss: Tensor) -> None:
        """Tells the loss to the members that need it, such as `PlateauAdam`."""
        for optimizer in self.members.values():
            if hasattr(optimizer, "observe"):
                optimizer.observe(loss)

    @property
    def variables(self) -> list[keras.Variable]:
        return super().variables + [v for optimizer in self.members.values() for v in optimizer.variables]

    def save_own_variables(self, store) -> None:
        # Keras itself saves the optimizers in `members`.
        store["iterations"] = self.iterations.numpy()

    def load_own_variables(self, store) -> None:
        self.iterations.assign(store["iterations"])

    @property
    def _model_variables_moving_average(self) -> list[keras.Variable]:
        """The values that Keras' `SwapEMAWeights` swaps in: the averages, and copies of variables without one."""
        members = [optimizer for optimizer in self.members.values() if optimizer.use_ema]
        if not members:
            raise AttributeError("No group has `use_ema`.")
        averages = {id(variable): average for each in members for variable, average in private.moving_averages(each)}
        return [
            averages[id(variable)] if id(variable) in averages else keras.Variable(variable, trainable=False)
            for variable in private.optimized_variables(self)
        ]

    def finalize_variable_values(self, var_list) -> None:
        """Sets variables to their moving averages, if their group has `use_ema`. `fit` calls it at its end."""
        ids = set(map(id, var_list))
        for optimizer in self.members.values():
            if optimizer.use_ema:
                for variable, average in private.moving_averages(optimizer):
                    if id(variable) in ids:
                        variable.assign(average)

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the first group, which loggers show. Setting it changes all rates in proportion."""
        return next(iter(self.members.values())).learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        scheduled = [name for name, optimizer in self.members.items() if _rate(optimizer) is None]
        if scheduled or callable(value):
            what = f"the groups {scheduled} have schedules" if scheduled else f"it is set to {value!r}"
            raise ValueError(
                "Setting `learning_rate` of a `GroupedOptimizer` changes the rates of all groups in proportion, but "
                f"{what}. Set `members[name].learning_rate` instead, or give every group a number as its rate."
            )
        self._note_proportions()
        if not self._proportions:
            raise ValueError(
                "The learning rate of the first group is 0, so the proportion of the other rates to it is unknown. Set "
                "`members[name].learning_rate` instead."
            )
        for name, optimizer in self.members.items():
            optimizer.learning_rate = value * self._proportions[name]

    def _note_proportions(self):
        """Stores the proportions of the rates to the first one, unless that is 0, as at the start of a warm-up."""
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
    """The learning rate as a number, or None if it is a schedule."""
    rate = private.learning_rate(optimizer)
    return float(keras.ops.convert_to_numpy(rate)) if isinstance(rate, keras.Variable) else None
