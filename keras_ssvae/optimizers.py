"""Adam to the last digit, and several optimizers over disjoint groups of variables behind one Keras optimizer."""

from collections.abc import Mapping, Sequence

import keras
from keras import ops

from keras_ssvae.training import apply_adam


@keras.saving.register_keras_serializable("keras_ssvae")
class Adam(keras.optimizers.Adam):
    """Adam by the backend's fused kernel, with decoupled weight decay where `weight_decay` is given.

    Keras computes `1 - beta_2^t` by subtraction and `1 - beta_2` exactly, so its first steps are 6e-6 too short:
    enough to leave the original codes' numbers behind. All arguments are those of `keras.optimizers.Adam`; `amsgrad`
    is not supported.

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
        index = self._get_variable_index(variable)
        epsilon = self.epsilon
        if self.corrected_epsilon:
            correction = 1.0 - ops.power(ops.cast(self.beta_2, "float32"), ops.cast(self.iterations + 1, "float32"))
            epsilon = epsilon * ops.sqrt(correction)
        apply_adam(
            variable,
            self._momentums[index],
            self._velocities[index],
            gradient,
            learning_rate,
            self.iterations + 1,
            self.beta_1,
            self.beta_2,
            epsilon,
        )


@keras.saving.register_keras_serializable("keras_ssvae")
class GroupedOptimizer(keras.optimizers.Optimizer):
    """Gives each named group of variables an optimizer of its own.

    It is one optimizer to `compile`, `save`, `load_model` and every callback, so nothing of its state is lost on the
    way. A weight decay reaches the variables of its own group only.

    Args:
        optimizers: Group name -> Keras optimizer.
        name: Name of the whole.

    Raises:
        ValueError: When `bind` was not called, or the groups do not partition the variables.

    Example:
        >>> optimizer = GroupedOptimizer(
        ...     {"autoencoder": Adam(3e-3), "classifier": Adam(3e-3, weight_decay=5e-4)}
        ... )
        >>> model.compile(optimizer)  # a model of this library binds its groups; elsewhere call `bind`
    """

    def __init__(self, optimizers: Mapping[str, keras.optimizers.Optimizer], name: str = "grouped_optimizer"):
        super().__init__(learning_rate=1.0, name=name)
        self.members = dict(optimizers)
        self._groups = None

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
        if len({id(v) for variables in groups.values() for v in variables}) < sum(map(len, groups.values())):
            raise ValueError("A variable is in several groups; each must be in exactly one group.")
        # Names only: a list of variables in an attribute would be tracked, and saved, as the optimizer's own.
        self._groups = {id(variable): name for name, variables in groups.items() for variable in variables}

    def build(self, variables):
        if self._groups is None:
            raise ValueError("The groups of variables are not known: call `bind` before `build`.")
        if sorted(map(id, variables)) != sorted(self._groups):
            raise ValueError(
                f"The optimizer was bound to {len(self._groups)} variables and is built on {len(variables)} others. "
                "Each trainable variable of the model must be in exactly one group."
            )
        if not self.built:
            super().build(variables)
            for name, optimizer in self.members.items():
                optimizer.build(self._of_group(name, variables, variables))

    def _of_group(self, name, variables, values):
        return [value for variable, value in zip(variables, values, strict=True) if self._groups[id(variable)] == name]

    def apply(self, grads, trainable_variables=None):
        if trainable_variables is None:
            trainable_variables = self._trainable_variables
        self.build(trainable_variables)
        for name, optimizer in self.members.items():
            optimizer.apply(
                self._of_group(name, trainable_variables, grads),
                self._of_group(name, trainable_variables, trainable_variables),
            )
        self.iterations.assign_add(1)

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
