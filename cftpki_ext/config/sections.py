"""
One section of the file → one value of `cftpki_ext.core.settings`, with every fault noted on the way.

A value is made even where there were faults, so that later checks can look at the rest; `loader` uses the
values only when there was none.

More than 400 lines: one method for each section, over one reader that collects the faults.
"""

from __future__ import annotations

import pwd
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cftpki_ext.config.credentials import (
    MAX_PASSWORD_BYTES,
    FaultsOf,
    KeyFiles,
    anchors_in,
    certificates_in,
    check_crl_file,
    key_faults,
    private_file_fault,
)
from cftpki_ext.config.faults import Faults, words_of
from cftpki_ext.config.models import (
    IdentityModel,
    LimitsModel,
    RuleModel,
    Section,
    ServiceModel,
    TreatmentModel,
    TrustModel,
)
from cftpki_ext.config.positions import KeyPath
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.identity_settings import Identity, ModuleCalls, TokenIdentity
from cftpki_ext.core.pkcs11_uri import SCHEME as TOKEN_SCHEME
from cftpki_ext.core.pkcs11_uri import parse_token_uri
from cftpki_ext.core.policy import STRICT, Policy
from cftpki_ext.core.settings import Limits, NonceMode, PolicyInputs, Rule, ServiceSettings, TrustSet
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Direction, Form, Phase, SourceKind
from cftpki_ext.support.files import read_regular
from cftpki_ext.support.guarded import Guard
from cftpki_ext.support.listening import MAX_SOCKET_PATH_BYTES

M = TypeVar("M", bound=Section)

# Names travel in 64-byte fields of the socket protocol and in log lines.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DEFAULT_SOURCES = (SourceKind.OCSP, SourceKind.CRL)
_HOST = re.compile(
    r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """
    The names that the file defines, whether or not their sections are sound: what a reference may mean.
    """

    trusts: frozenset[str]
    identities: frozenset[str]
    policies: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """
    Reads sections. `directory` is what relative paths start from, `now` what dates are compared with.
    """

    faults: Faults
    directory: Path
    now: datetime
    names: Names
    forgive_ended: bool = False  # an exception whose end has come is no fault, it merely no longer holds
    limits: Limits = field(default_factory=Limits)
    guard: Guard = field(default_factory=Guard)
    look: FaultsOf = key_faults
    unanswered: frozenset[Phase] = frozenset()  # what `service.phases` leaves to the host

    def guarded(self, path: KeyPath, file: Path) -> None:
        """
        Note that others could change a file that decides whom we trust, or put another in its place.
        """
        why = self.guard.fault(file)
        if why is not None:
            self.faults.add(path, why)

    def validate(self, model: type[M], path: KeyPath, raw: object) -> M:
        """
        The section as a model; keys with faults are noted and left out.

        Args:
            model: the kind of section.
            path: where it stands.
            raw: what tomllib read.

        Returns:
            A model of what was sound.

        """
        if not isinstance(raw, dict):
            self.faults.add(path, "must be a table")
            return model()
        if not raw:  # every key may be absent, and most files lack most sections
            return model.model_construct()
        try:
            return model.model_validate(raw)
        except ValidationError as exc:
            bad = set()
            for error in exc.errors(include_url=False, include_context=False, include_input=False):
                bad.add(error["loc"][0])
                self._note(model, path, raw, error)
        return self.validate(model, path, {key: value for key, value in raw.items() if key not in bad})

    def _note(self, model: type[Section], path: KeyPath, raw: Any, error: ErrorDetails) -> None:
        # pydantic's location also names the branch of a union that it tried: keep what is in the file.
        place: KeyPath = ()
        kind = error["type"]
        for part in error["loc"]:
            try:
                raw = raw[part]
            except (KeyError, IndexError, TypeError):
                break
            place = (*place, part)
        if kind == "extra_forbidden":
            owner: type[Section] = model if len(place) == 1 else TreatmentModel
            self.faults.add((*path, *place), "unknown key", wanted=str(place[-1]), known=owner.model_fields)
            return
        message = words_of(error)
        if kind in {"model_type", "dict_type"}:
            message = "must be a table" if len(place) == 0 else "must be an action or a table"
        self.faults.add((*path, *place), message)

    def path(self, text: str) -> Path:
        """
        A path as written, from the directory of the file.
        """
        return self.directory / text

    def name(self, path: KeyPath, name: str) -> None:
        """
        Note a name that logs or the protocol could not carry.
        """
        if not _NAME.fullmatch(name):
            self.faults.add(path, f"{name!r} is no name: letters, digits, '.', '_' and '-', at most 64")

    def service(self, raw: object) -> ServiceSettings:
        """
        Read `[service]`.
        """
        model = self.validate(ServiceModel, ("service",), raw)
        values: dict[str, Any] = {
            key: getattr(model, key)
            for key in (
                *("unreachable", "cache_bytes", "memory_entries", "max_sessions", "log_format"),
                *("board", "board_bytes"),
            )
            if getattr(model, key) is not None
        }
        for key in ("socket", "state", "datafile_password_file"):
            text = getattr(model, key)
            if text == "":
                self.faults.add(("service", key), "is empty")
            elif text is not None and "\0" in text:
                self.faults.add(("service", key), "is no path: it holds a NUL")
            elif text is not None:
                values[key] = self.path(text)
        if model.phases is not None:
            values["phases"] = frozenset(model.phases)
        values["allow_users"] = tuple(
            self._user(("service", "allow_users", index), user)
            for index, user in enumerate(model.allow_users)
        )
        service = ServiceSettings(**values)
        length = len(str(service.socket).encode())
        if length > MAX_SOCKET_PATH_BYTES:
            self.faults.add(
                ("service", "socket"),
                f"the path has {length} bytes, a unix socket's at most {MAX_SOCKET_PATH_BYTES}: use a shorter directory",
            )
        if service.datafile_password_file is not None:
            self._secret(("service", "datafile_password_file"), service.datafile_password_file)
        return service

    def _user(self, path: KeyPath, user: int | str) -> int:
        if isinstance(user, int):
            return user
        try:
            return pwd.getpwnam(user).pw_uid
        except (KeyError, ValueError):
            self.faults.add(path, f"there is no user {user!r}")
            return 0

    def _secret(self, path: KeyPath, file: Path) -> None:
        try:
            content = read_regular(file, cap=MAX_PASSWORD_BYTES, what="password")
        except InputError as exc:
            self.faults.add(path, str(exc))
            return
        exposed = private_file_fault(file, content, what="password")
        if exposed:
            self.faults.add(path, exposed)
        else:
            self.guarded(path, file)

    def read_limits(self, raw: object) -> Limits:
        """
        Read `[limits]`.
        """
        model = self.validate(LimitsModel, ("limits",), raw)
        limits = Limits(**{key: value for key, value in model if value is not None})
        if limits.reserve_ms >= limits.budget_ms:
            self.faults.add(
                ("limits", "reserve_ms"),
                f"{limits.reserve_ms}ms leaves nothing of budget_ms = {limits.budget_ms}ms",
            )
        return limits

    def trust(self, name: str, raw: object, policies: Mapping[str, Policy]) -> TrustSet:
        """
        Read one `[trust.NAME]`.
        """
        path: KeyPath = ("trust", name)
        self.name(path, name)
        model = self.validate(TrustModel, path, raw)
        policy = model.policy or STRICT.name
        if policy not in self.names.policies:
            self.unknown((*path, "policy"), "policy", policy, self.names.policies)
        if not model.anchors and not (isinstance(raw, dict) and raw.get("anchors")):
            self.faults.add((*path, "anchors"), "names no trust anchor, so nobody could ever be accepted")
        crl_urls, crl_files = [], []
        for index, place in enumerate(model.crl):
            if "://" in place:
                self._list_url((*path, "crl", index), place, ldap=model.ldap is not None)
                crl_urls.append(place)
            else:
                crl_files.append(self.path(place))
                try:
                    check_crl_file(self.path(place), cap=self.limits.crl_bytes)
                except InputError as exc:
                    self.faults.add((*path, "crl", index), str(exc))
                self.guarded((*path, "crl", index), self.path(place))
        for index, url in enumerate(model.ocsp):
            self._url((*path, "ocsp", index), url)
        for index, host in enumerate(model.allow_hosts):
            self._host((*path, "allow_hosts", index), host)
        if model.proxy is not None:
            self._url((*path, "proxy"), model.proxy)
        if model.sources is not None and len(set(model.sources)) != len(model.sources):
            self.faults.add((*path, "sources"), "names a source twice")
        sources = DEFAULT_SOURCES if model.sources is None else tuple(model.sources)
        self._cross_check((*path, "cross_check"), model.cross_check, sources)
        inputs = (
            {} if model.initial_policies is None else {"initial_policies": frozenset(model.initial_policies)}
        )
        if model.initial_policies == []:
            self.faults.add((*path, "initial_policies"), "is empty; leave it out for any policy")
        compat = frozenset(model.compat)
        return TrustSet(
            name=name,
            anchors=self._anchors((*path, "anchors"), model.anchors, compat),
            intermediates=self._certificates((*path, "intermediates"), model.intermediates, compat),
            policy=policies.get(policy, STRICT),
            ocsp_urls=tuple(model.ocsp),
            crl_urls=tuple(crl_urls),
            crl_files=tuple(crl_files),
            ocsp_signers=self._certificates((*path, "ocsp_signers"), model.ocsp_signers, compat),
            allow_hosts=tuple(model.allow_hosts),
            allow_networks=tuple(model.allow_networks),
            proxy=model.proxy,
            https_roots=self._certificates((*path, "https_roots"), model.https_roots, compat),
            policy_inputs=PolicyInputs(
                explicit_policy=model.explicit_policy,
                inhibit_policy_mapping=model.inhibit_policy_mapping,
                inhibit_any_policy=model.inhibit_any_policy,
                **inputs,
            ),
            compat=compat,
            form=model.form or Form.COMMON,
            nonce=model.nonce or NonceMode.SEND,
            sources=sources,
            cross_check=tuple(model.cross_check),
            deltas=model.deltas,
        )

    def _cross_check(self, path: KeyPath, kinds: Sequence[SourceKind], sources: Sequence[SourceKind]) -> None:
        if len(kinds) == 1 or len(set(kinds)) != len(kinds):
            self.faults.add(path, "needs two or three different sources that are to agree")
        for index, kind in enumerate(kinds):
            if kind not in sources:
                self.faults.add(
                    (*path, index), f"{kind.value!r} is not among the sources {', '.join(sources)}"
                )

    def certificates(self, path: KeyPath, files: list[str]) -> tuple[bytes, ...]:
        """
        The certificates of files of our own, each parsed without leniency.
        """
        return self._certificates(path, files, frozenset())

    def _anchors(self, path: KeyPath, files: list[str], compat: Any) -> tuple[bytes, ...]:
        """
        The anchors of a trust set: odd ones are used, and those that cannot be are left out, both with a note.
        """
        ders: list[bytes] = []
        for index, file in enumerate(files):
            self.guarded((*path, index), self.path(file))
            try:
                found = anchors_in(self.path(file), what="certificate", compat=compat)
            except InputError as exc:
                self.faults.add((*path, index), str(exc))
                continue
            ders += found.ders
            self.faults.notes += found.notes
        return tuple(dict.fromkeys(ders))

    def _certificates(self, path: KeyPath, files: list[str], compat: Any) -> tuple[bytes, ...]:
        ders: list[bytes] = []
        for index, file in enumerate(files):
            self.guarded((*path, index), self.path(file))
            try:
                ders.extend(certificates_in(self.path(file), what="certificate", compat=compat))
            except InputError as exc:
                self.faults.add((*path, index), str(exc))
        return tuple(dict.fromkeys(ders))

    def _list_url(self, path: KeyPath, url: str, *, ldap: bool) -> None:
        if not url.lower().startswith(("ldap://", "ldaps://")):
            self._url(path, url)
        elif not ldap:
            self.faults.add(path, f"is asked only with a table [{'.'.join(map(str, path[:2]))}.ldap]")
        elif not url.isascii() or not url.isprintable() or set(url) & set(' "<>\\^`{}#'):
            self.faults.add(path, f"{url!r} is no LDAP address (RFC 4516): write blanks as %20")

    def _url(self, path: KeyPath, url: str) -> None:
        try:
            parts = urlsplit(url)
            sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            sound = False
        if not sound or not url.isascii() or not url.isprintable() or " " in url:
            self.faults.add(path, f"{url!r} is no http or https address")
        elif parts.username is not None or parts.password is not None:
            self.faults.add(path, "holds a user name or password: secrets come from files or the environment")

    def _host(self, path: KeyPath, host: str) -> None:
        if _HOST.fullmatch(host) or re.fullmatch(r"[0-9A-Fa-f:.]+(/\d{1,3})?", host):
            return
        self.faults.add(
            path, f"{host!r} is no host: write a name, *.suffix, an address or a CIDR, without http://"
        )

    def identity(self, name: str, raw: object) -> Identity | TokenIdentity | None:
        """
        Read one `[identity.NAME]`; `None` where it names no files.
        """
        path: KeyPath = ("identity", name)
        self.name(path, name)
        model = self.validate(IdentityModel, path, raw)
        written = raw if isinstance(raw, dict) else {}
        for key in ("chain", "key"):
            if not getattr(model, key) and not written.get(key):
                self.faults.add((*path, key), f"{key!r} is missing: name the file")
        if model.password_file is not None and model.password_env is not None:
            self.faults.add((*path, "password_env"), "two passwords: keep password_file or password_env")
        if not model.chain or not model.key:
            return None
        if model.key.startswith(TOKEN_SCHEME):
            return self._token_identity(path, name, model)
        if model.module_calls is not None:
            self.faults.add((*path, "module_calls"), "this key is in a file: it has no PKCS #11 module")
        identity = Identity(
            name=name,
            chain_file=self.path(model.chain),
            key_file=self.path(model.key),
            password_file=None if model.password_file is None else self.path(model.password_file),
            password_env=model.password_env,
            hand_over_key=model.hand_over_key,
        )
        for key, message in self.look(KeyFiles.of(identity)):
            self.faults.add((*path, key), message)
        self._guard_identity(path, identity.chain_file, identity.key_file, identity.password_file)
        return identity

    def _guard_identity(self, path: KeyPath, chain: Path, key: Path, password: Path | None) -> None:
        for part, file in (("chain", chain), ("key", key), ("password_file", password)):
            if file is not None and not self.faults.within((*path, part)):
                self.guarded((*path, part), file)

    def _token_identity(self, path: KeyPath, name: str, model: IdentityModel) -> TokenIdentity | None:
        """
        One whose key is on a token. The token itself is *not* asked: it may be elsewhere when this is checked.
        """
        if model.hand_over_key:
            self.faults.add(
                (*path, "hand_over_key"), "a key on a token stays there: it cannot be handed over"
            )
        try:
            key = parse_token_uri(model.key or "")
        except InputError as exc:
            self.faults.add((*path, "key"), str(exc))
            return None
        if not key.module.is_file():
            self.faults.add((*path, "key"), f"module-path {str(key.module)!r} is no file")
        identity = TokenIdentity(
            name=name,
            chain_file=self.path(model.chain or ""),
            key=key,
            password_file=None if model.password_file is None else self.path(model.password_file),
            password_env=model.password_env,
            module_calls=model.module_calls or ModuleCalls.BOUNDED,
        )
        for part, message in self.look(KeyFiles.of(identity)):
            self.faults.add((*path, part), message)
        self._guard_identity(path, identity.chain_file, key.module, identity.password_file)
        return identity

    def rule(self, index: int, raw: object) -> Rule | None:
        """
        Read one `[[rule]]`; `None` where its direction or trust set is missing.
        """
        path: KeyPath = ("rule", index)
        model = self.validate(RuleModel, path, raw)
        written = raw if isinstance(raw, dict) else {}
        name = model.name if model.name is not None else f"rule-{index + 1}"
        self.name((*path, "name"), name)
        for key in ("direction", "trust"):
            if getattr(model, key) is None and key not in written:
                self.faults.add((*path, key), f"{key!r} is missing")
        if model.trust is not None and model.trust not in self.names.trusts:
            self.unknown((*path, "trust"), "trust", model.trust, self.names.trusts)
        if model.identity is not None and model.identity not in self.names.identities:
            self.unknown((*path, "identity"), "identity", model.identity, self.names.identities)
        if model.client_auth is not None and model.direction is Direction.CLIENT:
            self.faults.add(
                (*path, "client_auth"), "is for server mode: a client does not ask for client certificates"
            )
        if model.require_check:
            self._check_can_be_required(path, model)
        if model.direction is None or model.trust is None:
            return None
        return Rule(
            name=name,
            direction=model.direction,
            trust=model.trust,
            identity=model.identity,
            profile=model.profile,
            networks=tuple(model.networks),
            port=model.port,
            not_handled=frozenset(model.not_handled),
            min_tls=model.min_tls,
            client_auth=model.client_auth,
            require_check=model.require_check,
            board=model.board,
        )

    def _check_can_be_required(self, path: KeyPath, model: RuleModel) -> None:
        """
        Note what would keep a rule from ever letting in anybody, or from seeing that nobody was checked.
        """
        left = {Phase.CHECK_CERTIFICATE, Phase.HANDSHAKE_DONE} & {*model.not_handled, *self.unanswered}
        for phase in sorted(left):
            self.faults.add(
                (*path, "require_check"), f"needs the phase {phase.name.lower()}, which is left to the host"
            )
        if model.client_auth is False:
            self.faults.add(
                (*path, "require_check"), "with client_auth = false there is no certificate to check"
            )

    def unknown(self, path: KeyPath, kind: str, name: str, known: frozenset[str]) -> None:
        """
        Note a reference to a section that is not there.
        """
        self.faults.add(path, f"there is no [{kind}.{name}]", wanted=name, known=sorted(known))
