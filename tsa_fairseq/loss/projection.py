"""Products with the output matrix: operands in the model's type, results in float32 or wider."""

from functools import partial

import torch
from torch import Tensor

from tsa_fairseq.errors import UsageError


def returns_float32(matrix: Tensor) -> bool:
    """Whether products of half-precision matrices return the sums as they were added up.

    On a GPU, with torch 2.8 and newer.
    """
    return matrix.is_cuda and hasattr(torch.ops.aten.mm, "dtype")


class Projection:
    """The output projection of blocks of tokens, and its gradients.

    Results are float32: a float16 one would overflow in the gradient of a frequent word's row,
    which is a sum over tokens, and round small ones to 0. Where the device cannot return float32,
    operands that were rounded to the model's type are multiplied in float32.

    Args:
        matrix: V x D, or K x V x D for a matrix of each member's own.
        product_type: what operands are rounded to.
        wide: float32, or float64 if the matrix is.

    Shapes:
        features: M x K x D, a token's members side by side; logits: M x K x V.
    """

    def __init__(self, matrix: Tensor, product_type: torch.dtype, wide: torch.dtype) -> None:
        self.product_type = product_type
        self.wide = wide
        self.shared = matrix.dim() == 2
        self.keeps_type = product_type == wide or returns_float32(matrix)
        self.matrix = self.operand(matrix)
        self._buffer: Tensor | None = None

    def operand(self, tensor: Tensor) -> Tensor:
        """Rounded to the products' type."""
        tensor = tensor.to(self.product_type)
        return tensor if self.keeps_type else tensor.to(self.wide)

    def logits(self, features: Tensor) -> Tensor:
        """Features times matrix. The next call may overwrite the result."""
        tokens, members, _ = features.shape
        if not (self.shared and self.matrix.dtype == self.wide):
            product = self._product(self._rows(features), self.matrix.mT)
            return self._by_token(product, members).contiguous()
        rows, words = tokens * members, self.matrix.size(0)
        if self._buffer is None or self._buffer.size(0) < rows:
            self._buffer = features.new_empty(rows, words)
        logits = self._buffer[:rows]
        torch.mm(features.flatten(0, 1), self.matrix.t(), out=logits)
        return self._by_token(logits, members)

    def back(self, gradient: Tensor) -> Tensor:
        """The features' gradient, from the logits', an operand."""
        return self._by_token(self._product(self._rows(gradient), self.matrix), gradient.size(1))

    def add_matrix_gradient_(self, total: Tensor, gradient: Tensor, features: Tensor) -> None:
        """Add the matrix' gradient, from the logits', an operand, to ``total``."""
        rows, features = self._rows(gradient), self._rows(features)
        if self.shared and rows.dtype == total.dtype:
            total.addmm_(rows.t(), features)
        else:
            total.add_(self._product(rows.mT, features))

    def _rows(self, tensor: Tensor) -> Tensor:
        """M x K x ... as what is multiplied by one matrix: M·K x ..., or K x M x ..."""
        return tensor.flatten(0, 1) if self.shared else tensor.transpose(0, 1)

    def _by_token(self, rows: Tensor, members: int) -> Tensor:
        return rows.unflatten(0, (-1, members)) if self.shared else rows.transpose(0, 1)

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        if left.dtype == self.wide:
            return left @ right
        multiply = torch.mm if self.shared else torch.bmm
        return multiply(left, right, out_dtype=self.wide)


class Predictor:
    """Features, the matrix that projects them, and the gradients of both as blocks come in.

    Args:
        features: N x K x D, or N x D for one prediction a token.
        matrix: V x D, or K x V x D.
        product_type, wide: see :class:`Projection`.
        wants_features, wants_matrix: the gradients wanted; float32 or wider, whatever the inputs.
    """

    def __init__(
        self,
        features: Tensor,
        matrix: Tensor,
        product_type: torch.dtype,
        wide: torch.dtype,
        wants_features: bool,
        wants_matrix: bool,
    ) -> None:
        self.projection = Projection(matrix, product_type, wide)
        self.shape = features.shape
        by_token = features if features.dim() == 3 else features.unsqueeze(1)
        self.features = self.projection.operand(by_token).contiguous()  # N x K x D
        zeros = partial(torch.zeros_like, dtype=wide)
        self.of_features = zeros(self.features) if wants_features else None
        self.of_matrix = zeros(matrix) if wants_matrix else None

    @property
    def wants_gradient(self) -> bool:
        """Whether any gradient is wanted."""
        return self.of_features is not None or self.of_matrix is not None

    @property
    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """Of features and matrix, in their shapes; None where it was not wanted."""
        of_features = None if self.of_features is None else self.of_features.view(self.shape)
        return of_features, self.of_matrix

    def logits(self, here: slice) -> Tensor:
        """Of a block: M x K x V. The next block overwrites them."""
        return self.projection.logits(self.features[here])

    def room_for_gradient(self, logits: Tensor) -> Tensor:
        """Where the gradient of a block's logits goes: their place, if operands have their type."""
        kind = self.features.dtype
        if kind == logits.dtype or not self.wants_gradient:
            return logits
        return torch.empty_like(logits, dtype=kind)

    def take_gradient_(self, here: slice, of_logits: Tensor) -> None:
        """Multiply out the gradient of a block's logits."""
        if not self.wants_gradient:
            return
        operand = self.projection.operand(of_logits)
        if self.of_features is not None:
            self.of_features[here] = self.projection.back(operand)
        if self.of_matrix is not None:
            self.projection.add_matrix_gradient_(self.of_matrix, operand, self.features[here])


def product_type(features: Tensor, matrix: Tensor) -> torch.dtype:
    """What products of the two are computed in: under autocast its type, else their own.

    Raises:
        UsageError: their types differ.
    """
    device = features.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    if matrix.dtype != features.dtype:
        raise UsageError(
            f"output matrix: got {_name(matrix.dtype)}; "
            f"expected {_name(features.dtype)}, the type of the leaves' features"
        )
    return features.dtype


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
