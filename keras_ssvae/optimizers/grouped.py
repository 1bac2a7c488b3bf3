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

    def build(self, variables) -> None:
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
    def learning_rate(self) -> Any:
        """The rate of the first group, which is what loggers show; set, it is that of all groups."""
        return next(iter(self.members.values())).learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        for optimizer in self.members.values():
            optimizer.learning_rate = value

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
