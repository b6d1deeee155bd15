"""Where numbers flow in a torch module's forward pass: operations and calls of manifolds in the person's code, and the inputs of modules.

Each such site can be changed, one at a time, to see whether the module then computes what a port does. Sites are counted in the order in
which they are passed, which is the same in each run.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weights.types import TorchModule

HERE, OURS = str(Path(__file__).parent), str(Path(__file__).parents[1])
CALLS = str(Path(__file__).with_name("sides.py"))
"""What calls the module; other files of this folder only stand between it and an operation."""
STANDARD = sysconfig.get_paths()["stdlib"]
METHODS = (
    "dist", "dist0", "dist2plane", "egrad2rgrad", "expmap", "expmap0", "geodesic", "inner", "lambda_x", "logmap", "logmap0", "mobius_add",
    "mobius_coadd", "mobius_matvec", "mobius_scalar_mul", "mobius_sub", "norm", "projx", "retr", "transp", "transp0", "transp0back",
    "weighted_midpoint",
)  # fmt: skip
"""Of geoopt's manifolds, what layers are made of."""
Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Site:
    """what: the operation in words, with the place in the code. shape: of the numbers there. sizes: numbers of rows that were reduced."""

    what: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...]


class Sites:
    """Passes a forward pass by. Without `change` it records the sites, with it it changes the numbers at the one of index `at`."""

    def __init__(self, at: int = -1, change: Change | None = None):
        self.at, self.change = at, change
        self.seen: list[Site] = []
        self._count, self._depth = 0, 0
        self._inside: list[str] = []

    def passed(self, what: str, value: Any, sizes: tuple[int, ...] = ()) -> Any:
        """The value, which is changed if this is the site."""
        if not (hasattr(value, "is_floating_point") and value.is_floating_point()):
            return value
        number, self._count = self._count, self._count + 1
        if self.change is None:
            self.seen.append(Site(what, tuple(value.shape), sizes))
            return value
        return self.change(value) if number == self.at else value

    @contextmanager
    def watching(self, module: TorchModule) -> Iterator[None]:
        """Passes by what runs inside."""
        with ExitStack() as stack:
            for name, child in module.named_modules():
                if hasattr(child, "egrad2rgrad"):
                    self._watch_manifold(child, stack)
                elif name:
                    stack.callback(child.register_forward_pre_hook(self._entering(name)).remove)
                    stack.callback(child.register_forward_hook(self._leaving(name)).remove)
            stack.enter_context(_operations(self))
            yield

    def _entering(self, name: str) -> Callable[..., Any]:
        def hook(_: TorchModule, given: tuple) -> tuple:
            self._inside.append(name)
            return tuple(self.passed(f"the input of {name}", value) for value in given)

        return hook

    def _leaving(self, name: str) -> Callable[..., Any]:
        def hook(child: TorchModule, given: tuple, result: Any) -> Any:
            self._inside.pop()
            if type(child).__module__.startswith("geoopt."):  # whose operations are none of the person's
                return self.passed(f"the output of {name}", result, sizes_of(given))
            return result

        return hook

    def place(self, frame: Any) -> str | None:
        """file:line in the person's code, else the module that runs; None inside of geoopt and of manifolds."""
        if self._depth or (place := user_place(frame)) is None:
            return None
        return place or ".".join(self._inside[-1:]) or "the module"

    def _watch_manifold(self, manifold: Any, stack: ExitStack) -> None:
        for name in METHODS:
            if callable(method := getattr(manifold, name, None)):
                object.__setattr__(manifold, name, self._called(name, method))
                stack.callback(object.__delattr__, manifold, name)

    def _called(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if (place := self.place(sys._getframe(1))) is None:
                return method(*args, **kwargs)
            args = tuple(self.passed(f"argument {n + 1} of {name} in {place}", value) for n, value in enumerate(args))
            self._depth += 1
            try:
                result = method(*args, **kwargs)
            finally:
                self._depth -= 1
            return self.passed(f"{name} in {place}", result, sizes_of(args))

        return call


def _operations(sites: Sites) -> Any:
    from torch.overrides import TorchFunctionMode

    class Operations(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if (place := sites.place(sys._getframe(1))) is None:
                return result
            name = getattr(func, "__name__", "operation")
            return result if name == "__get__" else sites.passed(f"{name.strip('_')} in {place}", result, sizes_of(args))

    return Operations()


def sizes_of(args: Any) -> tuple[int, ...]:
    """The axes of the first tensor among the arguments."""
    return next((tuple(value.shape) for value in args if hasattr(value, "shape")), ())


def user_place(frame: Any) -> str | None:
    """file:line of the nearest frame outside of torch; None if it is another library's, and "" if it is the one that calls the module."""
    while frame is not None:
        name = frame.f_code.co_filename
        library = "site-packages" in name or "dist-packages" in name
        if name.startswith(OURS) and (name == CALLS or not name.startswith(HERE)):
            return ""
        if not ("/torch/" in name or name.startswith((HERE, "<")) or (not library and name.startswith(STANDARD))):
            return None if library else f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return None


__all__ = ["Change", "Site", "Sites"]
