"""
`cftpki check`: chains, each judged as the exit would judge it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from cftpki_ext.api import chain_of, check_each_async, trust_set
from cftpki_ext.cli.advice import advice
from cftpki_ext.cli.options import INPUT, Oid, Time, config_option, config_path, json_option
from cftpki_ext.cli.owning import go_on_as_owner
from cftpki_ext.cli.render import Text, console, show_verdict, working
from cftpki_ext.config import load
from cftpki_ext.config.credentials import anchors_in
from cftpki_ext.config.faults import nearest
from cftpki_ext.core.alerts import Alert
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.policy import PROFILES, Policy
from cftpki_ext.core.settings import PolicyInputs, Settings, TrustSet
from cftpki_ext.core.source_settings import LdapAccess
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.verdict_json import verdict_to_data, verdict_to_json
from cftpki_ext.core.vocabulary import Direction, Leniency
from cftpki_ext.decision.rules import RuleKey, match
from cftpki_ext.evidence import Asked, Door
from cftpki_ext.support import pem
from cftpki_ext.support.files import read_input, shown_name
from cftpki_ext.support.pem import MAX_INPUT_BYTES
from cftpki_ext.support.wrong_file import wrong_file
from cftpki_ext.x509.certificate import MalformedCertificateError, parse_certificate


@click.command()
@click.argument("chains", metavar="CHAIN...", type=INPUT, nargs=-1, required=True)
@click.option(
    "--trust", "trust_files", type=INPUT, multiple=True, help="Trust the certificates in this file."
)
@click.option("--crl", "crl_files", type=INPUT, multiple=True, help="Let this CRL count.")
@click.option("--ocsp", "ocsp_files", type=INPUT, multiple=True, help="Let this OCSP response count.")
@click.option(
    "--untrusted", "untrusted_files", type=INPUT, multiple=True, help="More intermediate certificates."
)
@click.option("--at", type=Time(), help="Judge as of this time, e.g. 2027-03-31T12:00:00Z.")
@click.option(
    "--direction",
    type=click.Choice([d.value for d in Direction]),
    default=Direction.SERVER.value,
    show_default=True,
    help="Our host's side: server means that the chain is a client's.",
)
@click.option("--policy", "policy_name", help="A policy of the configuration, or strict, resilient, audit.")
@click.option("--no-fetch", is_flag=True, help="Ask nobody over the network.")
@click.option("--path-only", is_flag=True, help="Leave revocation out; the answer says so.")
@click.option("--initial-policy", "initial_policies", type=Oid(), multiple=True, help="RFC 5280 6.1.1 (c).")
@click.option("--explicit-policy", is_flag=True, help="RFC 5280 6.1.1 (f).")
@click.option("--inhibit-mapping", is_flag=True, help="RFC 5280 6.1.1 (e).")
@click.option("--inhibit-any-policy", is_flag=True, help="RFC 5280 6.1.1 (g).")
@click.option(
    "--compat",
    type=click.Choice([item.value for item in Leniency]),
    multiple=True,
    help="Forgive an old CA this.",
)
@click.option("--allow-host", "allow_hosts", multiple=True, help="With --trust: a host that may be asked.")
@click.option(
    "--allow-network", "allow_networks", multiple=True, help="With --trust: a private range, as CIDR."
)
@click.option("--allow-ldap", is_flag=True, help="With --trust: directories may be asked for CRLs.")
@click.option(
    "--ldap-server",
    "ldap_servers",
    multiple=True,
    help="With --trust: the directory for locations without a host, e.g. ldap://dc1.corp.example.",
)
@click.option("--profile", help="With a configuration: the host's security profile, to choose the rule by.")
@click.option(
    "--remote", default="", help="With a configuration: the partner's address, to choose the rule by."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="With a configuration: the port, to choose the rule by.",
)
@config_option(help_text="Take rule, trust set, policies and limits from this file.")
@json_option
@click.pass_context
def check(ctx: click.Context, /, chains: tuple[Path, ...], **options: Any) -> None:
    """
    Judge the certificate chain in each file CHAIN (PEM or DER, leaf first; - is standard input).

    Trust comes from --trust, or from the rule of the configuration that applies. The exit status is 0 where
    every chain is accepted, else the number of the TLS alert that the first refused partner would see; 2 for a wrong
    call. In JSON one chain is an object, several are a list of objects with the file's name under "chain".
    """
    direction = Direction(options["direction"])
    settings = _settings(options["config_file"], trust_given=bool(options["trust_files"]))
    read = [(shown_name(file), _certificates(file, "chain")) for file in chains]
    trust: TrustSet | None = None
    if options["trust_files"]:
        trust = _adjusted(_given_trust(options), options, settings)
    elif settings is not None:
        settings = _one_rule(ctx, settings, direction, options)
    given: dict[str, Any] = {
        "trust": trust,
        "config": settings,
        "direction": direction,
        "crls": [_read(file, "CRL") for file in options["crl_files"]],
        "ocsp": [_read(file, "OCSP response") for file in options["ocsp_files"]],
        "untrusted": [_certificates(file, "untrusted") for file in options["untrusted_files"]],
        "at": options["at"],
        "fetch": not options["no_fetch"],
        "path_only": options["path_only"],
        "asked": Asked(
            door=Door.CLI, profile=options["profile"], remote=options["remote"], port=options["port"]
        ),
    }
    if settings is not None:
        go_on_as_owner(settings)
    told = _Told(as_json=options["as_json"], trust_given=trust is not None, several=len(read) > 1)
    asyncio.run(_judge(read, given, told))
    told.end()
    ctx.exit(told.status)


async def _judge(read: Sequence[tuple[str, bytes]], given: dict[str, Any], told: _Told) -> None:
    verdicts = check_each_async([chain for _, chain in read], **given)
    for number, (name, chain) in enumerate(read, start=1):
        with working("checking" if len(read) == 1 else f"checking {number} of {len(read)}: {name}"):
            verdict = await anext(verdicts)
        told.tell(name, chain, verdict)
    await verdicts.aclose()


class _Told:
    """
    What is said of each chain, and the exit status that comes of all.
    """

    def __init__(self, *, as_json: bool, trust_given: bool, several: bool) -> None:
        self.status = 0
        self._as_json, self._trust_given, self._several = as_json, trust_given, several
        self._list: list[dict[str, Any]] = []
        self._refused = self._accepted = 0

    def tell(self, name: str, chain: bytes, verdict: Verdict) -> None:
        """
        Say what came of one chain.
        """
        if self._as_json and self._several:
            self._list.append({"chain": name, **verdict_to_data(verdict)})
        elif self._as_json:
            click.echo(verdict_to_json(verdict, indent=2))
        else:
            if self._several:
                console().print(Text(f"chain    {name}", style="bold"), whole=True)
            show_verdict(verdict)
            if self._several:
                console().print()
        if verdict.accepted:
            self._accepted += 1
            return
        self._refused += 1
        whose = f"{name}: " if self._several else ""
        for line in advice(verdict, chain_of(chain), trust_given=self._trust_given):
            click.echo(f"cftpki: {whose}{printable(line)}", err=True)
        # A refusal without a number would look like an acceptance to the shell.
        self.status = self.status or verdict.alert or int(Alert.INTERNAL_ERROR)

    def end(self) -> None:
        """
        Say what came of all.
        """
        if self._several and self._as_json:
            click.echo(json.dumps(self._list, indent=2))
        elif self._several:
            click.echo(f"{self._accepted} accepted, {self._refused} refused")


def _settings(given: Path | None, *, trust_given: bool) -> Settings | None:
    if given is not None:
        return load(given, forgive_ended=True)
    if trust_given:
        return None
    path = config_path(None)
    if not path.exists():
        msg = f"whom to trust? name --trust FILE or --config FILE (there is no {path})"
        raise click.UsageError(msg)
    return load(path, forgive_ended=True)


def _read(path: Path, what: str) -> bytes:
    return read_input(path, cap=MAX_INPUT_BYTES, what=what).data


def _certificates(path: Path, what: str) -> bytes:
    """
    A file that should hold certificates; what is plainly something else is a wrong call and no verdict.
    """
    data = _read(path, what)
    try:
        found = pem.certificates(data, what=what)
    except InputError:
        found = ()
    wrong = None
    if not found:
        wrong = wrong_file(data, path)
    elif len(found) == 1:
        try:
            parse_certificate(found[0])
        except MalformedCertificateError:
            wrong = wrong_file(found[0], path)
    if wrong is not None:
        msg = f"{what}: {shown_name(path)} {wrong}"
        raise InputError(msg)
    return data


def _given_trust(options: dict[str, Any]) -> TrustSet:
    compat = frozenset(Leniency(item) for item in options["compat"])
    anchors: list[bytes] = []
    for file in options["trust_files"]:
        found = anchors_in(file, what="trust anchor", compat=compat, explain=True)
        anchors += found.ders
        for note in found.notes:
            click.echo(f"cftpki: {printable(note)}", err=True)
    servers = options["ldap_servers"]
    return trust_set(
        anchors,
        allow_hosts=options["allow_hosts"],
        allow_networks=options["allow_networks"],
        ldap=LdapAccess(servers=servers) if servers or options["allow_ldap"] else None,
    )


def _one_rule(
    ctx: click.Context, settings: Settings, direction: Direction, options: dict[str, Any]
) -> Settings:
    """
    The settings with nothing but the rule that applies, and its trust set as the options change it.
    """
    own = {"allow_hosts": "allow_hosts", "allow_networks": "allow_networks", "allow_ldap": "a table ldap"}
    for option, name in (own | {"ldap_servers": "a table ldap"}).items():
        if options[option]:
            msg = f"--{option.replace('_', '-').rstrip('s')} goes with --trust; a trust set has {name} of its own"
            raise click.UsageError(msg)
    key = RuleKey(
        direction=direction, profile=options["profile"], remote=options["remote"], port=options["port"]
    )
    rule = match(settings.rules, key)
    if rule is None:
        hint = "" if options["remote"] or not _needs_remote(settings, direction) else _NAME_REMOTE
        click.echo(
            f"cftpki: no rule of the configuration applies to direction {direction.value}{hint}", err=True
        )
        ctx.exit(int(Alert.INTERNAL_ERROR))
    trust = _adjusted(settings.trusts[rule.trust], options, settings)
    return replace(settings, rules=(rule,), trusts=MappingProxyType({**settings.trusts, rule.trust: trust}))


_NAME_REMOTE = "; its rules ask for the partner's address: name it with --remote ADDRESS"


def _needs_remote(settings: Settings, direction: Direction) -> bool:
    return any(rule.networks for rule in settings.rules if rule.direction is direction)


def _adjusted(trust: TrustSet, options: dict[str, Any], settings: Settings | None) -> TrustSet:
    inputs = trust.policy_inputs
    return replace(
        trust,
        policy=_policy(options["policy_name"], settings) or trust.policy,
        compat=trust.compat | frozenset(Leniency(item) for item in options["compat"]),
        policy_inputs=PolicyInputs(
            initial_policies=frozenset(options["initial_policies"]) or inputs.initial_policies,
            explicit_policy=inputs.explicit_policy or options["explicit_policy"],
            inhibit_policy_mapping=inputs.inhibit_policy_mapping or options["inhibit_mapping"],
            inhibit_any_policy=inputs.inhibit_any_policy or options["inhibit_any_policy"],
        ),
    )


def _policy(name: str | None, settings: Settings | None) -> Policy | None:
    if name is None:
        return None
    known = PROFILES if settings is None else settings.policies
    if name not in known:
        msg = f"there is no policy {printable(name)!r}{_hint(name, list(known))}"
        raise InputError(msg)
    return known[name]


def _hint(name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    return f' (did you mean "{near}"?)' if near else f": known are {', '.join(sorted(known))}"
