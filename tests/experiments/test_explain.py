"""`explain.py` in this process, with models that were never trained."""

import functools
import json
import os

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image, ImageDraw

from keras_ssvae import data, plots, priors
from keras_ssvae.models import EXoN

SCRIPT = "explain"
GREY, COLOUR = (12, 9, 1), (8, 8, 3)


def small_exon(image_shape, prior):
    """The variances of the encoder are far below the prior's: all coordinates are active."""
    components = (prior.num_classes, prior.latent_dim)
    pixels, size = int(np.prod(image_shape)), int(np.prod(components))
    image, z = keras.Input(image_shape), keras.Input((prior.latent_dim,))
    flat = layers.Flatten()(image)
    mean = layers.Reshape(components)(layers.Dense(size)(flat))
    logvar = layers.Dense(size, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(-6))(flat)
    return EXoN(
        encoder=keras.Model(image, [mean, layers.Reshape(components)(logvar)]),
        decoder=keras.Model(z, layers.Reshape(image_shape)(layers.Dense(pixels, "tanh")(z))),
        classifier=keras.Model(image, layers.Dense(prior.num_classes)(flat)),
        prior=prior,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs: `grey`, a latent plane and three classes without names, and `colour`, 12 dimensions and CIFAR-10."""
    folder = tmp_path_factory.mktemp("runs")
    keras.utils.set_random_seed(0)
    for name, shape, prior, dataset in (
        ("grey", GREY, priors.circle(3), "mnist"),
        ("colour", COLOUR, priors.one_hot(latent_dim=12), "cifar10"),
    ):
        (folder / name).mkdir()
        small_exon(shape, prior).save(folder / name / "model.keras")
        (folder / name / "config.json").write_text(json.dumps({"dataset": dataset}))
    return folder


@pytest.fixture
def explain(modules, in_process):
    """Runs the script in a folder of its own; returns the exit code and what it printed."""
    return functools.partial(in_process, modules.script.main, "explain.py")


def drawing(width=200, height=140):
    """A dark stroke on white, in grey."""
    image = Image.new("L", (width, height), 255)
    ImageDraw.Draw(image).line([(70, 25), (125, 25), (90, 115)], fill=0, width=13)
    return image


def in_mode(mode):
    grey = drawing()
    if mode in ("RGBA", "LA"):  # only the stroke is opaque; the rest is transparent black
        image = Image.new(mode, grey.size)
        image.putalpha(grey.point(lambda value: 255 - value))
        return image
    if mode == "I;16":
        return Image.fromarray(np.asarray(grey).astype("uint16") * 257)
    if mode == "P":  # its white is transparent
        image = grey.convert("P")
        image.info["transparency"] = 255
        return image
    return grey.convert(mode)


def test_the_text_and_the_figure_are_those_of_the_explanation(modules, explain, runs, tmp_path):
    in_mode("RGBA").save(tmp_path / "seven.png")
    result = explain("--model", runs / "grey/model.keras", "--image", "seven.png", "--invert", "--delta", "0.5")
    assert (result.code, result.err) == (0, "")
    image = modules.script.resized(drawing().convert("RGB"), GREY, invert=True)
    model = keras.models.load_model(runs / "grey/model.keras", compile=False)
    (expected,) = model.explain(data.scale(image[None]), 0.5)
    lines = result.out.splitlines()
    assert lines[:2] == [expected.sentence(), "Class probabilities above 1 %:"]
    likely = [k for k in np.argsort(-expected.probs) if expected.probs[k] > 0.01]
    assert lines[2 : 2 + len(likely)] == [f"  {k}: {100 * expected.probs[k]:.1f} %" for k in likely]
    assert lines[2 + len(likely) :] == [
        "2 of 2 coordinates active (V-nat above 0.5)",
        *(
            f"  coordinate {j}: V-nat 7.4 nats, {expected.offsets[j]:+.1f} prior standard deviations from the centre"
            for j in expected.active
        ),
        "Figure: seven_explained.png",
    ]
    with Image.open(tmp_path / "seven_explained.png") as figure:
        width, height = plots.explanation(image, expected).get_size_inches()
        assert figure.size == pytest.approx((150 * width, 150 * height), abs=1)


def test_the_classes_have_the_names_of_the_runs_data_set(explain, runs, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), "uint8")).save(tmp_path / "photo.jpg")
    args = ("--model", runs / "colour/model.keras", "--image", "photo.jpg", "--output", "new/figure.pdf")
    result = explain(*args)
    assert (result.code, result.err) == (0, "")
    names = {line.split(":")[0].strip() for line in result.out.splitlines()[2:] if line.endswith("%")}
    assert names <= {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}
    assert names
    assert "and 2 more\n" in result.out  # ten coordinates have a line each
    assert (tmp_path / "new/figure.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("content", [None, "", "[1]", '{"dataset": "mine"}', '{"dataset": "mnist"}'])
def test_without_a_data_set_of_as_many_classes_there_are_no_names(modules, tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert modules.script.class_names(tmp_path / "model.keras", 3) is None


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "CMYK", "I;16"])
def test_the_same_drawing_is_read_alike_in_every_mode(modules, tmp_path, mode):
    file = tmp_path / ("drawing.tif" if mode == "CMYK" else "drawing.png")
    in_mode(mode).save(file)
    with Image.open(file) as image:
        assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(modules.script.read(file)), np.asarray(drawing().convert("RGB")))


def test_a_photo_is_read_upright(modules, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    drawing().save(tmp_path / "photo.png", exif=exif)
    upright = drawing().transpose(Image.Transpose.ROTATE_270).convert("RGB")
    np.testing.assert_array_equal(np.asarray(modules.script.read(tmp_path / "photo.png")), np.asarray(upright))


def test_an_image_keeps_its_proportions_and_is_filled_up_with_its_ground(modules):
    image = Image.new("RGB", (60, 30), (200, 100, 50))
    image.paste((0, 0, 255), (15, 5, 45, 25))
    fitted = modules.script.resized(image, (12, 12, 3), invert=False)
    assert fitted.dtype == np.uint8
    np.testing.assert_array_equal(fitted[[0, 1, 2, 9, 10, 11]], np.broadcast_to([200, 100, 50], (6, 12, 3)))
    np.testing.assert_array_equal(fitted[5:7, 5:7], np.broadcast_to([0, 0, 255], (2, 2, 3)))
    inverted = modules.script.resized(image, (12, 12, 3), invert=True)
    np.testing.assert_allclose(inverted.astype(int), 255 - fitted.astype(int), atol=1)
    assert modules.script.resized(image, (12, 9, 1), invert=False).shape == (12, 9, 1)


def test_a_fine_pattern_becomes_its_mean_and_a_line_stays_one(modules):
    stripes = Image.fromarray(np.tile([[0], [200]], (50, 100)).astype("uint8")).convert("RGB")
    assert abs(modules.script.resized(stripes, (10, 10, 1), invert=False).astype(int) - 100).max() <= 5
    line = Image.fromarray(np.r_[np.zeros(200), np.full(100, 255)][None].astype("uint8")).convert("RGB")
    assert set(modules.script.resized(line, (10, 10, 1), invert=False)[:, -1, 0]) == {0, 255}


MISTAKES = {
    "no image": (["--image", "none.png"], "--image none.png cannot be read as an image: .*No such file"),
    "a folder": (["--image", "."], r"--image \. cannot be read as an image: .*Is a directory"),
    "not an image": (["--image", "text.png"], "--image text.png cannot be read as an image: cannot identify"),
    "half an image": (["--image", "half.png"], "--image half.png cannot be read as an image: "),
    "no model": (["--model", "none.keras"], "--model none.keras is no file; it must be an EXoN"),
    "not a model": (["--model", "text.png"], "--model text.png cannot be read as a model that Keras saved"),
    "another model": (["--model", "dense.keras"], "--model dense.keras is a Sequential; it must be an EXoN"),
    "delta": (["--delta", "nan"], "--delta is nan; it must be a finite number of nats"),
    "no directory": (["--output", "text.png/f.png"], "--output text.png cannot be written: text.png is not a writable"),
}


@pytest.mark.parametrize(("args", "match"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(explain, one_sentence, contents, runs, tmp_path, args, match):
    drawing().save(tmp_path / "seven.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "seven.png").read_bytes()[:-200])
    (tmp_path / "text.png").write_text("no picture, no model")
    keras.Sequential([keras.Input((2,)), layers.Dense(1)]).save(tmp_path / "dense.keras")
    before = contents(tmp_path)
    given = {"--model": runs / "grey/model.keras", "--image": "seven.png"} | {args[0]: args[1]}
    one_sentence(explain(*(part for flag in given.items() for part in flag)), match)
    assert contents(tmp_path) == before


def test_a_figure_that_cannot_be_written_is_one_sentence(explain, runs, tmp_path):
    drawing().save(tmp_path / "seven.png")
    os.mkdir(tmp_path / "folder.png")
    for output, reason in (("figure.xyz", "Format 'xyz' is not supported"), ("folder.png", "Is a directory")):
        result = explain("--model", runs / "grey/model.keras", "--image", "seven.png", "--output", output)
        assert result.code == 1
        assert result.err.startswith(f"explain.py: error: --output {output} cannot be written: ")
        assert reason in result.err
