"""Base of the models without labels: their batches, binary images, and terms in training and evaluation."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from keras_ssvae.distributions import Tensor
from keras_ssvae.likelihoods import Bernoulli, Likelihood
from keras_ssvae.models import probes
from keras_ssvae.models.base import BaseVAE
from keras_ssvae.models.checks import check_network, parts_of
from keras_ssvae.models.objective_weights import ObjectiveWeight
from keras_ssvae.models.passes import in_use
from keras_ssvae.models.sampling import binary_images, check_likelihood
from keras_ssvae.noise import normal_of_images
from keras_ssvae.pixels import as_array
from keras_ssvae.priors import Prior

_FLOOR = 1e-5  # lower limit of pixel probabilities, as in VampPrior's code


class UnlabeledVAE(BaseVAE):
    """Base of the models that learn without labels: `VAE`, `HVAE` and `CPVAE`.

    A subclass implements `terms`, for training and evaluation: `reconstruction` and divergences. The objective is
    `reconstruction + beta (sum of the divergences)`. A subclass has a `decoder`, a `prior` and a `likelihood`.

    A batch is float images in [-1, 1], or a dictionary with the keys `unlabeled`, `labeled` or both. Labels are
    ignored.
    """

    test_terms: tuple[str, ...] = ("loss",)
    reduction = "mean"
    objective_weights: tuple[str, ...] = ("beta",)

    def _set_choices(self, prior: Prior, likelihood: Likelihood | None, beta: ObjectiveWeight, binarize: bool) -> None:
        if not isinstance(prior, Prior):
            raise ValueError(f"`prior` is {prior!r}; it must be a `priors.Prior`, as `priors.StandardNormal(40)`.")
        self.prior = prior
        self.likelihood = Bernoulli(_FLOOR) if likelihood is None else likelihood
        self.beta, self.binarize = beta, binarize
        check_likelihood(self.likelihood, binarize)

    @property
    def decoded_shape(self) -> tuple[int, int, int]:
        """Shape of the decoder's output, `(H, W, outputs)`."""
        height, width, colours = self.image_shape
        return height, width, colours * self.likelihood.outputs_per_value

    def _check_networks(
        self,
        given: Mapping[str, keras.Model | None],
        shapes: Mapping[str, tuple[Any, Any]],
        kinds: Mapping[str, Mapping[int, str | None]],
        unit_pixels: tuple[str, ...] = ("encoder",),
    ) -> None:
        """Raises ValueError for a network of a wrong shape, and for a given network with unsuitable outputs.

        Args:
            given: Name -> the network that the user gave to the constructor.
            shapes: Name -> the shapes of its inputs and outputs.
            kinds: Name -> what its outputs are, as `probes.probe` takes it.
            unit_pixels: Names of the networks that take images.
        """
        kind = type(self.likelihood).__name__
        sizes = " and ".join(f"{size} of {name}" for name, size in self.latents.items())
        prior = f"`prior`, a {type(self.prior).__name__}, of {self.prior.latent_dim} dimensions"
        reason = f"images {self.image_shape}, a {kind} likelihood, the latent dimensions {sizes} and {prior},"
        for name, (takes, gives) in shapes.items():
            check_network(name, getattr(self, name), takes, gives, reason, self.made_by[name])
        for name, network in given.items():
            probes.probe(name, network, kinds[name], unit_pixels=name in unit_pixels)

    # To be implemented by a subclass

    def terms(
        self, run: Callable[..., Any], images: Tensor, noise: dict[str, Tensor], step: Tensor | None
    ) -> dict[str, Tensor]:
        """Named terms of images, one number per example (nats).

        Args:
            run: Function `(network, inputs) -> outputs`, for training or for use.
            images: `(B, H, W, C)` in [-1, 1].
            noise: Noise of a training step or from `evaluation_noise`.
            step: Training step; None in evaluation.
        """
        raise NotImplementedError

    @property
    def gaussian_dim(self) -> int:
        """How many standard normal numbers one image needs."""
        return self.latent_dim

    def own_noise(self, rows: int | Tensor, seed: keras.random.SeedGenerator) -> dict[str, Tensor]:
        """Draws the noise of a training step besides `epsilon` and `uniform`."""
        return {}

    def evaluation_noise(self, images: Tensor) -> dict[str, Tensor]:
        """Noise of evaluation. That of an image is a function of this image alone."""
        return {"epsilon": normal_of_images(images, self.gaussian_dim)}

    # Training

    def check_batch(self, images, labels) -> None:
        images = images if isinstance(images, dict) else {"unlabeled": images}
        parts = parts_of(images)
        if not parts:
            raise ValueError(
                f"`x` of a training batch has {sorted(images)}; it must be images, or a dictionary with the key "
                '"unlabeled", "labeled" or both. `data.semi_supervised` makes such batches.'
            )
        for part in parts:
            self.check_images(f"x[{part!r}]", images[part])

    def draw_noise(self, batch, step) -> dict[str, Tensor]:
        seed, rows = self.noise_stream(step), sum(ops.shape(batch[part])[0] for part in parts_of(batch))
        noise = {
            "epsilon": keras.random.normal((rows, self.gaussian_dim), seed=seed),
            "dropout": self.dropout_counter(step),
        }
        if self.binarize:
            noise["uniform"] = keras.random.uniform((rows, *self.image_shape), seed=seed)
        return noise | self.own_noise(rows, seed)

    def join_rows(self, batch, noise) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"images": ops.concatenate([batch[part] for part in parts_of(batch)])}, noise

    def step_terms(self, batch, noise, step) -> dict[str, Tensor]:
        x = batch["images"]
        if self.binarize:
            x = binary_images(x, noise["uniform"])
        return self.terms(self.passes(noise["dropout"]), x, noise, step)

    def objective(self, terms, step) -> Tensor:
        return terms["reconstruction"] + self.weights_at(step).beta * self._divergence(terms)

    def _divergence(self, terms):
        first, *others = (terms[name] for name in self.training_terms if name.startswith("kl"))
        return sum(others, first)

    def evaluation_terms(self, images, labels) -> dict[str, Tensor]:
        images = self.as_images(images, "x")
        terms = self.terms(in_use, images, self.evaluation_noise(images), None)
        return {"loss": terms["reconstruction"] + self._divergence(terms), **terms}

    # Use

    def decode(self, z: Tensor) -> Tensor:
        """Images `(B, H, W, C)` in [-1, 1] at latent variables `(B, d)`: the mean of the likelihood."""
        return self.likelihood.mean(self.decoder(as_array("z", z), training=False))

    def posterior_noise(self, num_images, num_samples, stream) -> dict[str, Tensor]:
        return {"epsilon": keras.random.normal((num_images, num_samples, self.gaussian_dim), seed=stream)}
