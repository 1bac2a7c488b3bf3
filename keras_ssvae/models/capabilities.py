"""What a function may ask of a model: each capability is a protocol, which `isinstance` checks.

A function that needs a capability asks for it, and never for a class of one system or for an attribute that may mean
something else in another system. So it also works with a Keras model from elsewhere that has the same methods.
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
    """Has `classify`: images `(B, H, W, C)` -> class probabilities, those of several labels side by side.

    `num_classes` is their number, or for several labels a tuple of the numbers.
    """

    @property
    def num_classes(self) -> int | tuple[int, ...]: ...

    def classify(self, images: Tensor) -> Tensor: ...


@runtime_checkable
class HasLabels(Protocol):
    """Classifies, says what labels its images have, and generates images of given labels: `ClassifierMixin`."""

    labels: Labels

    def classify(self, images: Tensor) -> Tensor: ...

    def predicted_labels(self, probs: Tensor) -> Tensor: ...

    def generate(self, labels: Tensor | int, seed: int | Tensor) -> Tensor: ...


@runtime_checkable
class HasClusters(Protocol):
    """Has `clusters`, the probabilities `(B, K)` of categories that it finds by itself, and generates images of them.

    Categories are no classes. `cluster_names` are the names that somebody has given them, or None: `ClusterMixin`.
    """

    num_categories: int
    cluster_names: tuple[str, ...] | None

    def clusters(self, images: Tensor) -> Tensor: ...

    def generate(self, n: int, seed: int | Tensor, categories: ArrayLike | Tensor | None = None) -> Tensor: ...


@runtime_checkable
class HasPosterior(Protocol):
    """Has `posterior`, the parameters of q(z | x), and `latents`, the dimensions of each part of the latent variables.

    `posterior` returns a dictionary. A part called `z` is Gaussian with the entries `z_mean` and `z_logvar`, `(B, d)`;
    an only part may leave out its name: `mean` and `logvar`. Entries of shape `(B, K, d)` are the K components of a
    mixture, whose weights are `probs`, `(B, K)`. A part without entries of its own is the one-hot component, or label,
    of which `probs` are the probabilities.
    """

    latents: dict[str, int]

    def posterior(self, images: Tensor) -> dict[str, Tensor]: ...


@runtime_checkable
class HasNormalParts(Protocol):
    """Names parts of its latent variables whose prior is the standard normal, whatever the label, as `normal_parts`.

    `posterior` and `latents` are as for `HasPosterior`. The names may be none, for a prior of another kind.
    """

    latents: dict[str, int]

    @property
    def normal_parts(self) -> tuple[str, ...]: ...

    def posterior(self, images: Tensor) -> dict[str, Tensor]: ...


@runtime_checkable
class HasClassCentres(Protocol):
    """Has `sample_latent(labels, seed, scale)`, at scale 0 the centre of a class, and `coordinates` of a part there.

    `coordinates(part, label)` are the places of the latent variables of this part that decide an image of the class.
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
    """Has `evaluation_terms`, the named terms of images, one number per example; `test_terms` are their names."""

    test_terms: tuple[str, ...]

    def evaluation_terms(self, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]: ...


@runtime_checkable
class HasImportanceWeights(Protocol):
    """Has `log_weights`, `log p(x, z) - log q(z | x)` at samples of q, and `posterior_noise`, what these samples draw.

    `BaseVAE` says more.
    """

    def posterior_noise(
        self, num_images: int, num_samples: int, stream: keras.random.SeedGenerator
    ) -> dict[str, Tensor]: ...

    def log_weights(self, images: Tensor, noise: dict[str, Tensor]) -> Tensor: ...


@runtime_checkable
class HasObjectiveWeights(Protocol):
    """Has `objective_weights`, the names of attributes that weigh the objective's terms and can be set at any time."""

    objective_weights: tuple[str, ...]


@runtime_checkable
class Transfers(Protocol):
    """Has `transfer`: images, and as many others -> the images with the attributes of the others."""

    def transfer(self, images: Tensor, attributes: Tensor) -> Tensor: ...


@runtime_checkable
class Intervenes(Protocol):
    """Has `intervene`, images with other values of labels, and `swap`, images with what the labels of others show.

    `intervene` takes the number of a label and a value, or a list of numbers and values `(B, n)`, where -1 keeps what
    the image has; its `seed` may be a tensor of one for each image, and None or -1 is the mean where there is one.
    `labels` says what labels there are, and `reconstruct` and `encode` are those of every model.
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
    """The model's prior with one component for each class.

    Args:
        model: The model.
        function: The name of the function that needs the prior, for the message.
        instead: A sentence that says what to use for another model.

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
    """The model, if it finds categories; raises ValueError, which names the function, if it does not."""
    if not isinstance(model, HasClusters):
        raise ValueError(
            f"`{function}` needs a model that finds categories, as `CPVAE`, but {type(model).__name__} has no "
            "`clusters`."
        )
    return model
