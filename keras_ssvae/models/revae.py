"""REVAE, later published as CCVAE: each label owns a part of the latent variables (Joy et al.)."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssvae.checks import check_switch, check_whole_number, is_finite_number
from keras_ssvae.distributions import Tensor, as_floatx, gaussian_kl, gaussian_log_prob, sample_gaussian
from keras_ssvae.likelihoods import Likelihood, to_unit
from keras_ssvae.models.characteristic import CharacteristicVAE
from keras_ssvae.models.checks import parts_of
from keras_ssvae.models.labels import Labels
from keras_ssvae.models.objective_weights import kind_of
from keras_ssvae.noise import Stream, normal, normal_of_images
from keras_ssvae.priors import ConditionalMixture, StandardNormal

UNLABELED = ("marginal", "enumerated", "sampled")
CONSTANT = ("numerator", "z_c")


@keras.saving.register_keras_serializable("keras_ssvae")
class REVAE(CharacteristicVAE):
    """Semi-supervised VAE in which each label owns a few latent variables: its characteristics, `z_c`.

    They hold not only whether a person smiles, but how. A small classifier reads the label from them. So `intervene`
    can change one label of an image and `swap` can take it from another image, while the rest of the image stays.

    **Generation**: labels `y_i ~ p(y_i)`; their characteristics `z_ci | y_i ~ N(m_i(y_i), diag s_i^2(y_i))` with
    learned means and standard deviations; the rest of z from `N(0, I)`; the decoder gives `x | z`. A label acts on the
    image only through z.

    **Inference**: the encoder gives `q(z | x) = N(mu(x), diag sigma^2(x))`, and the classifier `q(y_i | z_ci)`. Two
    more distributions follow from these without networks of their own: `q(y | x) = E_q(z | x) q(y | z_c)` and
    `q(z | x, y) = q(y | z_c) q(z | x) / q(y | x)`.

    **Objective**, minimised: the negative bound `reconstruction + kl_c + kl_rest + kl_y`, in nats per image, as the
    mean over all images of a batch. For a labelled image, (5), the four terms are

        -w log p(x | z),   w KL(q(z_c | x) || p(z_c | y)),   w KL(q(z_rest | x) || N(0, I)),
        w log q(y | z_c) - log q(y | x) - log p(y)

    with the weight `w = q(y | z_c) / q(y | x)`, at one sample z of `q(z | x)`. For an unlabelled image w is 1, and
    `unlabeled_term` chooses the terms that depend on y:

    | `unlabeled_term` | `kl_c`                                                 | `kl_y`                        |
    |------------------|--------------------------------------------------------|-------------------------------|
    | `"marginal"`     | `log q(z_c given x) - log sum_y p(y) p(z_c given y)`   | 0                             |
    | `"enumerated"`   | `sum_y q(y given z_c) log q(z_c given x) / p(z_c given y)` | `KL(q(y given z_c), p(y))` |
    | `"sampled"`      | `KL(q(z_c given x), p(z_c given y))`, y of `q(y given z_c)` | `log q(y given z_c) / p(y)` |

    * `"marginal"` is the choice of the authors for Fashion-MNIST. It gives the tightest bound, but a model can then
      recognise a class well and generate it as another one.
    * `"enumerated"` lowers this bound by `KL(q(y | z_c) || p(y | z_c))`, which keeps the classifier and `p(z_c | y)`
      consistent.
    * `"sampled"` is the choice of the released code for CelebA.

    | REVAE's paper                            | code                                                                 |
    |------------------------------------------|----------------------------------------------------------------------|
    | `q(z given x; phi)`                      | `encoder`: `mean`, `logvar`, z_c first                               |
    | `q(y given z_c; varphi)`                 | `classifier`: logits                                                 |
    | `q(y given x)`                           | `probs`; in training the mean of `classifier_samples` other samples  |
    | `p(x given z; theta)`                    | `decoder` and `likelihood`                                           |
    | `p(z_c given y; psi)`                    | `c_priors`, a `priors.ConditionalMixture` for each label             |
    | `p(y)`                                   | `class_priors`                                                       |
    | `m_c`, `m` without c                     | `c_dims`, `rest_dim`                                                 |
    | `mu`, Appendix D.2                       | `mu`                                                                 |

    **Gradient of w**: how REVAE learns its labels depends on it, and the paper does not describe it. In the released
    code only the z_c in the numerator of w is a constant (`weight_constant="z_c"`). `log q(y | x)` then keeps its
    gradient, multiplied by the whole bound. So a labelled batch is almost pure classification for the encoder, and the
    constants of the likelihood matter. For the classifier the large terms of numerator and denominator cancel on
    average and leave noise. The classifier of the released code, with two numbers for each label, tolerates this noise,
    but the network of Table 3 does not learn. With `weight_constant="numerator"`, the default, the whole numerator is a
    constant, and the classifier learns as the encoder does.

    The released code estimates `q(y | x)` from samples other than the z_c in the numerator of w, so w has no bound:
    where only this z_c fits the label, w is in the thousands. With thousands of labelled images such weights occur in
    every epoch, and the training can end in NaN. With `bounded_weight` the z_c of the numerator is one of the samples.
    Then w is at most `classifier_samples + 1`, and its expectation is exactly 1.

    **Batch**: `(x, y)`, as `data.semi_supervised` makes it. `x` is a dictionary of float images in [-1, 1] with the
    keys `labeled`, `unlabeled` or both; augmented images are ignored. `y` holds one-hot labels of the labelled part,
    those of several labels side by side. The authors alternate labelled and unlabelled batches:
    `data.semi_supervised(..., rhythm=(labelled batches, unlabelled batches))`. A label that is missing for an image is
    -1 (`data.semi_supervised(..., allow_missing=True)`). It is summed out for this image alone, as for an unlabelled
    image.

    **Validation** data is `(images, labels)`. Callbacks monitor `val_error` (percent) or `val_loss`, the negative bound
    of the images without their labels, with the exact sum over the labels. Smaller is better for both.

    Args:
        encoder: Keras model that maps images `(B, H, W, C)` with pixels in [0, 1] to `(mean, logvar)` of z, each
            `(B, d)` for d latent dimensions, z_c first. Default: Table 3 of REVAE's paper.
        decoder: Keras model that maps z `(B, d)` to the outputs that the likelihood takes. Default: Table 3.
        classifier: Keras model that maps z_c to logits, those of all labels side by side. The logits of a label must
            depend only on its own characteristics. Default: Table 3; for several labels Table 4.
        num_classes: Number K of values of the label; for several labels a tuple of these numbers.
        c_dims: Dimensions of z_c; for several labels those of each, or one number for all.
        rest_dim: Dimensions of the rest of z; 0 for none.
        likelihood: One of `likelihoods`. Default: `Bernoulli()` of grey values. For CelebA use `Laplace()`.
        class_priors: For each label the probabilities of its values, as `data.class_frequencies` gives them;
            `"learned"`; or None for uniform ones.
        unlabeled_term: `"marginal"`, `"enumerated"` or `"sampled"`; see above.
        kl: How the divergence of z_c from the prior of a known or sampled label is computed: `"closed_form"`, as in the
            released code, or `"sampled"`, `log q(z_c | x) - log p(z_c | y)` at the sample z of the image. With
            `"sampled"` the objective is a bound even though the weight w depends on z_c. With `"closed_form"` it is a
            bound up to the correlation of the two, and has less noise.
        classifier_samples: Number of samples of z_c over which `q(y | x)` is the mean.
        weight_constant: The part of w that has no gradient: `"numerator"`, or `"z_c"`, the z_c in the numerator, as in
            the released code.
        bounded_weight: Whether the z_c in the numerator of w is one of the samples of `q(y | x)`. False: as in the
            released code.
        mu: Weight of the term `anchors`, for training with a single labelled image of each class; only for a model with
            one label. The model keeps the posterior of the last labelled images of each class. The term is the cross
            entropy between `q(y | z_c)` at a z_c of the prior and the class whose kept posterior has the largest
            density there. REVAE's paper uses 5. Default: 0, which leaves the term out.
        seed: Seed of the training noise. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.
        class_names: Names of the classes; for several labels the names of each. Default: none.

    Raises:
        ValueError: If an argument is invalid or does not fit the others.

    Example:
        >>> model = REVAE()
        >>> model.compile(Adam(5e-4, epsilon=1e-8, corrected_epsilon=True))
        >>> model.fit(batches, epochs=100)
        >>> model.classify(images), model.intervene(images, 0, value=3), model.swap(images, others)

    Reference:
        [Joy, Schmon, Torr, Siddharth, Rainforth: Rethinking Semi-Supervised Learning in VAEs,
        2020](https://arxiv.org/abs/2006.10102).
    """

    training_terms = ("reconstruction", "kl_c", "kl_rest", "kl_y", "cross_entropy")
    test_terms = ("error", "reconstruction", "kl_c", "kl_rest")
    forward_passes = {"encoder": 1, "decoder": 1, "classifier": 3}  # noqa: RUF012

    def __init__(
        self,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        classifier: keras.Model | None = None,
        num_classes: int | Sequence[int] = 10,
        c_dims: int | Sequence[int] = 4,
        rest_dim: int = 10,
        likelihood: Likelihood | None = None,
        class_priors: Sequence[Sequence[float]] | str | None = None,
        unlabeled_term: str = "enumerated",
        kl: str = "closed_form",
        classifier_samples: int = 100,
        weight_constant: str = "numerator",
        bounded_weight: bool = True,
        mu: float = 0.0,
        seed: int = 0,
        name: str = "revae",
        class_names: Sequence | None = None,
    ):
        networks = encoder, decoder, classifier
        sizes = num_classes, c_dims, rest_dim
        super().__init__(*networks, *sizes, likelihood, classifier_samples, seed, name, class_names)
        if unlabeled_term not in UNLABELED:
            raise ValueError(f"`unlabeled_term` is {unlabeled_term!r}; it must be one of {UNLABELED}.")
        if kl not in ("closed_form", "sampled"):
            raise ValueError(f'`kl` is {kl!r}; it must be "closed_form" or "sampled".')
        if weight_constant not in CONSTANT:
            raise ValueError(f"`weight_constant` is {weight_constant!r}; it must be one of {CONSTANT}.")
        check_switch("bounded_weight", bounded_weight)
        self.unlabeled_term, self.kl, self.weight_constant = unlabeled_term, kl, weight_constant
        self.bounded_weight = bounded_weight
        self._add_class_priors(class_priors)
        hidden = None if self.labels.several else 50
        pairs = zip(self.labels.sizes, self.c_dims, strict=True)
        self.c_priors = [ConditionalMixture(*pair, hidden, name=f"c_prior_{i}") for i, pair in enumerate(pairs)]
        self._add_anchors(mu)
        self.build((None, *self.image_shape))

    def _add_class_priors(self, class_priors):
        self._learns_class_priors = isinstance(class_priors, str)
        if not self._learns_class_priors:
            self._class_priors = self.labels.check_probs("class_priors", class_priors)
            return
        if class_priors != "learned":
            raise ValueError(
                f'`class_priors` is {class_priors!r}; it must be "learned", None, or a list of probabilities for each '
                "label."
            )
        self._free_class_logits = [
            self.add_weight(name=f"free_class_logits_{i}", shape=(size,), initializer="zeros")
            for i, size in enumerate(self.labels.sizes)
        ]

    def _add_anchors(self, mu):
        if kind_of("mu", mu) != "number" or (mu and self.labels.several):
            raise ValueError(
                f"`mu` is {mu!r} of a model with labels of {self.num_classes} values; it must be a number, and 0 "
                "unless there is one label."
            )
        self._mu = float(mu)
        if not mu:
            return
        self.add_training_term("anchors")
        self.forward_passes = {**self.forward_passes, "classifier": 4}
        shape = (self.labels.width, sum(self.c_dims))
        options = {"initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"}
        self.anchor_means = self.add_weight(name="anchor_means", shape=shape, **options)
        self.anchor_logvars = self.add_weight(name="anchor_logvars", shape=shape, **options)
        self.anchors_seen = self.add_weight(name="anchors_seen", shape=shape[:1], **options)

    # Read-only: the training step may be compiled already with this value.

    @property
    def mu(self) -> float:
        """Weight of the term `anchors`."""
        return self._mu

    @property
    def class_priors(self) -> list[np.ndarray]:
        """For each label the current probabilities of its values."""
        if self._learns_class_priors:
            return [ops.convert_to_numpy(ops.softmax(logits)) for logits in self._free_class_logits]
        return self._class_priors

    def _log_class_priors(self):
        if self._learns_class_priors:
            return [ops.log_softmax(ops.convert_to_tensor(logits)) for logits in self._free_class_logits]
        return [ops.convert_to_tensor(np.log(probs / probs.sum()), "float32") for probs in self._class_priors]

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """`autoencoder` (encoder, decoder) and `labels` (classifier, priors of z_c, and a learned prior of y)."""
        of_autoencoder = [*self.encoder.trainable_variables, *self.decoder.trainable_variables]
        known = set(map(id, of_autoencoder))
        others = [variable for variable in self.trainable_variables if id(variable) not in known]
        return {"autoencoder": of_autoencoder, "labels": others}

    # Training

    def own_noise(self, batch, seed) -> dict[str, Tensor]:
        noise, parts, c_dim = {}, parts_of(batch), sum(self.c_dims)
        rows = {part: ops.shape(batch[part])[0] for part in parts}
        if "labeled" in batch:
            shape = (rows["labeled"], self.classifier_samples, c_dim)
            noise["epsilon_classifier"] = keras.random.normal(shape, seed=seed)
        for part in parts:
            if self.unlabeled_term == "sampled":
                noise[f"uniform_{part}"] = keras.random.uniform((rows[part], len(self.labels.sizes)), seed=seed)
            if self.mu:
                noise[f"uniform_anchors_{part}"] = keras.random.uniform((rows[part], 1), seed=seed)
                noise[f"epsilon_anchors_{part}"] = keras.random.normal((rows[part], c_dim), seed=seed)
        return noise

    def replay_step(self, batch, noise) -> dict[str, Tensor]:
        if self.mu and "labeled" in batch:
            self._keep_anchors(batch["labeled"], batch["labels"])
        return super().replay_step(batch, noise)

    def step_terms(self, batch, noise, step) -> dict[str, Tensor]:
        run, images = self.passes(noise["dropout"]), self.images_of(batch)
        mean, logvar = run(self.encoder, to_unit(images))
        z = sample_gaussian(mean, logvar, self.rows_of(noise, "epsilon"))
        log_q = self.log_q_y(run(self.classifier, self.z_c(z)))
        unknown = ops.zeros((ops.shape(images)[0], self.labels.width))
        y, w, log_q_y = unknown, 1.0, 0.0
        terms = {}
        if "labeled" in batch:
            others = unknown[ops.shape(batch["labels"])[0] :]
            y = ops.concatenate([batch["labels"], others])
            w, log_q_y = self._importance(run, batch["labels"], noise["epsilon_classifier"], mean, logvar, z, log_q)
            terms["cross_entropy"] = -ops.stop_gradient(log_q_y)
            # An unlabelled image has the weight 1, and no term log q(y | x).
            w = ops.concatenate([w, ops.ones_like(others[:, 0])])
            log_q_y = ops.concatenate([log_q_y, others[:, 0]])
        uniform = self.rows_of(noise, "uniform") if self.unlabeled_term == "sampled" else None
        divergences = self._divergences(self.unlabeled_term, y, mean, logvar, z, log_q, uniform)
        log_p_y = divergences.pop("log_p_y")
        weighted = {"reconstruction": -self.likelihood.log_prob(images, run(self.decoder, z)), **divergences}
        terms |= {name: w * term for name, term in weighted.items()}
        terms["kl_y"] = terms["kl_y"] - log_q_y - log_p_y
        return terms | ({"anchors": self._anchors(run, noise)} if self.mu else {})

    def objective(self, terms, step) -> Tensor:
        """The negative of (6) of REVAE, from the means of the terms over the batch; with `mu`, as in Appendix D.2."""
        bound = terms["reconstruction"] + terms["kl_c"] + terms["kl_rest"] + terms["kl_y"]
        return bound + self.mu * terms["anchors"] if self.mu else bound

    def _importance(self, run, y, epsilon, mean, logvar, z, log_q):
        """`w = q(y | z_c) / q(y | x)` and `log q(y | x)` of the labelled images (the first rows), for the known y."""
        rows, c_dim = ops.shape(y)[0], sum(self.c_dims)
        if self.weight_constant == "numerator":
            of_z = ops.stop_gradient(log_q[:rows])
        else:
            of_z = self.log_q_y(run(self.classifier, ops.stop_gradient(z[:rows, :c_dim])))
        samples = sample_gaussian(mean[:rows, None, :c_dim], logvar[:rows, None, :c_dim], epsilon)
        of_samples = self.log_q_y(run(self.classifier, ops.reshape(samples, (-1, c_dim))))
        of_samples = ops.reshape(of_samples, (-1, self.classifier_samples, self.labels.width))
        if self.bounded_weight:
            of_samples = ops.concatenate([log_q[:rows, None], of_samples], axis=1)
        log_q_y = ops.logsumexp(ops.sum(y[:, None] * of_samples, axis=-1), axis=1) - math.log(of_samples.shape[1])
        return ops.exp(ops.sum(y * of_z, axis=-1) - log_q_y), log_q_y

    def _divergences(self, unlabeled_term, y, mean, logvar, z, log_q, uniform=None):
        """`kl_c`, `kl_rest`, `kl_y` and `log_p_y` of images at their z; y is all zeros where a label is unknown."""
        kl_c = kl_y = log_p_y = 0.0
        of_z, of_y = map(self.split_c, (mean, logvar, z)), map(self.labels.split, (y, log_q))
        of_labels = zip(self.c_priors, self._log_class_priors(), *of_y, *of_z, strict=True)
        for i, (prior, log_p_i, y_i, log_q_i, *posterior, z_i) in enumerate(of_labels):
            is_missing = 1.0 - ops.sum(y_i, axis=-1)
            log_q_z, log_p_z = gaussian_log_prob(z_i, *posterior), prior.component_log_probs(z_i)
            at_z = log_q_z[:, None] - log_p_z
            of_values = at_z if self.kl == "sampled" else prior.kl_per_component(*posterior)
            if unlabeled_term == "marginal":
                missing_c, missing_y = log_q_z - ops.logsumexp(log_p_z + log_p_i, axis=-1), 0.0
            elif unlabeled_term == "enumerated":
                missing_c = ops.sum(ops.exp(log_q_i) * at_z, axis=-1)
                missing_y = ops.sum(ops.exp(log_q_i) * (log_q_i - log_p_i), axis=-1)
            else:
                drawn = _drawn(ops.exp(log_q_i), uniform[:, i])
                missing_c = ops.sum(drawn * of_values, axis=-1)
                missing_y = ops.sum(drawn * (log_q_i - log_p_i), axis=-1)
            kl_c += ops.sum(y_i * of_values, axis=-1) + is_missing * missing_c
            kl_y += ops.sum(y_i * log_q_i, axis=-1) + is_missing * missing_y
            log_p_y += ops.sum(y_i * log_p_i, axis=-1)
        kl_rest = gaussian_kl(self.rest(mean), self.rest(logvar), 0.0, ops.ones(()))
        return {"kl_c": kl_c, "kl_rest": kl_rest, "kl_y": kl_y, "log_p_y": log_p_y}

    def _keep_anchors(self, images, y):
        """Stores the posterior of z_c for each class: that of its labelled image, or the mean if there are several."""
        mean, logvar = (self.z_c(values) for values in self.encoder(to_unit(images), training=False))
        counts = ops.sum(y, axis=0)[:, None]
        for kept, values in ((self.anchor_means, mean), (self.anchor_logvars, logvar)):
            means = ops.matmul(ops.transpose(y), as_floatx(values)) / ops.maximum(counts, 1.0)
            kept.assign(ops.where(counts > 0, means, ops.convert_to_tensor(kept)))
        self.anchors_seen.assign(ops.maximum(self.anchors_seen, ops.cast(counts[:, 0] > 0, "float32")))

    def _anchors(self, run, noise):
        """Cross entropy of `q(y | z_c)`, at a z_c of the prior, with the class whose stored posterior is densest."""
        y = _drawn(ops.exp(self._log_class_priors()[0])[None], self.rows_of(noise, "uniform_anchors")[:, 0])
        z_c = self.c_priors[0].draw(ops.argmax(y, axis=-1), self.rows_of(noise, "epsilon_anchors"))
        z_c = ops.stop_gradient(z_c)
        log_density = gaussian_log_prob(z_c[:, None], self.anchor_means, self.anchor_logvars)
        log_density = ops.where(self.anchors_seen > 0, log_density, -1e30)
        nearest = ops.one_hot(ops.argmax(log_density, axis=-1), self.labels.width)
        cross_entropy = -ops.sum(nearest * self.log_q_y(run(self.classifier, z_c)), axis=-1)
        return cross_entropy * ops.max(self.anchors_seen)  # 0 before the first labelled batch

    def evaluation_terms(self, images, labels) -> dict[str, Tensor]:
        images = self.as_images(images, "x")
        mean, logvar = self.infer(images)
        z = sample_gaussian(mean, logvar, normal_of_images(images, self.latent_dim))
        unknown = ops.zeros((ops.shape(images)[0], self.labels.width))
        log_q = self.log_q_y(self.classifier(self.z_c(z), training=False))
        divergences = self._divergences("marginal", unknown, mean, logvar, z, log_q)
        terms = {
            "reconstruction": -self.likelihood.log_prob(images, self.decoder(z, training=False)),
            **{name: divergences[name] for name in ("kl_c", "kl_rest")},
        }
        return terms if labels is None else {**terms, **self.error_terms(self.probs(mean, logvar), labels)}

    # Use: deterministic, tensors in, tensors out

    def log_prior(self, z) -> Tensor:
        log_prob = StandardNormal(self.rest_dim).log_prob(self.rest(z)) if self.rest_dim else 0.0
        for prior, z_i, log_p in zip(self.c_priors, self.split_c(z), self._log_class_priors(), strict=True):
            log_prob += ops.logsumexp(prior.component_log_probs(z_i) + log_p, axis=-1)
        return log_prob

    def sample_latent(self, labels: Tensor, seed: int | Tensor, scale: float = 1.0) -> Tensor:
        """Draws `z_ci ~ p(z_ci | y_i)` for the given labels, and the rest of z from `N(0, I)`: `(B, d)`."""
        rows, stream = ops.shape(labels)[0], Stream(seed, 0)
        labels = ops.reshape(labels, (rows, len(self.labels.sizes)))
        rest = scale * normal((rows, self.rest_dim), stream) if self.rest_dim else ops.zeros((rows, 0))
        parts = [
            prior.draw(labels[:, i], scale * normal((rows, prior.latent_dim), stream))
            for i, prior in enumerate(self.c_priors)
        ]
        return ops.concatenate([*parts, rest], axis=-1)

    def draw_c(self, values: dict[int, Tensor], seed: int | Tensor) -> dict[int, Tensor]:
        """Draws `z_ci ~ p(z_ci | y_i)`; with seed -1 takes its mean. Figures 3 and 6 of REVAE's paper use it."""
        drawn = {}
        for i, value in values.items():
            prior = self.c_priors[i]
            epsilon = normal((ops.shape(value)[0], prior.latent_dim), Stream(seed, i))
            is_mean = ops.reshape(ops.convert_to_tensor(seed == -1), (-1, 1))
            drawn[i] = prior.draw(value, ops.where(is_mean, 0.0, epsilon))
        return drawn

    def traverse(
        self,
        images: Tensor,
        labels: int | Sequence[int],
        n: int = 5,
        values: tuple[int, int] = (0, 1),
        reach: float = 5.0,
    ) -> Tensor:
        """Moves one label, or two, of images gradually from one value to another, as Figure 7 of REVAE's paper.

        Each characteristic variable goes in a straight line from `m_a - reach s_a` to `m_b + reach s_b`. `m_a` and
        `s_a` are the mean and the standard deviation of `p(z_ci | y_i)` for the first value, `m_b` and `s_b` those for
        the second. If `m_b < m_a`, the signs of `reach` are exchanged. The rest of z is kept.

        Args:
            images: `(B, H, W, C)` in [-1, 1].
            labels: Number of a label, from 0, or of two labels. Two give all combinations of their points.
            n: Number of points of a line, at least 2.
            values: The first and the second value.
            reach: How far the line extends beyond the means, in standard deviations.

        Returns:
            `(B, n, H, W, C)`; for two labels `(B, n, n, H, W, C)`, where the first label changes along the first n.

        Raises:
            ValueError: If an argument is not as described.
        """
        numbers = self.check_label_numbers("labels", labels)
        if len(numbers) > 2:
            raise ValueError(f"`labels` is {labels!r}; it must be the number of one label, or of two.")
        if check_whole_number("n", n, 1) < 2:
            raise ValueError(f"`n` is {n}; a line has two ends, so it must be at least 2.")
        if not is_finite_number(reach):
            raise ValueError(f"`reach` is {reach!r}; it must be a finite number, 0 or more.")
        z, lines = self.encode(images), [self._line(i, n, values, reach) for i in numbers]
        rows, points = ops.shape(z)[0], np.indices([n] * len(lines)).reshape(len(lines), -1)
        pairs = zip(numbers, lines, points, strict=True)
        moved = {i: ops.tile(ops.take(line, of_line, axis=0), (rows, 1)) for i, line, of_line in pairs}
        z = ops.repeat(z, points.shape[1], axis=0)
        shape = (-1, *[n] * len(lines), *self.image_shape)
        return ops.reshape(self.decode(self.with_c(z, moved)), shape)

    def _line(self, label, n, values, reach):
        """Points `(n, d_i)` of the characteristic variables of a label between two of its values."""
        first, second = Labels(self.labels.sizes[label]).check("values", values, 2)
        means, _, logvars = self.c_priors[label].components()
        a, b, deviations = means[first], means[second], ops.exp(0.5 * logvars)
        sign = ops.sign(b - a)
        start, end = a - reach * sign * deviations[first], b + reach * sign * deviations[second]
        share = ops.cast(ops.arange(n), "float32")[:, None] / (n - 1)
        return (1.0 - share) * start + share * end

    # Serialisation

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "class_priors": "learned" if self._learns_class_priors else [p.tolist() for p in self.class_priors],
            "unlabeled_term": self.unlabeled_term,
            "kl": self.kl,
            "weight_constant": self.weight_constant,
            "bounded_weight": self.bounded_weight,
            "mu": self.mu,
        }


def _drawn(probs, uniform):
    """One-hot draws `(B, K)` from probabilities `(B, K)`, with one uniform number for each row; no gradient.

    The last value is drawn where the number is below its probability, as the 1 of a Bernoulli in the released code.
    """
    last_first = ops.cumsum(ops.flip(probs, axis=-1), axis=-1)[:, :-1]
    passed = ops.sum(ops.cast(uniform[:, None] >= last_first, "int32"), axis=-1)
    size = probs.shape[-1]
    return ops.stop_gradient(ops.one_hot(size - 1 - passed, size))
