"""float32 where half precision would not do."""

import torch
from torch import Tensor


def widened(tensor: Tensor) -> Tensor:
    """Half precision to float32; float32, float64 and whole numbers as they are."""
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
