"""
Notices as JSON by POST, with the guarded client of responders (`fetch`). Follows no redirect; keeps nothing of the answer.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from cftpki_connectors.fetch.client import Fetcher
from cftpki_connectors.fetch.url import ForbiddenUrlError, Target, parse_url
from cftpki_connectors.fetch.values import FetchError, FetchRequest
from cftpki_connectors.notify.reach import guard_for
from cftpki_connectors.notify.words import data_of
from cftpki_connectors.support import threads
from cftpki_connectors.support.secret_files import MAX_TEXT_BYTES, secret_bytes
from cftpki_ext.core.errors import InputError, NotTakenError
from cftpki_ext.core.notify import NoticeMessage, WebhookReceiver
from cftpki_ext.support.failures import reason_of

# Nothing of an answer is looked at; what is larger is a mistake of somebody's.
_ANSWER_BYTES = 64 * 1024


class WebhookSender:
    """
    Sends to one URL. The address and the token are read from their files for each message.

    Args:
        receiver: the settings.
        fetcher: the client; closed here.

    """

    def __init__(self, receiver: WebhookReceiver, *, fetcher: Fetcher | None = None) -> None:
        self._receiver = receiver
        self._fetcher = fetcher or Fetcher()

    async def send(self, message: NoticeMessage, *, deadline: float) -> None:
        """
        See `ports.NoticeSender`. Any status of success counts.
        """
        one = self._receiver
        target = self._target(await self._url())
        guard = guard_for(target.host, target.port, one.allow_networks, proxy=one.proxy, roots=one.roots)
        request = FetchRequest(
            url=str(target),
            guard=guard,
            deadline=deadline,
            max_bytes=_ANSWER_BYTES,
            redirects=0,
            method="POST",
            body=json.dumps(data_of(message)).encode(),
            headers={"Content-Type": "application/json", "Accept": "*/*"},
            content_types=None,
            secret_headers=await self._authorization(),
            repeat_status=False,
        )
        try:
            await self._fetcher.fetch(request)
        except FetchError as error:
            if error.status is not None and 200 <= error.status < 300:
                return  # taken, whatever else it says
            # Without the address, which may be a secret.
            msg = f"{target.host} did not take it: {error.detail}"
            raise NotTakenError(msg) from None

    async def aclose(self) -> None:
        """
        Close the connections.
        """
        await self._fetcher.aclose()

    def _target(self, url: str) -> Target:
        try:
            if urlsplit(url).scheme.lower() == "http" and not self._receiver.unsafe_plain_http:
                msg = "its address is not https"
                raise NotTakenError(msg)
            return parse_url(url)
        except (ForbiddenUrlError, ValueError) as error:
            # The words of a parser may repeat what it read.
            msg = "its address cannot be used: it is no plain https URL"
            raise NotTakenError(msg) from error

    async def _url(self) -> str:
        one = self._receiver
        return one.url or (await _secret(one, "url_secret_file") or "")

    async def _authorization(self) -> dict[str, str]:
        token = await _secret(self._receiver, "token_file")
        return {} if token is None else {"Authorization": f"Bearer {token}"}


async def _secret(receiver: WebhookReceiver, key: str) -> str | None:
    path = getattr(receiver, key)
    if path is None:
        return None
    try:
        content = (await threads.call(lambda: secret_bytes(path, key, MAX_TEXT_BYTES))).strip()
    except (InputError, OSError) as error:
        raise NotTakenError(str(error) if isinstance(error, InputError) else reason_of(error)) from error
    if not content or not all(0x21 <= octet <= 0x7E for octet in content):
        msg = f"{key}: {path} holds no single word of visible ASCII"
        raise NotTakenError(msg)
    return content.decode("ascii")
