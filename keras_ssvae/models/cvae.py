"""CVAE: a VAE whose encoder and decoder both see the label (Sohn et al., 2015), a baseline of N-VAE's paper."""

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
    """Conditional VAE: it learns the distribution of images given their label, from labelled images only.

    **Generation**: the label y is given, and `z ~ N(0, I)`. The decoder gives, from y and z, the parameters of the
    `likelihood`, from which x follows.

    **Inference**: `q(z | x, y) = N(mu(x, y), diag sigma^2(x, y))`.

    **Objective**, minimised: `reconstruction + beta kl_z`, in nats per image, as means over the batch. With beta 1 it
    is the negative bound on `log p(x | y)`.

    | N-VAE's paper                  | code                                                               |
    |--------------------------------|--------------------------------------------------------------------|
    | `q(z given x, y)`              | `encoder`, of `[x, y]`: `z_mean`, `z_logvar`, each `(B, K, d)`     |
    | `p(x given y, z)`              | `decoder`, of (z, y), and `likelihood`                             |
    | `-E log p(x given y, z)`       | `reconstruction`, at one sample z, with all constants              |
    | `KL(q(z given x, y), p(z))`    | `kl_z`, in closed form                                             |

    N-VAE's paper compares with this model but does not describe it. Here it has the networks of N-VAE and as many
    dimensions of z as N-VAE has for one class, `d_c + d_s`. The label has its own kernel in the encoder's first dense
    layer.

    **Classification**: the model has no classifier, but it has a bound on `log p(x | y)` for each label y. `classify`
    uses these bounds, at the mean of z, in place of `log p(x | y)` in Bayes' rule:
    `q(y | x) = softmax_y(log p(y) + bound(x, y))`. This is the best q for the bound on `log p(x)`. It needs K passes,
    one for each label. So does `encode`, which takes the most probable label, and all that builds on it.

    **Batch**: `(x, y)`, as `data.semi_supervised((images, labels), None, ...)` makes it. `x` is a dictionary of float
    images in [-1, 1] with the key `labeled`; `y` holds their one-hot labels.

    **Validation** data is `(images, labels)`. Its terms are those of the true labels, at a z whose noise is a function
    of each image alone. Callbacks monitor `val_error` (percent) or `val_loss`, the objective. Smaller is better.

    Args:
        encoder: Keras model that maps `[x, y]`, images with pixels in [0, 1] and one-hot labels `(B, K)`, to `(mean,
            logvar)` of z, each `(B, d)`. Default: two convolutions and a dense layer.
        decoder: Keras model that maps (z, y), side by side `(B, d + K)`, to the outputs that the likelihood takes.
            Default: a dense layer and two transposed convolutions.
        num_classes: Number K of classes.
        z_dim: Dimensions d of z.
        class_priors: Probabilities `p(y)` of the K classes, as `[probs]`: a list for the one label. Default: uniform.
        likelihood: One of `likelihoods`. Default: `Bernoulli()` of grey pixels.
        beta: Weight of the KL-divergence.
        binarize: Whether each training step draws binary images, as in `VAE`; only for a Bernoulli likelihood.
        seed: Seed of the training noise. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.
        class_names: Names of the classes, which the served model returns. Default: none.

    Raises:
        ValueError: If an argument is invalid or does not fit the others.

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
        """Shape of the first input of an encoder. An unsuitable encoder fails later, in the check of the networks."""
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
        """`autoencoder` (encoder and decoder)."""
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
