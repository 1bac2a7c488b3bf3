"""Shared by all tests; read before any of them imports TensorFlow."""

import contextlib
import functools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow divides a sum among its threads, and Adam makes steps of the rounding of small gradients: with two threads
# the golden replays are the same on a machine of any number of cores.
os.environ["TF_NUM_INTRAOP_THREADS"] = "2"

import keras
import numpy as np
import pytest
from hypothesis import settings
from keras import ops

# The same examples in every run, whatever failed before, and no time limit: the machine may be busy.
settings.register_profile("reproducible", derandomize=True, database=None, deadline=None, max_examples=50)
settings.load_profile("reproducible")


# Where pytest-xdist divides the tests among processes (`pytest -n 2`), those of a file stay together, since they share
# fixtures, as do those of files that need the same trained models or runs; the long files come first.
LONG = ("test_readme", "tests/experiments", "tests/contract", "tests/distribution")
TOGETHER = {
    **dict.fromkeys((f"tests/contract/test_{name}.py" for name in ("elsewhere", "formats", "training")), "lives"),
    **dict.fromkeys((f"tests/experiments/test_mnist_exon{name}.py" for name in ("", "_stopped")), "runs"),
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getoption("dist") != "load":  # the user chose
        return None
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return TOGETHER.get(file, file)

    config.option.loadscopereorder = False
    return Files(config, log)


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(config, items):
    for item in items:
        entry = item.callspec.params.get("entry") if hasattr(item, "callspec") else None
        if entry is None:
            continue
        similar = entry.variant and getattr(item.module, "VARIANTS_ARE_SLOW", False)
        if similar or (item.get_closest_marker("one_model") and item.callspec.indices["entry"]):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: next((i for i, name in enumerate(LONG) if name in item.nodeid), len(LONG)))


@pytest.fixture(scope="module")
def asked_for(request):
    """The models of the registry that this file is run for."""
    own = (item for item in request.session.items if item.module is request.module and hasattr(item, "callspec"))
    return list(dict.fromkeys(item.callspec.params["entry"] for item in own if "entry" in item.callspec.params))


# All default tests must stay below ten minutes on two cores, however many systems there are: a test that computes for
# long is slow (the mark), or does too much. Seconds of computation, here and in processes that ended meanwhile, since
# the machine may be busy with other things.
NAMED, REFUSED = 20.0, 120.0
_computed = {"before": 0.0}


def _seconds_of_computation():
    return sum(os.times()[:4])


def pytest_collection_finish():
    _computed["before"] = _seconds_of_computation()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    now = _seconds_of_computation()
    report.computed, _computed["before"] = now - _computed["before"], now
    if report.when == "call" and report.passed and report.computed > REFUSED and "slow" not in item.keywords:
        report.outcome = "failed"
        report.longrepr = f"It computed for {report.computed:.0f} s; a test that is not slow has {REFUSED:.0f} s."
    return report


def pytest_terminal_summary(terminalreporter):
    reports = [r for category in terminalreporter.stats.values() for r in category if hasattr(r, "computed")]
    longest = sorted((r for r in reports if r.computed > NAMED), key=lambda r: -r.computed)
    for report in longest:
        terminalreporter.write_line(f"computed for {report.computed:.0f} s: {report.when} of {report.nodeid}")


@pytest.fixture
def differentiate():
    """`(outputs, gradients)` of `sum(upstream * function(*arrays))` by the arrays, and by Keras variables."""
    return _differentiate


def _differentiate(function, arrays, variables=(), upstream=1.0):
    def total(*arrays):
        outputs = function(*arrays)
        return ops.sum(outputs * ops.cast(upstream, outputs.dtype)), outputs

    arrays = [ops.convert_to_tensor(array) for array in arrays]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        sources = [*arrays, *(variable.value for variable in variables)]
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            value, outputs = total(*arrays)
        gradients = tape.gradient(value, sources, unconnected_gradients="zero")
    else:
        import jax

        def with_values(arrays, values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return total(*arrays)

        values = [variable.value for variable in variables]
        gradients, outputs = jax.jit(jax.grad(with_values, argnums=(0, 1), has_aux=True))(arrays, values)
        gradients = [*gradients[0], *gradients[1]]
    return ops.convert_to_numpy(outputs), [ops.convert_to_numpy(gradient) for gradient in gradients]


@pytest.fixture
def in_float64():
    """Opens a context in which the backend computes in float64; JAX has it elsewhere turned off."""
    if keras.backend.backend() == "tensorflow":
        return contextlib.nullcontext
    import jax

    return functools.partial(jax.enable_x64, True)


@pytest.fixture
def compiled():
    """Makes a graph or program of a function of tensors."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function
    import jax

    return jax.jit


@pytest.fixture(autouse=True)
def dtype_policy():
    """Puts back the global dtype policy, which a test may set."""
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture(scope="session", autouse=True)
def cache_of_programs(tmp_path_factory):
    """JAX compiles a step for seconds, which many tests have in common, those in other processes included."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    folder = str(tmp_path_factory.mktemp("programs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()  # JAX decides at its first program whether to look
        yield
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def tfd():
    """TensorFlow Probability, as a witness; it computes on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the witness computes on TensorFlow")
    return pytest.importorskip("tensorflow_probability").distributions


@pytest.fixture(scope="session")
def dsprites_directory(tmp_path_factory):
    """A `data_dir` with a small dSprites: 3 sizes and angles of 3 shapes at 4 x 4 places, 432 images.

    The file of the original's format is drawn here; what tensorflow_datasets prepares of it is its own builder's.
    """
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tensorflow_datasets belongs to the TensorFlow backend")
    import h5py
    from tensorflow_datasets.core.utils import gcs_utils
    from tensorflow_datasets.datasets.dsprites.dsprites_dataset_builder import Builder

    sizes = (1, 3, 3, 3, 4, 4)
    classes = np.indices(sizes).reshape(len(sizes), -1).T
    folder = tmp_path_factory.mktemp("dsprites")
    with h5py.File(folder / "drawn.hdf5", "w") as file:
        file["imgs"] = np.stack([_sprite(*row[1:]) for row in classes])
        file["latents/classes"], file["latents/values"] = classes, classes.astype("float64")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gcs_utils, "_is_gcs_disabled", True)  # else it asks the network
        patch.setattr("tensorflow_datasets.download.DownloadManager.download", lambda *args: folder / "drawn.hdf5")
        Builder(data_dir=folder / "data").download_and_prepare()
    return folder / "data"


def _sprite(shape, scale, orientation, x, y):
    """A square, an ellipse or a heart; as in dSprites, pixels are 0 or 1."""
    rows, columns = np.indices((64, 64))
    place = ((columns - 17 - 10 * x) + 1j * (17 + 10 * y - rows)) / (6 + 2 * scale) * np.exp(-0.5j * orientation)
    a, b = place.real, place.imag
    inside = (
        np.maximum(abs(a), abs(b)) < 0.7,
        a**2 + (2 * b) ** 2 < 1,
        (a**2 + b**2 - 0.5) ** 3 < a**2 * b**3 * 1.4,
    )
    return inside[shape].astype("uint8")


@pytest.fixture(scope="session")
def celeba_directory(tmp_path_factory):
    """A `data_dir` with a small CelebA, 30 training, 6 validation and 12 test images, by its own builder.

    Image k of a part has the attributes `face_attributes(k)`, and the background 8 k, which tells the images apart.
    """
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tensorflow_datasets belongs to the TensorFlow backend")
    from tensorflow_datasets.core.utils import gcs_utils
    from tensorflow_datasets.datasets.celeb_a import celeb_a_dataset_builder as celeb_a

    def examples(number):
        for k in range(number):
            landmarks, identity = dict.fromkeys(celeb_a.LANDMARK_HEADINGS, 0), {"Identity_No": k}
            attributes = dict.fromkeys(celeb_a.ATTR_HEADINGS, False) | face_attributes(k)
            yield k, {"image": _face(k), "landmarks": landmarks, "attributes": attributes, "identity": identity}

    sizes = {"train": 30, "validation": 6, "test": 12}
    folder = tmp_path_factory.mktemp("celeba")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gcs_utils, "_is_gcs_disabled", True)  # else it asks the network
        patch.setattr(celeb_a.Builder, "_split_generators", lambda *args: {s: examples(n) for s, n in sizes.items()})
        celeb_a.Builder(data_dir=folder).download_and_prepare()
    return folder


def face_attributes(k):
    """Each fifth has no hair colour, the eighth has bangs that recede."""
    colours = ["Black_Hair", "Brown_Hair", "Blond_Hair", "Gray_Hair"]
    return {
        **{colour: k % 5 == i for i, colour in enumerate(colours)},
        "No_Beard": k % 2 == 0,
        "Bangs": k % 3 == 1,
        "Receding_Hairline": k % 3 == 2 or k == 7,
        "Eyeglasses": k % 4 == 3,
        "Smiling": k % 4 in (1, 2),
        "Wearing_Hat": k % 7 == 6,
        "Male": k % 2 == 1,
        **{"Arched_Eyebrows": k % 3 == 0, "Bags_Under_Eyes": k % 4 == 0, "Bushy_Eyebrows": k % 5 == 1},
        **{"Chubby": k % 4 == 1, "Heavy_Makeup": k % 2 == 0, "Pale_Skin": k % 5 == 3, "Wavy_Hair": k % 3 < 2},
        **{"Wearing_Necktie": k % 4 == 2, "Young": k % 5 < 3},
    }


def _face(k):
    rows, columns = np.indices((218, 178))
    distance = ((rows - 120) / 70) ** 2 + ((columns - 89) / 55) ** 2
    image = np.full((218, 178, 3), 8 * k, np.uint8)
    image[(distance < 1.4) & (rows < 110)] = [
        (20, 20, 20),
        (90, 60, 30),
        (220, 190, 90),
        (150, 150, 150),
        (225, 180, 150),
    ][k % 5]
    image[distance < 1] = (225, 180, 150)
    return image
