"""N-VAE: separate latent variables for each class, beside those that all classes share (Antoran, Miguel, 2019)."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssvae.backend import argmax
from keras_ssvae.checks import check_switch, check_whole_number
from keras_ssvae.distributions import (
    Tensor,
    blocks,
    gaussian_kl,
    gaussian_log_prob,
    sample_gaussian,
    sample_gumbel,
)
from keras_ssvae.likelihoods import Bernoulli, Likelihood, to_unit
from keras_ssvae.models import probes
from keras_ssvae.models.base import BaseVAE
from keras_ssvae.models.checks import (
    check_has_labels,
    check_labeled_alone,
    check_network,
    check_parts,
    image_shape,
    parts_of,
)
from keras_ssvae.models.importance import log_likelihood
from keras_ssvae.models.labels import ClassifierMixin, Labels
from keras_ssvae.models.objective_weights import ObjectiveWeight
from keras_ssvae.models.passes import in_use
from keras_ssvae.models.sampling import check_likelihood
from keras_ssvae.networks import nvae
from keras_ssvae.noise import Stream, normal, normal_of_images
from keras_ssvae.pixels import as_array

_SWITCHES = ("class_bias", "unlabeled_term")


@keras.saving.register_keras_serializable("keras_ssvae")
class NVAE(ClassifierMixin, BaseVAE):
    """Natural clustering VAE: each class has latent variables of its own, beside those that all classes share.

    It is a supervised model with a classifier. The variables of a class (`z_c`) hold what varies only within it, and
    the shared ones (`z_s`) what varies within all classes.

    **Generation**: `y` is uniform over L classes, and `z = [z_c, z_s] ~ N(0, I)`. `z_c = [z_c1, ..., z_cL]` holds `d_c`
    numbers for each class, and `z_s` holds `d_s` shared numbers. The decoder gives, from y and z, the parameters of the
    `likelihood`, from which x follows. Its input is `[c_y, z_cy, z_s]`, `L (1 + d_c) + d_s` numbers: the one-hot label
    `c_y`, `z_c` with zeros for all classes except y, and `z_s`. So `c_y` adds a bias for its class to the first layer
    of the decoder.

    **Inference**: one encoder sees only x. It gives `q(z | x) = N(mu(x), diag sigma^2(x))` for the variables of all
    classes, and `q(y | x)`, the classifier.

    **Objective**, (7), minimised, in nats per image, as means over the batch:

        reconstruction + kl_s + beta_c kl_c + cross_entropy

    In training, the class whose `z_c` is kept, and `c_y`, follow the true label; in use, the most probable one. `kl_c`
    includes all classes. So the variables of the masked classes learn to carry no information.

    | N-VAE's paper                        | code                                                                    |
    |--------------------------------------|-------------------------------------------------------------------------|
    | `q(z given x)`                       | `encoder`: `z_c_mean`, `z_c_logvar`, `z_s_mean`, `z_s_logvar`           |
    | `q(y given x)`                       | `encoder`'s third output (logits); `probs` after the softmax            |
    | `p(x given y, z)`                    | `decoder`, of `decoder_inputs`, and `likelihood`                        |
    | L, `d_c`, `d_s`                      | `num_classes`, `class_dims`, `shared_dims`                              |
    | `-E log p(x given y, z)`             | `reconstruction`, at one sample z, with all constants                   |
    | `KL(q(z_s given x), p(z))`           | `kl_s`, in closed form                                                  |
    | `KL(q(z_c given x), p(z))`           | `kl_c`, in closed form                                                  |
    | `-log q(y given x)`                  | `cross_entropy`                                                         |
    | `beta_c`                             | `beta_c`                                                                |
    | `c_y` at the decoder (appendix B)    | `class_bias`; without it the decoder sees `[z_cy, z_s]`                 |
    | `sigma` of the generated images      | `scale` of `generate`, the standard deviation of z                      |

    The latent variables of this model are (y, z_c, z_s) with z_c of all classes; `decode` applies the mask.

    **Bound**: if `beta_c` is at least 1, the objective plus log L is a negative bound on `log p(x, y)`. log L is the
    constant `-log p(y)`. The paper derives the bound from a Dirichlet distribution of the class probabilities,
    `KL(Dir(alpha_q alpha(x)), Dir(alpha_p + c_y))`. It states that the cross entropy bounds this divergence, and that
    the divergence vanishes for a certain classifier. Neither statement holds, but the bound does not need them: it
    holds without a Dirichlet, because a cross entropy is not negative. So `alpha_p` and `alpha_q` are left out.

    **Departures** from N-VAE's paper:

    * The paper does not describe the networks, nor `d_c` and `d_s`, on which most depends: with many shared dimensions
      those of the classes stay empty. The networks are those of its first author's earlier experiments; `d_c` 1 and
      `d_s` 2 are our choice.
    * Pixels are grey, with a Bernoulli likelihood.
    * `unlabeled_term` is an addition of this library. With it a batch may have images without labels. Their bound on
      `log p(x)`, at one z for all labels, is

          sum_y q(y | x) (log p(x | y, z) - log L - log q(y | x)) - kl_s - beta_c kl_c

      The term `kl_y` is the part of it that depends only on `q(y | x)` and L; for a labelled image it is log L.
      `reconstruction` and the divergences are then means over all images of a batch, and `cross_entropy` is the mean
      over the labelled ones.

    **Batch**: `(x, y)`, as `data.semi_supervised((images, labels), None, ...)` makes it. `x` is a dictionary of float
    images in [-1, 1] with the key `labeled`; `y` holds their one-hot labels.

    **Validation** data is `(images, labels)`. Its terms are those of the true labels, at a z whose noise is a function
    of each image alone. Callbacks monitor `val_error` (percent) or `val_loss`, the objective without `kl_y`; smaller is
    better for both.

    Args:
        encoder: Keras model that maps images `(B, H, W, C)` with pixels in [0, 1] to `(mean, logvar, logits)`. The
            first two are those of z, each `(B, L d_c + d_s)`, with z_c first; the logits of the classes are `(B, L)`.
            Default: two convolutions and a dense layer.
        decoder: Keras model that maps `(B, L (1 + d_c) + d_s)`, or without `class_bias` `(B, L d_c + d_s)`, to the
            outputs that the likelihood takes. Default: a dense layer and two transposed convolutions.
        num_classes: Number L of classes.
        class_dims: Dimensions `d_c` for each class; 0 for none.
        shared_dims: Shared dimensions `d_s`; 0 for none.
        class_bias: Whether the decoder sees `c_y`.
        likelihood: One of `likelihoods`. Default: `Bernoulli()` of grey pixels.
        beta_c: Weight of `kl_c`.
        unlabeled_term: Whether the model also trains on images without labels.
        seed: Seed of the training noise. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.
        class_names: Names of the classes, which the served model returns. Default: none.

    Raises:
        ValueError: If an argument is invalid or does not fit the others.

    Example:
        >>> model = NVAE(class_dims=1, shared_dims=2)
        >>> model.compile(Adam(1e-3))
        >>> model.fit(batches, epochs=15, validation_data=(images, labels))
        >>> model.classify(images), model.generate([2, 7], seed=1, scale=1.4)

    Reference:
        [Antoran, Miguel: Disentangling and learning robust representations with natural clustering,
        2019](https://arxiv.org/abs/1901.09415).
    """

    training_terms = ("reconstruction", "kl_s", "kl_c", "cross_entropy")
    test_terms = ("error", "reconstruction", "kl_s", "kl_c", "cross_entropy")
    reduction = "mean"
    objective_weights = ("beta_c",)
    forward_passes = {"encoder": 1, "decoder": 1}  # noqa: RUF012
    must_have_labels = True

    made_by = {  # noqa: RUF012
        "encoder": "networks.nvae.class_encoder(image_shape, num_classes, latent_dim)",
        "decoder": "networks.nvae.decoder(image_shape, inputs)",
    }

    def __init__(
        self,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        num_classes: int = nvae.NUM_CLASSES,
        class_dims: int = nvae.CLASS_DIMS,
        shared_dims: int = nvae.SHARED_DIMS,
        class_bias: bool = True,
        likelihood: Likelihood | None = None,
        beta_c: ObjectiveWeight = 2.0,
        unlabeled_term: bool = False,
        seed: int = 0,
        name: str = "nvae",
        class_names: Sequence | None = None,
    ):
        super().__init__(seed=seed, name=name)
        for argument, value in zip(_SWITCHES, (class_bias, unlabeled_term), strict=True):
            check_switch(argument, value)
        self.class_bias, self.unlabeled_term = class_bias, unlabeled_term
        if unlabeled_term:
            self.add_training_term("kl_y")
        self.labels = Labels(check_whole_number("num_classes", num_classes, 1))
        self.class_names = class_names
        self.class_dims = check_whole_number("class_dims", class_dims, 0)
        self.shared_dims = check_whole_number("shared_dims", shared_dims, 0)
        self._check_dims()
        sizes = {"y": self.labels.width, "z_c": self.labels.width * self.class_dims, "z_s": self.shared_dims}
        self.latents = {part: size for part, size in sizes.items() if size}
        self.likelihood, self.beta_c = Bernoulli() if likelihood is None else likelihood, beta_c
        check_likelihood(self.likelihood, binarize=False)
        self._make_networks(encoder, decoder)
        self.build((None, *self.image_shape))

    def _check_dims(self):
        if not self.class_dims + self.shared_dims:
            raise ValueError("`class_dims` and `shared_dims` are both 0; at least one of them must be 1 or more.")
        if not self.class_bias and not self.class_dims:
            raise ValueError(
                "`class_dims` is 0 and `class_bias` False, so the decoder would know nothing of the class. Change one "
                "of them."
            )

    def _make_networks(self, encoder, decoder):
        num_classes = self.labels.width
        inputs = self.z_dim + num_classes * self.class_bias
        self.encoder = encoder or nvae.class_encoder(num_classes=num_classes, latent_dim=self.z_dim)
        self.image_shape = image_shape("encoder", self.encoder)
        height, width, colours = self.image_shape
        outputs = (height, width, colours * self.likelihood.outputs_per_value)
        self.decoder = decoder or nvae.decoder(outputs, inputs)
        reason = (
            f"images {self.image_shape}, {num_classes} classes, {self.class_dims} dimensions of each, "
            f"{self.shared_dims} shared ones and `class_bias` {self.class_bias}"
        )
        shapes: dict[str, tuple[Any, Any]] = {
            "encoder": (self.image_shape, [(None, self.z_dim)] * 2 + [(None, num_classes)]),
            "decoder": ((inputs,), (None, *outputs)),
        }
        for name, (takes, gives) in shapes.items():
            check_network(name, getattr(self, name), takes, gives, reason, self.made_by[name])
        probes.probe("encoder", encoder, {1: probes.LOGVAR, 2: probes.CLASS_LOGITS}, unit_pixels=True)
        probes.probe("decoder", decoder, {0: self.likelihood.takes})

    @property
    def z_dim(self) -> int:
        """`L d_c + d_s`, the dimensions of z, without the label."""
        return self.labels.width * self.class_dims + self.shared_dims

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """`autoencoder` (encoder and decoder); the classifier is a head of the encoder."""
        return {"autoencoder": [*self.encoder.trainable_variables, *self.decoder.trainable_variables]}

    # The variables of each class

    def decoder_inputs(self, y: Tensor, z: Tensor) -> Tensor:
        """The decoder's input `[c_y, z_cy, z_s]`, from one-hot labels `(B, L)` and z `(B, L d_c + d_s)`."""
        z_c, z_s = self._parts(z)
        seen = [y] if self.class_bias else []
        if self.class_dims:
            seen.append(z_c * ops.repeat(y, self.class_dims, axis=-1))
        return ops.concatenate([*seen, z_s], axis=-1)

    def _parts(self, z):
        """Splits z `(..., L d_c + d_s)` into z_c and z_s."""
        return blocks(z, [self.labels.width * self.class_dims, self.shared_dims])

    @property
    def normal_parts(self) -> tuple[str, ...]:
        return tuple(part for part in self.latents if part != "y")

    def coordinates(self, part: str, label: int) -> list[int]:
        """As `ClassifierMixin.coordinates`; for z_c only the coordinates of this class."""
        places = super().coordinates(part, label)
        return places[label * self.class_dims : (label + 1) * self.class_dims] if part == "z_c" else places

    # Training

    def check_batch(self, images, labels) -> None:
        check_parts(self, images, labels)
        if not self.unlabeled_term:
            check_labeled_alone(self, images, " Or set `unlabeled_term=True`, which N-VAE's paper does not have.")

    def draw_noise(self, batch, step) -> dict[str, Tensor]:
        seed, noise = self.noise_stream(step), {"dropout": self.dropout_counter(step)}
        for part in parts_of(batch):
            noise[f"epsilon_{part}"] = keras.random.normal((ops.shape(batch[part])[0], self.z_dim), seed=seed)
        return noise

    def step_terms(self, batch, noise, step) -> dict[str, Tensor]:
        run, parts, num_classes = self.passes(noise["dropout"]), parts_of(batch), self.labels.width
        x = ops.concatenate([batch[part] for part in parts])
        mean, logvar, logits = run(self.encoder, to_unit(x))
        z = sample_gaussian(mean, logvar, ops.concatenate([noise[f"epsilon_{part}"] for part in parts]))
        labels = batch["labels"] if "labeled" in parts else ops.zeros((0, num_classes))
        n, log_q = ops.shape(labels)[0], ops.log_softmax(logits)
        if "unlabeled" not in parts:
            terms = {"reconstruction": self._reconstruction(run, x, labels, z)}
        else:
            every = ops.tile(ops.eye(num_classes), (ops.shape(x)[0] - n, 1))
            # Each unlabelled image goes with all labels and one z.
            x, z = (ops.concatenate([each[:n], ops.repeat(each[n:], num_classes, axis=0)]) for each in (x, z))
            given = self._reconstruction(run, x, ops.concatenate([labels, every]), z)
            expected = ops.sum(ops.exp(log_q[n:]) * ops.reshape(given[n:], (-1, num_classes)), axis=-1)
            terms = {"reconstruction": ops.concatenate([given[:n], expected])}
        terms |= self._divergences(mean, logvar)
        if "labeled" in parts:
            terms["cross_entropy"] = -ops.sum(labels * log_q[:n], axis=-1)
        if self.unlabeled_term:
            log_l = math.log(num_classes)
            kl_y = ops.sum(ops.exp(log_q[n:]) * (log_q[n:] + log_l), axis=-1)
            terms["kl_y"] = ops.concatenate([log_l * ops.sum(labels, axis=-1), kl_y])
        return terms

    def _reconstruction(self, run, x, y, z):
        return -self.likelihood.log_prob(x, run(self.decoder, self.decoder_inputs(y, z)))

    def _divergences(self, mean, logvar):
        (mean_c, mean_s), (logvar_c, logvar_s) = self._parts(mean), self._parts(logvar)
        one = ops.ones(())
        return {"kl_s": gaussian_kl(mean_s, logvar_s, 0.0, one), "kl_c": gaussian_kl(mean_c, logvar_c, 0.0, one)}

    def objective(self, terms, step) -> Tensor:
        bound = terms["reconstruction"] + terms["kl_s"] + self.weights_at(step).beta_c * terms["kl_c"]
        return bound + terms.get("cross_entropy", 0.0) + terms.get("kl_y", 0.0)

    def evaluation_terms(self, images, labels) -> dict[str, Tensor]:
        images = self.as_images(images, "x")
        check_has_labels(labels)
        mean, logvar, logits = in_use(self.encoder, to_unit(images))
        log_q = ops.log_softmax(logits)
        error = self.error_terms(ops.exp(log_q), labels)
        y = self.one_hot_targets(labels, images.shape[0])
        z = sample_gaussian(mean, logvar, normal_of_images(images, self.z_dim))
        return {
            **error,
            "reconstruction": self._reconstruction(in_use, images, y, z),
            **self._divergences(mean, logvar),
            "cross_entropy": -ops.sum(y * log_q, axis=-1),
        }

    # Use: deterministic, tensors in, tensors out

    def call(self, images, training=False) -> dict[str, Tensor]:
        """Returns all outputs of inference: those of `posterior`, `latent` (see `encode`) and `reconstruction`."""
        mean, logvar, logits = self._infer(images)
        latent = self._most_probable(mean, logits)
        return {**self._named(mean, logvar, logits), "latent": latent, "reconstruction": self.decode(latent)}

    def _infer(self, images):
        return in_use(self.encoder, to_unit(ops.convert_to_tensor(self.as_images(images))))

    def classify(self, images: Tensor) -> Tensor:
        """Class probabilities `q(y | x)`, `(B, L)`, of images `(B, H, W, C)` in [-1, 1]."""
        return ops.exp(ops.log_softmax(self._infer(images)[2]))

    def posterior(self, images: Tensor) -> dict[str, Tensor]:
        """`q(y | x) q(z | x)`: `probs` `(B, L)`, and means and log-variances of z_c (of all classes) and of z_s."""
        return self._named(*self._infer(images))

    def _named(self, mean, logvar, logits):
        outputs = {"probs": ops.exp(ops.log_softmax(logits))}
        for kind, values in (("mean", mean), ("logvar", logvar)):
            parts = zip(("z_c", "z_s"), self._parts(values), strict=True)
            outputs |= {f"{part}_{kind}": each for part, each in parts if part in self.latents}
        return outputs

    def encode(self, images: Tensor) -> Tensor:
        """Latent variables (y, z_c, z_s): the most probable label, one-hot, and the means of z for all classes."""
        mean, _, logits = self._infer(images)
        return self._most_probable(mean, logits)

    def _most_probable(self, mean, logits):
        y = ops.one_hot(argmax(logits), self.labels.width, dtype=mean.dtype)
        return ops.concatenate([y, mean], axis=-1)

    def decode(self, z: Tensor) -> Tensor:
        """Images `(B, H, W, C)` in [-1, 1] at latent variables (y, z_c, z_s): the mean of the likelihood.

        y multiplies the part of z_c of each class. With a one-hot y only the part of its class remains.
        """
        y, z = blocks(as_array("z", z), [self.labels.width, self.z_dim])
        return self.likelihood.mean(self.decoder(self.decoder_inputs(y, z), training=False))

    def sample_latent(self, labels: Tensor, seed: int | Tensor, scale: float = 1.0) -> Tensor:
        """The given labels, one-hot, beside `z ~ N(0, I)` for all classes: `(B, L (1 + d_c) + d_s)`."""
        z = scale * normal((ops.shape(labels)[0], self.z_dim), Stream(seed, 0))
        return ops.concatenate([ops.one_hot(labels, self.labels.width, dtype=z.dtype), z], axis=-1)

    def posterior_noise(self, num_images, num_samples, stream) -> dict[str, Tensor]:
        samples = (num_images, num_samples)
        return {
            "gumbel": sample_gumbel((*samples, self.labels.width), seed=stream),
            "epsilon": keras.random.normal((*samples, self.z_dim), seed=stream),
        }

    def log_weights(self, images, noise) -> Tensor:
        """As `BaseVAE.log_weights`; the label is also sampled, from `q(y | x)`."""
        images = ops.convert_to_tensor(self.as_images(images))
        mean, logvar, logits = (values[:, None] for values in self._infer(images))
        log_q = ops.log_softmax(logits)
        y = ops.one_hot(argmax(log_q + noise["gumbel"]), self.labels.width, dtype=mean.dtype)
        z = sample_gaussian(mean, logvar, noise["epsilon"])
        log_ratio = gaussian_log_prob(z, 0.0, ops.zeros((self.z_dim,))) - gaussian_log_prob(z, mean, logvar)
        log_ratio -= math.log(self.labels.width) + ops.sum(y * log_q, axis=-1)
        return log_likelihood(self.decoder, self.likelihood, images, self.decoder_inputs(y, z)) + log_ratio

    # Serialisation

    def get_config(self) -> dict[str, Any]:
        objects = ("encoder", "decoder", "likelihood")
        names = ("num_classes", "class_dims", "shared_dims", "class_names", *_SWITCHES)
        return {
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in objects},
            **{name: getattr(self, name) for name in names},
            **super().get_config(),
        }
