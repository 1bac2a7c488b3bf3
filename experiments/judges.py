"""Classifiers that are trained on real images, independently of every model, and judge generated ones."""

import os
from pathlib import Path

import keras
import numpy as np
from keras import layers

from keras_ssvae import data

EPOCHS = {"digits": 60}
_EPOCHS = 6
FOLDER = Path("runs/judges")


def network(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """A classifier with two convolutions and a hidden layer: images in [-1, 1] -> class probabilities."""
    images = keras.Input(image_shape, name="image")
    x = images
    for i, filters in enumerate((32, 64)):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{i}")(x)
        x = layers.MaxPooling2D(name=f"pool_{i}")(x)
    x = layers.Dropout(0.4, name="dropout")(layers.Flatten(name="flatten")(x))
    x = layers.Dense(128, activation="relu", name="hidden")(x)
    return keras.Model(images, layers.Dense(num_classes, activation="softmax", name="probs")(x), name="judge")


def judges(images: data.ImageData, number: int) -> tuple[list[keras.Model], float]:
    """Returns `number` classifiers, trained on all labels of a data set or read from `runs/judges`, and their error.

    Each has its own seed. The error, in %, is that of the mean of their probabilities on the test images.
    """
    given = [_judge(images, seed) for seed in range(1, number + 1)]
    probs = np.mean([each.predict(data.scale(images.test_images), 500, verbose=0) for each in given], axis=0)
    return given, float(100.0 * np.mean(probs.argmax(axis=1) != images.test_labels))


def _judge(images, seed):
    file = FOLDER / f"{images.name}_{seed}.keras"
    if file.exists():
        return keras.models.load_model(file)
    print(f"Training a classifier that judges generated images: {file}", flush=True)
    keras.utils.set_random_seed(seed)
    model = network(images.train_images.shape[1:], images.num_classes)
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    epochs = EPOCHS.get(images.name, _EPOCHS)
    model.fit(data.scale(images.train_images), images.train_labels, 128, epochs, verbose=0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    # A file of this process: several runs at a time may each find no judge and train one.
    temporary = file.with_suffix(f".{os.getpid()}.tmp.keras")
    model.save(temporary)
    os.replace(temporary, file)
    return model
