"""
`cftpki audit …`: the record of verdicts for an auditor: listed, counted, as a spreadsheet and as a report.

`verify` is beside the other readers of the record in `cftpki_ext.cli.evidence`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from cftpki_ext.cli.evidence import audit, reading_ledger, rows_of, state_option
from cftpki_ext.cli.keeping import archive, backup, hold
from cftpki_ext.cli.options import Since, config_option, json_option
from cftpki_ext.cli.remarks import remarks_of
from cftpki_ext.cli.render import console, counting
from cftpki_ext.cli.sheets import Sheet
from cftpki_ext.cli.streams import reader_gone
from cftpki_ext.cli.verdict_lines import group_lines, line_width, row_lines
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.escape import printable
from cftpki_ext.core.verdict import Reason
from cftpki_ext.evidence import Row
from cftpki_ext.evidence.choosing import Choice, Chooser, partner_term, reasons_of
from cftpki_ext.evidence.grouping import By, Groups, answer_of
from cftpki_ext.looking.records import moment_text
from cftpki_ext.ports.evidence import EvidenceReader

# Pages that somebody still turns; the spreadsheet has everything.
_REPORTED = 2000
_NAMED = 10

_ROW_COLUMNS = (
    *("time", "answer", "alert", "reason", "would_refuse", "warned", "by_exception", "partner", "serial"),
    *("fingerprint", "address", "rule", "trust", "policy", "door", "id", "summary"),
)
_GROUP_COLUMNS = (
    *("name", "first", "last", "accepted", "refused", "warned", "by_exception", "certificates"),
    *("last_answer", "last_id"),
)

for one in (archive, backup, hold):
    audit.add_command(one)


def _choosing(command: Callable[..., None]) -> Callable[..., None]:
    """
    The options by which verdicts are chosen.
    """
    for option in reversed(
        (
            click.option(
                "--since",
                type=Since(),
                default="24h",
                show_default=True,
                help="E.g. 7d, or 2027-03-01T03:00:00Z.",
            ),
            click.option("--until", type=Since(), help="Up to then."),
            click.option(
                "--refused",
                is_flag=True,
                help="Only who was turned away, or would be if the policy enforced.",
            ),
            click.option("--warned", is_flag=True, help="Only what was accepted with a warning."),
            click.option("--exception", is_flag=True, help="Only what an exception of the partner let in."),
            click.option(
                "--reason",
                "reasons",
                multiple=True,
                metavar="REASON",
                type=click.Choice([*dict.fromkeys([one.value for one in (*Reason, *Cause)])]),
                help="Only this reason or cause, e.g. revoked, silent_source.",
            ),
            click.option("--rule", "rules", multiple=True, help="Only by this rule."),
            click.option("--policy", "policies", multiple=True, help="Only under this policy."),
            click.option(
                "--partner",
                "partners",
                multiple=True,
                help="Only this partner: its subject (as RFC 4514, openssl or Windows print it), fingerprint, serial"
                " number (hexadecimal or decimal), alternative name or address; or a part of its name.",
            ),
            config_option(help_text="The configuration that names the state directory."),
            state_option,
        )
    ):
        command = option(command)
    return command


@audit.command("list")
@_choosing
@click.option(
    "--per",
    type=click.Choice([one.value for one in By]),
    help="Count them per partner, rule, policy, reason or day.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Answer as CSV (UTF-8), for a spreadsheet.")
@json_option
def list_(**options: Any) -> None:
    """
    List verdicts by time: when, what, who, by which rule, and the id for `cftpki explain`.

    Options that are given several times mean any of their values. What a policy only audited has its reason, too.
    """
    if options["as_csv"] and options["as_json"]:
        msg = "--csv or --json, not both"
        raise click.UsageError(msg)
    choice = _choice(options)
    with reading_ledger(options) as ledger:
        seen = _Seen(ledger, options["since"], options["until"], choice)
        with _progress(options) as advance:
            rows = seen.rows(advance)
            if options["per"] is None:
                _tell_rows(rows, options)
            else:
                _tell_groups(rows, By(options["per"]), options)
        for line in seen.remarks(given=_given("since")):
            click.echo(line, err=seen.chosen > 0 or options["as_json"] or options["as_csv"])
        for line in remarks_of(ledger, since=options["since"]).lines():
            click.echo(line, err=options["as_json"] or options["as_csv"])


@audit.command()
@_choosing
@click.option("--no-verify", is_flag=True, help="Leave out the walk over the whole chain of records.")
def report(**options: Any) -> None:
    """
    Write a report on verdicts as an HTML page, to be printed or kept: totals, each partner, each verdict.

    The page is one file without scripts, pictures or links to elsewhere. It says which records were chosen, whether the
    chain of records is whole, and the hash of the newest, which the service's log has too.
    """
    from cftpki_ext.cli.report_page import Report, page  # noqa: PLC0415 - lists need no page

    choice = _choice(options)
    with reading_ledger(options) as ledger:
        seen = _Seen(ledger, options["since"], options["until"], choice)
        groups, answers = Groups(By.PARTNER), Counter[str]()
        shown: list[Row] = []
        with counting("reading") as advance:
            for row in seen.rows(advance):
                groups.add(row)
                answers[answer_of(row)] += 1
                if len(shown) < _REPORTED:
                    shown.append(row)
        faults: tuple[str, ...] | None = None
        if not options["no_verify"]:
            with counting("verifying") as advance:
                faults = tuple(fault.detail for fault in ledger.verify(advance))
        first, last = ledger.ends()
        made = Report(
            made_at=moment_text(datetime.now(UTC)),
            window=seen.window(),
            conditions=tuple(_conditions(options)),
            remarks=tuple(seen.remarks(given=True)),
            records=ledger.count(),
            reach=None
            if first is None or last is None
            else (moment_text(first.kept_at), moment_text(last.kept_at)),
            newest=None if last is None else last.hash,
            faults=faults,
            answers=tuple(sorted(answers.items())),
            groups=groups.found(),
            rows=tuple(shown),
            left_out=seen.chosen - len(shown),
        )
    click.echo(page(made), nl=False)


def _choice(options: Mapping[str, Any]) -> Choice:
    since, until = options["since"], options["until"]
    if until is not None and until < since:
        msg = f"--until {moment_text(until)} is before --since {moment_text(since)}"
        raise click.UsageError(msg)
    return Choice(
        refused=options["refused"],
        warned=options["warned"],
        exception=options["exception"],
        rules=options["rules"],
        policies=options["policies"],
        reasons=options["reasons"],
        partners=tuple(map(partner_term, options["partners"])),
    )


def _conditions(options: Mapping[str, Any]) -> Iterator[str]:
    """
    What was asked for, in words.
    """
    for name in ("refused", "warned", "exception"):
        if options[name]:
            yield f"only {'by ' if name == 'exception' else ''}{name}"
    for name, word in (
        ("reasons", "reason"),
        ("rules", "rule"),
        ("policies", "policy"),
        ("partners", "partner"),
    ):
        if options[name]:
            yield f"{word} {' or '.join(options[name])}"


def _given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _progress(options: Mapping[str, Any]) -> AbstractContextManager[Callable[[int], None]]:
    """
    Something that moves, where the same terminal is not being written to.
    """
    lines = options["per"] is None and not options["as_json"]
    return nullcontext(lambda _: None) if lines and sys.stdout.isatty() else counting("reading")


class _Seen:
    """
    The verdicts of a window, those that are wanted of them, and what is to be said where there are none.
    """

    def __init__(
        self, ledger: EvidenceReader, since: datetime, until: datetime | None, choice: Choice
    ) -> None:
        self.chosen = 0
        self._ledger, self._since, self._until, self._choice = ledger, since, until, choice
        self._there = 0
        self._known: dict[str, Counter[str]] = {name: Counter() for name in ("rule", "policy", "reason")}

    def rows(self, advance: Callable[[int], None]) -> Iterator[Row]:
        """
        The verdicts that are wanted, oldest first.
        """
        chooser = Chooser(self._choice, self._ledger.blob)
        for number, row in enumerate(rows_of(self._ledger, self._since, self._until), start=1):
            advance(number)
            self._there += 1
            self._known["rule"][row.rule or "-"] += 1
            self._known["policy"][row.policy] += 1
            self._known["reason"].update(reasons_of(row))
            if chooser.wants(row):
                self.chosen += 1
                yield row

    def window(self) -> str:
        """
        From when to when.
        """
        until = self._until
        return f"from {moment_text(self._since)} to {'now' if until is None else moment_text(until)}"

    def remarks(self, *, given: bool) -> Iterator[str]:
        """
        Why nothing was found, or less than was asked for.

        Args:
            given: whether somebody asked for this window.

        """
        first, last = self._ledger.ends()
        if first is None or last is None:
            yield "the evidence holds no records"
            return
        gone = f": {first.seq - 1} older records were let go" if first.seq > 1 else ""
        if self.chosen == 0:
            yield from self._nothing(
                f"{self._ledger.count()} records, kept from {moment_text(first.kept_at)} to {moment_text(last.kept_at)}"
            )
        if (given or self.chosen == 0) and self._since < first.kept_at:
            yield f"the evidence reaches back only to {moment_text(first.kept_at)}{gone}"

    def _nothing(self, holds: str) -> Iterator[str]:
        if self._there == 0:
            yield f"no verdicts {self.window()}; the evidence holds {holds}"
            return
        yield f"none of the {self._there} verdicts {self.window()} fits"
        for name, wanted in (
            ("rule", self._choice.rules),
            ("policy", self._choice.policies),
            ("reason", self._choice.reasons),
        ):
            known = self._known[name]
            if wanted and not any(one in known for one in wanted):
                there = ", ".join(printable(one) for one, _ in known.most_common(_NAMED)) or "none"
                yield f"no verdict there has {name} {' or '.join(map(printable, wanted))}; there are: {there}"


def _tell_rows(rows: Iterable[Row], options: Mapping[str, Any]) -> None:
    if options["as_json"]:
        found = [{**asdict(row), "by_exception": row.by_exception} for row in rows]
        click.echo(json.dumps(found, indent=2))
        return
    sheet = Sheet(_ROW_COLUMNS) if options["as_csv"] else None
    width = line_width()
    for row in rows:
        if sheet is not None:
            sheet.add(_cells(row))
        else:
            for line in row_lines(row, width):
                console().print(line, whole=True)
        if reader_gone():
            break
    if sheet is not None:
        sheet.end()


def _cells(row: Row) -> tuple[object, ...]:
    return (
        *(
            row.at,
            row.status,
            row.alert,
            row.reason,
            row.would_refuse,
            row.warned,
            row.by_exception,
            row.partner,
        ),
        *(
            row.serial,
            row.fingerprint,
            row.remote,
            row.rule,
            row.trust,
            row.policy,
            row.door,
            row.id,
            row.summary,
        ),
    )


def _tell_groups(rows: Iterable[Row], by: By, options: Mapping[str, Any]) -> None:
    groups = Groups(by)
    for row in rows:
        groups.add(row)
    found = groups.found()
    if options["as_json"]:
        click.echo(json.dumps([one.data() for one in found], indent=2))
    elif options["as_csv"]:
        sheet = Sheet(_GROUP_COLUMNS)
        for one in found:
            sheet.add(
                (
                    *(one.name, one.first, one.last, one.accepted, one.refused, one.warned, one.excepted),
                    *(one.fingerprints, one.last_answer, one.last_id),
                )
            )
        sheet.end()
    else:
        width = line_width()
        for one in found:
            for line in group_lines(one, width):
                console().print(line, whole=True)
