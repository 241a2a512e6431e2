"""
`[refresh]`: what is renewed ahead.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from cftpki_ext.config.models import Duration, Section
from cftpki_ext.config.sections import Reader
from cftpki_ext.core.settings import RefreshSettings


class RefreshModel(Section):
    """
    `[refresh]`.
    """

    enabled: bool | None = None
    # Less than an hour forgets a partner between two transfers; whoever did not come for a year comes as a stranger.
    remember: Annotated[Duration, Field(ge=timedelta(hours=1), le=timedelta(days=366))] | None = None
    partners: Annotated[int, Field(ge=1, le=100_000)] | None = None
    requests_per_hour: Annotated[int, Field(ge=60, le=360_000)] | None = None
    tell_before: Annotated[Duration, Field(ge=timedelta(0), le=timedelta(days=366))] | None = None


def read_refresh(reader: Reader, raw: object) -> RefreshSettings:
    """
    Read `[refresh]`.

    Args:
        reader: of the file.
        raw: the section.

    Returns:
        The settings; the defaults for what is absent.

    """
    model = reader.validate(RefreshModel, ("refresh",), raw)
    return RefreshSettings(**{key: value for key, value in model if value is not None})
