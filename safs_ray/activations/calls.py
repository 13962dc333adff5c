"""The functions of torch that a network calls while it runs, and which of its modules calls them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from safs_ray.activations.kinds import FUNCTIONS, LEFT_ALONE
from safs_ray.activations.scaled import ScaledActivation
from safs_ray.dropout import OwnCode


class Place(NamedTuple):
    """A call of a function.

    Attributes:
        path: of the innermost module that is running.
        function: its name.
        turn: how often that module called that function before, since the network was called.
    """

    path: str
    function: str
    turn: int


class Calls(OwnCode):
    """While it is entered, and one network runs, every call of an activation goes through :meth:`activation`.

    Args:
        network: whose submodules call.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self._turns: Counter[tuple[str, str]] = Counter()

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        written = getattr(function, "__name__", "")
        name, named = written.strip("_"), named or {}
        if name not in (*FUNCTIONS, *LEFT_ALONE) or isinstance(self.running, ScaledActivation):
            return super().__torch_function__(function, types, arguments, named)
        value, *settings = arguments if arguments else [named["input"]]
        place = Place(self.path, name, self._turns[self.path, name])
        self._turns[self.path, name] += 1
        in_place = written.endswith("_") or named.get("inplace") is True or any(each is True for each in settings)
        return self.activation(place, value, in_place, function, (value, *settings), named)

    def activation(
        self,
        place: Place,
        value: Tensor,
        in_place: bool,
        function: Any,
        arguments: tuple[Any, ...],
        named: Mapping[str, Any],
    ) -> Any:
        """What a call of an activation gives; as it is, unless a subclass says otherwise.

        Args:
            value: the input, the first of the arguments.
            in_place: whether the input becomes the output.
        """
        del place, value, in_place
        return function(*arguments, **{name: each for name, each in named.items() if name != "input"})
