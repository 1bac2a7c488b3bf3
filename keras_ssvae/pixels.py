"""Checks and scaling of pixels: `uint8` from 0 to 255 is scaled, floats must be in [-1, 1], all else is an error."""

import contextlib
import contextvars
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

from keras_ssvae.backend import is_symbolic
from keras_ssvae.checks import warn_caller
from keras_ssvae.distributions import Tensor

_ROUNDING = 1e-3  # allowed distance from [-1, 1], by the rounding of half precision and of interpolation
_AUGMENTED = 3.0  # largest absolute value of augmented pixels; those of `data.augment.mnist`, as in EXoN, reach 1.5
_DARK = -0.5  # images with a pixel below it are not in [0, 1]
_NEARLY_BLACK = -0.99  # pixels in [0, 1] end below this value if they are scaled as pixels from 0 to 255


def scale(images) -> Tensor:
    """Maps pixels from 0 ... 255 (`uint8`) to [-1, 1] (`float32`): (x - 127.5) / 127.5.

    Args:
        images: A tensor of the Keras backend, or anything that NumPy converts to an array; any shape.

    Returns:
        A tensor or NumPy array of the same shape.

    Raises:
        ValueError: If the values are not pixels from 0 to 255, but floats in [-1, 1] or [0, 1], or `uint8` images that
            hold only 0 and 1.
    """
    images = as_array("images", images)
    if not is_symbolic(images):
        pixels = ops.convert_to_numpy(images)
        low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
        if not 0 <= low <= high <= 255 or low < high <= 1:  # written so that NaN fails
            raise ValueError(
                f"`images` has pixels from {low:g} to {high:g}; to be scaled it must be pixels from 0 to 255. Images "
                "in [-1, 1] are scaled already. If the images are in [0, 1], or masks of 0 and 1, scale `255 * images`."
            )
    return _scaled(images)


def _scaled(images):
    if ops.is_tensor(images):
        return (ops.cast(images, "float32") - 127.5) / 127.5
    return (np.asarray(images, np.float32) - np.float32(127.5)) / np.float32(127.5)


def to_float(images: Tensor) -> Tensor:
    """Converts checked images to float32 in [-1, 1]: scales `uint8`, casts floats of any precision."""
    if dtype_name(images) == "uint8":
        return _scaled(images)
    return ops.cast(images, "float32") if ops.is_tensor(images) else images.astype(np.float32, copy=False)


def as_images(
    name: str, images, image_shape: tuple[int, ...] | None = None, in_doubt: str = "refuse", advice: str = ""
) -> Tensor:
    """Checks images, and converts them to the networks' input: float32 in [-1, 1].

    Args:
        name: Name of the argument, for messages.
        images: A tensor, or anything that NumPy converts to an array, `(N, H, W, C)`: `uint8` from 0 to 255, or floats
            in [-1, 1]. The dtype and the shape are checked, and the pixels too unless the tensor is symbolic.
        image_shape: The required `(H, W, C)`, or None.
        in_doubt: What to do with images that are in range, but look wrong: like images in [0, 1], like masks of 0 and 1
            in `uint8`, or like images that were scaled twice. "refuse" raises an error, "warn" warns, "ignore" accepts
            them. A single image gives a warning at most.
        advice: A sentence that is added to the error about images of another size.

    Returns:
        A tensor if a tensor was given, else a NumPy array.

    Raises:
        ValueError: If the shape, the dtype or a pixel is wrong.
    """
    images = as_array(name, images)
    check_form(name, images, image_shape, advice)
    if not is_symbolic(images):
        check_values(name, images, in_doubt)
    return to_float(images)


def as_array(name: str, images) -> Tensor:
    """Returns tensors unchanged, and anything else as a NumPy array."""
    if ops.is_tensor(images) or is_symbolic(images):
        return images
    try:
        return np.asarray(images)
    except ValueError as error:  # NumPy's, of a list of arrays of several shapes
        raise ValueError(
            f"`{name}` is a {type(images).__name__} of arrays of different shapes; it must be images of one shape. "
            "Resize them."
        ) from error


def dtype_name(images) -> str:
    """The name of a dtype in Keras, or in NumPy if Keras does not know it."""
    try:
        return keras.backend.standardize_dtype(images.dtype)
    except ValueError:
        return str(images.dtype)


def check_dtype(name: str, dtype: str) -> None:
    """Raises a `ValueError` unless images may have the dtype."""
    if dtype == "uint8" or dtype.startswith(("float", "bfloat")):
        return
    hint = ""
    if dtype == "bool":
        hint = " `255 * images.astype('uint8')` makes them black and white."
    elif dtype.startswith(("int", "uint")):
        hint = " If they are pixels from 0 to 255, give `images.astype('uint8')`."
    raise ValueError(f"`{name}` is {dtype}; it must be uint8 images from 0 to 255, or floats in [-1, 1].{hint}")


def check_form(name: str, images, image_shape: tuple[int, ...] | None = None, advice: str = "") -> None:
    """Raises a `ValueError` unless the dtype and the shape, `(N, H, W, C)`, are those of images.

    The arguments are those of `as_images`.
    """
    dtype, shape = dtype_name(images), tuple(images.shape)
    if len(shape) != 4 or (image_shape is not None and shape[1:] != tuple(image_shape)):
        of_shape = "(N, H, W, C)" if image_shape is None else f"{(None, *image_shape)}"
        raise ValueError(
            f"`{name}` is {dtype} of shape {shape}; it must be images of shape {of_shape}, uint8 or floats in "
            f"[-1, 1].{_hint_of_shape(name, shape, image_shape, advice)}"
        )
    check_dtype(name, dtype)
    if image_shape is None and 0 in shape[1:]:
        raise ValueError(f"`{name}` has shape {shape}; it must be images of at least one pixel.")


def _hint_of_shape(name, shape, image_shape, advice):
    """A sentence with the code that corrects the shape, if that can be guessed."""
    name = name if name.isidentifier() else "images"
    if image_shape is None:
        if len(shape) == 3 and shape[-1] in (1, 3):
            return f" `{name}[None]` makes a batch of one image."
        return f" `{name}[..., None]` gives grey images their channel." if len(shape) == 3 else ""
    if shape == image_shape:
        return f" `{name}[None]` makes a batch of one image."
    if image_shape[-1] == 1 and shape == image_shape[:-1]:
        return f" `{name}[None, ..., None]` makes a batch of one grey image."
    if image_shape[-1] == 1 and shape[1:] == image_shape[:-1]:
        return f" `{name}[..., None]` gives grey images their channel."
    if len(shape) == 4 and (*shape[2:], shape[1]) == image_shape:
        return f" `np.moveaxis({name}, 1, -1)` puts the channels last."
    if len(shape) == 2 and shape[1] == np.prod(image_shape):
        return f" `{name}.reshape{(-1, *image_shape)}` makes images from rows."
    return advice if len(shape) == 4 else ""


def check_values(name: str, images, in_doubt: str = "refuse") -> None:
    """Raises a `ValueError` unless the pixels are in range. The arguments are those of `as_images`."""
    if _trusted.get():  # before the pixels are copied from the device
        return
    images = ops.convert_to_numpy(images)
    if not images.size:
        return
    low, high = float(images.min()), float(images.max())  # NaN where there is one
    sentence = _out_of_range(name, low, high) if images.dtype != np.uint8 else None
    if sentence is not None:
        raise ValueError(sentence)
    sentence = None if in_doubt == "ignore" else _doubt(name, images.dtype == np.uint8, low, high)
    if sentence is not None and in_doubt == "refuse" and len(images) > 1:  # a single image may look like that
        raise ValueError(sentence)
    if sentence is not None:
        warn_caller(sentence)


def augmented_fits(images: Tensor, originals: Tensor, first: bool | Tensor) -> Tensor:
    """Whether `check_augmented` accepts augmented images: one boolean tensor, symbolic for symbolic tensors."""
    low, high = ops.min(images), ops.max(images)
    in_range = ops.logical_and(low >= -_AUGMENTED, high <= _AUGMENTED)  # False for NaN
    bright = ops.logical_and(ops.logical_and(low >= 0, low < high), ops.min(originals) < _DARK)
    in_doubt = ops.logical_and(ops.logical_and(first, ops.shape(images)[0] > 1), bright)
    return ops.logical_and(in_range, ops.logical_not(in_doubt))


def check_augmented(name: str, images, originals, first: bool) -> None:
    """Raises a `ValueError` if augmented images are far outside [-1, 1], or if they are in [0, 1] and were not before.

    Augmentation may leave [-1, 1] a little. Images in [0, 1] are an error in the first batch only, and only if it has
    more than one image: later, and of a single image, the crop may have left out all dark pixels.
    """
    images, originals = (ops.convert_to_numpy(each).astype("float32") for each in (images, originals))
    if not images.size or augmented_fits(images, originals, first):
        return
    low, high = images.min(), images.max()
    before = f", and from {originals.min():g} before the augmentation" if 0 <= low <= high <= _AUGMENTED else ""
    raise ValueError(
        f"`{name}` has pixels from {low:g} to {high:g}{before}; it must be floats in [-1, 1], or near it. `augment` "
        "gets images in this range and must return images in this range."
    )


_trusted = contextvars.ContextVar("_trusted", default=False)


@contextlib.contextmanager
def trusted() -> Iterator[None]:
    """A context in which models do not check pixels, because the caller has checked them."""
    token = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(token)


def _out_of_range(name, low, high):
    if not (np.isfinite(low) and np.isfinite(high)):
        return f"`{name}` holds NaN or infinite pixels; it must be floats in [-1, 1]."
    if low >= -1 - _ROUNDING and high <= 1 + _ROUNDING:
        return None
    if low >= 0 and high <= 255:
        hint = "They look like pixels from 0 to 255: `data.scale` scales them, and uint8 needs no scaling."
    elif low > -1.01 and high < _NEARLY_BLACK:
        hint = "They look scaled twice: give the result of the first `data.scale`."
    else:
        hint = (
            "`data.scale` scales pixels from 0 to 255. If an augmentation causes values outside [-1, 1], clip its "
            "result."
        )
    return (
        f"`{name}` has pixels from {low:g} to {high:g}; it must be floats in [-1, 1], or uint8 images from 0 to 255. "
        f"{hint}"
    )


def _doubt(name, is_uint8, low, high):
    """A sentence about pixels that are in range but look wrong, or None. Images of one colour are accepted."""
    if low == high:
        return None
    if is_uint8 and high <= 1:
        return (
            f"`{name}` is uint8 of nothing but 0 and 1, which looks like masks; it must be pixels from 0 to 255. Give "
            "`255 * images`."
        )
    if not is_uint8 and low >= 0:
        return (
            f"`{name}` has pixels from {low:g} to {high:g}, none below 0, which looks like images in [0, 1]; it must "
            "be floats in [-1, 1]: `2 * images - 1`. If the images really are that bright, give them as uint8."
        )
    if not is_uint8 and high <= _NEARLY_BLACK:
        return (
            f"`{name}` has pixels from {low:g} to {high:g}, which looks like images scaled twice, or images in [0, 1] "
            "scaled as if from 0 to 255; it must be floats in [-1, 1]. Give the images before the last scaling."
        )
    return None
