"""The exported SavedModel: TensorFlow alone answers as the model does, and nothing half-written is ever visible."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae import export, priors
from keras_ssvae.export import saved_model
from keras_ssvae.models import M3, REVAE, EXoN, PartedVAE

if keras.backend.backend() != "tensorflow":
    pytest.skip("a SavedModel is exported on the TensorFlow backend", allow_module_level=True)
tf = pytest.importorskip("tensorflow")

IMAGE_SHAPE = (6, 5, 1)
SIGNATURES = {"classify", "classify_uint8", "classify_png", "serving_default"}
SIGNATURES |= {"encode", "decode", "reconstruct", "generate", "interpolate"}

# `import tensorflow` imports Keras wherever it is installed. None in `sys.modules` hides a package from it and from
# everything after it, as on a machine that does not have it.
ANSWER_WITH_TENSORFLOW_ALONE = """
import json, sys
for package in ("keras", "tf_keras", "keras_ssvae"):
    sys.modules[package] = None
import numpy as np
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
requests = np.load("requests.npz")
answers = {}
for key in requests.files:
    signature, name = key.split("/")
    answers.setdefault(signature, {})[name] = tf.constant(requests[key])
answers = {s: served.signatures[s](**inputs) for s, inputs in answers.items()}
np.savez("answers.npz", **{f"{s}/{name}": value for s, outputs in answers.items() for name, value in outputs.items()})
loaded = [m for m, v in sys.modules.items() if v and m.split(".")[0] in ("keras", "tf_keras", "keras_ssvae")]
print(json.dumps({"loaded": loaded, "signatures": sorted(served.signatures)}))
"""


def small_exon():
    """EXoN on images of its own, untrained; dropout's seed state is what `tf.saved_model.save(model)` fails on."""
    image, z = keras.Input(IMAGE_SHAPE), keras.Input((3,))
    flat = keras.layers.Flatten()(image)
    heads = [keras.layers.Reshape((4, 3))(keras.layers.Dense(12)(flat)) for _ in range(2)]
    decoded = keras.layers.Reshape(IMAGE_SHAPE)(keras.layers.Dense(30, "tanh")(z))
    features = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(flat))
    return EXoN(
        encoder=keras.Model(image, heads),
        decoder=keras.Model(z, decoded),
        classifier=keras.Model(image, keras.layers.Dense(4)(features)),
        prior=priors.line(num_classes=4, latent_dim=3),
    )


def small_parted(num_classes, u_dims):
    """PartedVAE with latent variables of three dimensions, untrained."""
    image, latent = keras.Input(IMAGE_SHAPE), keras.Input((3,))
    features = keras.layers.Dropout(0.5)(keras.layers.Dense(8, "tanh")(keras.layers.Flatten()(image)))
    decoded = keras.layers.Reshape(IMAGE_SHAPE)(keras.layers.Dense(30)(latent))
    return PartedVAE(keras.Model(image, features), keras.Model(latent, decoded), num_classes, u_dims, z_dim=1)


def small_characteristic(kind, num_classes, c_dims):
    """A `REVAE` or `M3` with latent variables of three dimensions, untrained."""
    image, latent = keras.Input(IMAGE_SHAPE), keras.Input((3,))
    heads = [keras.layers.Dense(3)(keras.layers.Flatten()(image)) for _ in range(2)]
    decoded = keras.layers.Reshape(IMAGE_SHAPE)(keras.layers.Dense(30)(latent))
    networks = {"encoder": keras.Model(image, heads), "decoder": keras.Model(latent, decoded)}
    rest_dim = 3 - sum(np.atleast_1d(c_dims))
    return kind(**networks, num_classes=num_classes, c_dims=c_dims, rest_dim=rest_dim, classifier_samples=5)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return small_exon()


@pytest.fixture(scope="module", params=["one label", "two labels"])
def parted(request, tmp_path_factory):
    """A PartedVAE and the signatures of its export."""
    keras.utils.set_random_seed(1)
    model = small_parted(4, 2) if request.param == "one label" else small_parted((4, 2), (1, 1))
    served = tf.saved_model.load(export.export_saved_model(model, tmp_path_factory.mktemp("served") / "parted"))
    return model, {"keep": served, **served.signatures}


@pytest.fixture(scope="module", params=[(REVAE, 3, 2), (REVAE, (3, 2), (1, 1)), (M3, 3, 2)], ids=["one", "two", "M3"])
def intervening(request, tmp_path_factory):
    """A model whose labels have characteristics, the version of its export, and the signatures."""
    keras.utils.set_random_seed(1)
    model = small_characteristic(*request.param)
    version = export.export_saved_model(model, tmp_path_factory.mktemp("served") / "small")
    served = tf.saved_model.load(version)
    return model, version, {"keep": served, **served.signatures}


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    return export.export_saved_model(model, tmp_path_factory.mktemp("served") / "small")


@pytest.fixture(scope="module")
def signatures(version):
    served = tf.saved_model.load(version)
    # A signature is gone once the object it was loaded with is.
    return {"keep": served, **served.signatures}


def images(n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, *IMAGE_SHAPE)).astype("float32")


def int64(*values):
    return tf.constant(values, tf.int64)


def generate(signatures, labels, seeds):
    return signatures["generate"](label=tf.constant(labels, tf.int64), seed=int64(*seeds))["image"].numpy()


def test_tensorflow_alone_gives_the_models_own_answers(model, version, tmp_path):
    x, other, z, labels = images(5), images(5, seed=1), np.full((2, 3), 0.3, "float32"), np.array([3, 0, 1])
    requests = {
        "serving_default/image": x,
        "classify/image": x,
        "encode/image": x,
        "decode/z": z,
        "reconstruct/image": x,
        "generate/label": labels,
        "generate/seed": np.array([7, 7, 11]),
        "interpolate/a": x,
        "interpolate/b": other,
        "interpolate/n": np.full(5, 4),
    }
    np.savez(tmp_path / "requests.npz", **requests)
    command = [sys.executable, "-c", ANSWER_WITH_TENSORFLOW_ALONE, str(version)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    answers = np.load(tmp_path / "answers.npz")

    assert report["loaded"] == []
    assert set(report["signatures"]) == SIGNATURES
    probs = ops.convert_to_numpy(model.classify(x))
    expected = {
        "serving_default/probs": probs,
        "serving_default/label": probs.argmax(-1),
        "classify/probs": probs,
        "classify/label": probs.argmax(-1),
        "encode/z": model.encode(x),
        "decode/image": model.decode(z),
        "reconstruct/image": model.reconstruct(x),
        "generate/image": np.concatenate(
            [model.generate(labels[i : i + 1], seed) for i, seed in enumerate((7, 7, 11))]
        ),
        "interpolate/images": model.interpolate(x, other, 4),
    }
    assert set(answers.files) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(answers[name], value, atol=1e-6, err_msg=name)
    assert answers["interpolate/images"].shape == (5, 4, *IMAGE_SHAPE)
    assert answers["classify/label"].dtype == np.int64
    assert all(answers[name].dtype == np.float32 for name in expected if not name.endswith("label"))


def test_parted_vae_answers_as_itself_of_one_label_and_of_several(parted):
    model, signatures = parted
    several = not isinstance(model.num_classes, int)
    x, labels, seeds = images(5), np.array([[3, 1], [0, 1], [2, 0]])[:, slice(2) if several else 0], (7, 7, 11)
    answer = signatures["classify"](image=tf.constant(x))
    np.testing.assert_allclose(answer["probs"], model.classify(x), atol=1e-6)
    np.testing.assert_array_equal(answer["label"], model.predicted_labels(model.classify(x)))
    assert answer["label"].dtype == tf.int64
    assert answer["label"].shape == ((5, 2) if several else (5,))
    for name, expected in (("encode", {"z": model.encode(x)}), ("reconstruct", {"image": model.reconstruct(x)})):
        for key, value in expected.items():
            np.testing.assert_allclose(signatures[name](image=tf.constant(x))[key], value, atol=1e-6)
    points = signatures["interpolate"](a=tf.constant(x[:2]), b=tf.constant(x[2:4]), n=int64(3, 3))["images"]
    np.testing.assert_allclose(points, model.interpolate(x[:2], x[2:4], 3), atol=1e-6)
    expected = np.concatenate([model.generate(labels[i : i + 1], seed) for i, seed in enumerate(seeds)])
    np.testing.assert_allclose(generate(signatures, labels, seeds), expected, atol=1e-6)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    assert generate(signatures, labels[:0], ()).shape == (0, *IMAGE_SHAPE)


def test_parted_vae_refuses_labels_that_it_does_not_have(parted):
    model, signatures = parted
    good = [0] if isinstance(model.num_classes, int) else [[0, 0]]
    for label in (4, -1):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"`label` is .*{label}.* in row 0; a label must be"):
            generate(signatures, [label] if good == [0] else [[0, label]], [0])
    if good != [0]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"`label` is \[0 2\] in row 0; .* from 0 to \[3, 1\]"):
            generate(signatures, [[0, 2]], [0])  # the second label has two classes
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`label` and `seed` have \[1 2\] rows"):
        generate(signatures, good, [0, 1])


@pytest.mark.parametrize("batch", [0, 1, 1001])  # the last one in slices
def test_an_image_with_other_labels_depends_on_its_own_row_only(intervening, batch):
    model, _, signatures = intervening
    rng, x = np.random.default_rng(2), images(batch)
    seed, label = rng.integers(-1, 3, batch), rng.integers(-1, 2, (batch, len(model.labels.sizes)))
    wanted = label if model.labels.several else label[:, 0]
    request = {"image": tf.constant(x), "label": tf.constant(wanted, tf.int64), "seed": tf.constant(seed, tf.int64)}
    answers = signatures["intervene"](**request)["image"].numpy()
    swapped = signatures["swap"](image=request["image"], donor=request["image"][::-1])["image"].numpy()
    assert answers.shape == swapped.shape == x.shape
    for i in range(0, batch, 100):
        alone = model.intervene(x[i : i + 1], range(label.shape[1]), label[i], int(seed[i]))
        np.testing.assert_allclose(answers[i : i + 1], alone, atol=1e-5)
        np.testing.assert_allclose(swapped[i : i + 1], model.swap(x[i : i + 1], x[::-1][i : i + 1]), atol=1e-5)


def test_interventions_and_swaps_that_cannot_be_answered_are_refused(intervening):
    model, _, signatures = intervening
    x, several = tf.constant(images(2)), model.labels.several
    for wrong in (3, -2):
        labels = [[0, 0], [wrong, 0]] if several else [0, wrong]
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=rf"`label` is .*{wrong}.* in row 1; a label must be from -1 to"
        ):
            signatures["intervene"](image=x, label=int64(*labels), seed=int64(0, 0))
    labels = [[0, 0]] if several else [0]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`image` and `label` and `seed` have \[2 1 2\] rows"):
        signatures["intervene"](image=x, label=int64(*labels), seed=int64(0, 0))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`image` and `donor` have \[2 1\] rows"):
        signatures["swap"](image=x, donor=x[:1])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`donor` has pixels from -1 to 127 in row 0"):
        signatures["swap"](image=x, donor=tf.where(x > 0.9, 127.0, -1.0))


@pytest.mark.parametrize("batch", [0, 1, 7])
def test_the_batch_dimension_of_every_signature_is_free(signatures, batch):
    x = tf.constant(images(batch))
    assert signatures["classify"](image=x)["probs"].shape == (batch, 4)
    assert signatures["encode"](image=x)["z"].shape == (batch, 3)
    assert signatures["decode"](z=tf.zeros((batch, 3)))["image"].shape == (batch, *IMAGE_SHAPE)
    assert signatures["reconstruct"](image=x)["image"].shape == (batch, *IMAGE_SHAPE)
    assert generate(signatures, [1] * batch, range(batch)).shape == (batch, *IMAGE_SHAPE)
    points = signatures["interpolate"](a=x, b=x, n=int64(*[3] * batch))["images"]
    assert points.shape == (batch, 3 if batch else 2, *IMAGE_SHAPE)  # `n` of an empty batch says nothing


def test_a_generated_image_depends_on_its_own_label_and_seed_only(signatures):
    alone = generate(signatures, [2], [5])
    np.testing.assert_array_equal(alone, generate(signatures, [2], [5]))
    among_others = generate(signatures, [0, 2, 2, 2], [5, 5, 6, 5])
    np.testing.assert_allclose(among_others[[1, 3]], np.repeat(alone, 2, axis=0), atol=1e-6)
    assert np.abs(among_others[2] - alone[0]).max() > 1e-3  # another seed
    assert np.abs(among_others[0] - alone[0]).max() > 1e-3  # another label


def test_many_images_are_generated_as_each_of_them_alone(signatures):
    labels, seeds = np.arange(1001) % 4, np.arange(1001)  # in slices
    many = generate(signatures, labels, seeds)
    for rows in (slice(0, 3), slice(499, 503), slice(998, 1001)):
        np.testing.assert_allclose(many[rows], generate(signatures, labels[rows], seeds[rows]), atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "seeds", "message"),
    [
        ([1, 4], [0, 0], "`label` is 4 in row 1; a label must be from 0 to 3"),
        ([-1], [0], "`label` is -1 in row 0; a label must be from 0 to 3"),
        ([1, 2], [0], r"`label` and `seed` have \[2 1\] rows; they must have the same number of rows"),
        ([0] * 10_001, [0] * 10_001, "`label` has 10001 rows; it must have at most 10000. Send several requests"),
    ],
)
def test_generate_refuses_what_it_cannot_answer(signatures, labels, seeds, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        generate(signatures, labels, seeds)


@pytest.mark.parametrize(
    ("n", "message"),
    [
        ((1, 1), "`n` is 1; a line has two ends, so it must be at least 2"),
        ((3, 4), "`n` is from 3 to 4; it must be the same for the whole batch"),
        ((5001, 5001), "`n` is 5001 for 2 pairs; pairs times `n` must be at most 10000"),
        ((2**63 - 1, 2**63 - 1), "`n` is 9223372036854775807 for 2 pairs"),
    ],
)
def test_interpolate_refuses_a_number_of_points_it_cannot_answer(signatures, n, message):
    x = tf.constant(images(2))
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures["interpolate"](a=x, b=x, n=int64(*n))


def test_interpolate_refuses_sets_of_images_that_are_not_equally_many(signatures):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`a` and `b` and `n` have \[1 4 4\] rows"):
        signatures["interpolate"](a=tf.constant(images(1)), b=tf.constant(images(4)), n=int64(3, 3, 3, 3))


@pytest.mark.parametrize(
    ("present", "expected"),
    [([], 1), (["1", "2"], 3), (["9", "10"], 11), (["7", "README.md", ".incomplete-8", "x9"], 8), (["0003"], 4)],
)
def test_the_next_version_follows_the_largest_number_present(tmp_path, present, expected):
    for name in present:
        (tmp_path / name).mkdir()
    assert export.next_version(tmp_path) == expected


def test_the_next_version_of_a_directory_that_does_not_exist_is_1(tmp_path):
    assert export.next_version(tmp_path / "new") == 1


def test_versions_count_up_and_leave_the_earlier_ones_alone(model, tmp_path):
    directory = tmp_path / "deep" / "small"
    first = export.export_saved_model(model, directory)
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    second = export.export_saved_model(model, str(directory))
    assert (first, second) == (directory / "1", directory / "2")
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before
    assert sorted(path.name for path in directory.iterdir()) == ["1", "2"]


def test_a_version_taken_meanwhile_by_another_process_is_not_overwritten(model, tmp_path, monkeypatch):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "theirs").touch()
    answers = iter([1, 2])
    monkeypatch.setattr(saved_model, "next_version", lambda directory: next(answers))
    assert export.export_saved_model(model, tmp_path) == tmp_path / "2"
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["theirs"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_a_failure_at_the_last_moment_leaves_nothing_behind(model, tmp_path, monkeypatch, failure):
    seen = []

    def fail(temporary, *_):
        seen.extend(path.name for path in Path(temporary).iterdir())
        raise failure

    monkeypatch.setattr(saved_model, "write_warmup_requests", fail)
    with pytest.raises(failure):
        export.export_saved_model(model, tmp_path)
    assert "saved_model.pb" in seen  # it was there, complete, under a name no server looks at
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_named_in_the_error(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"directory='.*file/served' must be a directory with write permission"):
        export.export_saved_model(model, tmp_path / "file" / "served")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_another_keras_model_is_refused_in_a_sentence(model, tmp_path):
    image = keras.Input(IMAGE_SHAPE)
    with pytest.raises(ValueError, match=r"`model` is a Functional; it must be a model of `keras_ssvae\.models`"):
        export.export_saved_model(keras.Model(image, model(image)), tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_a_full_disk_is_an_error_in_words_and_leaves_nothing_behind(model, tmp_path, monkeypatch):
    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(OSError, match="free space, but the system says: No space left on device"):
        export.export_saved_model(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_version_can_be_read_by_the_servers_user(version):
    assert version.stat().st_mode & 0o777 == 0o777 & ~current_umask()


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_every_warm_up_request_is_one_that_its_signature_answers(version, signatures):
    check_warm_up(version, signatures, SIGNATURES)


def test_interventions_have_warm_up_requests(intervening):
    _, version, signatures = intervening
    check_warm_up(version, signatures, SIGNATURES | {"intervene", "swap"})


def check_warm_up(version, signatures, names):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    requests = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset(str(path))
    ]
    assert {request.model_spec.signature_name for request in requests} == names
    assert len(requests) == len(names)
    for request in requests:
        assert request.model_spec.name == "small"
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        answer = signatures[request.model_spec.signature_name](**inputs)
        assert all(np.isfinite(value).all() for value in answer.values())


def test_without_tensorflow_serving_api_no_warm_up_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    assert export.write_warmup_requests(tmp_path, "small", {"decode": {"z": np.zeros((1, 3), "float32")}}) is None
    assert list(tmp_path.iterdir()) == []
