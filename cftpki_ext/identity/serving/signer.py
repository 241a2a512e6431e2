"""
The signer: a child process that holds the private key of one identity, and signs.

It reads the identity's files by itself, has no network and sees no stranger's certificate. One identity has one signer:
what a token or its module does to the process that it lives in is done to this identity alone. It answers one call after
the other; who waits, and for how long, is the front's business (`signers`). Hosts ask it as well, at sockets that the
front made for it (`door`).

    load    an identity as configured      → the chain; the key is kept by the digest of its public key
    sign    key, scheme, digest            → the signature
    export  key                            → PKCS#8, only where the configuration hands the key over
    doors   sockets, keys, users           → hosts are served there from now on
    alive                                  → it is
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from cftpki_ext.core.errors import InputError, KeyUnavailableError, PinRefusedError, SignerLostError
from cftpki_ext.core.identity_settings import (
    AnyIdentity,
    Identity,
    ManagedIdentity,
    ModuleCalls,
    TokenIdentity,
)
from cftpki_ext.core.pkcs11_uri import TokenKey
from cftpki_ext.identity import PrivateKey
from cftpki_ext.identity.serving.door import MAX_CONNECTIONS, Door
from cftpki_ext.identity.serving.files import OpenToken, no_tokens
from cftpki_ext.identity.serving.keys import check, export_pkcs8, sign
from cftpki_ext.identity.serving.local import load_any
from cftpki_ext.processes.child import Attended, resolve
from cftpki_ext.processes.confine import MIB, Bounds, SystemCalls
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.progress import Watch
from cftpki_ext.processes.worker import Role
from cftpki_ext.protocol.codec import Tag

FACTORY = "cftpki_ext.identity.serving.signer:make"
# An interpreter with its libraries maps 200 MB before it does anything; a vendor's module brings threads and buffers.
_MEMORY_BYTES = 1024 * MIB
# Calls that wait for one identity's key: a host with so many handshakes at once has other troubles.
QUEUE = 256
# Generations that still sign for sessions which began before the change; a handshake takes minutes at most.
KEPT_KEYS = 4


_MODULE_CALLS = {
    ModuleCalls.BOUNDED: SystemCalls.MODULE,
    ModuleCalls.LOGGED: SystemCalls.MODULE_LOGGED,
    ModuleCalls.ANY: SystemCalls.ANY,
}


class _LoginNeededError(KeyUnavailableError):
    """
    The token wants a login, which is made by `load` alone: the front sees to it that there is one at a time.
    """


def role_of(identity: AnyIdentity) -> Role:
    """
    The bounds of an identity's signer.

    A PKCS #11 module may speak to a daemon or to a device in the network, and write its locks.

    Args:
        identity: whose it is.

    Returns:
        The role.

    """
    is_token = isinstance(identity, TokenIdentity)
    return Role(
        name=f"signer {identity.name}",
        factory=FACTORY,
        bounds=Bounds(
            memory_bytes=_MEMORY_BYTES,
            descriptors=(256 if is_token else 32) + MAX_CONNECTIONS,
            file_bytes=None if is_token else 0,
            calls=_MODULE_CALLS[identity.module_calls]
            if isinstance(identity, TokenIdentity)
            else SystemCalls.DOOR,
        ),
        queue=QUEUE,
        watch=Watch.STOPPED,
    )


def make(setup: Message) -> Attended:
    """
    Make the handler of a signer.

    Args:
        setup: `root`, the state directory; `tokens`, the function that opens keys on tokens ("module:function");
            `salt`, for the digests of refused PINs.

    Returns:
        What answers calls, and hosts.

    """
    signer = Signer(
        root=Path(setup.value["root"]),
        salt=bytes.fromhex(setup.value["salt"]),
        tokens=setup.value.get("tokens"),
    )
    return Attended(signer.answer, signer.door.attend)


class Signer:
    """
    The keys of one identity. For one thread.
    """

    def __init__(
        self, *, root: Path, salt: bytes, tokens: str | None, environ: Mapping[str, str] | None = None
    ) -> None:
        self._root = root
        self._salt = salt
        self._tokens = tokens
        self._environ = os.environ if environ is None else environ
        self.door = Door(self.use)
        self._keys: OrderedDict[str, PrivateKey] = OrderedDict()
        self._hand_over = False
        # While a load runs: the digest of the PIN that was refused before, and of the one that is offered now.
        self._loading = False
        self._refused: str | None = None
        self._offered: str | None = None

    def answer(self, call: Message) -> Message:
        """
        Answer one call. What is wrong with the call or the key is an answer, too.
        """
        try:
            match call.value.get("do"):
                case "load":
                    return self._load(call.value)
                case "sign":
                    return self._sign(call)
                case "export":
                    return self._export(call.value)
                case "doors":
                    self.door.replace(call.value, call.descriptors)
                    return Message()
                case "alive":
                    return Message()
                case other:
                    return Message({"refused": f"{other!r} is no call to a signer"})
        except _LoginNeededError:
            return Message({"unknown": True})
        except PinRefusedError as error:
            return Message({"unavailable": str(error), "pin": self._offered})
        except SignerLostError as error:
            return Message({"unavailable": str(error), "passing": True})
        except KeyUnavailableError as error:
            return Message({"unavailable": str(error)})
        except InputError as error:
            return Message({"refused": str(error)})

    def use(self, name: str, scheme: int, data: bytes) -> tuple[Tag, bytes]:
        """
        What a host gets for CryptData.

        Args:
            name: of the key.
            scheme: see `keys.sign`.
            data: see `keys.sign`.

        Returns:
            The signature, or the key where the configuration hands it over.

        Raises:
            InputError: the key does not sign so.
            KeyUnavailableError: it is not here any more, or cannot be used now.

        """
        key = self._keys.get(name)
        if key is None:
            msg = "the generation that this session holds is gone"
            raise KeyUnavailableError(msg)
        if self._hand_over:
            check(key.public_key(), scheme, data)
            return Tag.CRYPT_KEY, export_pkcs8(key)
        return Tag.CRYPT_OUTPUT, sign(key, scheme, data)

    def _load(self, value: Mapping[str, Any]) -> Message:
        identity = identity_from(value["identity"])
        self._loading, self._refused, self._offered = True, value.get("refused"), None
        try:
            loaded = load_any(
                identity,
                root=self._root,
                generation=value["generation"],
                environ=self._environ,
                open_token=self._open_token,
            )
        finally:
            self._loading = False
        name = key_name(loaded.chain[0].spki)
        self._keys[name] = loaded.key
        self._keys.move_to_end(name)
        while len(self._keys) > KEPT_KEYS:
            self._keys.popitem(last=False)
        self._hand_over = loaded.hand_over_key
        return Message(
            {"generation": loaded.generation, "key": name},
            tuple(certificate.der for certificate in loaded.chain),
        )

    def _sign(self, call: Message) -> Message:
        key = self._keys.get(call.value["key"])
        if key is None:
            return Message({"unknown": True})
        return Message({}, (sign(key, call.value["scheme"], call.parts[0]),))

    def _export(self, value: Mapping[str, Any]) -> Message:
        key = self._keys.get(value["key"])
        if key is None:
            return Message({"unknown": True})
        if not self._hand_over:
            return Message({"refused": "the configuration does not hand this key over"})
        return Message({}, (export_pkcs8(key),))

    def _open_token(self, place: TokenKey, public: Any, pin: Callable[[], bytes | None]) -> PrivateKey:
        open_token: OpenToken = no_tokens
        if self._tokens is not None:
            try:
                open_token = cast(OpenToken, resolve(self._tokens))
            except ImportError as exc:
                msg = f"{place}: keys on tokens need python-pkcs11: pip install 'cftpki-ext[pkcs11]'"
                raise KeyUnavailableError(msg) from exc
        return open_token(place, public, lambda: self._offer(place, pin))

    def _offer(self, place: TokenKey, pin: Callable[[], bytes | None]) -> bytes | None:
        """
        Give the PIN for a login, unless the token has refused this very one to any signer.
        """
        if not self._loading:
            msg = f"{place}: a login is needed"
            raise _LoginNeededError(msg)
        secret = pin()
        self._offered = hmac.new(self._salt, secret or b"", sha256).hexdigest()
        if self._offered == self._refused:
            msg = f"{place}: the token refused this PIN before; it is not tried again until it changes"
            raise PinRefusedError(msg)
        return secret


def key_name(spki: bytes) -> str:
    """
    What a key is called between front and signer: the digest of its SubjectPublicKeyInfo.
    """
    return sha256(spki).hexdigest()


def identity_to(identity: AnyIdentity) -> dict[str, Any]:
    """
    What a signer needs of an identity, as plain data.
    """
    password = None if identity.password_file is None else str(identity.password_file)
    common = {"name": identity.name, "password_file": password}
    if isinstance(identity, ManagedIdentity):
        return {**common, "kind": "kept", "hand_over_key": identity.hand_over_key}
    common |= {"chain_file": str(identity.chain_file), "password_env": identity.password_env}
    if isinstance(identity, Identity):
        return {
            **common,
            "kind": "files",
            "key_file": str(identity.key_file),
            "hand_over_key": identity.hand_over_key,
        }
    place = identity.key
    return {
        **common,
        "kind": "token",
        "module": str(place.module),
        "token": place.token,
        "label": place.label,
        "id": None if place.id is None else place.id.hex(),
        "serial": place.serial,
    }


def identity_from(plain: Mapping[str, Any]) -> AnyIdentity:
    """
    The identity that `identity_to` described, as far as it is loaded by.
    """
    name = plain["name"]
    password_file = None if plain["password_file"] is None else Path(plain["password_file"])
    if plain["kind"] == "kept":
        return ManagedIdentity(
            name=name,
            enrollers=(),
            common_name=None,
            dns=(),
            addresses=(),
            password_file=password_file,
            hand_over_key=plain["hand_over_key"],
        )
    chain_file, password_env = Path(plain["chain_file"]), plain["password_env"]
    if plain["kind"] == "files":
        return Identity(
            name=name,
            chain_file=chain_file,
            key_file=Path(plain["key_file"]),
            password_file=password_file,
            password_env=password_env,
            hand_over_key=plain["hand_over_key"],
        )
    return TokenIdentity(
        name=name,
        chain_file=chain_file,
        key=TokenKey(
            module=Path(plain["module"]),
            token=plain["token"],
            label=plain["label"],
            id=None if plain["id"] is None else bytes.fromhex(plain["id"]),
            serial=plain["serial"],
        ),
        password_file=password_file,
        password_env=password_env,
    )
