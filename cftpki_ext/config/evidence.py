"""
`[evidence]`: what is kept of verdicts.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from cftpki_ext.config.models import Duration, Section, Size
from cftpki_ext.config.sections import Reader
from cftpki_ext.core.settings import EvidenceSettings


class EvidenceModel(Section):
    """
    `[evidence]`.
    """

    # Less than an hour would let go of what somebody is looking at; more than ten years is never looked at.
    keep: Annotated[Duration, Field(ge=timedelta(hours=1), le=timedelta(days=3660))] | None = None
    max_size: Annotated[Size, Field(ge=1 << 20, le=1 << 40)] | None = None
    required: bool | None = None


def read_evidence(reader: Reader, raw: object) -> EvidenceSettings:
    """
    Read `[evidence]`.

    Args:
        reader: of the file.
        raw: the section.

    Returns:
        The settings; the defaults for what is absent.

    """
    model = reader.validate(EvidenceModel, ("evidence",), raw)
    given = {"keep": model.keep, "max_bytes": model.max_size, "required": model.required}
    return EvidenceSettings(**{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]  # each key keeps its own type
