"""M1, M2 and M1+M2, the systems of Kingma, Rezende, Mohamed and Welling."""

from keras_ssvae.models.kingma.m1 import M1
from keras_ssvae.models.kingma.m1m2 import M1M2
from keras_ssvae.models.kingma.m2 import M2

__all__ = ["M1", "M1M2", "M2"]
