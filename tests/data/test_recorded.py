"""The batches and splits of a seed stay what they were: checksums recorded before the pipeline could alternate."""

import itertools
import zlib

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae import data
from keras_ssvae.data import augment

BACKEND = keras.backend.backend()
IMAGES = np.random.RandomState(0).randint(0, 256, (1000, 8, 8, 1)).astype(np.uint8)
LABELS = np.arange(100) % 10
LABELED = IMAGES[:100], LABELS
SEVERAL = IMAGES[:100], np.stack([LABELS, LABELS % 3], axis=1)

CASES = {
    "pairs": ((LABELED, IMAGES), {}),
    "resumed pairs": ((LABELED, IMAGES), {"start_step": 13}),
    "a small unlabelled set": ((LABELED, IMAGES[:150]), {"unlabeled_batch_size": 75}),
    "several labels": ((SEVERAL, IMAGES), {"num_classes": (10, 3)}),
    "no labels": ((None, IMAGES), {"num_classes": None}),
    "no augmentation": ((LABELED, IMAGES), {"augment": None}),
    "another seed": ((LABELED, IMAGES), {"seed": 2**40}),
}
RECORDED = {
    "tensorflow": {
        "pairs": 1885228470,
        "resumed pairs": 468168479,
        "a small unlabelled set": 2985260419,
        "several labels": 2417902705,
        "no labels": 1896010591,
        "no augmentation": 2194065407,
        "another seed": 1836071702,
    },
    "jax": {
        "pairs": 3436695782,
        "resumed pairs": 3566691961,
        "a small unlabelled set": 1574154854,
        "several labels": 2525959391,
        "no labels": 1442217327,
        "no augmentation": 1341880565,
        "another seed": 628289879,
    },
    "datasets": {
        "pairs": 3161254280,
        "resumed pairs": 554750431,
        "a small unlabelled set": 351895966,
        "no labels": 2033835499,
    },
}
SPLITS = [
    (3279493278, 619770717, 2037451999),
    (3860300356, 619770717, 2037451999),
    (1583305760, 619770717, 981735005),
    (0, 619770717, 2037451999),
]


def checksum(batches):
    """Of the names, shapes, pixels (as the integers that they were scaled from) and labels of 20 batches."""
    crc = 0
    for batch in itertools.islice(batches, 20):
        arrays = {name: np.rint(ops.convert_to_numpy(each) * 127.5 + 127.5) for name, each in batch[0].items()}
        arrays |= dict(zip("y", map(ops.convert_to_numpy, batch[1:]), strict=False))
        for name in sorted(arrays):
            array = arrays[name].astype(np.uint8)
            crc = zlib.crc32(array.tobytes(), zlib.crc32(f"{name} {array.shape}".encode(), crc))
    return crc


def as_dataset(source):
    import tensorflow as tf

    return None if source is None else tf.data.Dataset.from_tensor_slices(source)


def make(sources, arguments):
    settings = {"num_classes": 10, "steps_per_epoch": 8, "seed": 1, "augment": augment.random_crop}
    return data.semi_supervised(*sources, **(settings | arguments))


@pytest.mark.parametrize("case", CASES)
def test_batches_of_arrays_are_the_recorded_ones(case):
    assert checksum(make(*CASES[case])) == RECORDED[BACKEND][case]


@pytest.mark.parametrize("case", ["pairs", "resumed pairs", "a small unlabelled set", "no labels"])
@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data belongs to the TensorFlow backend")
def test_batches_of_datasets_are_the_recorded_ones(case):
    sources, arguments = CASES[case]
    sources = tuple(map(as_dataset, sources))
    assert checksum(make(sources, arguments)) == RECORDED["datasets"][case]


def test_splits_are_the_recorded_ones():
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(10), 100))
    crcs = []
    for num_labeled, indices in ((50, None), (53, None), (None, np.arange(60)), (0, None)):
        parts = data.split(labels, num_labeled, 100, seed=1, labeled_indices=indices)
        crcs.append(tuple(zlib.crc32(each.tobytes()) for each in (parts.labeled, parts.unlabeled, parts.validation)))
    assert crcs == SPLITS
