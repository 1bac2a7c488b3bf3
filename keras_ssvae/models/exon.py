"""EXoN: EXplainable encoder Network (An, Choi, Jeon)."""

import contextlib

import keras
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae import losses, priors
from keras_ssvae.backend import all_rows, own_rows
from keras_ssvae.distributions import (
    Tensor,
    as_floatx,
    mixture_kl,
    sample_beta,
    sample_gaussian,
    sample_gumbel,
    straight_through_one_hot,
)
from keras_ssvae.models import explanation
from keras_ssvae.models.base import SemiSupervisedVAE, without_dropout
from keras_ssvae.models.checks import check_has_labels, check_network, check_one_hot, check_weights, input_shape
from keras_ssvae.networks import exon
from keras_ssvae.noise import Stream
from keras_ssvae.priors import GaussianMixture

_PARTS = ("labeled", "unlabeled", "labeled_augmented", "unlabeled_augmented")
_NETWORKS = ("encoder", "decoder", "classifier")
# Beta(a, a) of the mixing weight rho: mostly ends of [0, 1] for true labels, mostly the middle for pseudo-labels.
_LABELED_MIXING = 0.1
_UNLABELED_MIXING = 2.0


@keras.saving.register_keras_serializable("keras_ssvae")
class EXoN(SemiSupervisedVAE):
    """Semi-supervised VAE whose latent space has a layout that you design: one Gaussian per class, where you put it.

    **Generation**: `y ~ uniform`, `z | y = k ~ N(m_k, diag s_k^2)`, `x | z ~ N(D(z), beta I)`.

    **Inference**: `q(z | x) = sum_k w(k | x) N(mu_k(x), diag sigma_k^2(x))`, (4). A sample takes its component by the
    Gumbel-max trick (straight-through gradient).

    **Objective** (minimised; sums over the batch; (10) times beta, with `H` the cross entropy):

        reconstruction + beta (kl_categorical + kl_gaussian + cross_entropy)
            + lambda1 (cross_entropy + sci_labeled) + lambda2 sci_unlabeled

    | paper                       | code                                                                       |
    |-----------------------------|----------------------------------------------------------------------------|
    | `w(y given x; eta)`         | `classifier` (logits); `probs` after the softmax                             |
    | `mu_k(x), sigma_k^2(x); xi` | `encoder`: `mean`, `logvar`, each `(B, K, d)`                                |
    | `D(z; theta)`               | `decoder`                                                                    |
    | `m_k, s_k^2`                | `prior.means`, `prior.variances`                                             |
    | `-log p(x given z) beta`    | `reconstruction`: `sum (x - D(z))^2 / 2`                                     |
    | `KL(w(y given x), p(y))`    | `kl_categorical`                                                             |
    | second part of (12)         | `kl_gaussian`                                                                |
    | `-log w(y given x)`         | `cross_entropy`, of augmented labelled images                                |
    | SCI, (7)                    | `sci_labeled`, `sci_unlabeled`                                               |
    | `rho`                       | `mix_weight_labeled ~ Beta(.1, .1)`, `mix_weight_unlabeled ~ Beta(2, 2)`     |
    | `lambda_1`, `lambda_2(t)`   | `lambda1`, `lambda2`                                                         |

    It follows the released code where this departs from the paper: the labelled cross entropy is inside the beta term
    too; one rho for a batch; pseudo-labels come from the augmented images in training mode and leave no trace in the
    moving statistics; probabilities are clipped to [1e-10, 1] inside logarithms.

    A batch is `(x, y)`: `x` a dictionary of float images in [-1, 1], `labeled`, `unlabeled`, `labeled_augmented`,
    `unlabeled_augmented` (see `data.semi_supervised`); `y` one-hot labels of the labelled part. The ELBO sees the
    images as they are, cross entropy and SCI the augmented ones. Validation data is `(images, labels)`; callbacks
    monitor `val_error` (percent), for validation has no loss.

    Args:
        encoder: Keras model, images `(B, H, W, C)` -> `(mean, logvar)`, each `(B, K, d)`. Default: Table 4.
        decoder: Keras model, `(B, d)` -> images. Default: Table 4.
        classifier: Keras model, images -> logits `(B, K)`. Default: Table 5.
        prior: `priors.GaussianMixture`. Default: `priors.circle()`, the paper's for MNIST.
        beta: Variance of the decoder; the weight of the KL-divergence.
        lambda1: Weight of cross entropy and SCI of the labelled images.
        lambda2: Weight of SCI of the unlabelled images: a number (then a variable, that a callback can move) or a
            Keras schedule of the step, as `schedules.RampUp`.
        pseudo_label_dropout: Whether the classifier drops out when it makes pseudo-labels, as for MNIST; the original
            code does not for CIFAR-10.
        seed: Of the noise of training. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.

    Example:
        >>> model = EXoN(beta=0.25)
        >>> model.compile(keras.optimizers.Adam(3e-3))
        >>> model.fit(batches, steps_per_epoch=468, epochs=20)
        >>> model.classify(images), model.encode(images), model.generate([3, 7], seed=1)

    Reference:
        [An, Choi, Jeon: EXoN: EXplainable encoder Network, 2022](https://arxiv.org/abs/2105.10867).
    """

    training_terms = (
        "reconstruction",
        "kl_categorical",
        "kl_gaussian",
        "cross_entropy",
        "sci_labeled",
        "sci_unlabeled",
    )
    test_terms = ("error", "reconstruction", "kl_categorical", "kl_gaussian")

    def __init__(
        self,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        classifier: keras.Model | None = None,
        prior: GaussianMixture | None = None,
        beta: float = 0.25,
        lambda1: float = 6000.0,
        lambda2: float | keras.optimizers.schedules.LearningRateSchedule = 6000.0,
        pseudo_label_dropout: bool = True,
        seed: int = 0,
        name: str = "exon",
    ):
        super().__init__(seed=seed, name=name)
        scheduled = isinstance(lambda2, keras.optimizers.schedules.LearningRateSchedule)
        check_weights(beta=beta, lambda1=lambda1, **({} if scheduled else {"lambda2": lambda2}))
        if beta == 0:
            raise ValueError(
                f"`beta` is {beta!r}; it must be a finite number above 0: it is the variance of the decoder."
            )
        self.prior = priors.circle() if prior is None else prior
        if not isinstance(self.prior, GaussianMixture):
            raise ValueError(f"`prior` is {prior!r}; it must be a `GaussianMixture`, as `priors.circle()` gives.")
        num_classes, latent_dim = self.prior.num_classes, self.prior.latent_dim
        self.encoder = encoder or exon.mnist_encoder(num_classes, latent_dim)
        self.decoder = decoder or exon.mnist_decoder(latent_dim)
        self.classifier = classifier or exon.mnist_classifier(num_classes)
        self.beta, self.lambda1, self.pseudo_label_dropout = beta, lambda1, pseudo_label_dropout
        self.image_shape = input_shape("encoder", self.encoder)
        self._check_networks()
        if scheduled:
            self.lambda2 = lambda2
        else:
            self.lambda2 = self.add_weight(
                name="lambda2", shape=(), initializer=keras.initializers.Constant(lambda2), trainable=False
            )
        self.build((None, *self.image_shape))

    @property
    def num_classes(self) -> int:
        return self.prior.num_classes

    @property
    def latent_dim(self) -> int:
        return self.prior.latent_dim

    @property
    def latents(self) -> dict[str, int]:
        return {"z": self.latent_dim}

    @property
    def class_prior(self) -> GaussianMixture:
        """The prior, which has one component for each class."""
        return self.prior

    def build(self, input_shape):
        # The networks come built; all that is left is to say so, which lets Keras save and export the model.
        self.built = True

    def _check_networks(self):
        components = (None, self.num_classes, self.latent_dim)
        reason = (
            f"a `prior` of {self.num_classes} classes in {self.latent_dim} dimensions and images {self.image_shape}"
        )
        check_network("encoder", self.encoder, self.image_shape, [components, components], reason)
        check_network("decoder", self.decoder, (self.latent_dim,), (None, *self.image_shape), reason)
        check_network("classifier", self.classifier, self.image_shape, (None, self.num_classes), reason)

    def variable_groups(self):
        """`autoencoder` (encoder and decoder) and `classifier`, which the paper trains with different optimizers."""
        return {
            "autoencoder": self.encoder.trainable_variables + self.decoder.trainable_variables,
            "classifier": self.classifier.trainable_variables,
        }

    # Training

    def check_batch(self, images, labels):
        check_has_labels(labels)
        if not isinstance(images, dict) or not set(_PARTS) <= set(images):
            given = sorted(images) if isinstance(images, dict) else type(images).__name__
            raise ValueError(
                f"`x` of a training batch is {given}; it must be a dictionary of {_PARTS}. "
                "`data.semi_supervised` makes such batches."
            )
        for part in _PARTS:
            self.check_images(f"x[{part!r}]", images[part])
        check_one_hot(labels, images["labeled"], self.num_classes)

    def draw_noise(self, batch, step):
        seed = self._noise_stream(step)
        num_labeled, num_unlabeled = ops.shape(batch["labeled"])[0], ops.shape(batch["unlabeled"])[0]
        num_images = num_labeled + num_unlabeled
        return {
            "epsilon": keras.random.normal((num_images, self.num_classes, self.latent_dim), seed=seed),
            "gumbel": sample_gumbel((num_images, self.num_classes), seed=seed),
            "mix_weight_labeled": sample_beta(_LABELED_MIXING, _LABELED_MIXING, seed),
            "mix_weight_unlabeled": sample_beta(_UNLABELED_MIXING, _UNLABELED_MIXING, seed),
            "partners_labeled": keras.random.shuffle(ops.arange(num_labeled), seed=seed),
            "partners_unlabeled": keras.random.shuffle(ops.arange(num_unlabeled), seed=seed),
            "dropout": self._dropout_counter(step),
        }

    def step_losses(self, batch, noise, step):
        def probs(images, pass_index):
            self._seed_dropout(self.classifier, noise["dropout"], pass_index)
            return ops.softmax(as_floatx(self.classifier(images, training=True)))

        for pass_index, network in ((5, self.encoder), (6, self.decoder)):
            self._seed_dropout(network, noise["dropout"], pass_index)
        # The scope drops what the pass does to the moving statistics.
        current = [(variable, variable.value) for variable in self.classifier.variables]
        rates = contextlib.nullcontext() if self.pseudo_label_dropout else without_dropout(self.classifier)
        with keras.StatelessScope(current), rates:
            own_pseudo_labels = ops.stop_gradient(probs(own_rows(batch["unlabeled_augmented"]), 0))
        targets = {"labeled": batch["labels"], "unlabeled": all_rows(own_pseudo_labels)}

        # The order of the passes is that in which the original moves the statistics.
        images = _own_rows_of_both(batch["labeled"], batch["unlabeled"])
        num_labeled = ops.shape(batch["labeled"])[0]
        epsilon, gumbel = (
            _own_rows_of_both(noise[name][:num_labeled], noise[name][num_labeled:]) for name in ("epsilon", "gumbel")
        )
        weights = probs(images, 1)
        mean, logvar = map(as_floatx, self.encoder(images, training=True))
        component = straight_through_one_hot(ops.log(weights + 1e-8) + gumbel)
        z = ops.sum(component[:, :, None] * sample_gaussian(mean, logvar, epsilon), axis=1)
        kl_categorical, kl_gaussian = mixture_kl(weights, mean, logvar, self.prior.means, self.prior.variances)
        terms = {
            "reconstruction": losses.reconstruction(images, as_floatx(self.decoder(z, training=True))),
            "kl_categorical": kl_categorical,
            "kl_gaussian": kl_gaussian,
            "cross_entropy": losses.cross_entropy(
                own_rows(batch["labels"]), probs(own_rows(batch["labeled_augmented"]), 2)
            ),
        }
        for pass_index, part in ((3, "labeled"), (4, "unlabeled")):
            partners, weight = noise[f"partners_{part}"], noise[f"mix_weight_{part}"]
            mixed = own_rows(losses.mix(batch[f"{part}_augmented"], partners, weight))
            labels = (own_rows(values) for values in (targets[part], ops.take(targets[part], partners, axis=0)))
            terms[f"sci_{part}"] = losses.sci(*labels, probs(mixed, pass_index), weight)

        sums = {name: ops.sum(term) for name, term in terms.items()}
        lambda2 = self.lambda2(step) if callable(self.lambda2) else self.lambda2
        terms["total"] = (
            sums["reconstruction"]
            + self.beta * (sums["kl_categorical"] + sums["kl_gaussian"] + sums["cross_entropy"])
            + self.lambda1 * (sums["cross_entropy"] + sums["sci_labeled"])
            + lambda2 * sums["sci_unlabeled"]
        )
        return terms

    def evaluation_terms(self, images, labels):
        self.check_images("x", images)
        check_has_labels(labels)
        outputs = self(images, training=False)
        kl_categorical, kl_gaussian = mixture_kl(
            outputs["probs"], outputs["mean"], outputs["logvar"], self.prior.means, self.prior.variances
        )
        return {
            "error": self.error_percent(outputs["probs"], labels),
            "reconstruction": losses.reconstruction(images, outputs["reconstruction"]),
            "kl_categorical": kl_categorical,
            "kl_gaussian": kl_gaussian,
        }

    # Use: deterministic, tensors in, tensors out

    def call(self, images, training=False):
        """Everything that inference gives for images: `probs`, `mean`, `logvar`, `z` and `reconstruction`."""
        posterior = self.posterior(images)
        z = self._most_probable(posterior["mean"], posterior["probs"])
        return {**posterior, "z": z, "reconstruction": self.decode(z)}

    def classify(self, images: Tensor) -> Tensor:
        """Class probabilities `w(y | x)`: images `(B, H, W, C)` in [-1, 1] -> `(B, K)`."""
        return ops.softmax(as_floatx(self.classifier(images, training=False)))

    def posterior(self, images: Tensor) -> dict[str, Tensor]:
        """The mixture `q(z | x)`, (4): `mean` and `logvar`, each `(B, K, d)`, and the weights `probs`, `(B, K)`."""
        mean, logvar = map(as_floatx, self.encoder(images, training=False))
        return {"mean": mean, "logvar": logvar, "probs": self.classify(images)}

    @staticmethod
    def _most_probable(mean, probs):
        return ops.take_along_axis(mean, ops.argmax(probs, axis=-1)[:, None, None], axis=1)[:, 0]

    def encode(self, images: Tensor) -> Tensor:
        """Latent variables `(B, d)`: the posterior mean of each image's most probable component."""
        posterior = self.posterior(images)
        return self._most_probable(posterior["mean"], posterior["probs"])

    def decode(self, z: Tensor) -> Tensor:
        """Images `(B, H, W, C)` in [-1, 1] at latent variables `(B, d)`."""
        return as_floatx(self.decoder(z, training=False))

    def generate(self, labels: Tensor, seed: int | Tensor) -> Tensor:
        """Images of the given classes, from the prior: `decode(z)`, `z ~ N(m_k, s_k^2)`.

        Args:
            labels: Class of each image, integers `(B,)`.
            seed: An integer; the same seed gives the same images.

        Returns:
            `(B, H, W, C)`.
        """
        labels = self.check_labels(labels)
        epsilon = keras.random.normal((ops.shape(labels)[0], self.latent_dim), seed=Stream(seed, 0))
        mean = ops.take(self.prior.means, labels, axis=0)
        logvar = ops.log(ops.take(self.prior.variances, labels, axis=0))
        return self.decode(sample_gaussian(mean, logvar, epsilon))

    def explain(self, images: ArrayLike, delta: float = 1.0) -> list[explanation.Explanation]:
        """For each image its class, its place in the latent space and what each active coordinate draws, in NumPy.

        Args:
            images: Floats in [-1, 1] of shape `(B, H, W, C)`.
            delta: A coordinate is active where the image's own V-nat is above this many nats.

        Returns:
            One `Explanation` for each image, whose attributes say more; `plots.explanation` draws it. It holds two
            decoded images for each active coordinate: of many images explain some at a time.

        Raises:
            ValueError: If the images are not as described, or `delta` is not finite.
        """
        return explanation.explain(self, images, delta)

    # Serialisation

    def get_config(self):
        if callable(self.lambda2):
            lambda2 = keras.saving.serialize_keras_object(self.lambda2)
        else:
            lambda2 = float(ops.convert_to_numpy(self.lambda2))
        return {
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in (*_NETWORKS, "prior")},
            "beta": self.beta,
            "lambda1": self.lambda1,
            "pseudo_label_dropout": self.pseudo_label_dropout,
            "lambda2": lambda2,
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        objects = {
            name: keras.saving.deserialize_keras_object(value, custom_objects)
            for name, value in config.items()
            if isinstance(value, dict)
        }
        return cls(**{**config, **objects})


def _own_rows_of_both(labeled, unlabeled):
    return ops.concatenate([own_rows(labeled), own_rows(unlabeled)])
