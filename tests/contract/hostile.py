"""Sends malformed requests to SavedModels with TensorFlow alone, all in one process: `hostile.py SAVED_MODEL ...`.

Prints JSON: for each SavedModel and signature a list of [what is wrong, the name of the wrong input, the message of the
error or null], and under "empty" the shapes of the answers to an empty batch.
"""

import json
import sys

for package in ("keras", "tf_keras", "keras_ssvae"):
    sys.modules[package] = None

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402


def good(spec, rows=2):
    """A valid input of a request."""
    if spec.dtype == tf.string:
        return np.array([PNG] * rows, object)
    return np.full((rows, *spec.shape[1:]), 3 if spec.name == "n" else 0, spec.dtype.as_numpy_dtype)


PNG = tf.io.encode_png(tf.zeros((9, 7, 1), tf.uint8)).numpy()


def with_size(width, height):
    return PNG[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + PNG[24:]


FILES = {
    "an empty string": b"",
    "text": b"hello, world",
    "not Unicode": bytes(range(128, 256)),
    "another kind of file": b"\xff\xd8\xff\xe0" + b"0" * 100,
    "the signature alone": PNG[:8],
    "cut off": PNG[:40],
    "without its end": PNG[:-12],
    "a bomb": with_size(60_000, 60_000),
    "a bomb of one side": with_size(2**31, 1),
    "no pixels": with_size(0, 5),
    "another size than its pixels": with_size(8, 9),
    "a wrong byte": PNG[:-20] + b"x" + PNG[-19:],
}


def malformed(spec, lowest_label):
    """Yields pairs: what is wrong, and the malformed input."""
    value = good(spec)
    yield "one, without a batch dimension", value[0]
    yield "a rank more", value[None]
    yield "a scalar", value.ravel()[0]
    yield "two rows flat", np.concatenate([value.ravel()] * 2).reshape(1, 2, -1)
    yield "an empty vector of a rank more", np.zeros((0, *value.shape, 2), value.dtype)
    for axis in range(1, value.ndim):
        yield f"one more along axis {axis}", np.concatenate([value, value.take([0], axis)], axis)
        yield f"nothing along axis {axis}", value.take([], axis)
    if value.ndim == 4:
        yield "rows flat", value.reshape(2, -1)
        yield "without channels", value[..., 0]

    def with_last(number):
        changed = value.copy()
        changed[-1] = changed[-1] * 0  # the other rows are valid
        changed.reshape(2, -1)[-1, -1] = number
        return changed

    if spec.dtype == tf.float32:
        for number in (np.nan, np.inf, -np.inf):
            yield f"{number} in a row", with_last(number)
            yield f"{number} everywhere", np.full_like(value, number)
    if spec.dtype == tf.float32 and value.ndim == 4:
        for number in (255, 1.1, -1.1, -255, 3e38):
            yield f"a pixel of {number}", with_last(number)
        yield "pixels from 0 to 255", np.linspace(0, 255, value.size, dtype="float32").reshape(value.shape)
    if spec.name in ("label", "cluster"):
        for number in (lowest_label - 1, 1000, 2**31, 2**32, 2**62, -(2**63)):
            yield f"a label of {number}", with_last(number)
    if spec.name == "n":
        yield "not the same", np.array([3, 4])
        for number in (1, 0, -5, 10**6, 2**32 + 2, 2**63 - 1, -(2**63)):
            yield f"an n of {number}", np.full(2, number)
    if spec.dtype == tf.string:
        for what, file in FILES.items():
            yield what, np.array([PNG, file], object)


def asked(signature, inputs):
    specs = {spec.name: spec for spec in signature.structured_input_signature[1].values()}
    return signature(**{name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()})


def refused(name_of_signature, signature):
    specs = signature.structured_input_signature[1].values()
    lowest_label = -1 if name_of_signature == "intervene" else 0  # -1 keeps a label
    requests = [(what, spec.name, value) for spec in specs for what, value in malformed(spec, lowest_label)]
    if len(specs) > 1:
        requests += [("another number of rows", spec.name, good(spec, 3)) for spec in specs]
    for what, name, value in requests:
        try:
            asked(signature, {**{spec.name: good(spec) for spec in specs}, name: value})
        except tf.errors.InvalidArgumentError as error:
            yield what, name, str(error)
        else:
            yield what, name, None
    asked(signature, {spec.name: good(spec) for spec in specs})  # the process still answers


result = {}
for path in sys.argv[1:]:
    served = tf.saved_model.load(path)
    result[path] = {name: list(refused(name, signature)) for name, signature in served.signatures.items()}
    result[path]["empty"] = {
        f"{name}/{output}": value.shape.as_list()
        for name, signature in served.signatures.items()
        for output, value in asked(
            signature, {spec.name: good(spec, 0) for spec in signature.structured_input_signature[1].values()}
        ).items()
    }
print(json.dumps(result))
