"""Products with the output matrix: operands in the model's type, results in float32 or wider."""

import torch
from torch import Tensor

# On a GPU, products of half-precision matrices that return the sums as they were added up, in
# float32 (torch 2.8 and newer).
RETURNS_FLOAT32 = hasattr(torch.ops.aten.mm, "dtype")


class Projection:
    """The output projection of a block of tokens, and its gradients.

    A float16 result would overflow in the gradient of a frequent word's row, which is a sum over
    tokens, and round small ones to 0. Where the device cannot return float32, operands that were
    rounded to the model's type are multiplied in float32.

    Args:
        matrix: V x D, or K x V x D for a matrix of each leaf's own.
        product_type: what operands are rounded to.
        wide: float32, or float64 if the matrix is.

    Shapes:
        features: M x K x D, a token's leaves side by side; logits: M x K x V.
    """

    def __init__(self, matrix: Tensor, product_type: torch.dtype, wide: torch.dtype) -> None:
        self.product_type = product_type
        self.wide = wide
        self.shared = matrix.dim() == 2
        self.keeps_type = product_type == wide or (matrix.is_cuda and RETURNS_FLOAT32)
        self.matrix = self.rounded(matrix)

    def rounded(self, tensor: Tensor) -> Tensor:
        """An operand."""
        tensor = tensor.to(self.product_type)
        return tensor if self.keeps_type else tensor.to(self.wide)

    def logits(self, features: Tensor, buffer: Tensor) -> Tensor:
        """Features times matrix, in the first part of ``buffer``."""
        tokens, leaves, _ = features.shape
        vocabulary = self.matrix.size(-2)
        size = tokens * leaves * vocabulary
        logits = buffer[:size].view(tokens, leaves, vocabulary)
        if self.shared and self.product_type == self.wide:
            torch.mm(features.flatten(0, 1), self.matrix.t(), out=logits.flatten(0, 1))
        else:
            logits.copy_(
                self._by_token(self._product(self._rows(features), self.matrix.mT), leaves)
            )
        return logits

    def back(self, gradient: Tensor) -> Tensor:
        """The features' gradient, from the logits'."""
        return self._by_token(self._product(self._rows(gradient), self.matrix), gradient.size(1))

    def add_matrix_gradient_(self, total: Tensor, gradient: Tensor, features: Tensor) -> None:
        """Add the matrix' gradient, from the logits'."""
        rows, features = self._rows(gradient), self._rows(features)
        if self.shared and rows.dtype == self.wide:
            total.addmm_(rows.t(), features)
        else:
            total.add_(self._product(rows.mT, features))

    def _rows(self, tensor: Tensor) -> Tensor:
        """M x K x ... as what is multiplied by one matrix: M·K x ..., or K x M x ..."""
        return tensor.flatten(0, 1) if self.shared else tensor.transpose(0, 1)

    def _by_token(self, rows: Tensor, leaves: int) -> Tensor:
        return rows.unflatten(0, (-1, leaves)) if self.shared else rows.transpose(0, 1)

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        if left.dtype == self.wide:
            return left @ right
        multiply = torch.mm if self.shared else torch.bmm
        return multiply(left, right, out_dtype=self.wide)
