"""
`cftpki identity show`: everything that is known of one identity.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from cftpki_ext.cli.managing import config_file_option, name_argument, time_text, with_manager
from cftpki_ext.cli.options import config_path, json_option
from cftpki_ext.cli.render import console, table
from cftpki_ext.config import load
from cftpki_ext.identity.renewal.overview import Overview, names_text


@click.command()
@name_argument
@config_file_option
@json_option
def show(name: str, config_file: Path | None, *, as_json: bool) -> None:
    """
    Show everything that is known of the identity NAME.
    """
    settings = load(config_path(config_file))
    overview = with_manager(settings, lambda manager: manager.overview(name), changes=False)
    if as_json:
        click.echo(json.dumps(overview.data(), indent=2))
        return
    console().print(table(("what", "value"), (row for row in _rows(overview) if row[1])))


def _rows(overview: Overview) -> Iterator[tuple[str, object]]:
    state, current, plan = overview.state, overview.current, overview.plan
    yield "identity", overview.name
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
    yield "alarm", overview.alarm
    yield "trouble", overview.trouble
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
