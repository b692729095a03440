"""The file is the registration: plug-ins are found by listing a folder, without importing them."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import TypeVar

from edgead.errors import InternalError, UsageError

T = TypeVar("T")


def stems(package: str, suffix: str = "") -> tuple[str, ...]:
    """Names of the plug-ins in `package`: modules without a leading underscore, ending in `suffix`.

    ``stems("edgead.runtimes", "_runtime")`` gives ``("null", "openvino", …)``. Importing `package` itself
    must be cheap; its modules are not imported.

    Raises:
        InternalError: two files claim the same name.
    """
    folder = importlib.import_module(package)
    names = [
        module.name.removesuffix(suffix)
        for module in pkgutil.iter_modules(folder.__path__)
        if not module.name.startswith("_") and module.name.endswith(suffix) and not module.ispkg
    ]
    doubles = {name for name in names if names.count(name) > 1}
    if doubles:
        raise InternalError(f"{package}: two files claim the name {', '.join(sorted(doubles))}")
    return tuple(sorted(names))


def load(package: str, name: str, suffix: str = "", kind: str = "plug-in") -> ModuleType:
    """Import the plug-in `name` of `package`.

    Raises:
        UsageError: there is no such file; the message lists what there is.
    """
    known = stems(package, suffix)
    if name not in known:
        raise UsageError(f"unknown {kind} {name!r}; there is {', '.join(known) or 'none'}")
    return importlib.import_module(f"{package}.{name}{suffix}")


def plugin_class(module: ModuleType, base: type[T]) -> type[T]:
    """The one subclass of `base` that the plug-in `module` itself defines.

    Raises:
        InternalError: it defines none, or several.
    """
    found = [
        member
        for member in vars(module).values()
        if isinstance(member, type) and issubclass(member, base) and member.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise InternalError(f"{module.__name__} defines {len(found)} classes of {base.__name__}, not one")
    return found[0]
