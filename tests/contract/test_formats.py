"""A model that Keras saved, quantised, exported or copied gives the same answers as the model itself."""

import copy
import pickle
import warnings

import keras
import numpy as np
import pytest
from contract import asking, registry, small
from keras import ops

from keras_ssvae import priors
from keras_ssvae.export import export_saved_model

JAX = keras.backend.backend() == "jax"
# The code that runs here is that of Keras and of the base class.
VARIANTS_ARE_SLOW = True


@pytest.fixture(scope="module")
def outputs(model, images):
    """The outputs of `call`."""
    return asking.to_numpy(model(images))


def assert_close(given, expected, atol=1e-5):
    assert set(given) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(ops.convert_to_numpy(given[name]), value, atol=atol, err_msg=name)


@pytest.mark.one_model
def test_a_quantised_model_is_the_same_from_a_file_and_nearly_the_model(entry, images, outputs, tmp_path):
    model = entry.build(dropout=0.5)
    with warnings.catch_warnings(action="ignore"):  # Keras warns about each layer that has nothing to quantise
        model.quantize("int8")
    assert any(str(weight.dtype) == "int8" for weight in model.weights)
    quantised = asking.to_numpy(model(images))
    assert_close(quantised, outputs, atol=0.05)
    model.save(tmp_path / "model.keras")
    assert_close(keras.saving.load_model(tmp_path / "model.keras")(images), quantised)


def test_weights_alone_bring_the_answers(entry, images, outputs, tmp_path):
    entry.build(dropout=0.5).save_weights(tmp_path / "model.weights.h5")
    other = entry.build(dropout=0.5, weights_seed=1)
    assert np.abs(asking.to_numpy(other(images))["reconstruction"] - outputs["reconstruction"]).max() > 1e-2
    other.load_weights(tmp_path / "model.weights.h5")
    assert_close(other(images), outputs)


def test_weights_of_another_prior_are_refused(entry, tmp_path):
    if "prior" not in entry.arguments:
        pytest.skip("its prior is no choice")
    models = [entry.build(), entry.build(prior=registry.OTHER_PRIOR)]
    for saved, other in (models, models[::-1]):
        saved.save_weights(tmp_path / "model.weights.h5")
        with pytest.raises(
            ValueError, match=r"were trained with another prior than that of '\w+'; make the model with"
        ):
            other.load_weights(tmp_path / "model.weights.h5")


@pytest.mark.one_model
def test_weights_of_a_learned_prior_of_other_meaning_are_refused(entry, tmp_path):
    del entry  # once is enough
    kinds = [{"bounded": False}, {}, {"bounded": False, "above_one": True}, {"bounded": False, "mean_of_logs": True}]
    models = [registry.vae(prior=priors.LearnedMixture(3, small.D, **kind)) for kind in kinds]
    models[0].save_weights(tmp_path / "model.weights.h5")
    models[0].load_weights(tmp_path / "model.weights.h5")
    for other in models[1:]:
        with pytest.raises(ValueError, match="were trained with another prior than that of"):
            other.load_weights(tmp_path / "model.weights.h5")


def test_a_model_is_a_layer_of_a_functional_model(entry, images, outputs, tmp_path):
    inputs = keras.Input(small.IMAGE_SHAPE)
    whole = keras.Model(inputs, entry.build(dropout=0.5)(inputs))
    assert_close(whole(images), outputs)
    whole.save(tmp_path / "whole.keras")
    assert_close(keras.saving.load_model(tmp_path / "whole.keras")(images), outputs)


def test_a_clone_with_the_weights_answers_as_the_model(entry, model, images, outputs):
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_close(clone(images), outputs)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deep copy", "pickle"]
)
def test_a_copy_of_a_trained_model_trains_on_as_the_model(entry, life_of, duplicate):
    keras.config.disable_interactive_logging()
    model = keras.saving.load_model(life_of(entry).folder / "model.keras")
    twin = duplicate(model)
    assert int(twin.optimizer.iterations) == int(model.optimizer.iterations) == 2
    for each in (model, twin):
        asking.fit(each, entry.batch())
    asking.assert_same_bits(asking.state(twin), asking.state(model))


# Exported by Keras

FORMATS = {
    "tf_saved_model": ("", ()),
    "onnx": (".onnx", ("onnx", "onnxruntime", "tf2onnx")),
    "litert": (".tflite", ("ai_edge_litert.interpreter",)),
}


def answers_of(format, file, images):
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, {"images": images}), strict=True))
    if format == "litert":
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(str(file)).get_signature_runner()(images=images)
    import tensorflow as tf

    served = tf.saved_model.load(file)  # it must exist as long as its function
    return asking.to_numpy(served.serve(images))


@pytest.mark.skipif(JAX, reason="these formats are made by TensorFlow")
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("moment", ["built", "loaded"])
def test_what_keras_exports_answers_as_the_model(entry, images, outputs, format, moment, tmp_path):
    ending, packages = FORMATS[format]
    for package in packages:
        pytest.importorskip(package)
    model = entry.build(dropout=0.5)
    if moment == "loaded":
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
    file = tmp_path / f"exported{ending}"
    model.export(file, format=format, verbose=False)
    assert_close(answers_of(format, file, images), outputs)


@pytest.mark.skipif(JAX, reason="a SavedModel is exported on the TensorFlow backend")
def test_it_is_exported_right_after_fit(entry, images, tmp_path):
    model = entry.compiled()
    asking.fit(model, entry.batch())
    model.export(tmp_path / "keras", verbose=False)
    assert_close(answers_of("tf_saved_model", tmp_path / "keras", images), asking.to_numpy(model(images)))
    assert export_saved_model(model, tmp_path / "served").name == "1"
