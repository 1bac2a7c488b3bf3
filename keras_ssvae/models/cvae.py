"""CVAE: a VAE whose encoder and decoder both know the label (Sohn et al., 2015), as N-VAE's paper compares with it."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssvae.distributions import Tensor
from keras_ssvae.likelihoods import Likelihood
from keras_ssvae.models.checks import check_has_labels, check_labeled_alone, check_parts
from keras_ssvae.models.conditional import ConditionalVAE
from keras_ssvae.models.objective_weights import ObjectiveWeight
from keras_ssvae.models.passes import in_use
from keras_ssvae.networks import nvae
from keras_ssvae.noise import normal_of_images


@keras.saving.register_keras_serializable("keras_ssvae")
class CVAE(ConditionalVAE):
    """Conditional VAE: it learns the images of given labels, and trains on labelled images alone.

    **Generation**: `z ~ N(0, I)`, and `x | y, z` of the `likelihood`, whose parameters the decoder gives.

    **Inference**: `q(z | x, y) = N(mu(x, y), diag sigma^2(x, y))`.

    **Objective** (minimised; means over the batch; nats per image): `reconstruction + beta kl_z`. With beta 1 it is the
    negative bound on `log p(x | y)`.

    | N-VAE's paper                  | code                                                               |
    |--------------------------------|--------------------------------------------------------------------|
    | `q(z given x, y)`              | `encoder`, of `[x, y]`: `z_mean`, `z_logvar`, each `(B, K, d)`     |
    | `p(x given y, z)`              | `decoder`, of (z, y), and `likelihood`                             |
    | `-E log p(x given y, z)`       | `reconstruction`, at one sample z, with all constants              |
    | `KL(q(z given x, y), p(z))`    | `kl_z`, in closed form                                             |

    N-VAE's paper compares with this model and says no more of it. It has as many dimensions of z here as N-VAE has for
    one class, `d_c + d_s`, and the same networks; the label has a kernel of its own in the encoder's first dense layer.

    It has no classifier, but bounds on `log p(x | y)` for all labels y. So `classify` is the model's own posterior with
    each bound in the place of what it bounds, `q(y | x) = softmax_y(log p(y) + bound(x, y))`, which is the best q for
    the bound on `log p(x)`; of each bound z is the mean. It takes K passes, and so does all that needs a label:
    `encode` takes the most probable one.

    A batch is `(x, y)`: `x` a dictionary of float images in [-1, 1], `labeled`, and `y` their one-hot labels, as
    `data.semi_supervised((images, labels), None, ...)` makes it. Validation data is `(images, labels)`; its terms are
    those of the true labels, at a z whose noise is a function of each image alone.

    Args:
        encoder: Keras model, `[x, y]`, images with pixels in [0, 1] and one-hot labels `(B, K)` -> `(mean, logvar)` of
            z, each `(B, d)`. Default: two convolutions and a dense layer.
        decoder: Keras model, (z, y) side by side, `(B, d + K)` -> the outputs that the likelihood takes. Default: a
            dense layer and two transposed convolutions.
        num_classes: K.
        z_dim: d.
        class_priors: The probabilities `p(y)`, in a list for the one label. Default: uniform.
        likelihood: One of `likelihoods`. Default: `Bernoulli()`, of grey pixels.
        beta: Weight of the KL-divergence.
        binarize: Whether training images are drawn from their pixels, anew at each step; for a Bernoulli likelihood.
        seed: Of the noise of training.
        name: Model name.
        class_names: Names of the classes, which the served model answers with. Default: none.

    Raises:
        ValueError: For an argument that does not fit the others.

    Example:
        >>> model = CVAE()
        >>> model.compile(Adam(1e-3))
        >>> model.fit(batches, epochs=15, validation_data=(images, labels))
        >>> model.generate([3, 7], seed=1), model.classify(images)

    Reference:
        Sohn, Lee, Yan: Learning structured output representation using deep conditional generative models, 2015;
        [Antoran, Miguel: Disentangling and learning robust representations with natural clustering,
        2019](https://arxiv.org/abs/1901.09415).
    """

    training_terms = ("reconstruction", "kl_z")
    test_terms = ("error", "reconstruction", "kl_z")
    objective_weights = ("beta",)
    forward_passes = {"encoder": 1, "decoder": 1}  # noqa: RUF012
    must_have_labels = True

    made_by = {  # noqa: RUF012
        "encoder": "networks.nvae.label_encoder(image_shape, num_classes, latent_dim)",
        "decoder": "networks.nvae.decoder(image_shape, latent_dim + num_classes)",
    }

    def __init__(
        self,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        num_classes: int = nvae.NUM_CLASSES,
        z_dim: int = nvae.CLASS_DIMS + nvae.SHARED_DIMS,
        class_priors: Sequence[Sequence[float]] | None = None,
        likelihood: Likelihood | None = None,
        beta: ObjectiveWeight = 1.0,
        binarize: bool = False,
        seed: int = 0,
        name: str = "cvae",
        class_names: Sequence | None = None,
    ):
        super().__init__(seed=seed, name=name)
        self._set_likelihood(likelihood, binarize)
        self.beta = beta
        self._set_labels(num_classes, z_dim, class_priors, class_names)
        self.image_shape = self._image_shape_of(encoder)
        self._set_networks({"encoder": encoder, "decoder": decoder}, self.image_shape)
        self.build((None, *self.image_shape))

    def _image_shape_of(self, encoder: Any) -> tuple[int, ...]:
        """That of the first input of an encoder; what does not fit is left to the check of the networks."""
        if encoder is None:
            return nvae.IMAGE_SHAPE
        given = getattr(encoder, "input_shape", None) or [()]
        first = given[0] if isinstance(given[0], tuple) else given
        return tuple(first[1:]) if len(first) == 4 else nvae.IMAGE_SHAPE

    def _makers(self, shape, outputs):
        return {
            "encoder": lambda: nvae.label_encoder(shape, self.labels.width, self.z_dim),
            "decoder": lambda: nvae.decoder(outputs, self.latent_dim),
        }

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """`autoencoder`, encoder and decoder."""
        return {"autoencoder": [*self.encoder.trainable_variables, *self.decoder.trainable_variables]}

    # Training

    def check_batch(self, images, labels) -> None:
        check_parts(self, images, labels)
        check_labeled_alone(self, images)

    def draw_noise(self, batch, step) -> dict[str, Tensor]:
        seed, rows = self.noise_stream(step), ops.shape(batch["labeled"])[0]
        epsilon = keras.random.normal((rows, self.z_dim), seed=seed)
        noise = {"epsilon_labeled": epsilon, "dropout": self.dropout_counter(step)}
        return noise | self._noise_of_x("labeled", rows, seed)

    def step_terms(self, batch, noise, step) -> dict[str, Tensor]:
        x = self._drawn(batch["labeled"], noise, "labeled")
        return self._terms_of_rows(self.passes(noise["dropout"]), x, batch["labels"], noise["epsilon_labeled"])

    def objective(self, terms, step) -> Tensor:
        return terms["reconstruction"] + self.weights_at(step).beta * terms["kl_z"]

    def evaluation_terms(self, images, labels) -> dict[str, Tensor]:
        images = self.as_images(images, "x")
        check_has_labels(labels)
        x = self._observed(images)
        error = self.error_terms(ops.exp(self._log_q(x)), labels)
        y, epsilon = self.one_hot_targets(labels, images.shape[0]), normal_of_images(images, self.z_dim)
        return {**error, **self._terms_of_rows(in_use, x, y, epsilon)}

    # Use

    def _log_q(self, x):
        images, labels = self._with_all_labels(x)
        terms = self._terms_of_rows(in_use, images, labels, 0.0)
        bounds = ops.reshape(-terms["reconstruction"] - terms["kl_z"], (-1, self.labels.width))
        return ops.log_softmax(self._log_p_y() + bounds)
