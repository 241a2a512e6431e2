"""
Blocks become HTML: the templates, and how every text that goes into them is escaped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from cftpki_ext.console.blocks import Page, address
from cftpki_ext.core.escape import printable
from cftpki_ext.core.values import dataclass
from cftpki_ext.support.version import version

_HERE = Path(__file__).parent
PLACES = (
    ("/", "Now"),
    ("/partners", "Partners"),
    ("/verdicts", "Verdicts"),
    ("/sources", "Sources"),
    ("/cluster", "Cluster"),
    ("/identities", "Identities"),
    ("/exceptions", "Exceptions"),
    ("/trial", "Try a policy"),
)
REFRESH_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    How a page was asked for. `query` is what it was asked with, without `refresh`.
    """

    path: str
    query: dict[str, str]
    refreshes: bool
    can_leave: bool


class Renderer:
    """
    Makes pages.

    Args:
        host: the machine's name, which every page shows.

    """

    def __init__(self, host: str) -> None:
        self._host = host
        # `finalize` is before the escaping of HTML, and sees every text that a template puts out.
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            auto_reload=False,
        )
        self._templates.filters["moment"] = moment

    def page(self, page: Page, asked: Asked) -> str:
        """
        A page as HTML.
        """
        return self._templates.get_template("page.html").render(
            page=page,
            host=self._host,
            version=version(),
            places=PLACES,
            refresh=REFRESH_S if asked.refreshes else 0,
            moving=address(asked.path, **asked.query, refresh=REFRESH_S),
            still=address(asked.path, **asked.query),
            can_leave=asked.can_leave,
        )

    def login(self, fault: str | None) -> str:
        """
        The form for the token.
        """
        return self._templates.get_template("login.html").render(
            host=self._host, version=version(), refresh=0, fault=fault
        )


def _shown(value: Any) -> Any:
    """
    A value as it is put out: without control characters, and without what turns the direction of writing.
    """
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def moment(text: str) -> Markup:
    """
    A moment for people and programs: in UTC, to the second.

    Args:
        text: RFC 3339; anything else is shown as it is.

    Returns:
        HTML.

    """
    try:
        at = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return escape(printable(text))
    return Markup('<time datetime="{}">{} UTC</time>').format(
        f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{at:%Y-%m-%d %H:%M:%S}"
    )


def statics() -> dict[str, tuple[bytes, str]]:
    """
    The files beside the pages, by path: their octets and type. Nothing else is served from the disk.
    """
    return {
        f"/static/{name}": ((_HERE / "static" / name).read_bytes(), kind)
        for name, kind in (("console.css", "text/css; charset=utf-8"), ("mark.svg", "image/svg+xml"))
    }
