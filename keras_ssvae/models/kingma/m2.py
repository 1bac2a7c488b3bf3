"""M2: a VAE whose label is a latent variable if it is unknown (Kingma et al., 2014)."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_ssvae.distributions import Tensor
from keras_ssvae.likelihoods import Likelihood
from keras_ssvae.models import probes
from keras_ssvae.models.checks import check_parts, input_shape, parts_of
from keras_ssvae.models.conditional import ConditionalVAE
from keras_ssvae.models.kingma.weight_prior import negative_log_prior
from keras_ssvae.models.objective_weights import ObjectiveWeight
from keras_ssvae.models.passes import in_use
from keras_ssvae.networks import kingma
from keras_ssvae.noise import normal_of_images


@keras.saving.register_keras_serializable("keras_ssvae")
class M2(ConditionalVAE):
    """Semi-supervised VAE with the label y beside z. For an image without a label it sums over all labels.

    **Generation**: `y ~ p(y)` and `z ~ N(0, I)`. The decoder gives, from y and z, the parameters of the `likelihood`,
    from which x follows.

    **Inference**: the classifier gives `q(y | x)`, and the encoder `q(z | x, y) = N(mu(x, y), diag sigma^2(x, y))`.

    **Objective**, minimised, in nats per image. The paper maximises its J, which is this with the opposite sign, summed
    over N images:

        reconstruction + kl_z + kl_y + alpha cross_entropy + weight_prior (-log N(weights; 0, I))

    `reconstruction`, `kl_z` and `kl_y` are means over all images of a batch, labelled and unlabelled. `cross_entropy`
    is the mean over the labelled ones. The first three terms add up to the paper's `-L(x, y)` for a labelled image and
    to `-U(x)` for an unlabelled one. An unlabelled image goes through the networks with all K labels, each with its own
    noise.

    | paper of M1 and M2                      | code                                                                |
    |-----------------------------------------|---------------------------------------------------------------------|
    | `q(y given x)`                          | `classifier` (logits); `probs` after the softmax                    |
    | `q(z given x, y)`                       | `encoder`, of `[x, y]`: `z_mean`, `z_logvar`, each `(B, K, d)`      |
    | `p(x given y, z)`                       | `decoder`, of (z, y), and `likelihood`                              |
    | `p(y)`                                  | `class_priors`                                                      |
    | `-E log p(x given y, z)`                | `reconstruction`, at one sample z of each label                     |
    | `E KL(q(z given x, y), p(z))`           | `kl_z`, in closed form                                              |
    | `-log p(y)`; `KL(q(y given x), p(y))`   | `kl_y`, of labelled images; of unlabelled ones                      |
    | `-log q(y given x)`                     | `cross_entropy`, of labelled images                                 |
    | `-log N(weights; 0, I)`                 | `weight_prior`, with its constants                                  |
    | `alpha`                                 | `alpha`                                                             |
    | 1 / N                                   | the weight `weight_prior`                                           |

    **Scale of alpha**: the paper multiplies the sum of `log q(y | x)` over the N_l labelled images by `alpha N / N_l`.
    Divided by N, that is `alpha` times the mean over the labelled images. So `alpha` here does not depend on N, and the
    paper's value is 0.1. The composition of the batches matters:

    * If each batch holds labelled and unlabelled images in proportion to their numbers, as in the released code, the
      objective is an estimate of exactly `-J / N`.
    * In other batches each image of a batch still has the same weight in the bound. So labelled images that come more
      often count more.
    * If labelled and unlabelled batches alternate, each step has the objective of its own images, and `alpha` acts only
      in the labelled steps.

    **Prior of the weights**: as in the released code, it includes all kernels of the encoder and the decoder, and all
    weights of the classifier. Frozen weights are left out. The released code has no such prior if all images are
    labelled. It has no script for M2 with few labels. The drawing of binary images at each step is from its scripts for
    M1 and for M2 with all labels. Nothing is clipped.

    **Batch**: `(x, y)`, as `data.semi_supervised` makes it. `x` is a dictionary of float images in [-1, 1] with the
    keys `labeled`, `unlabeled` or both; augmented images are ignored. `y` holds one-hot labels of the labelled part. In
    the released code the labelled images are not among the unlabelled ones: `data.split(unlabeled="rest")`.

    **Validation** data is `(images, labels)`. Callbacks monitor `val_error` (percent) or `val_loss`, `-U(x)` of all
    images. Their z are sampled with noise that is a function of each image alone. Smaller is better for both.

    Args:
        encoder: Keras model that maps `[x, y]`, images `(B, H, W, C)` with pixels in [0, 1] and one-hot labels
            `(B, K)`, to `(mean, logvar)`, each `(B, d)`. Default: a softplus layer of 500 units.
        decoder: Keras model that maps (z, y), side by side `(B, d + K)`, to the outputs that the likelihood takes.
            Default: a softplus layer of 500 units.
        classifier: Keras model that maps images with pixels in [0, 1] to logits `(B, K)`. Default: a softplus layer of
            500 units.
        num_classes: Number K of classes.
        z_dim: Dimensions d of z.
        class_priors: Probabilities `p(y)` of the K classes, as `[probs]`: a list for the one label. Default: uniform.
        likelihood: One of `likelihoods`. Default: `Bernoulli()`.
        alpha: Weight of the cross entropy.
        weight_prior: Weight of the prior of the network weights: 1 / N for N training images; 0 leaves it out.
        binarize: Whether each training step draws binary images, as in `VAE`; only for a Bernoulli likelihood.
        seed: Seed of the training noise. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.
        class_names: Names of the classes, which the served model returns. Default: none.

    Raises:
        ValueError: If an argument is invalid or does not fit the others.

    Example:
        >>> model = M2()
        >>> model.compile(Adam(3e-4))
        >>> model.fit(batches, steps_per_epoch=100, epochs=3000)
        >>> model.classify(images), model.generate([3, 7], seed=1)

    Reference:
        [Kingma, Rezende, Mohamed, Welling: Semi-supervised learning with deep generative models,
        2014](https://arxiv.org/abs/1406.5298).
    """

    training_terms = ("reconstruction", "kl_z", "kl_y", "cross_entropy", "weight_prior")
    test_terms = ("error", "reconstruction", "kl_z", "kl_y")
    objective_weights = ("alpha", "weight_prior")
    forward_passes = {"classifier": 1, "encoder": 1, "decoder": 1}  # noqa: RUF012

    made_by = {  # noqa: RUF012
        "encoder": "networks.kingma.m2_encoder(image_shape, num_classes, latent_dim)",
        "decoder": "networks.kingma.m2_decoder(image_shape, num_classes, latent_dim)",
        "classifier": "networks.kingma.m2_classifier(image_shape, num_classes)",
    }

    def __init__(
        self,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        classifier: keras.Model | None = None,
        num_classes: int = kingma.NUM_CLASSES,
        z_dim: int = kingma.LATENT_DIM,
        class_priors: Sequence[Sequence[float]] | None = None,
        likelihood: Likelihood | None = None,
        alpha: ObjectiveWeight = 0.1,
        weight_prior: ObjectiveWeight = 1 / 50_000,
        binarize: bool = True,
        seed: int = 0,
        name: str = "m2",
        class_names: Sequence | None = None,
    ):
        super().__init__(seed=seed, name=name)
        self._set_likelihood(likelihood, binarize)
        self.alpha, self.weight_prior = alpha, weight_prior
        self._set_labels(num_classes, z_dim, class_priors, class_names)
        shape = kingma.IMAGE_SHAPE if classifier is None else input_shape("classifier", classifier)
        if len(shape) != 3:
            raise ValueError(f"`classifier` takes {(None, *shape)}; it must take images (None, H, W, C).")
        self._set_networks({"encoder": encoder, "decoder": decoder, "classifier": classifier}, shape)
        self.image_shape = shape
        self.build((None, *self.image_shape))

    def _makers(self, shape, outputs):
        width = self.labels.width
        return {
            "encoder": lambda: kingma.m2_encoder(shape, width, self.z_dim),
            "decoder": lambda: kingma.m2_decoder(outputs, width, self.z_dim),
            "classifier": lambda: kingma.m2_classifier(shape, width),
        }

    def _shapes(self, shape, outputs):
        return {**super()._shapes(shape, outputs), "classifier": (shape, (None, self.labels.width))}

    def _kinds(self):
        return {**super()._kinds(), "classifier": {0: probes.CLASS_LOGITS}}

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """`autoencoder` (encoder and decoder) and `classifier`."""
        return {
            "autoencoder": [*self.encoder.trainable_variables, *self.decoder.trainable_variables],
            "classifier": self.classifier.trainable_variables,
        }

    # Training

    def check_batch(self, images, labels) -> None:
        check_parts(self, images, labels)

    def draw_noise(self, batch, step) -> dict[str, Tensor]:
        seed = self.noise_stream(step)
        noise = {"dropout": self.dropout_counter(step)}
        for part in parts_of(batch):
            rows, labels = ops.shape(batch[part])[0], () if part == "labeled" else (self.labels.width,)
            noise[f"epsilon_{part}"] = keras.random.normal((rows, *labels, self.z_dim), seed=seed)
            noise |= self._noise_of_x(part, rows, seed)
        return noise

    def step_terms(self, batch, noise, step) -> dict[str, Tensor]:
        run = self.passes(noise["dropout"])
        x = {part: self._drawn(batch[part], noise, part) for part in parts_of(batch)}
        log_q = ops.log_softmax(run(self.classifier, self._inputs(ops.concatenate(list(x.values())))))
        labels = batch["labels"] if "labeled" in x else ops.zeros((0, self.labels.width))
        num_labeled = ops.shape(labels)[0]
        given = []
        if "labeled" in x:
            given.append((x["labeled"], labels, noise["epsilon_labeled"]))
        if "unlabeled" in x:
            given.append(self._with_all_labels(x["unlabeled"], noise["epsilon_unlabeled"]))
        rows = self._terms_of_rows(run, *map(ops.concatenate, zip(*given, strict=True)))
        of_unlabeled = {name: values[num_labeled:] for name, values in rows.items()}
        terms = {
            name: ops.concatenate([rows[name][:num_labeled], expected])
            for name, expected in self._expected(of_unlabeled, log_q[num_labeled:]).items()
        }
        kl_y = [-ops.sum(labels * self._log_p_y(), axis=-1), self._kl_y(log_q[num_labeled:])]
        terms["kl_y"] = ops.concatenate(kl_y)
        if "labeled" in x:
            terms["cross_entropy"] = -ops.sum(labels * log_q[:num_labeled], axis=-1)
        num_images = ops.shape(terms["kl_y"])[0]
        return {**terms, "weight_prior": negative_log_prior(self._weights_with_prior(), num_images)}

    def objective(self, terms, step) -> Tensor:
        weights = self.weights_at(step)
        bound = terms["reconstruction"] + terms["kl_z"] + terms["kl_y"]
        others = weights.alpha * terms.get("cross_entropy", 0.0) + weights.weight_prior * terms["weight_prior"]
        return bound + others

    def _weights_with_prior(self):
        autoencoder = [*self.encoder.trainable_variables, *self.decoder.trainable_variables]
        kernels = [variable for variable in autoencoder if len(variable.shape) > 1]
        return [*kernels, *self.classifier.trainable_variables]

    def _kl_y(self, log_q):
        return ops.sum(ops.exp(log_q) * (log_q - self._log_p_y()), axis=-1)

    def _expected(self, terms, log_q):
        """Expectations under q(y | x) of the terms of each x with all labels."""
        shape = ops.shape(log_q)
        return {name: ops.sum(ops.exp(log_q) * ops.reshape(term, shape), axis=-1) for name, term in terms.items()}

    def evaluation_terms(self, images, labels) -> dict[str, Tensor]:
        images = self.as_images(images, "x")
        x, rows, k = self._observed(images), ops.shape(images)[0], self.labels.width
        epsilon = ops.reshape(normal_of_images(images, k * self.z_dim), (rows, k, self.z_dim))
        log_q = self._log_q(x)
        of_labels = self._terms_of_rows(in_use, *self._with_all_labels(x, epsilon))
        terms = {**self._expected(of_labels, log_q), "kl_y": self._kl_y(log_q)}
        return terms if labels is None else {**terms, **self.error_terms(ops.exp(log_q), labels)}

    def _log_q(self, x):
        return ops.log_softmax(in_use(self.classifier, self._inputs(x)))
