"""
`cftpki identity show`: everything that is known of one identity.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from cftpki_ext.cli.managing import (
    config_file_option,
    name_argument,
    time_text,
    told_by_service,
    with_manager,
    words_text,
)
from cftpki_ext.cli.options import config_path, json_option
from cftpki_ext.cli.render import console, table
from cftpki_ext.config import load
from cftpki_ext.identity.renewal.overview import Overview, names_text
from cftpki_ext.service.monitoring.identities import heard


@click.command()
@name_argument
@config_file_option
@json_option
def show(name: str, config_file: Path | None, *, as_json: bool) -> None:
    """
    Show everything that is known of the identity NAME.
    """
    settings = load(config_path(config_file))
    row = with_manager(settings, lambda manager: manager.row(name), changes=False)
    data = heard(row.data(), told_by_service(settings))
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    more = _rows(row) if isinstance(row, Overview) else _plain_rows(data)
    shown = (*_first_rows(data), *more)
    console().print(table(("what", "value"), (one for one in shown if one[1])))


def _first_rows(data: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield "identity", data["name"]
    yield "kept by", data["kind"] if data["kind"] == "enrollers" else f"hand, in {data['kind']}"
    yield "state", words_text(data)
    yield "alarm", (data["alarm"] or "").replace("_", " ")
    yield "trouble", data["trouble"]


def _plain_rows(data: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    certificate, following = data["certificate"], data["next"]
    if certificate is not None:
        yield "subject", certificate["subject"]
        yield "names", ", ".join(certificate["names"])
        yield "issuer", certificate["issuer"]
        yield "valid", f"{certificate['not_before']} to {certificate['not_after']}"
        yield "serial", certificate["serial"]
        yield "sha-256", certificate["sha256"]
    if data["runway"] is not None:
        yield "runway", data["runway"]
    if following is not None:
        yield "next", f"{following['at']}, {following['detail']}"


def _rows(overview: Overview) -> Iterator[tuple[str, object]]:
    state, current, plan = overview.state, overview.current, overview.plan
    if current is not None:
        leaf, meta = current.leaf, current.meta
        yield "generation", f"{current.number}, {overview.stage}, in {current.path}"
        yield "subject", leaf.subject.text
        yield "names", ", ".join(names_text(leaf))
        yield "issuer", leaf.issuer.text
        yield "valid", f"{time_text(leaf.not_before)} to {time_text(leaf.not_after)}"
        yield "serial", leaf.serial_hex
        yield "sha-256", leaf.fingerprint
        yield "from", f"enroller {meta.enroller}, {time_text(meta.written_at)}"
        for note in meta.notes:
            yield "note", note
    if overview.runway is not None and current is not None and overview.runway != current.leaf.not_after:
        yield "runway", time_text(overview.runway)
    yield "next", f"{time_text(plan.at)}, {plan.detail}"
    status = state.status
    if status is not None and current is not None and status.generation == current.number:
        said = "revoked" if status.revoked else "not known" if status.unknown else "not revoked"
        yield "own check", f"{time_text(status.checked_at)}, {said}: {status.detail}"
    hint = state.hint
    if hint is not None and hint.picked is not None:
        yield "CA's hint", f"renew at {time_text(hint.picked)} {hint.explanation or ''}".rstrip()
    yield "failures", state.failures
    if (failure := state.last_failure) is not None:
        yield "last failure", f"{time_text(failure.at)}, {failure.enroller}: {failure.detail}"
    for order in overview.open_orders:
        yield "open order", f"{order.order} at {order.enroller}, {order.progress}: {order.next}"
    for orphan in overview.orphans:
        yield (
            "orphan",
            f"{orphan.serial or 'unknown serial'} of {orphan.enroller}, order {orphan.order}: {orphan.detail}",
        )
