"""Explains how a trained EXoN classifies and encodes one image, in words and in a figure.

The image may have any size. It is shrunk or enlarged smoothly to the size of the model's images. It keeps its
proportions and its contrast, and the colour of its border fills the rest. Transparent pixels become white. MNIST's
digits are light strokes on a dark ground, in the middle of the image, with a margin of a seventh of the image. For a
dark pen on paper add --invert.
"""

import argparse
import json
import math
import warnings
from pathlib import Path

import quiet  # noqa: F401

# isort: split
import numpy as np
from PIL import Image, ImageOps

from keras_ssvae import plots
from keras_ssvae.data import CLASS_NAMES
from keras_ssvae.models import EXoN
from keras_ssvae.runs.directory import check_writable
from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.saved import load_model
from keras_ssvae.runs.script import script

_EXON = "an EXoN that Keras saved, such as the `model.keras` of a run"
_MOST_LINES = 10  # active coordinates in the text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="file of the trained model: the `model.keras` of a run")
    add("--image", type=Path, required=True, help="file of the image: PNG, JPEG or another format that Pillow reads")
    add(
        "--output",
        type=Path,
        help="file for the figure; its ending gives the format (default <image>_explained.png in this directory)",
    )
    add("--invert", action="store_true", help="swap light and dark (default: off)")
    add(
        "--delta",
        type=float,
        default=1.0,
        help="a latent coordinate is active if its V-nat for the image is above this number of nats (default "
        "%(default)s)",
    )
    args = parser.parse_args()
    script(lambda: explain(args))


def explain(args: argparse.Namespace) -> None:
    output = args.output or Path(f"{args.image.stem}_explained.png")
    if not math.isfinite(args.delta):
        raise UserError(f"--delta is {args.delta}; it must be a finite number of nats.")
    check_writable(output.parent, "--output")
    picture = read(args.image)
    model = load(args.model)
    image = resized(picture, model.image_shape, args.invert)
    names = model.class_names or class_names(args.model, model.num_classes)
    (explanation,) = model.explain(image[None], args.delta)
    figure = plots.explanation(image, explanation, class_names=names)
    print("\n".join(in_words(explanation, names)))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"--output {output} cannot be written: {error}.") from error
    print(f"Figure: {output}")


def read(file: Path) -> Image.Image:
    """Reads an image as `RGB` with 8 bits, upright and on a white ground."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about metadata
            image = ImageOps.exif_transpose(Image.open(file))
        if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
            image = Image.fromarray((np.asarray(image, dtype="float64") / 257).round().clip(0, 255).astype("uint8"))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"--image {file} cannot be read as an image: {error}.") from error


def resized(image: Image.Image, image_shape: tuple[int, int, int], invert: bool) -> np.ndarray:
    """Brings an image to the model's size and channels, `uint8`."""
    height, width, channels = image_shape
    if channels not in (1, 3):
        raise UserError(f"--model takes images with {channels} channels; an image file has 1 or 3.")
    if channels == 1:
        image = image.convert("L")
    if invert:
        image = ImageOps.invert(image)
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = np.median(border.reshape(-1, channels), axis=0).astype("uint8")
    share = min(height / image.height, width / image.width)
    size = [max(1, round(share * side)) for side in image.size]
    # Sharper filters leave waves beside strokes.
    smaller = np.asarray(image.resize(size, Image.Resampling.HAMMING)).reshape(size[1], size[0], channels)
    result = np.broadcast_to(ground, image_shape).copy()
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    result[top : top + size[1], left : left + size[0]] = smaller
    return result


def load(file: Path) -> EXoN:
    model = load_model(file, what=_EXON)
    if not isinstance(model, EXoN):
        raise UserError(f"--model {file} is a {type(model).__name__}; it must be {_EXON}.")
    return model


def class_names(model: Path, num_classes: int) -> tuple[str, ...] | None:
    """The class names for a model of version 0.1, which has none: those of the data set in the run's config.json."""
    try:
        names = CLASS_NAMES.get(json.loads(model.with_name("config.json").read_text(encoding="utf-8"))["dataset"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return names if names is not None and len(names) == num_classes else None


def in_words(explanation, names) -> list[str]:
    """The explanation as lines of text."""
    probs = explanation.probs
    likely = [k for k in np.argsort(-probs, kind="stable") if probs[k] > 0.01]
    lines = [explanation.sentence(names), "Class probabilities above 1 %:"]
    lines += [f"  {names[k] if names else k}: {100 * probs[k]:.1f} %" for k in likely]
    active, d = explanation.active, len(explanation.z)
    lines += [f"{len(active)} of {d} coordinates active (V-nat above {explanation.delta:g})"]
    for j in active[:_MOST_LINES]:
        offset = f"{explanation.offsets[j]:+.1f} prior standard deviations from the centre"
        lines += [f"  coordinate {j}: V-nat {explanation.v_nat[j]:.1f} nats, {offset}"]
    if len(active) > _MOST_LINES:
        lines += [f"  and {len(active) - _MOST_LINES} more"]
    return lines


if __name__ == "__main__":
    main()
