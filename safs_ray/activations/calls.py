"""The functions of torch that a network calls while it runs, and which of its modules calls them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Self

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from safs_ray.activations.kinds import FUNCTIONS, LEFT_ALONE
from safs_ray.activations.scaled import ScaledActivation
from safs_ray.dropout import WithoutDropout


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


class Calls(WithoutDropout):
    """While it is entered, and one network runs, every call of an activation goes through :meth:`activation`.

    Args:
        network: whose submodules call.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._paths = {child: path for path, child in network.named_modules()}
        self._running: list[nn.Module] = [network]
        self._turns: Counter[tuple[str, str]] = Counter()
        self._hooks = ExitStack()

    def __enter__(self) -> Self:
        self._hooks.callback(register_module_forward_pre_hook(self._begin).remove)
        self._hooks.callback(register_module_forward_hook(self._end, always_call=True).remove)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._hooks.close()

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        written = getattr(function, "__name__", "")
        name, named = written.strip("_"), named or {}
        if name not in (*FUNCTIONS, *LEFT_ALONE) or isinstance(self._running[-1], ScaledActivation):
            return super().__torch_function__(function, types, arguments, named)
        value, *settings = arguments if arguments else [named["input"]]
        path = self._paths.get(self._running[-1], "")
        place = Place(path, name, self._turns[path, name])
        self._turns[path, name] += 1
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

    def _begin(self, module: nn.Module, _inputs: Any) -> None:
        self._running.append(module)

    def _end(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        self._running.pop()
