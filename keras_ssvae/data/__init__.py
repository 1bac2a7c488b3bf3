"""Image sets, semi-supervised splits, augmentation and batches for training.

Constants:

* `CLASS_NAMES`: the names of the classes of each set of `load`, in the order of the labels.
* `CELEBA_LABELS`: the labels of PartedVAE on CelebA. Each label has values, and each value the attribute of CelebA that
  stands for it, or None for images that have none of these attributes.
* `CELEBA_PRIORS`: the class probabilities of these labels in PartedVAE's code, in which those of hair colour add up to
  0.99.
* `CELEBA_ATTRIBUTES`: the 18 labels of REVAE on CelebA (Appendix C.1), each off or on, in the same form.
"""

from keras_ssvae.data import augment
from keras_ssvae.data.binary import binarize
from keras_ssvae.data.celeba import CELEBA_ATTRIBUTES, CELEBA_LABELS, CELEBA_PRIORS, CelebA, CelebAPart, load_celeba
from keras_ssvae.data.dsprites import FactorData, load_dsprites
from keras_ssvae.data.generated import GeneratedImages, augment_with
from keras_ssvae.data.omniglot import load_omniglot
from keras_ssvae.data.pipeline import distribute, semi_supervised
from keras_ssvae.data.sources import CLASS_NAMES, DataDamagedError, DataUnavailableError, ImageData, load
from keras_ssvae.data.splits import Split, class_frequencies, split
from keras_ssvae.data.yale import load_yale
from keras_ssvae.pixels import scale

__all__ = [
    "CELEBA_ATTRIBUTES",
    "CELEBA_LABELS",
    "CELEBA_PRIORS",
    "CLASS_NAMES",
    "CelebA",
    "CelebAPart",
    "DataDamagedError",
    "DataUnavailableError",
    "FactorData",
    "GeneratedImages",
    "ImageData",
    "Split",
    "augment",
    "augment_with",
    "binarize",
    "class_frequencies",
    "distribute",
    "load",
    "load_celeba",
    "load_dsprites",
    "load_omniglot",
    "load_yale",
    "scale",
    "semi_supervised",
    "split",
]
