"""Compiled functions of a model. Without them JAX compiles each operation alone, which takes 0.1 s or more each."""

import keras


def program_of(model, function):
    """Compiles `function(*arrays)`, which may read the variables of the model but must not assign them."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    import jax

    @jax.jit
    def compiled(values, *arrays):
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values, strict=True))):
            return function(*arrays)

    return lambda *arrays: compiled([variable.value for variable in model.variables], *arrays)
