"""The models in `saved_models`: SavedModel and `model.keras` are one model, which explains, trains on and exports."""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image, ImageDraw

import keras_ssvae.models  # noqa: F401 (registers what the files refer to)
from keras_ssvae import data
from keras_ssvae.export import export_saved_model
from keras_ssvae.models import NVAE, REVAE, EXoN, PartedVAE
from keras_ssvae.models.capabilities import HasClusters
from keras_ssvae.optimizers import Adam, GroupedOptimizer

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / "saved_models").glob("*/README.md"))
on_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a SavedModel is TensorFlow's")


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def folder(request):
    return request.param


@pytest.fixture(scope="module")
def model(folder):
    return keras.saving.load_model(folder / "model.keras")


def a_seven(draw, x):
    """As in MNIST in the middle, with a margin."""
    points = [(x - 60, 75), (x + 55, 75), (x - 10, 220)]
    draw.line(points, fill=255, width=24, joint="curve")


def trousers(draw, x):
    """As in Fashion-MNIST from margin to margin."""
    left = [(x - 45, 10), (x - 60, 270), (x - 20, 270), (x, 90)]
    draw.polygon([*left, (x + 20, 270), (x + 60, 270), (x + 45, 10)], fill=200)


def a_one(draw, x):
    draw.line([(x + 8, 60), (x - 8, 220)], fill=255, width=24)


DRAWN = {
    "exon_mnist_100": (a_seven, 7, "7"),
    "partedvae_mnist_256": (a_seven, 7, "7"),
    "revae_fashion_mnist_200": (trousers, 1, "trouser"),
    "cpvae_mnist_10": (a_one, 1, "1"),
    "nvae_mnist": (a_seven, 7, "7"),
}


@pytest.fixture(scope="module")
def drawn(folder):
    """What is drawn for a model, its class or category, and the name of that."""
    return DRAWN[folder.name]


def is_clustered(model):
    return isinstance(model, HasClusters)


def generate(model, labels, seed):
    """Images of classes or categories."""
    return model.generate(len(labels), seed, labels) if is_clustered(model) else model.generate(labels, seed)


def probs(model, images):
    return ops.convert_to_numpy((model.clusters if is_clustered(model) else model.classify)(images))


@pytest.fixture(scope="module")
def images(model, drawn):
    """Three drawn ones."""
    height, width, _ = model.image_shape
    result = []
    for shift in (-1, 0, 1):
        image = Image.new("L", (280, 280))
        drawn[0](ImageDraw.Draw(image), 140 + 8 * shift)
        result.append(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)))
    return data.scale(np.stack(result)[..., None])


def test_each_has_one_version_a_model_and_a_card_with_code_that_runs(folder, monkeypatch):
    versions = [path.name for path in folder.iterdir() if path.is_dir()]
    assert len(versions) == 1
    assert (folder / "model.keras").stat().st_size < 7e6
    card = (folder / "README.md").read_text()
    assert f"saved_models/{folder.name}/{versions[0]}" in card
    if keras.backend.backend() == "tensorflow":
        (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
        names = {}
        monkeypatch.chdir(ROOT)
        exec(code, names)
        assert {value.shape[0] for value in names["answer"].values()} == {1}
        assert set(names["answer"]) in ({"probs", kind, f"{kind}_name"} for kind in ("label", "cluster"))


def test_it_knows_what_is_drawn_and_draws_it(model, images, drawn):
    _, label, name = drawn
    names = model.cluster_names if is_clustered(model) else model.class_names
    assert (len(names), names[label]) == (10, name)
    assert probs(model, images).argmax(axis=1).tolist() == [label] * 3
    generated = generate(model, [label] * 5, 1)
    assert np.sum(probs(model, generated).argmax(axis=1) == label) >= 4


@on_tensorflow
def test_the_savedmodel_is_the_same_model(folder, model, images, drawn):
    import tensorflow as tf

    (version,) = (path for path in folder.iterdir() if path.is_dir())
    served = tf.saved_model.load(version)
    ask = served.signatures
    kind = "cluster" if is_clustered(model) else "label"
    answer = ask["clusters" if is_clustered(model) else "classify"](image=tf.constant(images))
    np.testing.assert_allclose(answer["probs"], probs(model, images), atol=1e-6)
    assert answer[f"{kind}_name"].numpy().tolist() == [drawn[2].encode()] * 3
    z = ask["encode"](image=tf.constant(images))["z"]
    np.testing.assert_allclose(z, model.encode(images), atol=1e-5)
    np.testing.assert_allclose(ask["decode"](z=z)["image"], model.decode(z), atol=1e-6)
    label, seed = tf.range(10, dtype=tf.int64), tf.range(10, dtype=tf.int64) * 7
    generated = ask["generate_cluster" if is_clustered(model) else "generate"](**{kind: label}, seed=seed)["image"]
    alone = [generate(model, label[i : i + 1], int(seed[i])) for i in range(10)]
    np.testing.assert_allclose(generated, np.concatenate(alone), atol=1e-5)
    if isinstance(model, REVAE):
        other = ask["intervene"](image=tf.constant(images), label=label[:3], seed=seed[:3])["image"]
        alone = [model.intervene(images[i : i + 1], 0, label[i : i + 1], int(seed[i])) for i in range(3)]
        np.testing.assert_allclose(other, np.concatenate(alone), atol=1e-6)
        swapped = ask["swap"](image=tf.constant(images), donor=other)["image"]
        np.testing.assert_allclose(swapped, model.swap(images, other), atol=1e-6)
    about = json.loads((version / "assets.extra" / "about.json").read_text())
    assert about["image"]["shape"] == list(model.image_shape)
    names = (name for name in ("class_names", "cluster_names") if name in about)
    assert [tuple(about[name]) == getattr(model, name) for name in names] == [True]


def test_it_trains_on(folder, images, drawn):
    model = keras.saving.load_model(folder / "model.keras")
    parts = {EXoN: ("autoencoder", "classifier"), PartedVAE: ("supervised", "main")}.get(type(model))
    model.compile(GroupedOptimizer({name: Adam(1e-4) for name in parts}) if parts else Adam(1e-4))
    labels = np.arange(20) % 10
    source = np.round(127.5 * np.asarray(generate(model, labels, 1)) + 127.5).astype("uint8")
    of_exon = {"augment": data.augment.mnist} if isinstance(model, EXoN) else {}
    of_labels = {} if is_clustered(model) else {"num_classes": 10, "labeled_batch_size": 4}
    batches = data.semi_supervised(
        None if is_clustered(model) else (source, labels),
        None if isinstance(model, NVAE) else source,
        unlabeled_batch_size=8,
        steps_per_epoch=2,
        seed=1,
        **of_labels,
        **of_exon,
    )
    before = ops.convert_to_numpy(model.encode(images))
    history = model.fit(batches, steps_per_epoch=2, epochs=1, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert np.abs(ops.convert_to_numpy(model.encode(images)) - before).max() > 1e-6
    assert probs(model, images).argmax(axis=1).tolist() == [drawn[1]] * 3


@on_tensorflow
@pytest.mark.slow  # the contract exports a model of each kind
def test_it_is_exported_again(folder, model, images, tmp_path):
    import tensorflow as tf

    served = tf.saved_model.load(export_saved_model(model, tmp_path))
    answer = served.signatures["clusters" if is_clustered(model) else "classify"](image=tf.constant(images))
    np.testing.assert_allclose(answer["probs"], probs(model, images), atol=1e-6)


@pytest.mark.parametrize("folder", [ROOT / "saved_models" / "exon_mnist_100"], indirect=True, ids=[""])
def test_without_the_import_the_error_names_the_module(folder):
    code = f"import keras; keras.saving.load_model({str(folder / 'model.keras')!r})"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode != 0
    assert re.search(r"Could not locate class '\w+'.*'module': 'keras_ssvae\.models", finished.stderr)


@on_tensorflow
@pytest.mark.parametrize("folder", [ROOT / "saved_models" / "exon_mnist_100"], indirect=True, ids=[""])
def test_explain_works_on_the_exon_of_a_clone(folder, images, tmp_path):
    Image.fromarray(np.round(127.5 * np.asarray(images[1, ..., 0]) + 127.5).astype("uint8")).save(tmp_path / "7.png")
    command = [sys.executable, ROOT / "experiments" / "explain.py", "--image", "7.png"]
    finished = subprocess.run(
        [*command, "--model", folder / "model.keras"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "  7: " in finished.stdout
    assert (tmp_path / "7_explained.png").exists()
