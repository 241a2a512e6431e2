"""
The state of an identity between attempts: failures, the CA's hint, what waits for whom, how far the new generation has got.

Owns `DIRECTORY/standing.json`. All of it can be lost without harm: what must not be lost is in the journal and the
generations. Writers hold the identity's lock; readers see the old or the new.
"""

from __future__ import annotations

import enum
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cftpki_ext.core.errors import InputError, PassingError
from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.identity.store.durable import make_directory, replace_file
from cftpki_ext.support.files import is_passing, read_regular

MAX_BYTES = 256 * 1024
NAME = "standing.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class Failure(_Part):
    """
    An attempt that came to nothing.

    `not_before` is what the CA asked for, `times` how many of them in a row, `issued` that the CA issued a certificate
    nevertheless, which is of no use.
    """

    at: datetime
    enroller: str
    fault: Fault
    detail: str
    not_before: datetime | None = None
    times: int = 1
    issued: bool = False


class Waiting(_Part):
    """
    An order that is with the CA, or a certificate that is not valid yet.
    """

    enroller: str
    order: str
    retry_at: datetime
    detail: str


class Hint(_Part):
    """
    The CA's renewal window for one generation, and the moment picked in it once.
    """

    generation: int
    picked: datetime | None
    start: datetime | None
    end: datetime | None
    explanation: str | None
    ready: bool = False
    ask_again_at: datetime


class Stage(enum.StrEnum):
    """
    How far a generation has got: on the disk, in force, and seen at the host's own listener.
    """

    STAGED = "staged"
    ACTIVATED = "activated"
    OBSERVED = "observed"


class Task(_Part):
    """
    Something that is done after activation and repeated until it works, without issuing anything.
    """

    done_at: datetime | None = None
    attempts: int = 0
    next_at: datetime | None = None
    error: str | None = None


class Rollout(_Part):
    """
    What follows the activation of one generation.
    """

    generation: int
    activated_at: datetime
    hooks: Task = Task()
    observed: Task = Task()


class Status(_Part):
    """
    What our own check said of our own certificate.
    """

    generation: int
    checked_at: datetime
    revoked: bool
    detail: str
    ask_again_at: datetime | None = None
    # A CA above it is revoked: another certificate of that CA would be no better.
    above: bool = False
    unknown: bool = False  # nothing was heard: what stands here is what was known before


class GivenUp(_Part):
    """
    A generation that was in force and could not be used, so that an earlier one took its place.
    """

    generation: int | None
    detail: str


class IdentityState(_Part):
    """
    Everything that is remembered between two ticks.
    """

    mark: str = ""  # of the configuration that failures and waits speak of
    under_way: bool = False  # an attempt was begun, and nothing written of its end
    failures: int = 0
    last_attempt_at: datetime | None = None
    last_failure: Failure | None = None
    held_back: dict[
        str, Failure
    ] = {}  # by enroller: failures that cost something, and wishes to be left alone
    waiting: Waiting | None = None
    hint: Hint | None = None
    rollout: Rollout | None = None
    status: Status | None = None
    replaced: int = 0  # how many generations in a row had to be replaced before their time
    kept_back: int | None = None  # the generation that an operator went back to
    going_back: int | None = None  # the same, written before the pointer flips; says nothing while it has not
    revoked: frozenset[int] = frozenset()  # generations that nobody goes back to
    given_up: GivenUp | None = None  # until another generation is issued


def read_state(directory: Path) -> IdentityState:
    """
    How the identity stands.

    Args:
        directory: of the identity.

    Returns:
        What was written last; a fresh one where there is none, or none that can be read.

    Raises:
        PassingError: nobody can look now.

    """
    return look_at_state(directory)[0]


def look_at_state(directory: Path) -> tuple[IdentityState, str | None]:
    """
    How the identity stands, and what is wrong with the record of it.

    Args:
        directory: of the identity.

    Returns:
        As of `read_state`; and why it could not be read, `None` where it could or there is none.

    Raises:
        PassingError: nobody can look now.

    """
    path = directory / NAME
    try:
        raw = read_regular(path, cap=MAX_BYTES, what="state of the identity").data
        return IdentityState.model_validate_json(raw), None
    except InputError as error:
        if is_passing(error):
            raise PassingError(str(error)) from error
        gone = isinstance(error.__cause__, FileNotFoundError)
        return IdentityState(), None if gone else str(error)
    except ValidationError:
        return IdentityState(), f"{path} is not as it was written"


def write_state(directory: Path, state: IdentityState) -> None:
    """
    Remember how the identity stands.

    Raises:
        StoreError: the disk refuses.

    """
    make_directory(directory)
    replace_file(directory / NAME, state.model_dump_json(indent=1).encode() + b"\n")
