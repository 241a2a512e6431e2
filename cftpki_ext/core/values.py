"""
Values: `dataclasses.dataclass`, whose methods cost nothing before the first call.

The standard decorator compiles six methods of a frozen class at import, 0.8 ms each class, used or not; a command that
judges one chain imports more than a hundred of them (docs/adr/0030-start-up.md). This one gives the same classes: fields,
slots and defaults are the standard library's own work, `__init__` is compiled when the first value is made, and
comparison, hash and text are closures over the fields. `fields`, `replace`, `asdict`, `copy` and `pickle` work as they do
with the standard one; `inspect.signature` says nothing before the first value, and `__dataclass_params__` names none of the
methods. Not there: `order`, `InitVar`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError
from functools import cache
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass, replace
else:

    def dataclass(
        cls: type | None = None,
        /,
        *,
        frozen: bool = False,
        slots: bool = False,
        kw_only: bool = False,
        eq: bool = True,
        repr: bool = True,  # noqa: A002 - the standard decorator's name
    ) -> Any:
        """
        Make a class of values; see `dataclasses.dataclass`.

        Args:
            cls: the class, where the decorator is used without arguments.
            frozen: no attribute can be set once the value is made.
            slots: no attributes but the fields.
            kw_only: fields are given by name.
            eq: values are compared by their fields; frozen ones have a hash.
            repr: the text names the fields.

        Returns:
            The class, or the decorator.

        Raises:
            TypeError: what the standard decorator refuses.

        """

        def decorate(given: type) -> type:
            made = dataclasses.dataclass(
                given, init=False, repr=False, eq=False, slots=slots, kw_only=kw_only
            )
            own = given.__dict__
            _init_later(made, frozen=frozen, slots=slots)
            if repr and "__repr__" not in own:
                made.__repr__ = _shown(made)
            if eq:
                _compared(made, own, frozen=frozen)
            if frozen:
                _freeze(made, own, slots=slots)
            return made

        return decorate if cls is None else decorate(cls)

    def replace(value: Any, /, **changes: Any) -> Any:
        """
        The same value but for some fields: `dataclasses.replace`, a quarter of its time.

        Args:
            value: of a class made here or by the standard decorator, whose fields are all given to `__init__`.
            changes: fields by name.

        Returns:
            Another value of the same class.

        Raises:
            TypeError: there is no such field.

        """
        return _replacer(type(value))(value, **changes)


@cache
def _replacer(made: Any) -> Callable[..., Any]:
    """
    A function with all fields as arguments, each with what stands for itself.
    """
    names = [one.name for one in dataclasses.fields(made)]
    parameters = "".join(f", {name}=_KEPT" for name in names)
    values = ", ".join(f"{name}=self.{name} if {name} is _KEPT else {name}" for name in names)
    known: dict[str, Any] = {"_made": made, "_KEPT": object()}
    star = ", *" if names else ""
    exec(f"def replace(self, /{star}{parameters}):\n  return _made({values})\n", known)  # noqa: S102 - as in `_compiled_init`
    found: Callable[..., Any] = known["replace"]
    return found


class _Made:
    """
    Stands for a default that is made anew for each value.
    """

    def __repr__(self) -> str:
        """
        What the standard decorator shows in a signature.
        """
        return "<factory>"


_MADE = _Made()


def _init_later(made: Any, *, frozen: bool, slots: bool) -> None:
    def __init__(self: Any, /, *args: Any, **named: Any) -> None:  # noqa: N807 - a method of `made`
        compiled = _compiled_init(made, frozen=frozen, slots=slots)
        # Whoever comes at the same time makes the same.
        made.__init__ = compiled
        compiled(self, *args, **named)

    if "__init__" not in made.__dict__:
        _name(made, __init__)
        made.__init__ = __init__


def _compiled_init(made: Any, *, frozen: bool, slots: bool) -> Callable[..., None]:
    """
    What the standard decorator would have compiled, with the slots' own setters where nothing else may set them.
    """
    known: dict[str, Any] = {"_MADE": _MADE, "_set": object.__setattr__}
    positional: list[str] = []
    named: list[str] = []
    body: list[str] = []
    for one in dataclasses.fields(made):
        value = one.name
        if one.default_factory is not MISSING:
            known[f"_make_{one.name}"] = one.default_factory
            made_new = f"_make_{one.name}()"
            value = f"{made_new} if {one.name} is _MADE else {one.name}" if one.init else made_new
        if one.init:
            (named if one.kw_only else positional).append(_parameter(one, known))
        elif one.default is not MISSING:
            known[f"_default_{one.name}"] = one.default
            value = f"_default_{one.name}"
        elif one.default_factory is MISSING:
            continue  # for `__post_init__` to set
        if not frozen:
            body.append(f"self.{one.name} = {value}")
        elif slots:
            known[f"_set_{one.name}"] = getattr(made, one.name).__set__
            body.append(f"_set_{one.name}(self, {value})")
        else:
            body.append(f"_set(self, {one.name!r}, {value})")
    if hasattr(made, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join(("self", *positional, *(("*", *named) if named else ())))
    lines = "\n  ".join(body or ["pass"])
    exec(f"def __init__({parameters}):\n  {lines}\n", known)  # noqa: S102 - the names are those of the class's own fields
    init: Callable[..., None] = known["__init__"]
    init.__annotations__ = {one.name: one.type for one in dataclasses.fields(made) if one.init} | {
        "return": None
    }
    init.__module__ = made.__module__
    _name(made, init)
    return init


def _parameter(one: Field[Any], known: dict[str, Any]) -> str:
    if one.default is not MISSING:
        known[f"_default_{one.name}"] = one.default
        return f"{one.name}=_default_{one.name}"
    return one.name if one.default_factory is MISSING else f"{one.name}=_MADE"


def _tuple_of(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda _: ()
    (name,) = names
    return lambda self: (getattr(self, name),)


def _compared(made: Any, own: Any, *, frozen: bool) -> None:
    fields = dataclasses.fields(made)
    values = _tuple_of(tuple(one.name for one in fields if one.compare))

    def __eq__(self: Any, other: object) -> bool:  # noqa: N807 - a method of `made`
        if other.__class__ is not self.__class__:
            return NotImplemented
        return values(self) == values(other)

    hashed = _tuple_of(tuple(one.name for one in fields if (one.compare if one.hash is None else one.hash)))

    def __hash__(self: Any) -> int:  # noqa: N807 - a method of `made`
        return hash(hashed(self))

    # A class that defines `__eq__` has a `__hash__` of None in its own namespace, unless it defines that as well.
    own_hash = own.get("__hash__") is not None or ("__hash__" in own and "__eq__" not in own)
    if "__eq__" not in own:
        _name(made, __eq__)
        made.__eq__ = __eq__
    if not own_hash:
        _name(made, __hash__)
        made.__hash__ = __hash__ if frozen else None


def _shown(made: Any) -> Callable[[Any], str]:
    names = tuple(one.name for one in dataclasses.fields(made) if one.repr)

    def __repr__(self: Any) -> str:  # noqa: N807 - a method of `made`
        inner = ", ".join([f"{name}={getattr(self, name)!r}" for name in names])
        return f"{self.__class__.__qualname__}({inner})"

    _name(made, __repr__)
    return recursive_repr()(__repr__)


def _freeze(made: Any, own: Any, *, slots: bool) -> None:
    if "__setattr__" in own or "__delattr__" in own:
        msg = f"cannot overwrite attribute __setattr__ or __delattr__ in class {made.__name__}"
        raise TypeError(msg)
    names = frozenset(one.name for one in dataclasses.fields(made))

    def __setattr__(self: Any, name: str, value: object) -> None:  # noqa: N807 - a method of `made`
        if type(self) is made or name in names:
            msg = f"cannot assign to field {name!r}"
            raise FrozenInstanceError(msg)
        super(made, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807 - a method of `made`
        if type(self) is made or name in names:
            msg = f"cannot delete field {name!r}"
            raise FrozenInstanceError(msg)
        super(made, self).__delattr__(name)

    made.__setattr__, made.__delattr__ = __setattr__, __delattr__
    if slots:
        made.__getstate__ = own.get("__getstate__", _state)
        made.__setstate__ = own.get("__setstate__", _set_state)


def _state(self: Any) -> list[Any]:
    return [getattr(self, one.name) for one in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for one, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, one.name, value)


def _name(made: Any, method: Any) -> None:
    method.__qualname__ = f"{made.__qualname__}.{method.__name__}"
