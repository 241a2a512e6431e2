"""
`[policy.NAME]`: the table of causes, with what it is based on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from cftpki_ext.config.models import ExceptionModel, PolicyModel, TreatmentModel
from cftpki_ext.config.partners import fingerprint
from cftpki_ext.config.positions import KeyPath
from cftpki_ext.config.sections import Reader
from cftpki_ext.core.causes import RESERVATIONS, Cause
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.policy import PROFILES, SOFT_CAUSES, STRICT, Action, PartnerException, Policy, Treatment


def read_policies(reader: Reader, raw: Mapping[str, Any]) -> Mapping[str, Policy]:
    """
    Read every `[policy.NAME]`, bases first.

    Args:
        reader: of the file.
        raw: the sections by name.

    Returns:
        The built-in profiles and the file's policies, by name.

    """
    models = {name: reader.validate(PolicyModel, ("policy", name), section) for name, section in raw.items()}
    made: dict[str, Policy] = dict(PROFILES)
    for name in models:
        reader.name(("policy", name), name)
        if name in PROFILES:
            reader.faults.add(("policy", name), f"{name!r} is a built-in profile: choose another name")
    waiting = {name: model for name, model in models.items() if name not in PROFILES}
    while waiting:
        ready = [name for name, model in waiting.items() if (model.base or STRICT.name) not in waiting]
        if not ready:
            for name, model in waiting.items():
                reader.faults.add(
                    ("policy", name, "base"),
                    f"{model.base!r} never comes to a built-in profile: the bases go in a circle",
                )
            break
        for name in ready:
            model = waiting.pop(name)
            base = model.base or STRICT.name
            if base not in made:
                reader.unknown(("policy", name, "base"), "policy", base, reader.names.policies)
            made[name] = _policy(reader, name, made.get(base, STRICT), model)
    return MappingProxyType(made)


def _policy(reader: Reader, name: str, base: Policy, model: Any) -> Policy:
    treatments = dict(base.treatments)
    for cause in Cause:
        treatment: TreatmentModel | None = getattr(model, cause.value)
        if treatment is None:
            continue
        path = ("policy", name, cause.value)
        if treatment.action is None:
            reader.faults.add(
                path, f'says no action: add action = "refuse", "accept_warn" or "accept" to {name!r}'
            )
        if treatment.action is Action.REFUSE and (treatment.max_stale or treatment.until):
            reader.faults.add(path, "max_stale and until bound an acceptance; this refuses anyway")
        if cause in RESERVATIONS and treatment.action is Action.ACCEPT:
            reader.faults.add(path, 'is always told: write action = "accept_warn" or "refuse"')
        bounded = treatment.max_stale is not None or treatment.until is not None
        if treatment.action not in {None, Action.REFUSE} and treatment.alert is not None and not bounded:
            reader.faults.add((*path, "alert"), "is sent with a refusal, and this always accepts")
        if _ended(reader, treatment.until):
            reader.faults.add(
                (*path, "until"),
                f"{_text(treatment.until)} is past: the exception has ended, take it out",
            )
        treatments[cause] = Treatment(
            action=treatment.action or Action.REFUSE,
            max_stale=treatment.max_stale,
            until=treatment.until,
            alert=treatment.alert,
        )
    return Policy(
        name=name,
        treatments=MappingProxyType(treatments),
        depth=model.depth or base.depth,
        enforcement=model.enforcement or base.enforcement,
        exceptions=(
            *(
                made
                for index, raw in enumerate(model.exception)
                if (made := _exception(reader, ("policy", name, "exception", index), raw)) is not None
            ),
            *base.exceptions,
        ),
    )


def _ended(reader: Reader, until: datetime | None) -> bool:
    return until is not None and until <= reader.now and not reader.forgive_ended


def _text(moment: datetime | None) -> str:
    return moment.isoformat() if moment is not None else "-"


def _exception(reader: Reader, path: KeyPath, raw: object) -> PartnerException | None:
    """
    Read one `[[policy.NAME.exception]]`; `None` where something is missing.
    """
    model = reader.validate(ExceptionModel, path, raw)
    written = raw if isinstance(raw, dict) else {}
    remedies = {
        "fingerprint": "name the partner's certificate by its SHA-256",
        "until": "every exception ends, write a date",
        "reason": "say why, it is shown with every acceptance",
    }
    for key, remedy in remedies.items():
        if getattr(model, key) is None and key not in written:
            reader.faults.add((*path, key), f"{key!r} is missing: {remedy}")
    if model.causes == []:
        reader.faults.add((*path, "causes"), "is empty; leave it out for all soft causes")
    if _ended(reader, model.until):
        reader.faults.add(
            (*path, "until"), f"{_text(model.until)} is past: the exception has ended, take it out"
        )
    if model.fingerprint is None or model.until is None or model.reason is None:
        return None
    try:
        digest = fingerprint(model.fingerprint)
    except InputError as exc:
        reader.faults.add((*path, "fingerprint"), str(exc))
        return None
    return PartnerException(
        fingerprint=digest,
        until=model.until,
        reason=model.reason,
        causes=SOFT_CAUSES if model.causes is None else frozenset(model.causes),
    )
