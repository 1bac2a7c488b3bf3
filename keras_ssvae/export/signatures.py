"""The signatures of a served model."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ssvae.data import scale
from keras_ssvae.export import guards, pictures
from keras_ssvae.models.base import BaseVAE
from keras_ssvae.models.capabilities import HasClusters, HasLabels, Intervenes


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of a served model.

    Args:
        function: Maps the inputs to a dictionary of outputs.
        inputs: The `TensorSpec`s of the inputs, in the order of the function's arguments.
        warm_up: One example row of each input.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: list[tf.TensorSpec]
    warm_up: list[Any]

    @property
    def request(self) -> dict[str, np.ndarray]:
        """A request with one row: name of each input -> array `(1, ...)`."""
        return {
            spec.name: np.array([value], object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype)
            for spec, value in zip(self.inputs, self.warm_up, strict=True)
        }


def signatures(model: BaseVAE) -> dict[str, Signature]:
    """Returns the signatures of a model by name. Keras also makes the first one `serving_default`."""
    given = _of_every_model(model)
    given |= _of_characteristics(model) if isinstance(model, Intervenes) else {}
    given |= _of_clusters(model) if isinstance(model, HasClusters) else {}
    return {**_of_a_classifier(model), **given} if isinstance(model, HasLabels) else given


def _of_every_model(model):
    shape, latent_dim = model.image_shape, model.latent_dim
    outputs = {"image": tf.TensorSpec((None, *shape), tf.float32)}
    blank, seed = np.zeros(shape), _integers("seed")

    def encode(image):
        image = guards.images("image", image, shape)
        latent = {"z": tf.TensorSpec((None, latent_dim), tf.float32)}
        return guards.in_slices(lambda image: {"z": model.encode(image)}, latent, image)

    def decode(z):
        z = guards.of_shape("z", z, (latent_dim,), "float32 latent variables")
        z = guards.finite("z", guards.at_most("z", z), "holds NaN or infinity, and must be finite,")
        too_far = "is too far from the latent variables of images: it decodes to NaN or infinity"
        decoded = guards.in_slices(lambda z: {"image": model.decode(z)}, outputs, z)
        return {"image": guards.finite("z", decoded["image"], too_far)}

    def reconstruct(image):
        image = guards.images("image", image, shape)
        return guards.in_slices(lambda image: {"image": model.reconstruct(image)}, outputs, image)

    def interpolate(a, b, n):
        a, b = (guards.images(name, value, shape) for name, value in (("a", a), ("b", b)))
        n = guards.of_shape("n", n, (), "integers")
        a, b, n = guards.equally_many(a=a, b=b, n=n)
        n = guards.points("n", n)
        lines = {"images": tf.TensorSpec((None, None, *shape), tf.float32)}
        pairs = tf.cast(tf.maximum(guards.SLICE // n, 1), tf.int32)
        return guards.in_slices(lambda a, b: {"images": model.interpolate(a, b, n)}, lines, a, b, most=pairs)

    def seeds(seed):
        return guards.at_most("seed", guards.of_shape("seed", seed, (), "integers"))

    # In slices too, since a draw may take much memory: M3 chooses each image among hundreds of candidates.
    def drawn(labels_or_number, seed):
        return {"image": model.decode(model.sample_latent(labels_or_number, seed))}

    def generate(seed):
        return guards.in_slices(lambda seed: drawn(tf.shape(seed)[0], seed), outputs, seeds(seed))

    def generate_classes(label, seed):
        label = guards.labels("label", label, model.labels.sizes, model.labels.several)
        label, seed = guards.equally_many(label=guards.at_most("label", label), seed=seeds(seed))
        return guards.in_slices(lambda label, seed: drawn(tf.cast(label, tf.int32), seed), outputs, label, seed)

    return {
        "encode": Signature(encode, [_images("image", shape)], [blank]),
        "decode": Signature(decode, [tf.TensorSpec((None, latent_dim), tf.float32, name="z")], [np.zeros(latent_dim)]),
        "reconstruct": Signature(reconstruct, [_images("image", shape)], [blank]),
        "interpolate": Signature(
            interpolate, [_images("a", shape), _images("b", shape), _integers("n")], [blank, blank, 10]
        ),
        "generate": Signature(
            generate_classes, [_integers("label", model.labels.shape), seed], [np.zeros(model.labels.shape), 0]
        )
        if isinstance(model, HasLabels)
        else Signature(generate, [seed], [0]),
    }


def _of_a_classifier(model):
    shape, labels = model.image_shape, model.labels
    outputs = {
        "probs": tf.TensorSpec((None, labels.width), tf.float32),
        "label": tf.TensorSpec((None, *labels.shape), tf.int64),
    }
    if model.class_names is not None:
        outputs["label_name"] = tf.TensorSpec((None, *labels.shape), tf.string)

    def answer(image):
        probs = model.classify(image)
        label = model.predicted_labels(probs)
        answer = {"probs": probs, "label": tf.cast(label, tf.int64)}
        if model.class_names is None:
            return answer
        of_labels = zip(
            model.class_names if labels.several else [model.class_names],
            tf.unstack(tf.reshape(label, (-1, len(labels.sizes))), axis=-1),
            strict=True,
        )
        names = tf.stack([tf.gather(tf.constant(names), column) for names, column in of_labels], axis=-1)
        return {**answer, "label_name": names if labels.several else names[:, 0]}

    return _of_images_in_every_form("classify", shape, answer, outputs)


def _of_clusters(model):
    shape, names = model.image_shape, model.cluster_names
    outputs = {
        "probs": tf.TensorSpec((None, model.num_categories), tf.float32),
        "cluster": tf.TensorSpec((None,), tf.int64),
    }
    if names is not None:
        outputs["cluster_name"] = tf.TensorSpec((None,), tf.string)

    def answer(image):
        probs = model.clusters(image)
        answer = {"probs": probs, "cluster": tf.argmax(probs, axis=-1)}
        return answer if names is None else {**answer, "cluster_name": tf.gather(tf.constant(names), answer["cluster"])}

    def drawn(cluster, seed):
        return {"image": model.decode(model.sample_latent(tf.shape(seed)[0], seed, categories=cluster))}

    def generate_cluster(cluster, seed):
        cluster = guards.labels("cluster", cluster, [model.num_categories], several=False, what="cluster")
        cluster, seed = guards.at_most("cluster", cluster), guards.of_shape("seed", seed, (), "integers")
        image = {"image": tf.TensorSpec((None, *shape), tf.float32)}
        return guards.in_slices(drawn, image, *guards.equally_many(cluster=cluster, seed=seed))

    generate = Signature(generate_cluster, [_integers("cluster"), _integers("seed")], [0, 0])
    return {**_of_images_in_every_form("clusters", shape, answer, outputs), "generate_cluster": generate}


def _of_images_in_every_form(name, shape, answer, outputs):
    """The signatures for images as floats, as uint8 and, if a PNG file can hold their channels, as PNG files."""

    def of_floats(image):
        return guards.in_slices(answer, outputs, guards.images("image", image, shape))

    def of_integers(image):
        return guards.in_slices(lambda image: answer(scale(image)), outputs, image)

    def of_uint8(image):
        return of_integers(guards.of_shape("image", image, shape, "uint8 images"))

    def of_png(image_bytes):
        files = guards.of_shape("image_bytes", image_bytes, (), "PNG files")
        return of_integers(pictures.decoded("image_bytes", guards.at_most("image_bytes", files), shape))

    given = {
        name: Signature(of_floats, [_images("image", shape)], [np.zeros(shape)]),
        f"{name}_uint8": Signature(
            of_uint8, [tf.TensorSpec((None, *shape), tf.uint8, name="image")], [np.zeros(shape)]
        ),
    }
    if shape[-1] in pictures.CHANNELS:
        spec = tf.TensorSpec((None,), tf.string, name="image_bytes")
        given[f"{name}_png"] = Signature(of_png, [spec], [pictures.blank()])
    return given


def _of_characteristics(model):
    shape, labels = model.image_shape, model.labels
    outputs = {"image": tf.TensorSpec((None, *shape), tf.float32)}
    every_label, blank = list(range(len(labels.sizes))), np.zeros(shape)

    def intervened(image, label, seed):
        return {"image": model.intervene(image, every_label, label, seed)}

    def intervene(image, label, seed):
        image = guards.images("image", image, shape)
        label = guards.labels("label", label, labels.sizes, labels.several, lowest=-1)  # -1 keeps
        seed = guards.of_shape("seed", seed, (), "integers")
        return guards.in_slices(intervened, outputs, *guards.equally_many(image=image, label=label, seed=seed))

    def swap(image, donor):
        image, donor = (guards.images(name, value, shape) for name, value in (("image", image), ("donor", donor)))
        swapped = guards.equally_many(image=image, donor=donor)
        return guards.in_slices(lambda image, donor: {"image": model.swap(image, donor)}, outputs, *swapped)

    return {
        "intervene": Signature(
            intervene,
            [_images("image", shape), _integers("label", labels.shape), _integers("seed")],
            [blank, np.zeros(labels.shape), 0],
        ),
        "swap": Signature(swap, [_images("image", shape), _images("donor", shape)], [blank, blank]),
    }


def _images(name, shape):
    return tf.TensorSpec((None, *shape), tf.float32, name=name)


def _integers(name, shape=()):
    return tf.TensorSpec((None, *shape), tf.int64, name=name)
