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
from keras_ssvae.models.checks import check_has_labels, check_network, check_one_hot, input_shape
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
# Beta(a, a) of the mixing weight rho: mostly ends of [0, 1] for true labels, mostly the middle for pseudo-labels.
_LABELED_MIXING = 0.1
_UNLABELED_MIXING = 2.0
# What the Gaussian KL weighs at first while classes settle, for each number of an image: so much that z tells nothing
# of an image but its class.
_SETTLING_WEIGHT = 1 / 16


@keras.saving.register_keras_serializable("keras_ssvae")
class EXoN(ClassifierMixin, BaseVAE):
    """Semi-supervised VAE whose latent space has a layout that you design: one Gaussian per class, where you put it.

    **Generation**: `y ~ uniform`, or the `weights` of the prior, `z | y = k ~ N(m_k, diag s_k^2)`,
    `x | z ~ N(D(z), beta I)`.

    **Inference**: `q(z | x) = sum_k w(k | x) N(mu_k(x), diag sigma_k^2(x))`, (4). A sample takes its component by the
    Gumbel-max trick (straight-through gradient).

    **Objective** (minimised; sums over the batch; (10) times beta, with `H` the cross entropy):

        reconstruction + beta (kl_categorical + kl_gaussian + cross_entropy)
            + lambda1 (cross_entropy + sci_labeled) + lambda2 sci_unlabeled

    Two things that the paper does not have are off by default. In its training the classes settle in the first epoch,
    when the classifier is still wrong in 40 %, and often far from their places of the prior: `settling_steps` cures
    that. And the classifier, which sees sharp images only, takes blurred ones of the decoder for others:
    `consistency` shows it reconstructions, by a term `+ lambda2 consistency H(w(y | x), w(y | D(z)))` whose gradient
    goes to `w(y | D(z))` alone. `evaluation.places` measures both.

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
    monitor `val_error` (percent) or `val_loss`, which is the objective without the terms that augmentation or mixing
    make random: `reconstruction + beta (kl_categorical + kl_gaussian)`. Both are smaller the better.

    Args:
        encoder: Keras model, images `(B, H, W, C)` -> `(mean, logvar)`, each `(B, K, d)`. Default: Table 4.
        decoder: Keras model, `(B, d)` -> images. Default: Table 4.
        classifier: Keras model, images -> logits `(B, K)`. Default: Table 5.
        prior: `priors.GaussianMixture`. Default: `priors.circle()`, the paper's for MNIST. Where the classes are
            uneven, give it `weights=data.class_frequencies(labels, K)`.
        beta: Variance of the decoder; the weight of the KL-divergence.
        lambda1: Weight of cross entropy and SCI of the labelled images.
        lambda2: Weight of SCI of the unlabelled images: a number (then a variable, that a callback can move) or a
            Keras schedule of the step, as `schedules.RampUp`.
        pseudo_label_dropout: Whether the classifier drops out when it makes pseudo-labels, as for MNIST; the original
            code does not for CIFAR-10.
        seed: Of the noise of training. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.
        class_names: Names of the classes, which the served model answers with. Default: none.
        settling_steps: For so many training steps the Gaussian KL weighs more than beta, so that each class settles
            where the prior puts it, before the decoder learns what tells images of a class apart. The weight falls
            from 1/16 for each number of an image to beta, by the same factor at each step. Default: 0, as in the paper,
            whose classes stay where the first steps happen to bring them.
        consistency: Weight of the cross entropy between the class probabilities of an image and those of its
            reconstruction, as a share of lambda2; 0.3 is well tried. It takes a sixth pass of the classifier. Default:
            0, as in the paper.

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
    positive_weights = ("beta",)  # it is the variance of the decoder
    # The classifier makes pseudo-labels, then sees the images as they are, the augmented and the mixed ones.
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
        self.image_shape = input_shape("encoder", self.encoder)
        self._check_networks()
        kinds = {"encoder": {1: probes.LOGVAR}, "decoder": {0: probes.PIXELS}, "classifier": {0: probes.CLASS_LOGITS}}
        for name, network in given.items():
            probes.probe(name, network, kinds[name])
        self.build((None, *self.image_shape))

    def _add_settling(self, settling_steps):
        self._settling_steps = check_whole_number("settling_steps", settling_steps, 0)
        if settling_steps:
            # The model's own, for an optimizer may be replaced, and what has settled must not start again.
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

    # Not to be set: a program of the training step has been made with them.

    @property
    def settling_steps(self) -> int:
        """For how many steps the classes settle."""
        return self._settling_steps

    @property
    def consistency(self) -> float:
        """Weight of the term `consistency`, as a share of lambda2."""
        return self._consistency

    @property
    def likelihood(self) -> Gaussian:
        """`N(D(z), beta I)`, with beta as it is now."""
        return Gaussian(self.weights_at(self.steps_taken).beta)

    @property
    def label_probs(self) -> list[np.ndarray] | None:
        return None if self.prior.uniform else [self.class_prior.probs]

    @property
    def class_prior(self) -> GaussianMixture:
        """The prior as it is now, with one component for each class."""
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
        """`autoencoder` (encoder, decoder, a learned prior) and `classifier`; the paper's optimizers differ."""
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
        """Mixes the augmented images with their partners, (6); cuts the noise of all images into that of the parts."""
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

        # In the order in which the original moves the statistics of the classifier.
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
        """(10) of EXoN times beta, of the terms summed over the batch; while classes settle, with a larger KL."""
        return self._objective(terms, step, is_settling=self.settling_steps > 0)

    def validation_objective(self, terms, step) -> Tensor:
        """With the weights that the training ends with, so that `val_loss` can be compared between epochs."""
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
        """By how much the Gaussian KL weighs more than beta."""
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
        """While it is open, passes of the classifier do not move its statistics, nor drop out unless they shall."""
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
        """Everything that inference gives for images: `probs`, `mean`, `logvar`, `z` and `reconstruction`."""
        outputs = self.posterior(images)
        z = _most_probable(outputs)
        return {**outputs, "z": z, "reconstruction": self.decode(z)}

    def classify(self, images: Tensor) -> Tensor:
        """Class probabilities `w(y | x)`: images `(B, H, W, C)` in [-1, 1] -> `(B, K)`."""
        return ops.softmax(as_floatx(self.classifier(self.as_images(images), training=False)))

    def posterior(self, images: Tensor) -> dict[str, Tensor]:
        """The mixture `q(z | x)`, (4): `mean` and `logvar` `(B, K, d)` of its components, and their weights `probs`."""
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
        """`z ~ N(m_k, s_k^2)` of given classes, `(B, d)`."""
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
        # Of the mixtures q(z | x) and p(z), without the class: `z` alone decides x.
        posterior = self.posterior(images)
        q = log_probs(posterior["probs"]), posterior["mean"], posterior["logvar"]
        z = sample_mixture(*q, noise["gumbel"], noise["epsilon"])
        log_ratio = self.prior.log_prob(z) - mixture_log_prob(z, *q)
        return log_likelihood(self.decoder, self.likelihood, images, z) + log_ratio

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

    def _own_variables(self):
        # The steps by name too, so that weights go from a model that settles to one that does not, and back.
        named, others = super()._own_variables()
        return named | {variable.name: variable for variable in others.values()}, {}

    def load_own_variables(self, store) -> None:
        # Files of version 0.1 hold lambda2 alone, under a number.
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
