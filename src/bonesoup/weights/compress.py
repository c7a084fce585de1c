"""A LoRA adapter at a smaller rank: the closest one there is, found from its factors.

The singular values of B A are those of the small matrix R_b R_a^T, where B = Q_b R_b and A^T = Q_a R_a, so no
weight-sized matrix is ever formed. Cutting them off is the best approximation of its rank (Eckart, Young 1936).
"""

import torch

from bonesoup.weights.adapters import Adapter


def compress(
    adapter: Adapter, rank: int | None = None, max_error: float | None = None
) -> tuple[Adapter, dict[str, float]]:
    """The adapter at a smaller rank, and what that costs.

    Args:
        rank: of every module; one whose rank is no larger stays as it is.
        max_error: instead of a rank: every module gets the smallest one whose error is at most this.

    Returns:
        The adapter, its scales 1; and {module: relative error}, |W' - W| / |W| in the Frobenius norm.

    Raises:
        ValueError: neither or both are given, or out of range.
    """
    if (rank is None) == (max_error is None):
        raise ValueError("give a rank or a largest error, and not both")
    if rank is not None and rank < 1:
        raise ValueError(f"rank must be at least 1, found {rank}")
    if max_error is not None and not 0 <= max_error < 1:
        raise ValueError(f"the largest error must be in [0, 1), found {max_error}")
    tensors, errors = {}, {}
    for module, (a, b) in adapter.tensors.items():
        scaled = b.double() * adapter.scale[module]
        left, small_left = torch.linalg.qr(scaled)
        right, small_right = torch.linalg.qr(a.double().T)
        u, values, v = torch.linalg.svd(small_left @ small_right.T)
        # Of what is left when the first k singular values are kept, k = 0, 1, ...
        energy = values.square()
        left_out = torch.cat([energy.flip(0).cumsum(0).flip(0), energy.new_zeros(1)])
        error = (left_out / left_out[0]).sqrt() if left_out[0] > 0 else torch.zeros_like(left_out)
        kept = rank if max_error is None else max(int((error > max_error).sum()), 1)
        if kept >= len(a):
            tensors[module] = (a, scaled.float())
            errors[module] = 0.0
            continue
        kept = min(kept, len(values))
        # Shared between the factors, so that neither is too small for half precision.
        root = values[:kept].sqrt()
        tensors[module] = ((root[:, None] * v[:kept] @ right.T).float(), (left @ u[:, :kept] * root).float())
        errors[module] = float(error[kept])
    return Adapter(adapter.config, tensors, dict.fromkeys(tensors, 1.0)), errors
