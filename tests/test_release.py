"""What is released: the wheel, made of the source archive, works without the clone."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import keras_ssvae

ROOT = Path(__file__).parents[1]
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE")

USE = """
import sys
from pathlib import Path

import keras
import numpy as np

import keras_ssvae
from keras_ssvae import priors
from keras_ssvae.models import EXoN

assert Path(keras_ssvae.__file__).is_relative_to(sys.argv[1]), keras_ssvae.__file__
images = np.zeros((3, 28, 28, 1), "float32")
for model in (EXoN(prior=priors.circle(10)), keras.models.load_model(sys.argv[2])):
    np.testing.assert_allclose(np.sum(model.classify(images), axis=1), np.ones(3), rtol=1e-5)
print(keras_ssvae.__version__)
"""


def run(*command, **options):
    finished = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


@pytest.mark.slow
def test_the_wheel_classifies_and_loads_a_shipped_model_elsewhere(tmp_path):
    pytest.importorskip("build")
    source, dist, installed = (tmp_path / name for name in ("source", "dist", "installed"))
    shutil.copytree(ROOT / "keras_ssvae", source / "keras_ssvae", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", source / "tests", ignore=lambda folder, names: [n for n in names if "." not in n])
    for name in FILES:
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--outdir", dist, source)
    (wheel,), (archive,) = dist.glob("*.whl"), dist.glob("*.tar.gz")

    with zipfile.ZipFile(wheel) as file:
        packed = {name for name in file.namelist() if name.startswith("keras_ssvae/")}
    assert packed == {path.relative_to(source).as_posix() for path in (source / "keras_ssvae").rglob("*.py")}
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert names >= {*FILES, *packed}
    assert not [name for name in names if name.startswith("tests")]

    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", installed, wheel)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    model = ROOT / "saved_models/exon_mnist_100/model.keras"
    printed = run(sys.executable, "-c", USE, installed, model, cwd=tmp_path, env=environment)
    assert printed.split()[-1] == keras_ssvae.__version__
