"""A model of a file is the same in a process that imports nothing but the models, and trains on there."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_ssvae.optimizers import Adam, GroupedOptimizer
from keras_ssvae.schedules import LateExponentialDecay, RampUp

IN_ANOTHER_PROCESS = """
import sys
import keras, numpy as np
import keras_ssvae.models

for folder in sys.argv[1:]:
    model = keras.saving.load_model(f"{folder}/model.keras")
    given = dict(np.load(f"{folder}/given.npz"))
    outputs = model.predict(given.pop("images"), verbose=0)
    optimizer = {f"optimizer_{i}": v.numpy() for i, v in enumerate(model.optimizer.variables)}
    labels = given.pop("labels")
    model.fit(((given, labels) for _ in range(1)), steps_per_epoch=1, verbose=0)
    after = {f"after_{i}": w.numpy() for i, w in enumerate(model.trainable_weights)}
    np.savez(f"{folder}/result.npz", generated=model.generate([0, 1], seed=4), **outputs, **optimizer, **after)
"""


def save(model, batch, images, train, folder):
    """Saves what the other process needs, and returns what it must find."""
    folder.mkdir()
    model.save(folder / "model.keras")
    np.savez(folder / "given.npz", images=images, **batch)
    expected = model.predict(images, verbose=0)
    expected |= {f"optimizer_{i}": v.numpy() for i, v in enumerate(model.optimizer.variables)}
    train(model, batch, 1)
    expected |= {f"after_{i}": w.numpy() for i, w in enumerate(model.trainable_weights)}
    return expected | {"generated": ops.convert_to_numpy(model.generate([0, 1], seed=4))}


def fitted_exon(make_model, batch, train):
    """A model with a schedule, two optimizers, a decay, and two steps behind it."""
    model = make_model(dropout=0.5, lambda2=RampUp(7.0, ramp_epochs=2, steps_per_epoch=1))
    rate = LateExponentialDecay(1e-2, start=1, epochs=3, steps_per_epoch=1)
    model.compile(GroupedOptimizer({"autoencoder": Adam(1e-2), "classifier": Adam(rate, weight_decay=1e-2)}))
    train(model, batch, 2)
    return model


def test_saved_models_are_the_same_in_another_process_and_train_on(
    make_model, make_parted, compile_parted, batch, parted_batch, images, train, tmp_path
):
    exon, parted = fitted_exon(make_model, batch, train), compile_parted(make_parted(dropout=0.5))
    train(parted, parted_batch(parted), 3)
    expected = {
        "exon": save(exon, batch, images, train, tmp_path / "exon"),
        # The next step is the fourth, after which its rates fall.
        "parted": save(parted, parted_batch(parted), images, train, tmp_path / "parted"),
    }
    subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, *(tmp_path / name for name in expected)],
        env={
            **os.environ,
            "KERAS_BACKEND": keras.backend.backend(),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        check=True,
    )
    for name, values in expected.items():
        result = np.load(tmp_path / name / "result.npz")
        assert set(result.files) == set(values)
        assert sum(key.startswith("optimizer") for key in values) > 20
        for key, value in values.items():
            np.testing.assert_allclose(result[key], value, rtol=1e-5, atol=1e-6, err_msg=f"{name}/{key}")
