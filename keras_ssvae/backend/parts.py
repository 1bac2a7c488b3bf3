"""Batches whose labelled and unlabelled parts alternate (see `data.semi_supervised`)."""

from collections.abc import Callable
from typing import Any

_PARTS = ("labeled", "unlabeled")


def due_parts(batch: Any, rows: Callable[[Any], int | None] = lambda images: images.shape[0]) -> Any:
    """The batch without the part, and its labels, whose turn it is not: the one that has no rows.

    Args:
        batch: `(x, y)`, or anything else, which is left as it is.
        rows: The number of rows of a part's images, or None where it is not known.
    """
    if not (isinstance(batch, tuple | list) and batch and isinstance(batch[0], dict)):
        return batch
    images, *labels = batch
    empty = [part for part in _PARTS if part in images and rows(images[part]) == 0]
    if not empty:
        return batch
    images = {name: each for name, each in images.items() if name.removesuffix("_augmented") not in empty}
    return (images,) if "labeled" in empty else (images, *labels)


def may_alternate(spec: Any, rows: Callable[[Any], int | None]) -> bool:
    """Whether the batches of a specification may lack either part, for nobody knows how many rows they have."""
    return (
        isinstance(spec, tuple)
        and isinstance(spec[0], dict)
        and set(_PARTS) <= set(spec[0])
        and all(rows(spec[0][part]) is None for part in _PARTS)
    )
