"""A small experiment: an EXoN of a few weights on the embedded digits, whose runs take seconds."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from keras_ssvae import priors
from keras_ssvae.models import EXoN
from keras_ssvae.optimizers import Adam, GroupedOptimizer
from keras_ssvae.runs import flags, run
from keras_ssvae.runs.experiment import Experiment

SETTINGS = {"epochs": 2, "steps_per_epoch": 2, "batch_size": 16, "labeled_batch_size": 8, "validation": 20}


def build_model(settings, prior):
    keras.utils.set_random_seed(settings["seed"])
    image, z = keras.Input((28, 28, 1)), keras.Input((3,))
    x = layers.Flatten()(layers.AveragePooling2D(7)(image))
    model = EXoN(
        encoder=keras.Model(image, [layers.Reshape((10, 3))(layers.Dense(30)(x)) for _ in range(2)]),
        decoder=keras.Model(z, layers.UpSampling2D(14)(layers.Reshape((2, 2, 1))(layers.Dense(4, "tanh")(z)))),
        classifier=keras.Model(image, layers.Dense(10)(layers.Dropout(0.2)(x))),
        prior=prior,
        beta=settings["beta"],
        seed=settings["seed"],
    )
    members = {name: Adam(1e-3) for name in ("autoencoder", "classifier")}
    model.compile(GroupedOptimizer(members), **flags.compile_options(settings))
    return model


@pytest.fixture(scope="session")
def experiment():
    return Experiment(
        name="Tiny",
        description="A tiny experiment.",
        settings={"digits": SETTINGS},
        labels=20,
        beta=0.5,
        build_model=build_model,
        figures=lambda run, report: {},
        prior=lambda args, names: priors.GaussianMixture(np.eye(10, 3), 1.0),
    )


@pytest.fixture
def call(experiment, monkeypatch, capsys, tmp_path):
    """Runs it in this process; `exported=False` leaves the SavedModel out."""

    def run_it(*args, **changed):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["tiny.py", *map(str, args)])
        monkeypatch.setattr(run, "export_saved_model", lambda model, folder: folder / "1")
        code, message = 0, ""
        try:
            run.main(dataclasses.replace(experiment, **changed))
        except SystemExit as end:  # a message as the code is printed by the interpreter, which then exits with 1
            code, message = (1, f"{end.code}\n") if isinstance(end.code, str) else (end.code, "")
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err + message)

    return run_it


@pytest.fixture
def arrays():
    """A function: those of a run's checkpoint, without the history."""

    def read(folder):
        with np.load(folder / "checkpoint.npz") as file:
            return {name: file[name] for name in file.files if name != "history"}

    return read


@pytest.fixture
def metrics():
    """A function: what a run's `metrics.json` holds, without its times."""

    def read(folder):
        result = json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
        return {**result, "seconds": None, "step_milliseconds": None}

    return read
