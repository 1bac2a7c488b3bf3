"""EXoN: EXplainable encoder Network (An, Choi, Jeon)."""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae import losses, priors
from keras_ssvae.backend import all_rows, argmax
from keras_ssvae.checks import check_whole_number
from keras_ssvae.distributions import (
    Tensor,
    as_floatx,
    log_probs,
    mixture_log_prob,
    sample_beta,
    sample_gaussian,
    sample_gumbel,
    sample_mixture,
    straight_through_one_hot,
)
from keras_ssvae.likelihoods import Gaussian
from keras_ssvae.models import explanation, probes
from keras_ssvae.models.base import BaseVAE
from keras_ssvae.models.checks import check_has_labels, check_network, check_one_hot, image_shape
from keras_ssvae.models.importance import log_likelihood
from keras_ssvae.models.labels import ClassifierMixin, Labels
from keras_ssvae.models.objective_weights import ObjectiveWeight, kind_of
from keras_ssvae.models.passes import without_dropout
from keras_ssvae.networks import exon
from keras_ssvae.noise import Stream, normal
from keras_ssvae.pixels import as_array, trusted
from keras_ssvae.priors import GaussianMixture, Prior

_PARTS = ("labeled", "unlabeled", "labeled_augmented", "unlabeled_augmented")
_NETWORKS = ("encoder", "decoder", "classifier")
# The mixing weight rho follows Beta(a, a). With a = 0.1, for true labels, it is mostly near 0 or 1; with a = 2, for
# pseudo-labels, it is mostly near 1/2.
_LABELED_MIXING = 0.1
_UNLABELED_MIXING = 2.0
# The first weight of the Gaussian KL while the classes settle, for each number of an image. It is so large that z
# then carries no information about an image except its class.
_SETTLING_WEIGHT = 1 / 16


@keras.saving.register_keras_serializable("keras_ssvae")
class EXoN(ClassifierMixin, BaseVAE):
    """Semi-supervised VAE whose latent space you design: the prior has one Gaussian per class, where you place it.

    A few labelled images tie each class to its Gaussian, and the unlabelled images fill it. A classifier is part of
    the model and is trained with it.

    **Generation**: the class is `y ~ uniform`, or follows the `weights` of the prior. Then
    `z | y = k ~ N(m_k, diag s_k^2)` and `x | z ~ N(D(z), beta I)`.

    **Inference**: the posterior is a mixture with one component for each class,
    `q(z | x) = sum_k w(k | x) N(mu_k(x), diag sigma_k^2(x))`, (4). The classifier gives its weights `w`. Training
    samples the component with the Gumbel-max trick (straight-through gradient).

    **Objective**, minimised: (10) of EXoN's paper times beta. The terms are summed over the batch:

        reconstruction + beta (kl_categorical + kl_gaussian + cross_entropy)
            + lambda1 (cross_entropy + sci_labeled) + lambda2 sci_unlabeled

    SCI is soft-label consistency interpolation: cross entropy of mixed images and their mixed labels or pseudo-labels.

    Two options are not in EXoN's paper and are off by default. `evaluation.places` measures what both improve.

    * `settling_steps`: with the published training the classes settle in the first epoch, when the classifier is still
      wrong for 40 % of the images. They often settle far from their Gaussians of the prior. This option prevents that.
    * `consistency`: a classifier that sees only sharp images mistakes blurred ones from the decoder for other classes.
      This option also shows it reconstructions, by the term `+ lambda2 consistency H(w(y | x), w(y | D(z)))`, where H
      is the cross entropy. Its gradient reaches `w(y | D(z))` alone.

    | EXoN's paper                | code                                                                       |
    |-----------------------------|----------------------------------------------------------------------------|
    | `w(y given x; eta)`         | `classifier` (logits); `probs` after the softmax                             |
    | `mu_k(x), sigma_k^2(x); xi` | `encoder`: `mean`, `logvar`, each `(B, K, d)`                                |
    | `D(z; theta)`               | `decoder`                                                                    |
    | `m_k, s_k^2`                | `prior.means`, `prior.variances`                                             |
    | `-log p(x given z) beta`    | `reconstruction`: `sum (x - D(z))^2 / 2`                                     |
    | `KL(w(y given x), p(y))`    | `kl_categorical`                                                             |
    | second part of (12)         | `kl_gaussian`: KL of each component from its Gaussian, weighted with `w`     |
    | `-log w(y given x)`         | `cross_entropy`, of augmented labelled images                                |
    | SCI, (7)                    | `sci_labeled`, `sci_unlabeled`                                               |
    | `rho`                       | `mix_weight_labeled ~ Beta(.1, .1)`, `mix_weight_unlabeled ~ Beta(2, 2)`     |
    | `lambda_1`, `lambda_2(t)`   | `lambda1`, `lambda2`                                                         |

    Where the released code differs from EXoN's paper, the model follows the code:

    * The labelled cross entropy is also inside the beta term.
    * All images of a batch share one rho.
    * Pseudo-labels come from the augmented images in training mode, and do not change the moving statistics.
    * Probabilities are clipped to [1e-10, 1] inside logarithms.

    **Batch**: `(x, y)`, as `data.semi_supervised` makes it. `x` is a dictionary of float images in [-1, 1] with the
    keys `labeled`, `unlabeled`, `labeled_augmented` and `unlabeled_augmented`. `y` holds one-hot labels of the labelled
    part. The ELBO uses the images as they are; cross entropy and SCI use the augmented ones.

    **Validation** data is `(images, labels)`. Callbacks monitor `val_error` (percent) or `val_loss`. The latter is
    `reconstruction + beta (kl_categorical + kl_gaussian)`: the objective without the terms that augmentation or mixing
    makes random. Smaller is better for both.

    Args:
        encoder: Keras model that maps images `(B, H, W, C)` to `(mean, logvar)`, each `(B, K, d)` for K classes and d
            latent dimensions. Default: Table 4 of EXoN's paper.
        decoder: Keras model that maps `(B, d)` to images. Default: Table 4.
        classifier: Keras model that maps images to logits `(B, K)`. Default: Table 5.
        prior: `priors.GaussianMixture` with one component for each class. Default: `priors.circle()`, the published
            prior for MNIST. Where the classes differ in size, give it `weights=data.class_frequencies(labels, K)`.
        beta: Variance of the decoder, and weight of the KL-divergence.
        lambda1: Weight of cross entropy and SCI of the labelled images.
        lambda2: Weight of SCI of the unlabelled images: a number, which becomes a variable that a callback can change,
            or a Keras schedule of the step, such as `schedules.RampUp`.
        pseudo_label_dropout: Whether dropout is active when the classifier makes pseudo-labels. True is the original
            code's choice for MNIST, False the one for CIFAR-10.
        seed: Seed of the training noise. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.
        class_names: Names of the classes, which the served model returns. Default: none.
        settling_steps: Number of training steps in which the Gaussian KL has a larger weight than beta. Each class then
            moves to its place in the prior before the decoder learns the differences between its images. The weight
            falls from 1/16 for each number of an image to beta, by the same factor at each step. Default: 0, as
            published; the classes then stay where the first steps happen to bring them.
        consistency: Weight, as a share of lambda2, of the cross entropy between the class probabilities of an image and
            those of its reconstruction; 0.3 worked well. It needs a sixth pass of the classifier. Default: 0, as
            published.

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
    must_have_labels = True
    objective_weights = ("beta", "lambda1", "lambda2")
    positive_weights = ("beta",)  # beta is the variance of the decoder
    # The classifier makes pseudo-labels, then sees the original, the augmented and the mixed images.
    forward_passes = {"classifier": 5, "encoder": 1, "decoder": 1}  # noqa: RUF012

    made_by = {  # noqa: RUF012
        "encoder": "networks.exon.mnist_encoder(num_classes, latent_dim, image_shape)",
        "decoder": "networks.exon.mnist_decoder(latent_dim, image_shape)",
        "classifier": "networks.exon.mnist_classifier(num_classes, image_shape=image_shape)",
    }

    def __init__(
        self,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        classifier: keras.Model | None = None,
        prior: Prior | None = None,
        beta: ObjectiveWeight = 0.25,
        lambda1: ObjectiveWeight = 6000.0,
        lambda2: ObjectiveWeight = 6000.0,
        pseudo_label_dropout: bool = True,
        seed: int = 0,
        name: str = "exon",
        class_names: Sequence | None = None,
        settling_steps: int = 0,
        consistency: float = 0.0,
    ):
        super().__init__(seed=seed, name=name)
        self.prior = priors.circle() if prior is None else prior
        if not isinstance(self.prior, Prior):
            raise ValueError(f"`prior` is {prior!r}; it must be a `priors.Prior`, as `priors.circle()` gives.")
        self.labels = Labels(self.prior.num_components)
        self.class_names = class_names
        self.latents = {"z": self.prior.latent_dim}
        given = {"encoder": encoder, "decoder": decoder, "classifier": classifier}
        self.encoder = encoder or exon.mnist_encoder(self.prior.num_components, self.latent_dim)
        self.decoder = decoder or exon.mnist_decoder(self.latent_dim)
        self.classifier = classifier or exon.mnist_classifier(self.prior.num_components)
        self.beta, self.lambda1, self.lambda2 = beta, lambda1, lambda2
        self.pseudo_label_dropout = pseudo_label_dropout
        self._add_settling(settling_steps)
        self._add_consistency(consistency)
        self.image_shape = image_shape("encoder", self.encoder)
        self._check_networks()
        kinds = {"encoder": {1: probes.LOGVAR}, "decoder": {0: probes.PIXELS}, "classifier": {0: probes.CLASS_LOGITS}}
        for name, network in given.items():
            probes.probe(name, network, kinds[name])
        self.build((None, *self.image_shape))

    def _add_settling(self, settling_steps):
        self._settling_steps = check_whole_number("settling_steps", settling_steps, 0)
        if settling_steps:
            # A counter of the model itself: an optimizer may be replaced, but the settling must not start again.
            self._settled_steps = self.add_weight(
                name="settled_steps",
                shape=(),
                initializer="zeros",
                dtype="float32",
                trainable=False,
                aggregation="only_first_replica",
            )

    def _add_consistency(self, consistency):
        if kind_of("consistency", consistency) != "number":
            raise ValueError(f"`consistency` is {consistency!r}; it must be a finite number, 0 or more.")
        self._consistency = float(consistency)
        if consistency:
            self.add_training_term("consistency")
            self.forward_passes = {**self.forward_passes, "classifier": self.forward_passes["classifier"] + 1}

    # Read-only: the training step may be compiled already with these values.

    @property
    def settling_steps(self) -> int:
        """Number of training steps in which the classes settle."""
        return self._settling_steps

    @property
    def consistency(self) -> float:
        """Weight of the term `consistency`, as a share of lambda2."""
        return self._consistency

    @property
    def likelihood(self) -> Gaussian:
        """`N(D(z), beta I)` with the current beta."""
        return Gaussian(self.weights_at(self.steps_taken).beta)

    @property
    def label_probs(self) -> list[np.ndarray] | None:
        return None if self.prior.uniform else [self.class_prior.probs]

    @property
    def class_prior(self) -> GaussianMixture:
        """The prior with its current values, with one component for each class."""
        return self.prior.now()

    def _check_networks(self):
        components = (None, self.num_classes, self.latent_dim)
        reason = (
            f"a `prior` of {self.num_classes} classes in {self.latent_dim} dimensions and images {self.image_shape}"
        )
        shapes = {
            "encoder": (self.image_shape, [components, components]),
            "decoder": ((self.latent_dim,), (None, *self.image_shape)),
            "classifier": (self.image_shape, (None, self.num_classes)),
        }
        for name, (takes, gives) in shapes.items():
            check_network(name, getattr(self, name), takes, gives, reason, self.made_by[name])

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """`autoencoder` (encoder, decoder, a learned prior) and `classifier`; EXoN's paper trains them differently."""
        parts = self.encoder, self.decoder, self.prior
        return {
            "autoencoder": [variable for part in parts for variable in part.trainable_variables],
            "classifier": self.classifier.trainable_variables,
        }

    # Training

    def check_batch(self, images, labels) -> None:
        if not isinstance(images, dict) or not set(_PARTS) <= set(images):
            given = sorted(images) if isinstance(images, dict) else type(images).__name__
            raise ValueError(
                f"`x` of a training batch is {given}; it must be a dictionary of {_PARTS}. "
                "`data.semi_supervised((images, labels), unlabeled, ...)` makes such batches."
            )
        check_has_labels(labels)
        for part in _PARTS:
            self.check_images(f"x[{part!r}]", images[part])
        check_one_hot(labels, images["labeled"], self.labels.width)

    def draw_noise(self, batch, step) -> dict[str, Tensor]:
        seed = self.noise_stream(step)
        num_labeled, num_unlabeled = ops.shape(batch["labeled"])[0], ops.shape(batch["unlabeled"])[0]
        num_images = num_labeled + num_unlabeled
        return {
            "epsilon": keras.random.normal((num_images, self.num_classes, self.latent_dim), seed=seed),
            "gumbel": sample_gumbel((num_images, self.num_classes), seed=seed),
            "mix_weight_labeled": sample_beta(_LABELED_MIXING, _LABELED_MIXING, seed),
            "mix_weight_unlabeled": sample_beta(_UNLABELED_MIXING, _UNLABELED_MIXING, seed),
            "partners_labeled": keras.random.shuffle(ops.arange(num_labeled), seed=seed),
            "partners_unlabeled": keras.random.shuffle(ops.arange(num_unlabeled), seed=seed),
            "dropout": self.dropout_counter(step),
        }

    def join_rows(self, batch, noise) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Mixes the augmented images with their partners, (6); splits the noise by labelled and unlabelled part."""
        mixed = {
            f"{part}_mixed": losses.mix(
                batch[f"{part}_augmented"], noise[f"partners_{part}"], noise[f"mix_weight_{part}"]
            )
            for part in ("labeled", "unlabeled")
        }
        of_partners = ops.take(batch["labels"], noise["partners_labeled"], axis=0)
        end = ops.shape(batch["labeled"])[0]
        others = {name: value for name, value in noise.items() if name not in ("epsilon", "gumbel")}
        cut = {
            f"{name}_{part}": noise[name][rows]
            for name in ("epsilon", "gumbel")
            for part, rows in (("labeled", slice(None, end)), ("unlabeled", slice(end, None)))
        }
        return {**batch, **mixed, "labels_of_partners": of_partners}, {**others, **cut}

    def step_terms(self, batch, noise, step) -> dict[str, Tensor]:
        run = self.passes(noise["dropout"])

        def f(images):
            return ops.softmax(run(self.classifier, images))

        # In the order in which the original code updates the moving statistics of the classifier.
        with self._leaving_no_trace():
            t = ops.stop_gradient(f(batch["unlabeled_augmented"]))
        t_of_partners = ops.take(all_rows(t), noise["partners_unlabeled"], axis=0)
        x, epsilon, gumbel = (
            ops.concatenate([values[f"{prefix}labeled"], values[f"{prefix}unlabeled"]])
            for values, prefix in ((batch, ""), (noise, "epsilon_"), (noise, "gumbel_"))
        )
        w = f(x)
        mean, logvar = run(self.encoder, x)
        y = straight_through_one_hot(ops.log(w + 1e-8) + gumbel)
        z = ops.sum(y[:, :, None] * sample_gaussian(mean, logvar, epsilon), axis=1)
        reconstruction = run(self.decoder, z)
        terms = {
            "reconstruction": losses.reconstruction(x, reconstruction),
            "kl_categorical": self.prior.categorical_kl(w),
            "kl_gaussian": self.prior.kl(w, mean, logvar),
            "cross_entropy": losses.cross_entropy(batch["labels"], f(batch["labeled_augmented"])),
            "sci_labeled": losses.sci(
                batch["labels"], batch["labels_of_partners"], f(batch["labeled_mixed"]), noise["mix_weight_labeled"]
            ),
            "sci_unlabeled": losses.sci(t, t_of_partners, f(batch["unlabeled_mixed"]), noise["mix_weight_unlabeled"]),
        }
        if self.consistency:
            drawn = f(ops.stop_gradient(reconstruction))
            terms["consistency"] = losses.cross_entropy(ops.stop_gradient(w), drawn)
        return terms

    def objective(self, terms, step) -> Tensor:
        """(10) of EXoN times beta, from terms summed over the batch; while classes settle, the KL has more weight."""
        return self._objective(terms, step, is_settling=self.settling_steps > 0)

    def validation_objective(self, terms, step) -> Tensor:
        """Uses the weights at the end of the training, so that `val_loss` is comparable between epochs."""
        return self._objective({**dict.fromkeys(self.training_terms, 0.0), **terms}, step, is_settling=False)

    def _objective(self, terms, step, is_settling):
        weights = self.weights_at(step)
        settling = self._settling_factor(weights.beta) if is_settling else 1.0
        total = (
            terms["reconstruction"]
            + weights.beta * (terms["kl_categorical"] + settling * terms["kl_gaussian"] + terms["cross_entropy"])
            + weights.lambda1 * (terms["cross_entropy"] + terms["sci_labeled"])
            + weights.lambda2 * terms["sci_unlabeled"]
        )
        return total + weights.lambda2 * self.consistency * terms["consistency"] if self.consistency else total

    def _settling_factor(self, beta):
        """The current weight of the Gaussian KL divided by beta."""
        first = ops.maximum(1.0, _SETTLING_WEIGHT * math.prod(self.image_shape) / beta)
        left = 1.0 - self._settled_steps / self.settling_steps
        return ops.power(first, ops.maximum(0.0, left))

    def replay_step(self, batch, noise) -> dict[str, Tensor]:
        terms = super().replay_step(batch, noise)
        if self.settling_steps:
            self._settled_steps.assign_add(1.0)
        return terms

    @contextlib.contextmanager
    def _leaving_no_trace(self):
        """Context in which the classifier keeps its moving statistics and uses dropout only if the model says so."""
        current = [(variable, variable.value) for variable in self.classifier.variables]
        rates = contextlib.nullcontext() if self.pseudo_label_dropout else without_dropout(self.classifier)
        with keras.StatelessScope(current), rates:
            yield

    def evaluation_terms(self, images, labels) -> dict[str, Tensor]:
        images = self.as_images(images, "x")
        check_has_labels(labels)
        outputs = self(images, training=False)
        return {
            "error": self.error_percent(outputs["probs"], labels),
            "reconstruction": losses.reconstruction(images, outputs["reconstruction"]),
            "kl_categorical": self.prior.categorical_kl(outputs["probs"]),
            "kl_gaussian": self.prior.kl(outputs["probs"], outputs["mean"], outputs["logvar"]),
        }

    # Use: deterministic, tensors in, tensors out

    def call(self, images, training=False) -> dict[str, Tensor]:
        """Returns all outputs of inference for images: `probs`, `mean`, `logvar`, `z` and `reconstruction`."""
        outputs = self.posterior(images)
        z = _most_probable(outputs)
        return {**outputs, "z": z, "reconstruction": self.decode(z)}

    def classify(self, images: Tensor) -> Tensor:
        """Class probabilities `w(y | x)`, `(B, K)`, of images `(B, H, W, C)` in [-1, 1]."""
        return ops.softmax(as_floatx(self.classifier(self.as_images(images), training=False)))

    def posterior(self, images: Tensor) -> dict[str, Tensor]:
        """The mixture `q(z | x)`, (4): `mean` and `logvar` `(B, K, d)` of its components; weights `probs` `(B, K)`."""
        images = self.as_images(images)
        mean, logvar = map(as_floatx, self.encoder(images, training=False))
        with trusted():
            return {"mean": mean, "logvar": logvar, "probs": self.classify(images)}

    def encode(self, images: Tensor) -> Tensor:
        """Latent variables `(B, d)`: the posterior mean of each image's most probable component."""
        return _most_probable(self.posterior(images))

    def decode(self, z: Tensor) -> Tensor:
        """Images `(B, H, W, C)` in [-1, 1] at latent variables `(B, d)`."""
        return as_floatx(self.decoder(as_array("z", z), training=False))

    def sample_latent(self, labels: Tensor, seed: int | Tensor, scale: float = 1.0) -> Tensor:
        """Draws `z ~ N(m_k, s_k^2)` for each given class k: `(B, d)`."""
        epsilon = scale * normal((ops.shape(labels)[0], self.latent_dim), Stream(seed, 0))
        return self.prior.draw(labels, epsilon)

    def posterior_noise(self, num_images, num_samples, stream) -> dict[str, Tensor]:
        samples = (num_images, num_samples)
        return {
            "gumbel": sample_gumbel((*samples, self.num_classes), seed=stream),
            "epsilon": keras.random.normal((*samples, self.latent_dim), seed=stream),
        }

    def log_weights(self, images, noise) -> Tensor:
        images = self.as_images(images)
        # z is sampled from the whole mixture q(z | x), and its prior is the whole mixture: x depends on z alone.
        posterior = self.posterior(images)
        q = log_probs(posterior["probs"]), posterior["mean"], posterior["logvar"]
        z = sample_mixture(*q, noise["gumbel"], noise["epsilon"])
        log_ratio = self.prior.log_prob(z) - mixture_log_prob(z, *q)
        return log_likelihood(self.decoder, self.likelihood, images, z) + log_ratio

    def explain(self, images: ArrayLike, delta: float = 1.0) -> list[explanation.Explanation]:
        """Explains each image: its class, its place in the latent space, and what each active coordinate changes.

        Args:
            images: Floats in [-1, 1] of shape `(B, H, W, C)`.
            delta: A coordinate is active if the image's own V-nat is above this many nats.

        Returns:
            A list with one `Explanation` for each image, in NumPy; `plots.explanation` draws it. Each holds two decoded
            images for each active coordinate, so explain large sets in pieces.

        Raises:
            ValueError: If the images are not as described, or `delta` is not finite.
        """
        return explanation.explain(self, images, delta)

    # Serialisation

    def _own_variables(self):
        # Saved by name, so that weights load into a model that settles from one that does not, and the reverse.
        named, others = super()._own_variables()
        return named | {variable.name: variable for variable in others.values()}, {}

    def load_own_variables(self, store) -> None:
        # Files of version 0.1 hold only lambda2, under a number.
        if set(store.keys()) == {"0"} and isinstance(self.lambda2, keras.Variable):
            self.lambda2.assign(store["0"])
        else:
            super().load_own_variables(store)

    def get_config(self) -> dict[str, Any]:
        return {
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in (*_NETWORKS, "prior")},
            "pseudo_label_dropout": self.pseudo_label_dropout,
            "class_names": self.class_names,
            "settling_steps": self.settling_steps,
            "consistency": self.consistency,
            **super().get_config(),
        }


def _most_probable(posterior):
    """The mean `(B, d)` of each image's most probable component."""
    component = argmax(posterior["probs"])[:, None, None]
    return ops.take_along_axis(posterior["mean"], component, axis=1)[:, 0]
