"""M3 of REVAE's paper: a VAE beside a classifier of a part of its latent variables (Joy et al.)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssvae.checks import check_whole_number, is_finite_number
from keras_ssvae.distributions import Tensor, gaussian_kl, sample_gaussian
from keras_ssvae.likelihoods import Likelihood, to_unit
from keras_ssvae.models.characteristic import CharacteristicVAE
from keras_ssvae.models.objective_weights import ObjectiveWeight
from keras_ssvae.noise import Stream, normal, normal_of_images
from keras_ssvae.priors import StandardNormal


@keras.saving.register_keras_serializable("keras_ssvae")
class M3(CharacteristicVAE):
    """Semi-supervised VAE beside a classifier of a part of its latent variables: the simple baseline of REVAE.

    **Generation**: `z ~ N(0, I)`, and the decoder gives `x | z`. Labels have no part in it. For images of given labels,
    `generate` and `intervene` use rejection: they draw z_c from the prior until the classifier is sure of the label.

    **Inference**: `q(z | x) = N(mu(x), diag sigma^2(x))`, `q(y_i | z_ci)`.

    **Objective**, minimised: `reconstruction + kl + alpha cross_entropy`, the negative of (3), in nats per image, as
    the mean over all images of a batch. The cross entropy is that of the labelled images, at the z of the
    reconstruction.

    | REVAE's paper                   | code                                                       |
    |---------------------------------|------------------------------------------------------------|
    | `q(z given x; phi)`             | `encoder`: `mean`, `logvar`, z_c first                     |
    | `q(y given z_c; varphi)`        | `classifier`: logits                                       |
    | `p(x given z; theta)`           | `decoder` and `likelihood`                                 |
    | `-log p(x given z)`             | `reconstruction`, with all constants                       |
    | `-log q(y given z_c)`           | `cross_entropy`; 0 for an image without a label            |
    | `alpha`                         | `alpha`                                                    |
    | `lambda`, Appendix A            | `confidence`                                               |

    Batches, missing labels and validation data are as for `REVAE`. `val_loss` is the negative bound of the VAE alone.

    Args:
        encoder: Keras model that maps images `(B, H, W, C)` with pixels in [0, 1] to `(mean, logvar)` of z, each
            `(B, d)` for d latent dimensions, z_c first. Default: Table 3 of REVAE's paper.
        decoder: Keras model that maps z `(B, d)` to the outputs that the likelihood takes. Default: Table 3.
        classifier: Keras model that maps z_c to logits, those of all labels side by side. The logits of a label must
            depend only on its own characteristics. Default: Table 3; for several labels Table 4.
        num_classes: Number K of values of the label; for several labels a tuple of these numbers.
        c_dims: Dimensions of z_c; for several labels those of each, or one number for all.
        rest_dim: Dimensions of the rest of z; 0 for none.
        likelihood: One of `likelihoods`. Default: `Bernoulli()` of grey values.
        alpha: Weight of the cross entropy. REVAE's paper does not give a value. M2's paper scales it as 0.1 images for
            each labelled image; the default is this value for 50,000 images, of which 200 have labels.
        confidence: In rejection, a draw of z_c is accepted where each given label has more than this probability.
        attempts: Number of draws of z_c, of which the first accepted one is used. If none is accepted, the one with the
            highest probability is used.
        classifier_samples: Number of samples of z_c over which `q(y | x)` is the mean.
        seed: Seed of the training noise. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.
        class_names: Names of the classes; for several labels the names of each. Default: none.

    Raises:
        ValueError: If an argument is invalid or does not fit the others.

    Example:
        >>> model = M3(alpha=25.0)
        >>> model.compile(Adam(5e-4, epsilon=1e-8, corrected_epsilon=True))
        >>> model.fit(batches, epochs=100)
        >>> model.classify(images), model.generate([3, 7], seed=1)

    Reference:
        [Joy, Schmon, Torr, Siddharth, Rainforth: Rethinking Semi-Supervised Learning in VAEs,
        2020](https://arxiv.org/abs/2006.10102), (3) and Appendix A.
    """

    training_terms = ("reconstruction", "kl", "cross_entropy")
    test_terms = ("error", "reconstruction", "kl")
    objective_weights = ("alpha",)
    forward_passes = {"encoder": 1, "decoder": 1, "classifier": 1}  # noqa: RUF012

    def __init__(
        self,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        classifier: keras.Model | None = None,
        num_classes: int | Sequence[int] = 10,
        c_dims: int | Sequence[int] = 4,
        rest_dim: int = 10,
        likelihood: Likelihood | None = None,
        alpha: ObjectiveWeight = 25.0,
        confidence: float = 0.95,
        attempts: int = 256,
        classifier_samples: int = 100,
        seed: int = 0,
        name: str = "m3",
        class_names: Sequence | None = None,
    ):
        networks = encoder, decoder, classifier
        sizes = num_classes, c_dims, rest_dim
        super().__init__(*networks, *sizes, likelihood, classifier_samples, seed, name, class_names)
        self.alpha = alpha
        if not is_finite_number(confidence) or confidence >= 1:
            raise ValueError(f"`confidence` is {confidence!r}; it must be a probability of at least 0 and below 1.")
        self.confidence, self.attempts = float(confidence), check_whole_number("attempts", attempts, 1)
        self.build((None, *self.image_shape))

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """`autoencoder` (encoder and decoder) and `classifier`."""
        return {
            "autoencoder": [*self.encoder.trainable_variables, *self.decoder.trainable_variables],
            "classifier": self.classifier.trainable_variables,
        }

    # Training

    def step_terms(self, batch, noise, step) -> dict[str, Tensor]:
        run, images = self.passes(noise["dropout"]), self.images_of(batch)
        mean, logvar = run(self.encoder, to_unit(images))
        z = sample_gaussian(mean, logvar, self.rows_of(noise, "epsilon"))
        terms = self._terms(images, mean, logvar, run(self.decoder, z))
        if "labeled" in batch:
            y = batch["labels"]
            rows = ops.shape(y)[0]
            cross_entropy = -ops.sum(y * self.log_q_y(run(self.classifier, self.z_c(z[:rows]))), axis=-1)
            unlabeled = ops.zeros_like(terms["kl"][rows:])
            terms["cross_entropy"] = ops.concatenate([cross_entropy, unlabeled])
        return terms

    def _terms(self, images, mean, logvar, outputs):
        reconstruction = -self.likelihood.log_prob(images, outputs)
        return {"reconstruction": reconstruction, "kl": gaussian_kl(mean, logvar, 0.0, ops.ones(()))}

    def objective(self, terms, step) -> Tensor:
        """The negative of (3) of REVAE's paper, from the means of the terms over the batch."""
        return terms["reconstruction"] + terms["kl"] + self.weights_at(step).alpha * terms.get("cross_entropy", 0.0)

    def evaluation_terms(self, images, labels) -> dict[str, Tensor]:
        images = self.as_images(images, "x")
        mean, logvar = self.infer(images)
        z = sample_gaussian(mean, logvar, normal_of_images(images, self.latent_dim))
        terms = self._terms(images, mean, logvar, self.decoder(z, training=False))
        return terms if labels is None else {**terms, **self.error_terms(self.probs(mean, logvar), labels)}

    # Use: deterministic, tensors in, tensors out

    def log_prior(self, z) -> Tensor:
        return StandardNormal(self.latent_dim).log_prob(z)

    def sample_latent(self, labels: Tensor, seed: int | Tensor, scale: float = 1.0) -> Tensor:
        """Draws z from `N(0, I)`, by rejection until the classifier assigns z_c to the given labels: `(B, d)`."""
        if isinstance(scale, float | int) and scale == 0:
            raise ValueError("`scale` is 0; M3 chooses z_c among draws of the prior, so it must be above 0.")
        rows, stream = ops.shape(labels)[0], Stream(seed, 0)
        labels = ops.reshape(labels, (rows, len(self.labels.sizes)))
        z_c = self._accepted({i: labels[:, i] for i in range(len(self.labels.sizes))}, stream, scale)
        rest = [scale * normal((rows, self.rest_dim), stream)] if self.rest_dim else []
        return ops.concatenate([*z_c.values(), *rest], axis=-1)

    def _accepted(self, values, stream, scale=1.0):
        """For each label number of `values`, the first draws `(B, d_i)` that the classifier assigns to its value."""
        rows, c_dim = ops.shape(next(iter(values.values())))[0], sum(self.c_dims)
        candidates = scale * normal((rows, self.attempts, c_dim), stream)
        logits = self.classifier(ops.reshape(candidates, (-1, c_dim)), training=False)
        probs = ops.reshape(ops.exp(self.log_q_y(logits)), (-1, self.attempts, self.labels.width))
        of_labels = list(zip(self.split_c(candidates), self.labels.split(probs), strict=True))
        accepted = {}
        for i, value in values.items():
            z_i, probs_i = of_labels[i]
            share = ops.sum(probs_i * ops.one_hot(value, self.labels.sizes[i])[:, None], axis=-1)
            # All accepted draws count the same, so that `argmax` takes the first of them.
            first = ops.argmax(ops.minimum(share, self.confidence), axis=1)
            accepted[i] = ops.take_along_axis(z_i, first[:, None, None], axis=1)[:, 0]
        return accepted

    def draw_c(self, values: dict[int, Tensor], seed: int | Tensor) -> dict[int, Tensor]:
        """Draws z_ci from the prior, by rejection until the classifier assigns them to the given values."""
        return self._accepted(values, Stream(seed, 0))

    # Serialisation

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "confidence": self.confidence, "attempts": self.attempts}
