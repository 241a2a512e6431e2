"""
`[metrics]`: where the numbers are served.
"""

from __future__ import annotations

from cftpki_ext.config.models import Section
from cftpki_ext.config.sections import Reader
from cftpki_ext.core.settings import MetricsSettings
from cftpki_ext.support.listening import read_address


class MetricsModel(Section):
    """
    `[metrics]`.
    """

    listen: str | None = None


def read_metrics(reader: Reader, raw: object) -> MetricsSettings:
    """
    Read `[metrics]`.

    Args:
        reader: of the file.
        raw: the section.

    Returns:
        The settings; the defaults for what is absent.

    """
    listen = reader.validate(MetricsModel, ("metrics",), raw).listen
    if listen is None:
        return MetricsSettings()
    # Whatever holds a slash is a path, as in the rest of the file: relative to its directory.
    text = str(reader.path(listen)) if "/" in listen else listen
    try:
        read_address(text)
    except ValueError as exc:
        reader.faults.add(("metrics", "listen"), str(exc))
        return MetricsSettings()
    return MetricsSettings(listen=text)
