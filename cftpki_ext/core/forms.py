"""
How values are turned into plain data and back: pydantic, imported when the first one is.

Owns that import, because a chain is judged without it (docs/adr/0030-start-up.md), and the names by which earlier releases
stored fields. Pure.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, TypeAdapter
    from pydantic_core import CoreSchema


@cache
def form_of(kind: Any) -> TypeAdapter[Any]:
    """
    What reads and writes one kind of value.

    Args:
        kind: a class, or a type as annotations write it.

    Returns:
        pydantic's adapter, always the same.

    """
    from pydantic import TypeAdapter  # noqa: PLC0415 - see above

    return TypeAdapter(kind)


def field_at_fault(error: Exception) -> str | None:
    """
    Which field could not be read.

    Args:
        error: what reading raised.

    Returns:
        The names on the way to the field, with dots; `None` where it was no value's form that was wrong.

    """
    from pydantic import ValidationError  # noqa: PLC0415 - see above

    if not isinstance(error, ValidationError):
        return None
    place = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]
    return ".".join(map(str, place))


def with_hop(source: Any, handler: GetCoreSchemaHandler, *, shown: bool) -> CoreSchema:
    """
    The schema of a class whose `depth` 0.1.0 called a hop: stored records keep the name, and scripts read it.

    Args:
        source: the class.
        handler: pydantic's.
        shown: whether `hop` (an attribute of the class) is written as well, after the fields.

    Returns:
        The schema: `hop` is read, or else `depth`.

    """
    from pydantic_core.core_schema import any_schema, computed_field  # noqa: PLC0415 - see above

    schema = handler(source)
    fields: Any = handler.resolve_ref_schema(schema)
    arguments = fields["schema"]
    for one in arguments["fields"]:
        if one["name"] == "depth":
            one["validation_alias"] = [["hop"], ["depth"]]
    if shown:
        arguments["computed_fields"] = [computed_field("hop", any_schema())]
    return schema


def with_name(source: Any, handler: GetCoreSchemaHandler, *, field: str, stored: str) -> CoreSchema:
    """
    The schema of a class one of whose fields is read and written by another name.

    Args:
        source: the class.
        handler: pydantic's.
        field: the attribute.
        stored: its name in what is stored.

    Returns:
        The schema.

    """
    schema = handler(source)
    fields: Any = handler.resolve_ref_schema(schema)
    for one in fields["schema"]["fields"]:
        if one["name"] == field:
            one["validation_alias"] = one["serialization_alias"] = stored
    return schema
