"""
The exceptions: a broken world. A refusal of a certificate is a verdict and never an exception.

Split by who can act on them. Messages are lower-case clauses; the cause travels by `raise … from`.
"""

from __future__ import annotations

from cftpki_ext.core.causes import Cause


class CftPkiError(Exception):
    """
    Superclass of every error of ours. Never raised itself.
    """


class ConfigError(CftPkiError):
    """
    The configuration cannot be used. `faults` holds every fault found, one printable line each.
    """

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class InputError(CftPkiError, ValueError):
    """
    What the caller handed in is not what it should be (a file that is no certificate, a bad date).
    """


class SourceError(CftPkiError):
    """
    A status source gave no usable statement. `cause` is what the policy table is asked about.
    """

    def __init__(self, cause: Cause, detail: str, *, url: str | None = None) -> None:
        super().__init__(f"{cause.value}: {detail}" + (f" ({url})" if url else ""))
        self.cause = cause
        self.detail = detail
        self.url = url


class StoreError(CftPkiError):
    """
    A store of ours cannot be read or written.
    """


class PassingError(StoreError):
    """
    The process or the machine has run out of something (files, memory): that says nothing about what was to be read.
    """


class WireError(CftPkiError):
    """
    A frame on the socket breaks the protocol (docs/protocol.md).
    """


class KeyUnavailableError(CftPkiError):
    """
    The identity's private key cannot be used: unreadable, wrong password, token gone.
    """


class SignerLostError(KeyUnavailableError):
    """
    Whoever signs with the key is not there now, or busy: that says nothing about the key.
    """


class PinRefusedError(KeyUnavailableError):
    """
    A token refused the PIN, or would: the same one is not tried again.
    """


class BudgetExceededError(CftPkiError):
    """
    A bounded search or wait came to its bound.
    """


class NotTakenError(CftPkiError):
    """
    A receiver of notices did not take a message.
    """
