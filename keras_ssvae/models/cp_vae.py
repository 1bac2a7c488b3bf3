"""CP-VAE, a VAE that groups images into categories by itself, and its variants INDq, INDp and INDqp (Lavda et al.)."""

import math
from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.backend import argmax
from keras_ssvae.checks import check_whole_number
from keras_ssvae.distributions import (
    Tensor,
    categorical_kl_from_uniform,
    gaussian_log_prob,
    gumbel_of_uniform,
    of_components,
    sample_gaussian,
    sample_gumbel,
)
from keras_ssvae.likelihoods import Likelihood, to_unit
from keras_ssvae.models.checks import image_shape
from keras_ssvae.models.clusters import ClusterMixin
from keras_ssvae.models.importance import log_likelihood
from keras_ssvae.models.objective_weights import ObjectiveWeight, value_at
from keras_ssvae.models.passes import in_use
from keras_ssvae.models.unlabeled import UnlabeledVAE
from keras_ssvae.networks import cp_vae, vae
from keras_ssvae.noise import Stream, normal, normal_of_images
from keras_ssvae.priors import LearnedMixture, Prior, StandardNormal

# Argument -> the values that it may have.
CHOICES = {
    **dict.fromkeys(("factorised_posterior", "factorised_prior", "elu", "sum_categories"), (True, False)),
    "z_heads": ("sample", "own_sample", "probs"),
    "posteriors": ("one", "each"),
}
_GUMBEL_FLOOR = 1e-10  # as in the released code


@keras.saving.register_keras_serializable("keras_ssvae")
class CPVAE(ClusterMixin, UnlabeledVAE):
    """Variational autoencoder without labels that assigns each image a category c, on which the prior of z depends.

    Categories are clusters that the model finds. They are not classes: no label says which category is which class.

    **Generation**, (8) and (9): `c` is uniform over K categories; `z | c = k ~ N(m_k, diag s_k^2)` with learned means
    and variances. The decoder gives, from z and c, the parameters of the `likelihood`, from which x follows.

    **Inference**, (10): `q(c | x) q(z | x, c)`.

    **Objective**, (11), minimised: `reconstruction + beta (kl_z + kl_c)`, in nats per image, as means over the batch.

    **Variants**, Table 1. Two arguments make the conditional distributions of z independent of c:

    | system | `factorised_posterior` | `factorised_prior` | inference                      | generation          |
    |--------|------------------------|--------------------|--------------------------------|---------------------|
    | CP-VAE | False                  | False              | `q(c given x) q(z given x, c)` | `p(c) p(z given c)` |
    | INDq   | True                   | False              | `q(c given x) q(z given x)`    | `p(c) p(z given c)` |
    | INDp   | False                  | True               | `q(c given x) q(z given x, c)` | `p(c) p(z)`         |
    | INDqp  | True                   | True               | `q(c given x) q(z given x)`    | `p(c) p(z)`         |

    | CP-VAE's paper                    | code                                                                     |
    |-----------------------------------|--------------------------------------------------------------------------|
    | `pi(x)`                           | `clusters(images)`, of the features of `encoder` by `heads`              |
    | `q(z given x, c)`                 | `heads`, linear layers of the features and of c                          |
    | `p(x given z, c)`                 | `decoder` and `likelihood`; the decoder takes z, c side by side          |
    | `p(z given c_k)`                  | component k of `prior`                                                   |
    | A of (11), its negative           | `reconstruction`, at one sample of z and of c, with all constants        |
    | B1 of (12)                        | `kl_z`, in closed form: `sum_k pi_k KL(q(z given x, c), p(z given c_k))` |
    | B2 of (12) and (13)               | `kl_c`, in closed form: `KL(q(c given x), p(c))`                         |
    | `q(c)`, (18)                      | the mean of `clusters` over the training images                          |
    | temperature of the Gumbel-softmax | `temperature`; its course is `schedules.AnnealedTemperature`             |
    | `beta`                            | `beta`; the warm-up is `schedules.LinearWarmUp`                          |

    In training c is a Gumbel-softmax sample. Validation has two losses, both at the temperature of the last training
    step:

    * `loss` also uses a Gumbel-softmax sample. It is the figure that CP-VAE's paper reports, but not a bound for the
      discrete model.
    * `discrete_loss` is a bound for the discrete model: c is drawn one-hot, and B1 uses the posterior of each category.

    **Departures** from CP-VAE's paper:

    * In Figure 2 the layers of z see the probabilities pi(x), so that z would not depend on c. Here they see the sample
      that the decoder sees (`z_heads`).
    * (12) has a posterior for each category (`posteriors="each"`). By default B1 uses the posterior at the sample for
      all K divergences, as the released code does.
    * The prior learns by minimising B1. The gradient (16) of the paper has the opposite sign.
    * The paper does not describe initial weights, the ELU after the logits, clipping, and the course of the
      temperature. They are those of the released code.

    The class method `CPVAE.as_released(...)` makes a model with all choices of that code, these and others: a second
    sample for z, and a prior that is not trained, with the log-variances `2 log(1 + exp(v / 2))`. Unlike that code, the
    model generates from the same prior.

    Clipping of pixels and log-variances, `binarize`, batches and validation data are as in `VAE`.

    Args:
        encoder: Keras model that maps images `(B, H, W, C)` with pixels in [0, 1] to features `(B, F)`. Default: two
            gated layers of 300 units.
        decoder: Keras model that maps (z, c), side by side `(B, d + K)`, to the outputs that the likelihood takes,
            `(B, H, W, C)`. Default: two gated layers of 300 units.
        prior: A `priors.Prior` with K components of equal weights; with `factorised_prior`, with one component.
            Default: `LearnedMixture(K, d, bounded=False)`; with `factorised_prior`, the standard normal.
        num_categories: Number K of categories.
        z_dim: Dimensions d of z.
        factorised_posterior: True makes z independent of c in inference.
        factorised_prior: True makes z independent of c in generation.
        likelihood: One of `likelihoods`. Default: `Bernoulli(1e-5)`.
        beta: Weight of both divergences.
        temperature: Temperature of the Gumbel-softmax, above 0: a number, a variable or a schedule of the step.
        z_heads: Input for c of the layers of z: the `"sample"` that the decoder sees, an `"own_sample"` with the same
            probabilities, or the `"probs"`. It has no effect with a factorised posterior.
        posteriors: Posterior in B1: `"one"`, that of the sample, or that of `"each"` category. Both are the same if z
            does not depend on c.
        elu: Whether the logits pass through an ELU.
        sum_categories: How `log_weights`, and so `evaluation.nll`, treats c. True sums over all categories: it decodes
            K images, one after the other, and has less noise. False draws c from `q(c | x)`.
        binarize: Whether each training step draws binary images; only for a Bernoulli likelihood.
        cluster_names: A name for each category, which a served model returns. Two categories may have the same name.
        seed: Seed of the training noise. The initial weights follow `keras.utils.set_random_seed`.
        name: Model name.

    Raises:
        ValueError: If an argument is invalid or does not fit the others.

    Example:
        >>> model = CPVAE(num_categories=150, temperature=AnnealedTemperature(steps_per_epoch=500))
        >>> model.compile(NormalizedAdam(5e-4, epsilon=1e-8))
        >>> model.fit(batches, steps_per_epoch=500, epochs=2000, validation_data=(binary_images,))
        >>> model.clusters(images), model.generate(10, seed=1, categories=3)

    Reference:
        Lavda, Gregorova, Kalousis: Data-dependent conditional priors for unsupervised learning of multimodal data,
        2020.
    """

    training_terms = ("reconstruction", "kl_z", "kl_c")
    test_terms = ("loss", "discrete_loss", "reconstruction", "kl_z", "kl_c")
    objective_weights = ("beta", "temperature")
    positive_weights = ("temperature",)
    forward_passes = {"encoder": 1, "decoder": 1}  # noqa: RUF012

    made_by = {  # noqa: RUF012
        "encoder": "networks.cp_vae.encoder(image_shape)",
        "decoder": "networks.cp_vae.decoder(image_shape, z_dim, num_categories)",
    }

    def __init__(
        self,
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        prior: Prior | None = None,
        num_categories: int = cp_vae.NUM_CATEGORIES,
        z_dim: int = vae.LATENT_DIM,
        factorised_posterior: bool = False,
        factorised_prior: bool = False,
        likelihood: Likelihood | None = None,
        beta: ObjectiveWeight = 1.0,
        temperature: ObjectiveWeight = 1.0,
        z_heads: str = "sample",
        posteriors: str = "one",
        elu: bool = True,
        sum_categories: bool = False,
        binarize: bool = True,
        cluster_names: Sequence[str] | None = None,
        seed: int = 0,
        name: str = "cp_vae",
    ):
        super().__init__(seed=seed, name=name)
        given: dict[str, object] = {"sum_categories": sum_categories, "z_heads": z_heads, "posteriors": posteriors}
        given |= {"factorised_posterior": factorised_posterior, "factorised_prior": factorised_prior, "elu": elu}
        for argument, value in given.items():
            if value not in CHOICES[argument]:
                raise ValueError(f"`{argument}` is {value!r}; it must be one of {CHOICES[argument]}.")
        self.num_categories = check_whole_number("num_categories", num_categories, 1)
        z_dim = check_whole_number("z_dim", z_dim, 1)
        self.latents = {"z": z_dim, "c": self.num_categories}
        self.factorised_posterior, self.factorised_prior = bool(factorised_posterior), bool(factorised_prior)
        if prior is None:
            prior = StandardNormal(z_dim) if factorised_prior else LearnedMixture(num_categories, z_dim, bounded=False)
        self._set_choices(prior, likelihood, beta, binarize)
        self._check_prior()
        self.z_heads, self.posteriors, self.elu = z_heads, posteriors, bool(elu)
        self.sum_categories = bool(sum_categories)
        self.temperature = temperature
        self.temperature_reached = self.add_weight(
            name="temperature_reached",
            shape=(),
            initializer=keras.initializers.Constant(float(ops.convert_to_numpy(value_at(self.temperature, 0)))),
            trainable=False,
            aggregation="only_first_replica",
        )
        self.encoder = encoder or cp_vae.encoder()
        self.image_shape = image_shape("encoder", self.encoder)
        self.decoder = decoder or cp_vae.decoder(self.decoded_shape, z_dim, self.num_categories)
        outputs = self.encoder.output_shape
        features: Any = outputs[-1] if isinstance(outputs, tuple) else "features"
        shapes = {
            "encoder": (self.image_shape, (None, features)),
            "decoder": ((self.latent_dim,), (None, *self.decoded_shape)),
        }
        kinds: dict[str, dict[int, str | None]] = {"encoder": {}, "decoder": {0: self.likelihood.takes}}
        self._check_networks({"encoder": encoder, "decoder": decoder}, shapes, kinds)
        z_sees_c = not self.factorised_posterior
        self.heads = cp_vae.Heads(features, self.num_categories, z_dim, z_sees_c, self.elu, name="heads")
        self.cluster_names = cluster_names
        self.build((None, *self.image_shape))

    def _check_prior(self):
        if type(self.prior).bind is not Prior.bind:
            raise ValueError(
                f"`prior` is {self.prior!r}, whose components come from an encoder that gives means and log-variances; "
                "the encoder of CPVAE gives features. Use `priors.LearnedMixture(K, d, bounded=False)`."
            )
        wanted = 1 if self.factorised_prior else self.num_categories, self.latents["z"]
        if (self.prior.num_components, self.prior.latent_dim) != wanted or not self.prior.uniform:
            components = f"{wanted[0]} components of equal weight" if wanted[0] > 1 else "one component"
            raise ValueError(
                f"`prior` is {self.prior!r}; with `num_categories` {self.num_categories}, `z_dim` {self.latents['z']} "
                f"and `factorised_prior` {self.factorised_prior} it must have {components} in {wanted[1]} dimensions."
            )

    @classmethod
    def as_released(
        cls,
        num_categories: int = cp_vae.NUM_CATEGORIES,
        z_dim: int = vae.LATENT_DIM,
        train_prior: bool = False,
        **arguments: Any,
    ) -> Self:
        """Makes CP-VAE or a variant with the choices of the released code of 30 November 2019 (CP-VAE and INDq).

        Args:
            num_categories: Number K of categories.
            z_dim: Dimensions d of z.
            train_prior: Whether `p(z | c)` is trained, as in CP-VAE's paper. The released code does not train it.
            **arguments: Other arguments of the constructor.
        """
        given: dict[str, Any] = {"num_categories": num_categories, "z_dim": z_dim, "z_heads": "own_sample"}
        if not arguments.get("factorised_prior"):
            options = {"bounded": False, "above_one": True, "trainable": train_prior}
            given["prior"] = LearnedMixture(num_categories, z_dim, **options)
        return cls(**given | arguments)

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """`autoencoder` (encoder, its heads, and decoder) and, if it is learned, `prior`."""
        parts = self.encoder, self.heads, self.decoder
        groups = {"autoencoder": [variable for part in parts for variable in part.trainable_variables]}
        return groups | ({"prior": self.prior.trainable_variables} if self.prior.trainable_variables else {})

    # Training

    @property
    def gaussian_dim(self) -> int:
        return self.latents["z"]

    @property
    def _draws_twice(self):
        return self.z_heads == "own_sample" and not self.factorised_posterior

    def own_noise(self, rows, seed) -> dict[str, Tensor]:
        names = ["uniform_c", *(["uniform_heads"] if self._draws_twice else [])]
        return {name: keras.random.uniform((rows, self.num_categories), seed=seed) for name in names}

    def evaluation_noise(self, images) -> dict[str, Tensor]:
        z_dim, k = self.latents["z"], self.num_categories
        numbers = normal_of_images(images, z_dim + 2 * k)
        uniform = 0.5 * (1.0 + ops.erf(numbers[:, z_dim:] / math.sqrt(2.0)))
        return {"epsilon": numbers[:, :z_dim], "uniform_c": uniform[:, :k], "uniform_heads": uniform[:, k:]}

    def replay_step(self, batch, noise) -> dict[str, Tensor]:
        self.temperature_reached.assign(value_at(self.temperature, self.steps_taken))
        return super().replay_step(batch, noise)

    def terms(self, run, images, noise, step) -> dict[str, Tensor]:
        h = run(self.encoder, to_unit(images))
        logits = self.heads.logits(h)
        probs = _softmax(logits)
        temperature = self._temperature(step)
        c = _softmax((logits + _gumbel(noise["uniform_c"])) / temperature)
        seen = probs if self.z_heads == "probs" else c
        if self._draws_twice:
            seen = _softmax((logits + _gumbel(noise["uniform_heads"])) / temperature)
        q = self.heads.z(h, seen)
        z = sample_gaussian(q[0], q[1], noise["epsilon"])
        outputs = run(self.decoder, ops.concatenate([z, c], axis=-1))
        return {
            "reconstruction": -self.likelihood.log_prob(images, outputs),
            "kl_z": self.prior.kl(probs, *(self._q_of_each(h, probs) if self.posteriors == "each" else q)),
            "kl_c": categorical_kl_from_uniform(probs),
        }

    def _temperature(self, step):
        if step is not None:
            return self.weights_at(step).temperature
        # The step of a schedule is not known in evaluation, where JAX has no optimizer.
        return self.temperature_reached if callable(self.temperature) else value_at(self.temperature, 0)

    def _q_of_each(self, h, probs):
        """Mean and log-variance of `q(z | x, c_k)` for each category, `(B, K, d)`."""
        if self.z_heads == "probs":
            return [ops.repeat(values[:, None], self.num_categories, axis=1) for values in self.heads.z(h, probs)]
        return self.heads.z_of_each(h)

    def evaluation_terms(self, images, labels) -> dict[str, Tensor]:
        terms = super().evaluation_terms(images, labels)
        images = self.as_images(images, "x")
        noise, h = self.evaluation_noise(images), in_use(self.encoder, to_unit(images))
        logits = self.heads.logits(h)
        probs = _softmax(logits)
        q = self._q_of_each(h, probs)
        chosen = argmax(logits + _gumbel(noise["uniform_c"]))[:, None]
        mean, logvar = (of_components(values, chosen) for values in q)
        z = sample_gaussian(mean, logvar, noise["epsilon"][:, None])
        log_prob = log_likelihood(self.decoder, self.likelihood, images, self._beside(z, chosen))[:, 0]
        return {**terms, "discrete_loss": self.prior.kl(probs, *q) + categorical_kl_from_uniform(probs) - log_prob}

    # Use: deterministic, tensors in, tensors out

    def call(self, images, training=False) -> dict[str, Tensor]:
        """Returns all outputs of inference: those of `posterior`, `latent` (see `encode`) and `reconstruction`."""
        outputs = self.posterior(images)
        latent = self._most_probable(outputs)
        return {**outputs, "latent": latent, "reconstruction": self.decode(latent)}

    def posterior(self, images: Tensor) -> dict[str, Tensor]:
        """`q(c, z | x)`: `probs` `(B, K)`, and for each category `z_mean` and `z_logvar`, `(B, K, d)`."""
        h = in_use(self.encoder, to_unit(self.as_images(images)))
        probs = _softmax(self.heads.logits(h))
        mean, logvar = self._q_of_each(h, probs)
        return {"probs": probs, "z_mean": mean, "z_logvar": logvar}

    def clusters(self, images: Tensor) -> Tensor:
        """`q(c | x)`: the probabilities of the categories, `(B, K)`."""
        return _softmax(self.heads.logits(in_use(self.encoder, to_unit(self.as_images(images)))))

    def encode(self, images: Tensor) -> Tensor:
        """Latent variables (z, c) `(B, d + K)`: the most probable category, one-hot, and the mean of z given it."""
        return self._most_probable(self.posterior(images))

    def _most_probable(self, posterior):
        chosen = argmax(posterior["probs"])[:, None]
        return self._beside(of_components(posterior["z_mean"], chosen), chosen)[:, 0]

    def _beside(self, z, categories):
        return ops.concatenate([z, ops.one_hot(categories, self.num_categories, dtype=z.dtype)], axis=-1)

    def sample_latent(
        self, n: int, seed: int | Tensor, categories: ArrayLike | None = None, probs: ArrayLike | None = None
    ) -> Tensor:
        """Draws c as in `generate`, and `z ~ p(z | c)`: side by side, z first, `(n, d + K)`."""
        stream = Stream(seed, 0)
        chosen = self.categories_of(n, stream, categories, probs)
        z = self.prior.draw(self._components(chosen), normal((n, self.latents["z"]), stream))
        return self._beside(z, chosen)

    def _components(self, categories):
        """The component of the prior of each category."""
        return ops.zeros_like(categories) if self.factorised_prior else categories

    def posterior_noise(self, num_images, num_samples, stream) -> dict[str, Tensor]:
        noise = super().posterior_noise(num_images, num_samples, stream)
        if not self.sum_categories:
            noise["gumbel"] = sample_gumbel((num_images, num_samples, self.num_categories), seed=stream)
        return noise

    def log_weights(self, images, noise) -> Tensor:
        """As `BaseVAE.log_weights`. With `sum_categories` it sums over c; otherwise it draws c from `q(c | x)`."""
        images = self.as_images(images)
        h = in_use(self.encoder, to_unit(images))
        log_probs = ops.log_softmax(self.heads.logits(h))
        q = self._q_of_each(h, ops.exp(log_probs))
        epsilon = noise["epsilon"]
        if self.sum_categories:  # one category at a time: all at once need K times the memory
            shape = ops.shape(epsilon)[:2]
            of_each = ops.map(
                lambda k: self._joint(images, q, ops.broadcast_to(k, shape), epsilon), ops.arange(self.num_categories)
            )
            return ops.logsumexp(of_each, axis=0)
        chosen = argmax(log_probs[:, None] + noise["gumbel"])
        return self._joint(images, q, chosen, epsilon) - ops.take_along_axis(log_probs, chosen, axis=1)

    def _joint(self, images, q, chosen, epsilon):
        """`log p(x, z, c) - log q(z | x, c)` for given categories `(B, S)`."""
        mean, logvar = (of_components(values, chosen) for values in q)
        z = sample_gaussian(mean, logvar, epsilon)
        log_p_z = self.prior.log_prob_given(z, self._components(chosen)) - math.log(self.num_categories)
        log_p_x = log_likelihood(self.decoder, self.likelihood, images, self._beside(z, chosen))
        return log_p_x + log_p_z - gaussian_log_prob(z, mean, logvar)

    # Serialisation

    def get_config(self) -> dict[str, Any]:
        names = ("num_categories", "factorised_posterior", "factorised_prior", "z_heads", "posteriors", "elu")
        return {
            **{
                name: keras.saving.serialize_keras_object(getattr(self, name))
                for name in ("encoder", "decoder", "prior", "likelihood")
            },
            **{name: getattr(self, name) for name in (*names, "sum_categories", "binarize", "cluster_names")},
            "z_dim": self.latents["z"],
            **super().get_config(),
        }


def _gumbel(uniform):
    return gumbel_of_uniform(uniform, _GUMBEL_FLOOR)


def _softmax(logits):
    # Keras warns about a softmax over one category.
    return ops.softmax(logits) if logits.shape[-1] > 1 else ops.ones_like(logits)
