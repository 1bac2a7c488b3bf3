import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae.callbacks import ImageGrid, Interpolation, LatentScatter
from keras_ssvae.priors import circle


@keras.saving.register_keras_serializable(package="test_callbacks")
class AutoEncoder(keras.Model):
    """A plain Keras model, which knows nothing of this package."""

    latent_dim = 2

    def __init__(self):
        super().__init__()
        self.to_z = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
        self.to_x = keras.Sequential([keras.layers.Dense(64), keras.layers.Reshape((8, 8, 1))])

    def call(self, x):
        return self.to_x(self.to_z(x))

    def encode(self, x):
        return self.to_z(x)

    def decode(self, z):
        return self.to_x(z)


@pytest.fixture
def data():
    x = np.random.default_rng(0).uniform(-1, 1, (24, 8, 8, 1)).astype("float32")
    return x, np.arange(24) % 3


def fit(callbacks, data, epochs=2, model=None, **kwargs):
    model = model or AutoEncoder()
    model.compile("sgd", "mse")
    return model.fit(data[0], data[0], epochs=epochs, batch_size=8, verbose=0, callbacks=callbacks, **kwargs)


def figure_callbacks(data, **where):
    return [
        LatentScatter(*data, **where),
        ImageGrid(extent=2.0, n=3, value_range=(0, 1), **where),
        Interpolation([-1.0, 0.0], [1.0, 0.0], n=3, value_range=(0, 1), **where),
    ]


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_figures_are_written_each_epoch_in_a_plain_fit(data, tmp_path):
    directory = tmp_path / "new" / "figures"
    fit(figure_callbacks(data, directory=directory), data)
    kinds = ("grid", "interpolation", "latent")
    assert names(directory) == sorted(f"epoch_{epoch:04d}_{kind}.png" for epoch in (1, 2) for kind in kinds)
    for path in directory.iterdir():
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_every_skips_epochs_and_a_resumed_fit_goes_on_counting(data, tmp_path):
    fit([LatentScatter(*data, directory=tmp_path, every=2)], data, epochs=5, initial_epoch=1)
    assert names(tmp_path) == ["epoch_0002_latent.png", "epoch_0004_latent.png"]


def test_the_figure_follows_the_training(data, tmp_path):
    callback = ImageGrid(extent=2.0, n=3, directory=tmp_path)
    fit([callback], data)
    first, second = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert first != second


def test_the_scatter_shows_the_models_own_encodes_of_all_images(data, tmp_path):
    images = np.concatenate([data[0]] * 30)  # more than one batch
    callback = LatentScatter(images, np.tile(data[1], 30), directory=tmp_path)
    model = AutoEncoder()
    fit([callback], data, model=model, epochs=1)
    points = np.asarray(callback.draw().axes[0].collections[0].get_offsets())
    z = ops.convert_to_numpy(model.encode(images))
    np.testing.assert_allclose(np.sort(points, axis=0), np.sort(z, axis=0), atol=1e-5)


def test_the_scatter_draws_the_class_prior_of_a_model_that_has_one(data, tmp_path):
    model = AutoEncoder()
    model.class_prior = circle(3)
    model.posterior = lambda images: {}
    callback = LatentScatter(*data, directory=tmp_path)
    fit([callback], data, model=model, epochs=1)
    assert len(callback.draw().axes[0].patches) == 3


def test_drawing_does_not_change_what_is_trained(data, tmp_path):
    weights = []
    for callbacks in ([], figure_callbacks(data, directory=tmp_path)):
        keras.utils.set_random_seed(3)
        model = AutoEncoder()
        fit(callbacks, data, model=model)
        weights.append(model.get_weights())
    for plain, drawn in zip(*weights, strict=True):
        np.testing.assert_array_equal(plain, drawn)


@pytest.fixture
def tensorflow():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("on the TensorFlow backend")
    return pytest.importorskip("tensorflow")


def test_images_reach_tensorboard_at_keras_own_steps(data, tmp_path, tensorflow):
    pytest.importorskip("tensorboard")
    from tensorflow.core.util import event_pb2

    fit(figure_callbacks(data, log_dir=tmp_path), data)
    steps = {}
    for path in tmp_path.iterdir():
        for record in tensorflow.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                steps.setdefault(value.tag, []).append(event.step)
                assert value.metadata.plugin_data.plugin_name == "images"
                image = tensorflow.io.decode_png(value.tensor.string_val[2])
                assert image.shape[-1] == 3
                assert image.numpy().std() > 1.0
    assert steps == {"latent": [0, 1], "grid": [0, 1], "interpolation": [0, 1]}


def test_on_another_backend_log_dir_is_refused_in_a_sentence(data, tmp_path, monkeypatch):
    callback = LatentScatter(*data, log_dir=tmp_path / "logs")
    callback.set_model(AutoEncoder())
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=r"Keras runs on jax here\. Give `directory` instead"):
        callback.on_train_begin()
    assert not (tmp_path / "logs").exists()


def test_too_few_names_are_refused_before_the_training(data, tmp_path):
    callback = LatentScatter(*data, directory=tmp_path, class_names=["a"])
    callback.set_model(AutoEncoder())
    with pytest.raises(ValueError, match="`class_names` has 1 names; it must have 3"):
        callback.on_train_begin()


def test_without_tensorboard_log_dir_is_refused_in_a_sentence(data, tmp_path, monkeypatch, tensorflow):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        fit([LatentScatter(*data, log_dir=tmp_path)], data)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda data: LatentScatter(*data), "give `directory` for PNG files, `log_dir` for TensorBoard, or both"),
        (lambda data: ImageGrid(directory="x", every=0), "`every` is 0. It must be an integer of at least 1"),
        (lambda data: LatentScatter(data[0], data[1][:5], directory="x"), "one integer for each of the"),
        (
            lambda data: LatentScatter(data[0], data[1].astype(str), directory="x"),
            "one integer for each of the .* examples. `np.unique",
        ),
        (lambda data: Interpolation([0.0], [0.0, 1.0], directory="x"), r"`start` and `end` have shapes \(1,\)"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(data, build, message):
    with pytest.raises(ValueError, match=message):
        build(data)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda data: LatentScatter(*data, directory="x"), "needs a model with a method `encode`, but Functional has"),
        (lambda data: ImageGrid(directory="x"), "needs a model with a method `decode`, but Functional has none"),
        (lambda data: Interpolation([0, 0], [1, 1], directory="x"), "needs a model with a method `decode`"),
    ],
)
def test_a_model_without_what_a_callback_needs_is_refused_before_training(data, build, message):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        fit([build(data)], data, model=model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ImageGrid(directory="x"), "`latent_dim` is 3; an image grid needs a latent plane"),
        (lambda: Interpolation([0, 0], [1, 1], directory="x"), "2 dimensions, but the model's `latent_dim` is 3"),
    ],
)
def test_a_latent_space_of_another_size_is_refused_before_training(data, build, message):
    model = AutoEncoder()
    model.latent_dim = 3
    with pytest.raises(ValueError, match=message):
        fit([build()], data, model=model)
