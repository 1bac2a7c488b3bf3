"""What the importance weights of the models have in common."""

import keras
from keras import ops

from keras_ssvae.distributions import Tensor
from keras_ssvae.likelihoods import Likelihood


def log_likelihood(decoder: keras.Model, likelihood: Likelihood, images: Tensor, z: Tensor) -> Tensor:
    """`log p(x | z)` of each image at points of its own, in inference.

    Args:
        decoder: `(B, d)` -> the outputs that the likelihood takes.
        likelihood: The likelihood.
        images: `(B, H, W, C)` in [-1, 1].
        z: S points for each image, `(B, S, d)`.

    Returns:
        `(B, S)`, in nats.
    """
    num_samples = ops.shape(z)[1]
    outputs = decoder(ops.reshape(z, (-1, z.shape[-1])), training=False)
    log_probs = likelihood.log_prob(ops.repeat(images, num_samples, axis=0), outputs)
    return ops.reshape(log_probs, (-1, num_samples))
