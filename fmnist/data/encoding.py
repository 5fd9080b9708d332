"""Labels in the form that some losses want."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fmnist.data.types import CLASS_NAMES


def one_hot(labels: NDArray[np.integer], dtype: DTypeLike = np.float32) -> NDArray:
    """Returns [n, 10]: 1 in the column of each label (integers [n], 0 to 9), 0 elsewhere.

    Raises:
        IndexError: if a label is out of range.

    Example:
        >>> one_hot(np.array([2]), np.uint8).tolist()
        [[0, 0, 1, 0, 0, 0, 0, 0, 0, 0]]
    """
    return np.eye(len(CLASS_NAMES), dtype=dtype)[labels]
