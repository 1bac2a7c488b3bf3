"""The number of operations of a network."""

import keras
import numpy as np

from keras_ssvae.networks.layers import ConvBlock, Gated


def forward_gflop(network: keras.Model) -> float:
    """Multiplications and additions of the forward pass of one image, in 1e9."""
    macs = 0
    for layer in network.layers:
        if isinstance(layer, Gated):  # two kernels in one layer
            macs += int(np.prod(layer.linear.kernel.shape)) + int(np.prod(layer.gate.kernel.shape))
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            macs += int(np.prod(kernel.shape)) * int(np.prod(_positions(layer)))
    return 2e-9 * macs


def _positions(layer):
    """How often a layer uses its kernel: a dense layer once, a convolution at each pixel of its smaller side.

    The smaller side is the smaller one of input and output.
    """
    size = layer.input.shape[1:-1]
    if isinstance(layer, ConvBlock):
        return size if layer.transpose else [-(-n // layer.strides) for n in size]
    return np.minimum(size, layer.output.shape[1:-1])
