"""Capabilities of models, as protocols that `isinstance` checks: what a function may require of a model.

A function requires a capability. It never requires the class of one system, nor an attribute that may mean something
else in another system. So it also works with a Keras model from elsewhere that has the same methods.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_ssvae.distributions import Tensor
from keras_ssvae.models.labels import Labels
from keras_ssvae.priors import GaussianMixture, LearnedMixture


@runtime_checkable
class Encodes(Protocol):
    """Has `encode`: images `(B, H, W, C)` -> latent variables `(B, d)`, without randomness."""

    def encode(self, images: Tensor) -> Tensor: ...


@runtime_checkable
class Decodes(Protocol):
    """Has `decode`: latent variables `(B, d)` -> images `(B, H, W, C)`."""

    def decode(self, z: Tensor) -> Tensor: ...


@runtime_checkable
class Classifies(Protocol):
    """Has `classify`: images `(B, H, W, C)` -> class probabilities `(B, K)`; several labels side by side.

    `num_classes` is the number of classes; for several labels a tuple of these numbers.
    """

    @property
    def num_classes(self) -> int | tuple[int, ...]: ...

    def classify(self, images: Tensor) -> Tensor: ...


@runtime_checkable
class HasLabels(Protocol):
    """Has the methods of `ClassifierMixin`: classifies, describes its labels, and generates images of given labels."""

    labels: Labels

    def classify(self, images: Tensor) -> Tensor: ...

    def predicted_labels(self, probs: Tensor) -> Tensor: ...

    def generate(self, labels: Tensor | int, seed: int | Tensor) -> Tensor: ...


@runtime_checkable
class HasClusters(Protocol):
    """Has the methods of `ClusterMixin`: finds K categories by itself and generates images of given categories.

    `clusters` returns their probabilities `(B, K)`. Categories are not classes. `cluster_names` are the names that a
    user gave them, or None.
    """

    num_categories: int
    cluster_names: tuple[str, ...] | None

    def clusters(self, images: Tensor) -> Tensor: ...

    def generate(self, n: int, seed: int | Tensor, categories: ArrayLike | Tensor | None = None) -> Tensor: ...


@runtime_checkable
class HasPosterior(Protocol):
    """Has `posterior`, the parameters of q(z | x), and `latents`, the dimensions of each part of the latent variables.

    `posterior` returns a dictionary:

    * A Gaussian part, such as `z`, has the entries `z_mean` and `z_logvar`, `(B, d)`. If there is only one part, the
      names may be `mean` and `logvar`.
    * Entries of shape `(B, K, d)` are the K components of a mixture with the weights `probs`, `(B, K)`.
    * A part without entries is the one-hot component, or label, with the probabilities `probs`.
    """

    latents: dict[str, int]

    def posterior(self, images: Tensor) -> dict[str, Tensor]: ...


@runtime_checkable
class HasNormalParts(Protocol):
    """Has `normal_parts`, the names of the latent parts whose prior is the standard normal for every label.

    `posterior` and `latents` are as for `HasPosterior`. With another kind of prior `normal_parts` is empty.
    """

    latents: dict[str, int]

    @property
    def normal_parts(self) -> tuple[str, ...]: ...

    def posterior(self, images: Tensor) -> dict[str, Tensor]: ...


@runtime_checkable
class HasClassCentres(Protocol):
    """Has `sample_latent(labels, seed, scale)`, which gives the centre of a class at scale 0, and `coordinates`.

    `coordinates(part, label)` are the indices of the latent variables of this part that affect images of the class.
    """

    labels: Labels

    @property
    def normal_parts(self) -> tuple[str, ...]: ...

    def sample_latent(self, labels: Tensor, seed: int | Tensor, scale: float = 1.0) -> Tensor: ...

    def coordinates(self, part: str, label: int) -> list[int]: ...

    def decode(self, z: Tensor) -> Tensor: ...


@runtime_checkable
class HasClassPrior(Protocol):
    """Has `class_prior`, a mixture with one component for each class, and a posterior with as many components.

    `posterior` gives `mean` and `logvar`, each `(B, K, d)`, and `probs`, `(B, K)`.
    """

    @property
    def class_prior(self) -> GaussianMixture: ...

    def posterior(self, images: Tensor) -> dict[str, Tensor]: ...


@runtime_checkable
class HasTerms(Protocol):
    """Has `evaluation_terms`, named terms of images with one number per example, and `test_terms`, their names."""

    test_terms: tuple[str, ...]

    def evaluation_terms(self, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]: ...


@runtime_checkable
class HasImportanceWeights(Protocol):
    """Has `log_weights`, `log p(x, z) - log q(z | x)` at samples of q, and `posterior_noise`, the noise of the samples.

    `BaseVAE` documents both.
    """

    def posterior_noise(
        self, num_images: int, num_samples: int, stream: keras.random.SeedGenerator
    ) -> dict[str, Tensor]: ...

    def log_weights(self, images: Tensor, noise: dict[str, Tensor]) -> Tensor: ...


@runtime_checkable
class HasObjectiveWeights(Protocol):
    """Has `objective_weights`, names of attributes that weight terms of the objective and can be set at any time."""

    objective_weights: tuple[str, ...]


@runtime_checkable
class Transfers(Protocol):
    """Has `transfer`: gives images the attributes of as many other images."""

    def transfer(self, images: Tensor, attributes: Tensor) -> Tensor: ...


@runtime_checkable
class Intervenes(Protocol):
    """Has `intervene`, which changes labels of images, and `swap`, which takes the characteristics of other images.

    `intervene` takes the number of a label and a value, or a list of numbers and values `(B, n)`; the value -1 keeps
    the image's own characteristics. Its `seed` may be a tensor with one seed for each image. None or -1 takes the mean,
    if the model has one. `labels` describes the labels; `reconstruct` and `encode` are those of every model.
    """

    labels: Labels

    def intervene(
        self, images: Tensor, label: int | Sequence[int], value: ArrayLike, seed: int | Tensor | None = None
    ) -> Tensor: ...

    def swap(self, images: Tensor, donors: Tensor) -> Tensor: ...


@runtime_checkable
class HasLabelPriors(Protocol):
    """Has a learned prior of class-related latent variables for each label, and class-independent variables.

    The latent variables are z, of `z_dim` dimensions, and then for each label those of its prior in `u_priors`;
    `class_priors` are the probabilities of each label's values.
    """

    z_dim: int
    u_priors: Sequence[LearnedMixture]
    class_priors: Sequence[np.ndarray]


def require_class_prior(model: object, function: str, instead: str) -> GaussianMixture:
    """Returns the model's prior with one component for each class.

    Args:
        model: The model.
        function: Name of the function that needs the prior, for the error message.
        instead: A sentence for the error message: what to use for another model.

    Raises:
        ValueError: If the model has no such prior.
    """
    if not isinstance(model, HasClassPrior):
        raise ValueError(
            f"`{function}` needs a model whose prior has one component for each class, as that of `EXoN`, but "
            f"{type(model).__name__} has no `class_prior`. {instead}"
        )
    return model.class_prior


def require_clusters(model: object, function: str) -> HasClusters:
    """Returns the model if it finds categories; otherwise raises a ValueError that names the function."""
    if not isinstance(model, HasClusters):
        raise ValueError(
            f"`{function}` needs a model that finds categories, as `CPVAE`, but {type(model).__name__} has no "
            "`clusters`."
        )
    return model
