"""The models that the contract tests run, with one `Entry` each. A new model needs an entry here; no test changes.

The tests know a model only by its entry and by its capabilities: see `contract.asking`.
"""

import os

from contract.registry import characteristic, kingma, mixtures, natural, unlabeled
from contract.registry.characteristic import M3_ENTRY, m3, revae
from contract.registry.kingma import m1, m1m2, m2, trained_m1
from contract.registry.mixtures import EXON, OTHER_PRIOR, exon, parted, two_adams, two_plateaus
from contract.registry.natural import beta_vae, cvae, nvae
from contract.registry.unlabeled import cp_vae, hvae, vae

__all__ = [
    "ENTRIES",
    "EXON",
    "M3_ENTRY",
    "OTHER_PRIOR",
    "beta_vae",
    "cp_vae",
    "cvae",
    "exon",
    "hvae",
    "m1",
    "m1m2",
    "m2",
    "m3",
    "nvae",
    "parted",
    "revae",
    "trained_m1",
    "two_adams",
    "two_plateaus",
    "vae",
]

ENTRIES = tuple(
    entry
    for family in (mixtures, unlabeled, characteristic, kingma, natural)
    for entry in family.ENTRIES
    if not (entry.variant and "WITHOUT_VARIANTS" in os.environ)
)
