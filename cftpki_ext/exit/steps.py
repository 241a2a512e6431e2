"""
What a phase can decide: final answers, and what must be fetched first. Values without behaviour.

Owns the union that `cftpki_ext.exit.phases` returns and `cftpki_ext.service.conversation` acts on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from cftpki_ext.core.settings import Rule
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Fault, Reason
from cftpki_ext.evidence import Asked
from cftpki_ext.exit.session import Presented, SessionContext
from cftpki_ext.protocol.codec import Tag, Value


@dataclass(frozen=True, slots=True)
class Reply:
    """
    DONE with these fields; `session` is what is known afterwards.
    """

    session: SessionContext | None
    fields: Mapping[Tag, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotHandled:
    """
    The host's own PKI decides, because the configuration says so for this phase.
    """

    session: SessionContext | None
    detail: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """
    REFUSED: the partner, or the session, may not go on.
    """

    session: SessionContext | None
    reason: Reason
    alert: int
    detail: str
    fields: Mapping[Tag, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fail:
    """
    FAILED with alert 80: out of order, another session's id, a configuration that lost what is needed.

    `verdict_id` is that of the record that is kept of it, where the partner is refused by it.
    """

    session: SessionContext | None
    detail: str
    verdict_id: str | None = None


@dataclass(frozen=True, slots=True)
class NeedPassword:
    """
    StartTask: the fields of the answer, to which the datafile's password is to be added.
    """

    fields: Mapping[Tag, Value]


@dataclass(frozen=True, slots=True)
class NeedVerdict:
    """
    A chain to be judged. `session` is `None` for CHECK, which lives outside any session.

    `message` is the handshake message where no chain could be read from it; `asked` goes into the record.
    `fault` is what refuses a chain of which only the beginning came, `staple_length` that of a staple that did
    not come because it is longer than the wire carries.
    """

    session: SessionContext | None
    rule: Rule
    chain: tuple[bytes, ...]
    staple: bytes | None
    asked: Asked
    message: bytes | None = None
    fault: Fault | None = None
    staple_length: int | None = None


@dataclass(frozen=True, slots=True)
class NeedChain:
    """
    The identity's chain; `ca_list` is the server's list in client mode, `None` where none came.
    """

    session: SessionContext
    identity: str
    ca_list: bytes | None


@dataclass(frozen=True, slots=True)
class NeedCaList:
    """
    The names of a trust set's anchors.
    """

    session: SessionContext
    trust: str


@dataclass(frozen=True, slots=True)
class NeedSignature:
    """
    The private-key operation with the key whose certificate was presented.
    """

    session: SessionContext
    presented: Presented
    scheme: int
    data: bytes


@dataclass(frozen=True, slots=True)
class NeedStatus:
    """
    The service's own state as JSON.
    """


Final = Reply | NotHandled | Refuse | Fail

Decision = Final | NeedPassword | NeedVerdict | NeedChain | NeedCaList | NeedSignature | NeedStatus
