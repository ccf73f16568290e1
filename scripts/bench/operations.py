"""How many operations a step starts: on a large GPU that is what it costs until they are large."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

# They start nothing: they make room, or look at what is there in another way.
FREE = ("empty", "new_empty", "empty_like", "empty_strided", "_unsafe_view", "detach", "lift_fresh")


class Started(TorchDispatchMode):
    """Counts operations while it lasts, views apart."""

    def __init__(self) -> None:
        super().__init__()
        self.started = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returns = func._schema.returns
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        self.started += not is_view and func.overloadpacket.__name__ not in FREE
        return func(*args, **(kwargs or {}))
