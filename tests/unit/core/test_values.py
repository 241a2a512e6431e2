"""
Values are what the standard decorator makes, in everything that anybody may ask of them.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
from dataclasses import field
from typing import Any

import pytest

import cftpki_cache
import cftpki_connectors
import cftpki_ext
from cftpki_ext.core import values

FROZEN = {"frozen": True, "slots": True}
BY_NAME = {**FROZEN, "kw_only": True}


def plain():
    class Value:
        a: int
        b: str = "b"

    return Value


def defaults():
    class Value:
        a: int = 1
        b: list[int] = field(default_factory=list)
        c: str = field(default="c", repr=False, compare=False)
        d: int = field(default=7, init=False)
        e: list[int] = field(default_factory=lambda: [1], init=False)

    return Value


def mixed():
    class Value:
        b: int = field(default=2, kw_only=True)
        a: int = 1
        c: int = field(kw_only=True)

    return Value


def hashed():
    class Value:
        a: int = 1
        b: list[int] = field(default_factory=list, hash=False)

    return Value


def empty():
    class Value:
        pass

    return Value


def one():
    class Value:
        a: Any = 1

    return Value


def checked():
    class Value:
        a: int = 1

        def __post_init__(self):
            if self.a < 0:
                msg = "negative"
                raise ValueError(msg)

    return Value


def own_methods():
    class Value:
        a: int = 1

        def __eq__(self, other):
            return True

        def __hash__(self):
            return 5

        def __repr__(self):
            return "own"

    return Value


def own_equality():
    class Value:  # noqa: PLW1641 - that is what it is for
        a: int = 1

        def __eq__(self, other):
            return True

    return Value


BODIES = (plain, defaults, mixed, hashed, empty, one, checked, own_methods, own_equality)
OPTIONS = (
    {},
    FROZEN,
    BY_NAME,
    {"slots": True},
    {"frozen": True},
    {**FROZEN, "eq": False},
    {**FROZEN, "repr": False},
)
CALLS = (
    ((), {}),
    ((1,), {}),
    ((1, "x"), {}),
    ((), {"a": 1}),
    ((), {"a": -1}),
    ((), {"a": 2, "b": [3]}),
    ((), {"a": 2, "c": "z"}),
    ((), {"c": 1}),
    ((), {"d": 1}),
    ((1, 2, 3, 4), {}),
)


def tried(work) -> Any:
    """
    What came of it: a value, or an error as its type and words.
    """
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - whichever it is
        return type(error), str(error)


def told(value: Any) -> Any:
    """
    Everything that can be asked of a value; an error stays what it is.
    """
    if isinstance(value, tuple):
        return value
    text = repr(value)
    return {
        "fields": [
            (one.name, one.type, one.init, one.repr, one.compare) for one in dataclasses.fields(value)
        ],
        "values": dataclasses.asdict(value),
        "text": text if "object at" not in text else "",
        "hash": tried(lambda: hash(value) if vars(type(value)).get("__hash__") else "identity"),
        "same": value == copy.copy(value),
        "same, all through": value == copy.deepcopy(value),
        "other class": value == 1,
        "set": [tried(lambda: setattr(value, name, 3)) for name in type(value).__match_args__],  # noqa: B023
        "deleted": [tried(lambda: delattr(value, name)) for name in type(value).__match_args__],  # noqa: B023
        "signature": str(inspect.signature(type(value))),
        "match": type(value).__match_args__,
        "names": type(value).__init__.__qualname__,
    }


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("body", BODIES)
def test_value_is_what_the_standard_decorator_makes(body, options):
    ours, theirs = values.dataclass(**options)(body()), dataclasses.dataclass(**options)(body())
    for args, named in CALLS:
        expected = told(tried(lambda: theirs(*args, **named)))  # noqa: B023 - called at once
        assert expected == told(tried(lambda: ours(*args, **named)))  # noqa: B023 - called at once


@pytest.mark.parametrize("options", [FROZEN, {}, {"frozen": True}], ids=str)
def test_values_differ_where_the_standard_ones_differ(options):
    ours, theirs = values.dataclass(**options)(defaults()), dataclasses.dataclass(**options)(defaults())
    pairs = [((1,), (1,)), ((1,), (2,)), ((1, [1]), (1, [])), ((1, [], "c"), (1, [], "d"))]
    assert [theirs(*left) == theirs(*right) for left, right in pairs] == [
        ours(*left) == ours(*right) for left, right in pairs
    ]


def test_not_a_number_is_the_same_as_itself_and_no_other():
    value = values.dataclass(**FROZEN)(one())
    nan = float("nan")
    assert (True, False) == (value(nan) == value(nan), value(nan) == value(float("nan")))


@values.dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    a: int
    b: tuple[int, ...] = ()


@values.dataclass(frozen=True, slots=True, kw_only=True)
class Derived(Base):
    c: str = "c"


@pytest.mark.parametrize("body", [plain, mixed, hashed, empty, one, checked])
@pytest.mark.parametrize("changes", [{}, {"a": 5}, {"a": -5}, {"b": [1]}, {"unknown": 1}], ids=str)
def test_value_is_replaced_as_by_the_standard_library(body, changes):
    Value = values.dataclass(**FROZEN)(body())  # noqa: N806 - it is a class
    value = Value(**({"a": 1} if body is plain else {"c": 1} if body is mixed else {}))
    expected = tried(lambda: dataclasses.replace(value, **changes))
    found = tried(lambda: values.replace(value, **changes))
    assert found is not value
    if isinstance(expected, tuple):
        assert expected[0] is found[0]
    else:
        assert expected == found


def test_frozen_value_takes_no_attribute_that_is_no_field():
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'unknown'"):
        Base(a=1).unknown = 3  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'unknown'"):
        del Base(a=1).unknown  # type: ignore[attr-defined]


def test_value_goes_through_pickle_and_back():
    assert Derived(a=1, b=(2,)) == pickle.loads(pickle.dumps(Derived(a=1, b=(2,))))  # noqa: S301 - our own


def test_derived_value_has_the_fields_of_both_and_is_no_base_value():
    made = Derived(a=1)
    assert "Derived(a=1, b=(), c='c')" == repr(made)
    assert Derived(a=1, c="d") == dataclasses.replace(made, c="d")
    assert Base(a=1) != made
    assert Derived(a=1) == made


def test_value_within_itself_is_told_once():
    value = values.dataclass(one())(1)
    value.a = value
    assert f"{type(value).__qualname__}(a=...)" == repr(value)


def test_plain_subclass_takes_more_than_the_fields():
    class Sub(Base):
        pass

    sub: Any = Sub(a=1)
    sub.more = 2
    assert 2 == sub.more
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'a'"):
        sub.a = 3


def test_frozen_value_does_not_take_its_own_setter():
    class Value:
        a: int = 1

        def __setattr__(self, name, value):
            """
            Would undo the freezing.
            """

    with pytest.raises(TypeError, match="__setattr__"):
        values.dataclass(**FROZEN)(Value)


def test_mutable_default_is_refused_as_ever():
    class Value:
        a: list[int] = []  # noqa: RUF012 - this is it

    with pytest.raises(ValueError, match="mutable default"):
        values.dataclass(**FROZEN)(Value)


def shipped():
    """
    Every value class of the product.
    """
    for package in (cftpki_ext, cftpki_connectors, cftpki_cache):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module.name.endswith(".__main__"):
                continue
            with contextlib.suppress(ModuleNotFoundError):  # an extra that is not installed
                found = importlib.import_module(module.name)
                yield from (
                    one
                    for one in vars(found).values()
                    if isinstance(one, type)
                    and one.__module__ == module.name
                    and "__dataclass_fields__" in vars(one)
                )


def test_every_value_class_of_the_product_can_be_made():
    made = [values._compiled_init(one, frozen=True, slots="__slots__" in vars(one)) for one in shipped()]
    assert len(made) > 250
