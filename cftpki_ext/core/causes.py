"""
Why the status of a certificate, or what a directory says of a partner, is not what it should be: the rows of the policy table.
"""

from __future__ import annotations

import enum


class Cause(enum.StrEnum):
    """
    One reason why a source, or all sources of a certificate together, established nothing.

    The names are configuration keys (`[policy.NAME]`) and appear in evidence.
    """

    NO_SOURCE = "no_source"  # neither certificate nor configuration names a location, nothing was handed in
    UNREACHABLE = "unreachable"  # resolve, connect, TLS, HTTP status, connection cut
    TIMED_OUT = "timed_out"  # the wall-clock budget was used up
    TRY_LATER = "try_later"  # OCSP tryLater (3)
    RESPONDER_ERROR = "responder_error"  # OCSP malformedRequest (1), internalError (2), sigRequired (5)
    UNAUTHORIZED = "unauthorized"  # OCSP unauthorized (6, RFC 5019 2.2.3), or an API that refuses us
    UNKNOWN = "unknown"  # a signed OCSP "unknown", or a REST lookup that does not know the serial
    STALE = "stale"  # authentic, but past nextUpdate, beyond the age limit or not yet valid
    MALFORMED = "malformed"  # read, and no good news: form or content in doubt, unknown critical extensions
    UNREADABLE = (
        "unreadable"  # something answered, and nothing in it can be read: no status of that kind at all
    )
    BAD_SIGNATURE = "bad_signature"  # signature wrong, signer not entitled, weak algorithm, nonce mismatch
    WRONG_SCOPE = "wrong_scope"  # about another certificate, issuer, distribution point, or some reasons only
    TOO_LARGE = "too_large"
    FORBIDDEN_URL = "forbidden_url"  # scheme, host or address that the configuration does not allow
    NO_REV_AVAIL = "no_rev_avail"  # the CA says that it tells nobody's status of this certificate (RFC 9608)
    DISAGREEMENT = "disagreement"  # cross-check: sources contradict each other
    MUST_STAPLE = "must_staple"  # RFC 7633 asks for a staple and none came
    # What a directory says of the partner (`trust.NAME.directory`), or that it says nothing.
    DIRECTORY_NOT_FOUND = "directory_not_found"  # no entry, or the certificate has nothing to search by
    DIRECTORY_AMBIGUOUS = "directory_ambiguous"  # more entries than one
    DIRECTORY_ASSERTION_FAILED = "directory_assertion_failed"  # the entry is not as it must be
    DIRECTORY_UNREACHABLE = "directory_unreachable"  # no server answered in time
    DIRECTORY_UNUSABLE = "directory_unusable"  # an answer that cannot be used, or our bind was refused
    # The three that let a "good" count with a warning: reservations, see `cftpki_ext.decision.grounds`.
    OLDER_GOOD = "older_good"  # the source did not answer, an older good one was used
    UNUSABLE_ANSWER = "unusable_answer"  # a source answered what cannot be used, another's "good" was used
    SILENT_SOURCE = "silent_source"  # a source that is to be heard did not answer, another's "good" was used


# Why a "good" is not all that it should be. Each of them warns under every policy that does not refuse it.
RESERVATIONS = frozenset({Cause.OLDER_GOOD, Cause.UNUSABLE_ANSWER, Cause.SILENT_SOURCE})

# What is said of a partner, and not of a certificate's status.
OF_DIRECTORY = frozenset(
    {
        Cause.DIRECTORY_NOT_FOUND,
        Cause.DIRECTORY_AMBIGUOUS,
        Cause.DIRECTORY_ASSERTION_FAILED,
        Cause.DIRECTORY_UNREACHABLE,
        Cause.DIRECTORY_UNUSABLE,
    }
)

# What a directory has said of a partner: it does not lift itself because the directory is silent by now.
REFUSED_BY_DIRECTORY = frozenset(
    {Cause.DIRECTORY_NOT_FOUND, Cause.DIRECTORY_AMBIGUOUS, Cause.DIRECTORY_ASSERTION_FAILED}
)
