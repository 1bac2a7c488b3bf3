"""A saved model is the same in another process, and its SavedModel in one without Keras. All models share a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from contract import asking, small
from keras import ops

from keras_ssvae import data

HERE = Path(__file__).parent
JAX = keras.backend.backend() == "jax"
VARIANTS_ARE_SLOW = True
SIGNATURES = {"encode", "decode", "reconstruct", "generate", "interpolate", "serving_default"}
OF_CHARACTERISTICS = {"intervene", "swap"}
OF_CLUSTERS = {"clusters", "clusters_uint8", "clusters_png", "generate_cluster"}
CLUSTERS = np.array([2, 0, 1])
SEEDS = (7, -1, 7, -1, 7)  # of interventions; -1 takes the mean


def run(script, folders, **environment):
    # PYTHONPATH has only what the script needs.
    finished = subprocess.run(
        [sys.executable, HERE / script, *folders],
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


@pytest.fixture(scope="module")
def saved(life_of, asked_for):
    """Name -> `Life`, with a model saved after an epoch. One process has used all files and written `result.npz`."""
    lives = {entry.name: life_of(entry) for entry in asked_for}
    paths = os.pathsep.join(str(path) for path in (HERE.parent, HERE.parents[1]))
    run("in_a_fresh_process.py", [life.folder for life in lives.values()], PYTHONPATH=paths)
    return lives


def test_a_file_gives_the_same_model_in_another_process(entry, saved):
    life = saved[entry.name]
    result = np.load(life.folder / "result.npz")
    assert {name for name in result.files if name.startswith(("verb/", "predict/"))} == set(life.answers)
    for name, value in life.answers.items():
        np.testing.assert_allclose(result[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("moment", "epochs"), [("before", 1), ("after", 2)])
def test_training_goes_on_there_as_if_never_interrupted(entry, saved, moment, epochs):
    life = saved[entry.name]
    with np.load(life.folder / "result.npz") as result:
        values = [result[f"{moment}/{i}"] for i in range(len(life.states[epochs]))]
    asking.assert_same_bits([("", value) for value in values], life.states[epochs])


# Served


def batched(entry, images):
    """Signature -> the inputs of a request."""
    requests = {signature: {"image": images} for signature in ("encode", "reconstruct", "serving_default")}
    requests["interpolate"] = {"a": images[:2], "b": images[2:4], "n": np.full(2, 3)}
    requests["generate"] = {"seed": np.array([7, 7, 11])}
    if entry.sizes:
        requests["generate"]["label"] = asking.to_generate(entry)
    return requests


def in_bytes(images):
    return np.round(127.5 * images + 127.5).astype("uint8")


@pytest.fixture(scope="module")
def served(saved, asked_for, images):
    """The same, after a process that has TensorFlow alone has answered the requests to each model."""
    for entry in asked_for:
        folder, expected = saved[entry.name].folder, saved[entry.name].answers
        requests = batched(entry, images)
        latent_dim = expected["verb/encode"].shape[1]
        requests["decode"] = {"z": np.linspace(-1, 1, 2 * latent_dim, dtype="float32").reshape(2, -1)}
        if "verb/classify" in expected:
            requests["classify"] = {"image": images}
            requests["classify_uint8"] = {"image": in_bytes(images)}
        if "verb/clusters" in expected:
            requests["clusters"], requests["clusters_uint8"] = {"image": images}, {"image": in_bytes(images)}
            requests["generate_cluster"] = {"cluster": CLUSTERS, "seed": np.array([7, 7, 11])}
        if "verb/intervene" in expected:
            to_intervene = asking.to_intervene(entry)
            requests["intervene"] = {"image": images[:5], "label": to_intervene, "seed": np.array(SEEDS)}
            requests["swap"] = {"image": images[:3], "donor": images[3:6]}
        flat = {f"{signature}/{name}": value for signature, named in requests.items() for name, value in named.items()}
        np.savez(folder / "requests.npz", **flat)
    run("with_tensorflow_alone.py", [life.folder for life in saved.values()], PYTHONPATH="")
    return saved


def names_of(model, labels):
    """The names of the classes of some labels, in the shape of the labels."""
    if not model.labels.several:
        return [model.class_names[k] for k in labels]
    return [[names[k] for names, k in zip(model.class_names, row, strict=True)] for row in labels]


def intervened(model, image, wanted, seed):
    """The result of the verb for one image, given only the labels that change."""
    changed = [i for i, value in enumerate(wanted) if value >= 0]
    if not changed:
        return model.reconstruct(image[None])
    return model.intervene(image[None], changed, wanted[changed], None if seed == -1 else seed)


@pytest.mark.skipif(JAX, reason="a SavedModel is exported on the TensorFlow backend")
def test_tensorflow_alone_gives_the_models_own_answers(entry, served, images):
    folder, expected = served[entry.name].folder, served[entry.name].answers
    answers = dict(np.load(folder / "answers.npz"))
    model = keras.saving.load_model(folder / "model.keras")
    classified, intervenes = asking.classifies(model), asking.intervenes(model)
    of_a_classifier = {"classify", "classify_uint8", "classify_png"} if classified else set()
    of_characteristics = OF_CHARACTERISTICS if intervenes else set()
    of_clusters = OF_CLUSTERS if asking.clusters(model) else set()
    assert set(answers.pop("signatures")) == SIGNATURES | of_a_classifier | of_characteristics | of_clusters
    wanted, seeds = asking.to_generate(entry), (7, 7, 11)
    rows = [(wanted[i : i + 1] if entry.sizes else 1, seed) for i, seed in enumerate(seeds)]
    right = {
        "encode/z": expected["verb/encode"],
        "decode/image": expected["verb/decode"],
        "reconstruct/image": expected["verb/reconstruct"],
        "interpolate/images": model.interpolate(images[:2], images[2:4], 3),
        "generate/image": np.concatenate([model.generate(*row) for row in rows]),
    }
    if intervenes:
        to_intervene = asking.to_intervene(entry).reshape(5, -1)
        rows = [intervened(model, *row) for row in zip(images[:5], to_intervene, SEEDS, strict=True)]
        right |= {"intervene/image": np.concatenate(rows), "swap/image": expected["verb/swap"]}
    if classified:
        probs = expected["verb/classify"]
        of_classes = {"probs": probs, "label": ops.convert_to_numpy(model.predicted_labels(probs))}
        right |= {f"{name}/{key}": of_classes[key] for name in ("classify", "serving_default") for key in of_classes}
        probs = ops.convert_to_numpy(model.classify(data.scale(in_bytes(images))))
        right |= {"classify_uint8/probs": probs, "classify_uint8/label": model.predicted_labels(probs)}
        for name in ("classify", "serving_default", "classify_uint8"):
            given = answers.pop(f"{name}/label_name").astype(str).tolist()
            assert given == names_of(model, answers[f"{name}/label"]), name
    else:
        right["serving_default/z"] = expected["verb/encode"]
    if of_clusters:
        rows = [model.generate(1, seed, categories=k) for k, seed in zip(CLUSTERS, seeds, strict=True)]
        right["generate_cluster/image"] = np.concatenate(rows)
        right["clusters/probs"] = expected["verb/clusters"]
        right["clusters_uint8/probs"] = ops.convert_to_numpy(model.clusters(data.scale(in_bytes(images))))
        for name in ("clusters", "clusters_uint8"):
            right[f"{name}/cluster"] = right[f"{name}/probs"].argmax(axis=1)
            given = answers.pop(f"{name}/cluster_name").astype(str).tolist()
            assert given == [model.cluster_names[k] for k in answers[f"{name}/cluster"]], name
    assert set(answers) == set(right)
    for name, value in right.items():
        np.testing.assert_allclose(answers[name], value, atol=1e-5, err_msg=name)
        assert answers[name].dtype == ("int64" if name.endswith(("label", "cluster")) else "float32"), name
    assert answers["interpolate/images"].shape == (2, 3, *small.IMAGE_SHAPE)


@pytest.fixture(scope="module")
def malformed(saved):
    """The errors of each SavedModel for malformed requests; the process must survive each of them."""
    paths = [life.folder / "served" / "1" for life in saved.values()]
    return dict(zip(saved, json.loads(run("hostile.py", paths, PYTHONPATH="")).values(), strict=True))


@pytest.mark.skipif(JAX, reason="a SavedModel is exported on the TensorFlow backend")
def test_a_malformed_request_is_refused_in_words_that_name_the_input(entry, malformed):
    signatures = {name: asked for name, asked in malformed[entry.name].items() if name != "empty"}
    assert set(signatures) >= SIGNATURES
    for signature, asked in signatures.items():
        assert len(asked) >= 5
        for what, name, message in asked:
            assert message is not None, f"{signature} answered {what} of {name}"
            # TensorFlow itself reports errors inside a PNG file; the name of its operation has the name of the input.
            expected = f"node map/while/{name}" if "Invalid PNG" in message else f"`{name}`"
            assert expected in message, f"{signature}, {what} of {name}: {message}"


@pytest.mark.skipif(JAX, reason="a SavedModel is exported on the TensorFlow backend")
def test_an_empty_batch_has_an_empty_answer(entry, malformed):
    shapes = malformed[entry.name]["empty"]
    assert {shape[0] for shape in shapes.values()} == {0}
    assert shapes["decode/image"][1:] == list(small.IMAGE_SHAPE)
    assert shapes["interpolate/images"][2:] == list(small.IMAGE_SHAPE)
