"""Batches whose labelled and unlabelled parts alternate (see `data.semi_supervised`)."""

from collections.abc import Callable
from typing import Any

_PARTS = ("labeled", "unlabeled")


def due_parts(batch: Any, rows: Callable[[Any], int | None] = lambda images: images.shape[0]) -> Any:
    """Returns a batch without its empty part (labelled or unlabelled), which is not due at this step.

    Args:
        batch: `(x, y)`. Anything else is returned unchanged.
        rows: Maps a part's images to their number of rows, or to None if it is not known.
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
    """Whether each part may be empty in the batches of a specification: it does not fix the numbers of rows."""
    return (
        isinstance(spec, tuple)
        and isinstance(spec[0], dict)
        and set(_PARTS) <= set(spec[0])
        and all(rows(spec[0][part]) is None for part in _PARTS)
    )
