"""pass@k: the chance that at least one of k drawn programs passes its tests.

Source: Chen et al., "Evaluating Large Language Models Trained on Code" (2021), section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import BadConfig, BadInput


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate of pass@k from `n` samples of which `c` passed.

    It is the share of the k-subsets of the n samples that hold a passing one, `1 - C(n-c, k) / C(n, k)`, as
    the product `1 - prod_{i=n-c+1..n} (1 - k/i)`, which stays exact where the binomials overflow.

    Args:
        n: samples drawn for the task, >= 1.
        c: samples that passed, 0..n.
        k: size of the hypothetical draw, 1..n.

    Raises:
        BadConfig: `k` is not within 1..n.
        BadInput: `c` is not within 0..n.

    >>> round(pass_at_k(5, 2, 1), 12)
    0.4
    >>> pass_at_k(4, 2, 3)
    1.0
    """
    return float(pass_at_k_per_task([c], n, k)[0])


def pass_at_k_per_task(counts: Sequence[int] | NDArray[np.int64], n: int, k: int) -> NDArray[np.float64]:
    """pass@k of each task, `[N]`, from the passing samples of each task.

    Args:
        counts: passing samples of each task, `[N]`, each 0..n.
        n: samples drawn for every task.
        k: size of the hypothetical draw, 1..n.

    Raises:
        BadConfig: `k` is not within 1..n.
        BadInput: there is no task, or a count is not a whole number within 0..n.
    """
    passed = np.asarray(counts)
    if not 1 <= k <= n:
        raise BadConfig(
            f"pass@k needs 1 <= k <= n; got k={k} with n={n} samples per task. Draw more samples or lower k."
        )
    if passed.ndim != 1 or passed.size == 0:
        raise BadInput(f"pass@k needs one count per task; got an array of shape {passed.shape}.")
    if not np.all((passed >= 0) & (passed <= n) & (passed == np.floor(passed))):
        raise BadInput(
            f"pass@k: counts of passing samples must be whole numbers within 0..{n}; got {passed.tolist()}."
        )
    # misses[c] = prod_{i=n-c+1..n} (1 - k/i), built up from misses[0] = 1; a factor is 0 once n-c < k.
    factors = 1.0 - k / np.arange(n, 0, -1, dtype=np.float64)
    misses = np.cumprod(np.concatenate([[1.0], np.maximum(factors, 0.0)]))
    return 1.0 - misses[passed.astype(np.int64)]


def pass_at_k_mean(counts: Sequence[int] | NDArray[np.int64], n: int, k: int) -> float:
    """Mean pass@k over tasks; arguments and errors as in `pass_at_k_per_task`.

    >>> pass_at_k_mean([0, 1, 2], n=2, k=1)
    0.5
    """
    return float(pass_at_k_per_task(counts, n, k).mean())
