"""
What hosts may answer by themselves, as values: rules, with CA list and chain, and verdicts that stand. Pure.

A host answers as the service would, or not at all: what is written here is made by the same functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cftpki_ext.core.settings import Rule, Settings
from cftpki_ext.core.vocabulary import Direction, Phase
from cftpki_ext.decision.question import Question
from cftpki_ext.exit.rule_answers import ca_list_of, mask_of, phases_of
from cftpki_ext.identity import HeldIdentity
from cftpki_ext.protocol.tls_vectors import encode_chain
from cftpki_ext.service.board.native import BoardRule, BoardVerdict
from cftpki_ext.service.judging.standing import Standing

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HASH = 8  # octets of a name's SHA-256 in the global area
_SHORT = 16
_LATEST_NS = 2**63 - 1  # what the entry's field holds


def uses_board(settings: Settings, rule: Rule) -> bool:
    """
    Whether hosts may answer anything of a rule's sessions.
    """
    return (
        settings.service.board
        and rule.board
        and Phase.START_HANDSHAKE in settings.service.phases
        and Phase.START_HANDSHAKE not in rule.not_handled
    )


def rules_by_name(settings: Settings) -> dict[str, Rule]:
    """
    The rules that their name tells from all others: verdicts know theirs by it.
    """
    counts = Counter(rule.name for rule in settings.rules)
    return {rule.name: rule for rule in settings.rules if counts[rule.name] == 1}


def publishes_verdicts(settings: Settings, rule: Rule) -> bool:
    """
    Whether hosts may give a rule's verdicts again.

    Not where evidence is required: there a session's own record is kept before the session is answered.
    """
    return uses_board(settings, rule) and not settings.evidence.required


def is_asked_by(settings: Settings, rule: Rule, question: Question) -> bool:
    """
    Whether a question is the one that a session of a rule puts now.

    A session keeps the rule that it was matched by, also over a reload; another one may have its name by then, with other
    partners, another trust set or the other direction.
    """
    return (
        settings.trusts.get(rule.trust) is question.trust
        and rule.direction is question.direction
        and rule.partners == question.partners
        and settings.limits == question.limits
    )


def rules_of(
    settings: Settings,
    *,
    keys: Sequence[int],
    held: Mapping[str, HeldIdentity],
    ca_lists: Mapping[str, bytes],
) -> tuple[BoardRule, ...]:
    """
    The rules of a configuration as hosts have them, in its order.

    Args:
        settings: the configuration.
        keys: a number for each rule, never that of a rule that means something else.
        held: the generations in force, by identity; where one is missing, the service is asked.
        ca_lists: the answer to GetCAList, by trust set; where one is missing, the service is asked.

    Returns:
        The rules.

    """
    trusts = {name: index for index, name in enumerate(sorted(settings.trusts))}
    names = rules_by_name(settings)
    found = []
    for rule, key in zip(settings.rules, keys, strict=True):
        own = held.get(rule.identity) if rule.identity is not None else None
        server = rule.direction is Direction.SERVER
        found.append(
            BoardRule(
                key=key,
                name=rule.name,
                direction=rule.direction,
                asks=not uses_board(settings, rule) or rule.trust not in trusts or rule.name not in names,
                requires_check=rule.require_check,
                profile=rule.profile,
                port=rule.port,
                phase_mask=mask_of(phases_of(settings.service, rule)),
                min_tls=rule.min_tls,
                client_auth=rule.client_auth if server else None,
                trust=trusts.get(rule.trust, 0),
                digest=sha256(rule.name.encode()).digest()[:_HASH],
                networks=rule.networks,
                ca_list=ca_lists.get(rule.trust) if server else None,
                chain=None if own is None else encode_chain(tuple(one.der for one in own.chain)),
                generation=0 if own is None else own.generation,
                issuers=() if own is None else tuple(dict.fromkeys(one.issuer.der for one in own.chain)),
            )
        )
    return tuple(found)


def ca_lists_of(settings: Settings) -> dict[str, bytes]:
    """
    The answer to GetCAList of each trust set that a rule names.

    Raises:
        InputError: an anchor cannot be read; such a configuration does not load.

    """
    used = {rule.trust for rule in settings.rules if rule.trust in settings.trusts}
    return {name: ca_list_of(settings.trusts[name]) for name in sorted(used)}


def verdict_of(standing: Standing, chain: Sequence[bytes], *, rule_key: int, trust: int) -> BoardVerdict:
    """
    A verdict that stands as hosts have it.

    Args:
        standing: the verdict; it accepts.
        chain: whole, leaf first.
        rule_key: of its rule.
        trust: the number of its trust set.

    Returns:
        The entry. Times are cut so that it never holds longer.

    """
    verdict = standing.verdict
    return BoardVerdict(
        rule_key=rule_key,
        trust=trust,
        # A host's clock shows milliseconds: it is not before the verdict.
        wall_from_ms=(verdict.evidence.decided_at - _EPOCH) // timedelta(milliseconds=1),
        wall_until_ms=(standing.until - _EPOCH) // timedelta(milliseconds=1),
        monotonic_until_ns=min(int(standing.ends_at * 1_000_000_000), _LATEST_NS),
        verdict_id=bytes.fromhex(verdict.id),
        policy=sha256(verdict.evidence.policy.encode()).digest()[:_HASH],
        partner=sha256(chain[0]).digest()[:_SHORT],
        chain=encode_chain(tuple(chain)),
    )
