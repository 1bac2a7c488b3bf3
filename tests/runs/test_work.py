"""How much a network computes, against a count by hand of the paper's tables."""

import pytest

from keras_ssvae.networks import exon, vae
from keras_ssvae.runs import work


def test_the_networks_of_cifar10_are_counted_as_by_hand():
    # Tables 8 and 9: kernel sizes times pixels, of the input where a convolution is transposed, else of the output.
    encoder = 256 * 25 * 3 * 32 + 64 * 16 * 32 * 64 + 16 * 16 * (64 * 128 + 128 * 256)
    encoder += 16 * 256 * 1024 + 1024 * 2 * 10 * 256
    decoder = 256 * 16 * 512 + 25 * (16 * 512 * 256 + 64 * 256 * 128 + 256 * 128 * 64 + 1024 * 64 * 32)
    decoder += 1024 * 16 * 32 * 3
    classifier = 9 * 1024 * (3 * 128 + 2 * 128 * 128) + 9 * 256 * (128 * 256 + 2 * 256 * 256)
    classifier += 9 * 64 * (256 * 512 + 512 * 256 + 256 * 128) + 128 * 10
    for network, macs in (
        (exon.cifar10_encoder, encoder),
        (exon.cifar10_decoder, decoder),
        (exon.cifar10_classifier, classifier),
    ):
        assert work.forward_gflop(network()) == pytest.approx(2e-9 * macs, rel=1e-12)


def test_a_gated_layer_counts_both_of_its_kernels():
    macs = 2 * (784 * 300 + 300 * 300) + 2 * 300 * 40
    assert work.forward_gflop(vae.encoder()) == pytest.approx(2e-9 * macs, rel=1e-12)
