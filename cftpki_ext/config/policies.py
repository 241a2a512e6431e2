"""
`[policy.NAME]`: the table of causes, with what it is based on.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from cftpki_ext.causes import Cause
from cftpki_ext.config.models import PolicyModel, TreatmentModel
from cftpki_ext.config.sections import Reader
from cftpki_ext.policy import PROFILES, STRICT, Action, Policy, Treatment


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
        if treatment.until is not None and treatment.until <= reader.now:
            reader.faults.add(
                (*path, "until"),
                f"{treatment.until.isoformat()} is past: the exception has ended, take it out",
            )
        treatments[cause] = Treatment(
            action=treatment.action or Action.REFUSE, max_stale=treatment.max_stale, until=treatment.until
        )
    return Policy(
        name=name,
        treatments=MappingProxyType(treatments),
        depth=model.depth or base.depth,
        enforcement=model.enforcement or base.enforcement,
    )
