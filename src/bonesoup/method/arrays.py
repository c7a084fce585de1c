"""Input checks shared by this package."""

import numpy as np
from numpy.typing import ArrayLike


def finite(value: ArrayLike, name: str) -> np.ndarray:
    """Return `value` as a finite float array.

    Raises:
        ValueError: a value is not finite; names the argument `name`.
    """
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers in a regular array, found {value!r}") from None
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite: {value!r}")
    return array


def matrix(value: ArrayLike, name: str) -> np.ndarray:
    """Return `value` as a finite [rows, columns] array with at least one row.

    Raises:
        ValueError: it is not; names the argument `name`.
    """
    array = finite(value, name)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"{name} must be two-dimensional with a row and a column or more, found shape {list(array.shape)}"
        )
    return array


def check_objectives(n: int) -> None:
    """Raise ValueError unless n is a whole number of 2 or more."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 2:
        raise ValueError(f"a basis needs a whole number of objectives, 2 or more, found {n!r}")
