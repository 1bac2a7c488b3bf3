"""Base of REVAE and M3: a classifier reads one part of z and does not see the other part."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.backend import is_symbolic
from keras_ssvae.checks import check_whole_number, generator
from keras_ssvae.distributions import (
    Tensor,
    as_floatx,
    blocks,
    gaussian_log_prob,
    sample_gaussian,
)
from keras_ssvae.likelihoods import Bernoulli, Likelihood, to_unit
from keras_ssvae.models import probes
from keras_ssvae.models.base import BaseVAE
from keras_ssvae.models.checks import PARTS, check_as_many, check_network, check_parts, image_shape, parts_of
from keras_ssvae.models.importance import log_likelihood
from keras_ssvae.models.labels import ClassifierMixin, Labels, as_integers
from keras_ssvae.models.sampling import check_likelihood
from keras_ssvae.networks import revae
from keras_ssvae.pixels import as_array

Posterior = tuple[Tensor, Tensor]  # means and log-variances


class CharacteristicVAE(ClassifierMixin, BaseVAE):
    """Base of models with `z = (z_c, rest)`, a Gaussian `q(z | x)` and a classifier `q(y | z_c)`.

    z_c holds the characteristics of all labels, side by side. The probabilities of a label depend only on its own
    characteristics. `q(y | x)` is the mean of `q(y | z_c)` over samples of z_c.

    A subclass ends its constructor with `self.build((None, *self.image_shape))`, after it has made all its variables.

    A batch has labelled images, unlabelled images, or both. The terms have one row for each, labelled images first.

    Args:
        encoder: Maps images `(B, H, W, C)` with pixels in [0, 1] to `(mean, logvar)` of z, each `(B, d)`.
        decoder: Maps `(B, d)` to the outputs that the likelihood takes, `(B, H, W, C)`.
        classifier: Maps z_c `(B, m_c)` to logits, those of all labels side by side.
        num_classes: Number of values of the label; for several labels a tuple of these numbers.
        c_dims: Dimensions of z_c; for several labels those of each, or one number for all.
        rest_dim: Dimensions of the rest of z.
        likelihood: One of `likelihoods`.
        classifier_samples: Number of samples of z_c over which `q(y | x)` is the mean.
        seed: Seed of the training noise.
        name: Model name.
        class_names: Names of the classes.
    """

    reduction = "mean"
    takes_missing_labels = True

    made_by = {  # noqa: RUF012
        "encoder": "networks.revae.encoder(image_shape, latent_dim)",
        "decoder": "networks.revae.decoder(image_shape, latent_dim)",
        "classifier": "networks.revae.classifier(num_classes, c_dim)",
    }

    def __init__(
        self,
        encoder: keras.Model | None,
        decoder: keras.Model | None,
        classifier: keras.Model | None,
        num_classes: int | Sequence[int],
        c_dims: int | Sequence[int],
        rest_dim: int,
        likelihood: Likelihood | None,
        classifier_samples: int,
        seed: int,
        name: str,
        class_names: Sequence | None,
    ):
        super().__init__(seed=seed, name=name)
        self.labels = Labels(num_classes)  # type: ignore[arg-type]  # any sequence becomes a tuple
        self.class_names = class_names
        given = c_dims if isinstance(c_dims, Sequence | np.ndarray) else [c_dims] * len(self.labels.sizes)
        self.c_dims = [check_whole_number("c_dims", dims, 1) for dims in given]
        self.rest_dim = check_whole_number("rest_dim", rest_dim, 0)
        self.classifier_samples = check_whole_number("classifier_samples", classifier_samples, 1)
        sizes = self.labels.sizes
        if len(self.c_dims) != len(sizes) or min(sizes) < 2:
            raise ValueError(
                f"`c_dims` is {c_dims!r} and `num_classes` {num_classes!r}; each label must have at least two values "
                "and dimensions of its own."
            )
        self.latents = {"z_c": sum(self.c_dims)} | ({"z_rest": self.rest_dim} if self.rest_dim else {})
        self.likelihood = Bernoulli() if likelihood is None else likelihood
        check_likelihood(self.likelihood, binarize=False)
        self._make_networks(encoder, decoder, classifier)

    def _make_networks(self, encoder, decoder, classifier):
        c_dim, width = sum(self.c_dims), self.labels.width
        self.encoder = encoder or revae.encoder(latent_dim=self.latent_dim)
        self.image_shape = image_shape("encoder", self.encoder)
        height, width_of_image, colours = self.image_shape
        outputs = (height, width_of_image, colours * self.likelihood.outputs_per_value)
        self.decoder = decoder or revae.decoder(outputs, self.latent_dim)
        if classifier is None and self.labels.several:
            self.classifier = revae.factorized_classifier(self.labels.sizes, self.c_dims)
        else:
            self.classifier = classifier or revae.classifier(width, c_dim)
        reason = (
            f"images {self.image_shape}, labels of {self.num_classes} values and {self.c_dims} + {self.rest_dim} "
            "dimensions of z"
        )
        shapes = {
            "encoder": (self.image_shape, [(None, self.latent_dim)] * 2),
            "decoder": ((self.latent_dim,), (None, *outputs)),
            "classifier": ((c_dim,), (None, width)),
        }
        for name, (takes, gives) in shapes.items():
            check_network(name, getattr(self, name), takes, gives, reason, self.made_by[name])
        probes.probe("encoder", encoder, {1: probes.LOGVAR}, unit_pixels=True)
        probes.probe("decoder", decoder, {0: self.likelihood.takes})
        probes.probe("classifier", classifier, {0: probes.CLASS_LOGITS})

    # Training

    @property
    def normal_parts(self) -> tuple[str, ...]:
        return tuple(part for part in self.latents if part == "z_rest")

    def check_batch(self, images, labels) -> None:
        check_parts(self, images, labels)

    def draw_noise(self, batch, step) -> dict[str, Tensor]:
        seed, noise = self.noise_stream(step), {"dropout": self.dropout_counter(step)}
        for part in parts_of(batch):
            rows = ops.shape(batch[part])[0]
            noise[f"epsilon_{part}"] = keras.random.normal((rows, self.latent_dim), seed=seed)
        return {**noise, **self.own_noise(batch, seed)}

    def own_noise(self, batch: dict[str, Tensor], seed: keras.random.SeedGenerator) -> dict[str, Tensor]:
        """Draws the other random numbers of a step, besides those for z. Their names end with a part of the batch."""
        return {}

    @staticmethod
    def images_of(batch: dict[str, Tensor]) -> Tensor:
        """The labelled and the unlabelled images of a batch, in this order."""
        return ops.concatenate([batch[part] for part in parts_of(batch)])

    @staticmethod
    def rows_of(noise: dict[str, Tensor], name: str) -> Tensor:
        """The noise of the images of a batch, in the order of `images_of`."""
        return ops.concatenate([noise[f"{name}_{part}"] for part in PARTS if f"{name}_{part}" in noise])

    def split_c(self, values: Tensor) -> list[Tensor]:
        """Cuts z_c, or z, `(..., d)` into the characteristic variables of each label."""
        return blocks(self.z_c(values), self.c_dims)

    def rest(self, values: Tensor) -> Tensor:
        """The part of z `(..., d)` that belongs to no label."""
        return values[..., sum(self.c_dims) :]

    def z_c(self, z: Tensor) -> Tensor:
        """The characteristic variables of z `(..., d)`."""
        return z[..., : sum(self.c_dims)]

    def log_q_y(self, logits: Tensor) -> Tensor:
        """`log q(y_i | z_ci)` from the logits of the classifier `(..., width)`, all labels side by side."""
        parts = [ops.log_softmax(each, axis=-1) for each in self.labels.split(as_floatx(logits))]
        return ops.concatenate(parts, axis=-1)

    # Use: deterministic, tensors in, tensors out

    def call(self, images, training=False) -> dict[str, Tensor]:
        """Returns all outputs of inference: those of `posterior`, `latent` (see `encode`) and `reconstruction`."""
        outputs = self.posterior(images)
        latent = ops.concatenate([outputs[f"{part}_mean"] for part in self.latents], axis=-1)
        return {**outputs, "latent": latent, "reconstruction": self.decode(latent)}

    def posterior(self, images: Tensor) -> dict[str, Tensor]:
        """`q(y | x)`, `probs` `(B, width)`, and the means and log-variances of z_c and of the rest."""
        mean, logvar = self.infer(images)
        outputs = {"probs": self.probs(mean, logvar)}
        for kind, values in (("mean", mean), ("logvar", logvar)):
            outputs |= {f"{part}_{kind}": value for part, value in self.split_latent(values).items()}
        return outputs

    def infer(self, images: Tensor) -> Posterior:
        """Means and log-variances of `q(z | x)`, each `(B, d)`, in inference."""
        mean, logvar = map(as_floatx, self.encoder(to_unit(self.as_images(images)), training=False))
        return mean, logvar

    def classify(self, images: Tensor) -> Tensor:
        """Class probabilities `q(y | x)`: the mean of `q(y | z_c)` over samples of z_c, with fixed noise.

        Args:
            images: `(B, H, W, C)` in [-1, 1].

        Returns:
            `(B, K)`; several labels side by side.
        """
        return self.probs(*self.infer(images))

    def probs(self, mean: Tensor, logvar: Tensor) -> Tensor:
        """`q(y | x)` from the parameters of `q(z | x)`."""
        c_dim, samples = sum(self.c_dims), self.classifier_samples
        # The same constants for each image: a served model draws nothing.
        epsilon = generator(0).standard_normal((samples, c_dim), dtype=np.float32)
        z_c = sample_gaussian(mean[:, None, :c_dim], logvar[:, None, :c_dim], epsilon)
        logits = self.classifier(ops.reshape(z_c, (-1, c_dim)), training=False)
        return ops.mean(ops.reshape(ops.exp(self.log_q_y(logits)), (-1, samples, self.labels.width)), axis=1)

    def encode(self, images: Tensor) -> Tensor:
        """Latent variables (z_c, rest) `(B, d)`: the posterior means."""
        return self.infer(images)[0]

    def decode(self, z: Tensor) -> Tensor:
        """Images `(B, H, W, C)` in [-1, 1] at latent variables (z_c, rest) `(B, d)`: the mean of the likelihood."""
        return self.likelihood.mean(self.decoder(as_array("z", z), training=False))

    def posterior_noise(self, num_images, num_samples, stream) -> dict[str, Tensor]:
        return {"epsilon": keras.random.normal((num_images, num_samples, self.latent_dim), seed=stream)}

    def log_weights(self, images, noise) -> Tensor:
        images = self.as_images(images)
        mean, logvar = (values[:, None] for values in self.infer(images))
        z = sample_gaussian(mean, logvar, noise["epsilon"])
        log_ratio = self.log_prior(z) - gaussian_log_prob(z, mean, logvar)
        return log_likelihood(self.decoder, self.likelihood, images, z) + log_ratio

    def log_prior(self, z: Tensor) -> Tensor:
        """`log p(z)`, without the labels: `(..., d)` -> `(...)`."""
        raise NotImplementedError

    def swap(self, images: Tensor, donors: Tensor, labels: ArrayLike | None = None) -> Tensor:
        """Gives images the characteristics of others: `decode(z_c(donors), rest(images))`, as Figure 5 of REVAE.

        Args:
            images: `(B, H, W, C)` in [-1, 1]. They keep the rest of their z.
            donors: As many images, which give their z_c.
            labels: Numbers of the labels, from 0, whose characteristics are taken. Default: all.

        Returns:
            `(B, H, W, C)`.

        Raises:
            ValueError: If the number of donors differs from that of the images, or a label does not exist.
        """
        images, donors = self.as_images(images), self.as_images(donors, "donors")
        check_as_many(images, "donors", donors)
        taken = range(len(self.labels.sizes)) if labels is None else self.check_label_numbers("labels", labels)
        z, of_donors = self.encode(images), self.split_c(self.encode(donors))
        return self.decode(self.with_c(z, {i: of_donors[i] for i in taken}))

    def intervene(
        self, images: Tensor, label: int | Sequence[int], value: ArrayLike, seed: int | Tensor | None = None
    ) -> Tensor:
        """Gives images another value of one label or several; the rest of their z is kept.

        Args:
            images: `(B, H, W, C)` in [-1, 1].
            label: Number of the label, from 0, or a list of n numbers.
            value: The new value: an integer, or one for each image `(B,)`. For a list of labels a row `(n,)`, or one
                for each image `(B, n)`. With -1 an image keeps its own characteristics of this label.
            seed: Seed of the draw `z_ci ~ p(z_ci | value)`; other seeds give other images of this value. A tensor with
                one seed for each image makes each image independent of the others. None, the default, and -1 take the
                mean of this distribution. `M3` has no such mean: there -1 is an ordinary seed.

        Returns:
            `(B, H, W, C)`.

        Raises:
            ValueError: If a label or a value does not exist.
        """
        z, numbers = self.encode(images), self.check_label_numbers("label", label)
        values = self._check_values(numbers, value, z, of_list=np.ndim(label) > 0)
        seed = -1 if seed is None else _checked_seed(seed)
        drawn = self.draw_c({i: ops.maximum(value_i, 0) for i, value_i in values.items()}, seed)
        kept = self.split_c(z)
        replaced = {i: ops.where(value_i[:, None] < 0, kept[i], drawn[i]) for i, value_i in values.items()}
        return self.decode(self.with_c(z, replaced))

    def draw_c(self, values: dict[int, Tensor], seed: int | Tensor) -> dict[int, Tensor]:
        """Draws characteristic variables for given values of labels.

        Args:
            values: Number of a label -> its values `(B,)`.
            seed: As for `intervene`.

        Returns:
            Number of a label -> its characteristic variables `(B, d_i)`. They do not depend on the other labels.
        """
        raise NotImplementedError

    def check_label_numbers(self, name: str, labels: ArrayLike) -> list[int]:
        """Returns label numbers as a list of integers; raises ValueError for an unknown or repeated number."""
        given = np.atleast_1d(np.asarray(labels))
        count = len(self.labels.sizes)
        right = given.ndim == 1 and len({*given.tolist()}) == len(given) > 0 and np.issubdtype(given.dtype, np.integer)
        if not right or given.min() < 0 or given.max() >= count:
            raise ValueError(
                f"`{name}` is {labels!r}; it must be numbers of labels, from 0 to {count - 1}, each once: this model "
                f"has {count} label{'s' if count > 1 else ''}."
            )
        return given.tolist()

    def _check_values(self, numbers, value, z, of_list):
        """Label number -> its values `(B,)`; raises ValueError for a value that does not exist and is not -1."""
        if not is_symbolic(value):
            sizes = [self.labels.sizes[i] for i in numbers]
            labels = Labels(tuple(sizes) if of_list else sizes[0], allow_missing=True)
            given = as_integers("value", value, columns=True)
            value = labels.check("value", given[None] if given.ndim == len(labels.shape) else given)
            if len(value) not in (1, z.shape[0]):
                raise ValueError(
                    f"`value` has {len(value)} values for {z.shape[0]} images; it must have one, or one for each image."
                )
        value = ops.reshape(ops.cast(value, "int32"), (-1, len(numbers)))
        value = ops.broadcast_to(value, (ops.shape(z)[0], len(numbers)))
        return {number: value[:, i] for i, number in enumerate(numbers)}

    def with_c(self, z: Tensor, replaced: dict[int, Tensor]) -> Tensor:
        """Replaces in z the characteristic variables of some labels, given by label number."""
        parts = [replaced.get(i, part) for i, part in enumerate(self.split_c(z))]
        return ops.concatenate([*parts, self.rest(z)], axis=-1)

    # Serialisation

    def get_config(self) -> dict[str, Any]:
        objects = ("encoder", "decoder", "classifier", "likelihood")
        return {
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in objects},
            "num_classes": self.num_classes,
            "c_dims": self.c_dims if self.labels.several else self.c_dims[0],
            "rest_dim": self.rest_dim,
            "classifier_samples": self.classifier_samples,
            "class_names": self.class_names,
            **super().get_config(),
        }


def _checked_seed(seed):
    """One integer, or an array of one for each image, whose length is checked later. Symbolic seeds are not checked."""
    if is_symbolic(seed):
        return seed
    given = np.asarray(ops.convert_to_numpy(seed))
    if given.dtype.kind not in "iu" or given.ndim > 1:
        raise ValueError(f"`seed` is {seed!r}; it must be one integer, or one for each image.")
    return given if given.ndim else int(given)
