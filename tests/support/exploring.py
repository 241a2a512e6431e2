"""
A server that recognitions look at, in memory: every question has the answer that was laid down, or 404.

    explorer = Exploring("https://ca.example", {"/roots": (200, b"{}")})
    asyncio.run(RECOGNITION.look(explorer))
    explorer.asked
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cftpki_ext.identity.recognition import Heard, Trusted, TrustedBy

SYSTEM = Trusted(by=TrustedBy.SYSTEM)


@dataclass
class Exploring:
    """
    `answers` by path; `anything` is the body (status 200) of everything that is not there.
    """

    url: str
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    trust: Trusted = SYSTEM
    anything: bytes | None = None
    kind: str = "application/json"
    asked: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    async def get(self, url: str) -> Heard | None:
        self.asked.append(url)
        status, body = (404, b"") if self.anything is None else (200, self.anything)
        status, body = self.answers.get(url.removeprefix(self.origin), (status, body))
        return Heard(status=status, headers={"content-type": self.kind}, body=body, url=url)

    async def post(self, url: str, body: bytes, *, content_type: str) -> Heard | None:  # noqa: ARG002  # the port's signature
        return await self.get(url)
