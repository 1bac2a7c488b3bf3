"""Functions of a model as one program: JAX compiles each operation of its own for a tenth of a second and more."""

import keras


def program_of(model, function):
    """`function(*arrays)`, which reads the model's variables but assigns none, compiled."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    import jax

    @jax.jit
    def compiled(values, *arrays):
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values, strict=True))):
            return function(*arrays)

    return lambda *arrays: compiled([variable.value for variable in model.variables], *arrays)
