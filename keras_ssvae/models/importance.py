"""The part that the importance weights of several models share."""

import keras
from keras import ops

from keras_ssvae.distributions import Tensor
from keras_ssvae.likelihoods import Likelihood


def log_likelihood(decoder: keras.Model, likelihood: Likelihood, images: Tensor, z: Tensor) -> Tensor:
    """`log p(x | z)` of each image at its own S points z, in inference mode.

    Args:
        decoder: Maps `(B, d)` to the outputs that the likelihood takes.
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
