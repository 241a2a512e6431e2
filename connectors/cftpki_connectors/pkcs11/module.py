"""
A PKCS #11 module in this process: one owner, one lock, one session for each token.

A module's state is the process's: whoever initialises it again takes every session away from everybody, also in the
middle of a signature, and two threads in a module that was promised one end in a crash. So nobody but `Module` calls
into it: every call is made under its lock, since python-pkcs11 initialises with `C_Initialize(NULL)`, which promises
just that (PKCS #11 v2.40, 5.4). It is initialised again only when a token is gone and no key answers any more.
"""

from __future__ import annotations

import contextlib
import enum
import threading
import weakref
from collections.abc import Callable
from hashlib import sha256
from typing import Any, ClassVar

import pkcs11
from pkcs11 import Mechanism, ObjectClass
from pkcs11 import exceptions as errors

from cftpki_ext.core.errors import InputError, KeyUnavailableError, PinRefusedError
from cftpki_ext.core.pkcs11_uri import TokenKey

# What a module raises: its own errors, and RuntimeError where python-pkcs11 knows no name for the code.
_MODULE_ERRORS = (errors.PKCS11Error, RuntimeError)
# The token does not do what is asked; that says nothing about the session.
_NOT_SO = (
    errors.MechanismInvalid,
    errors.MechanismParamInvalid,
    errors.DataInvalid,
    errors.DataLenRange,
    errors.KeySizeRange,
    errors.KeyTypeInconsistent,
)
# The session is no more, for whichever key of the token.
_SESSION_GONE = (
    errors.SessionHandleInvalid,
    errors.SessionClosed,
    errors.DeviceRemoved,
    errors.TokenNotPresent,
    errors.UserNotLoggedIn,
)
# A login with a wrong PIN counts towards the token's lock: it is never tried twice with the same one.
_WRONG_PIN = (errors.PinIncorrect, errors.PinInvalid, errors.PinLenRange, errors.PinLocked, errors.PinExpired)

# Module, label and serial number of a token.
TokenName = tuple[str, str, str | None]


class _Remedy(enum.Enum):
    """
    What is tried, from the least to the most, before a key counts as unavailable.
    """

    NONE = enum.auto()
    FIND_KEY = enum.auto()  # in the same session: the key was replaced
    OPEN_TOKEN = enum.auto()  # the session was lost
    BEGIN_ANEW = enum.auto()  # the module sees a token that was put back only then


class Module:
    """
    One loaded module. All that touches it happens under `lock`.
    """

    _loaded: ClassVar[dict[str, Module]] = {}
    _loading: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: str) -> None:
        self.lock = threading.RLock()
        self._library = pkcs11.lib(path)
        self._sessions: dict[TokenName, Any] = {}
        # The digest of the PIN that a token refused last: keys of one token share its counter of wrong ones.
        self._refused: dict[TokenName, bytes] = {}
        self._keys: weakref.WeakSet[Handle] = weakref.WeakSet()

    @classmethod
    def of(cls, path: str) -> Module:
        """
        The owner of a module, which is loaded when first asked for.

        Args:
            path: of the library.

        Returns:
            The one owner in this process.

        Raises:
            PKCS11Error: it cannot be loaded or initialised.

        """
        with cls._loading:
            module = cls._loaded.get(path)
            if module is None:
                module = cls._loaded[path] = cls(path)
            return module

    def enter(self, handle: Handle) -> None:
        """
        Count a key as one that may hold an object of this module.
        """
        self._keys.add(handle)

    def session(self, place: TokenKey, pin: Callable[[], bytes | None]) -> Any:
        """
        The session of a token, opened and logged in where there is none yet.

        Args:
            place: the token.
            pin: gives the PIN where a login is needed; `None` for tokens without.

        Returns:
            The session that all keys of the token in this process share.

        Raises:
            KeyUnavailableError: the PIN was refused before.
            PKCS11Error: no such token, or it does not open.

        """
        name = token_name(place)
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = self._open(place, name, pin)
        return session

    def drop(self, place: TokenKey) -> None:
        """
        Forget the session of a token; every key of it opens another when it signs next.
        """
        session = self._sessions.pop(token_name(place), None)
        if session is None:
            return
        with contextlib.suppress(*_MODULE_ERRORS):  # it is gone already: that is why it is forgotten
            session.close()

    def anybody_else(self, but: Handle, *, on_token: TokenKey | None = None) -> bool:
        """
        Whether another key still answers, so that nothing may be taken from under it.

        Args:
            but: the key that asks.
            on_token: look only at keys of this token; by default at all of the module.

        """
        others = [handle for handle in self._keys if handle is not but]
        if on_token is not None:
            others = [handle for handle in others if token_name(handle.place) == token_name(on_token)]
        return any(handle.answers(self) for handle in others)

    def held(self, place: TokenKey) -> Any:
        """
        The session of a token, `None` where none is open.
        """
        return self._sessions.get(token_name(place))

    def begin_anew(self) -> None:
        """
        Initialise the module again. Every session and object is gone afterwards; the caller made sure of that.
        """
        self._sessions.clear()
        with contextlib.suppress(*_MODULE_ERRORS):  # it was not initialised any more
            self._library.finalize()
        self._library.initialize()

    def _open(self, place: TokenKey, name: TokenName, pin: Callable[[], bytes | None]) -> Any:
        secret = pin()
        digest = sha256(secret or b"").digest()
        if digest == self._refused.get(name):
            msg = f"{place}: the token refused this PIN before; it is not tried again until it changes"
            raise PinRefusedError(msg)
        try:
            text = None if secret is None else secret.decode()
        except UnicodeDecodeError:
            msg = f"{place}: the PIN is not UTF-8"
            raise KeyUnavailableError(msg) from None  # the error would hold the PIN
        if not self._library.initialized:
            self._library.initialize()
        token = self._token(place)
        try:
            session = token.open(user_pin=text)
        except errors.UserAlreadyLoggedIn:
            # A login is the process's: somebody beside us has made it.
            session = token.open()
        except _WRONG_PIN:
            self._refused[name] = digest
            raise
        self._refused.pop(name, None)
        return session

    def _token(self, place: TokenKey) -> Any:
        """
        The token, found without python-pkcs11's own search: that ends at the first token in trouble, whosever it is.
        """
        found = []
        for slot in self._library.get_slots(token_present=True):
            try:
                token = slot.get_token()
            except _MODULE_ERRORS:
                continue
            if token.label == place.token and place.serial in {None, _text(token.serial)}:
                found.append(token)
        if len(found) > 1:
            raise errors.MultipleTokensReturned
        if not found:
            raise errors.NoSuchToken
        return found[0]


class Handle:
    """
    One private key on a token. It outlives the loss of its token: the next signature finds it again.

    Args:
        place: where it is.
        pin: gives the PIN each time that a login is needed; `None` for tokens without.

    """

    def __init__(self, place: TokenKey, pin: Callable[[], bytes | None]) -> None:
        self.place = place
        self._pin = pin
        self._session: Any = None  # that the key was found in
        self._key: Any = None

    def sign(self, data: bytes, mechanism: Mechanism, parameter: object = None) -> bytes:
        """
        Have the token sign. Blocking; one call after the other in each module.

        Args:
            data: as the mechanism takes it.
            mechanism: how.
            parameter: of the mechanism.

        Returns:
            The signature as the token gives it.

        Raises:
            InputError: the token does not sign so.
            KeyUnavailableError: module, token or key cannot be used, or the PIN is refused.

        """
        try:
            module = Module.of(str(self.place.module))
        except _MODULE_ERRORS as exc:
            msg = f"{self.place}: the module {self.place.module} cannot be used ({type(exc).__name__})"
            raise KeyUnavailableError(msg) from exc
        with module.lock:
            module.enter(self)
            return self._sign(module, data, mechanism, parameter)

    def answers(self, module: Module) -> bool:
        """
        Whether the key can still be found where it was. Under the module's lock.
        """
        if self._key is None or self._session is not module.held(self.place):
            return False
        try:
            self._key = self._find(self._session)
        except _MODULE_ERRORS:
            self._key = None
            return False
        return True

    def _sign(self, module: Module, data: bytes, mechanism: Mechanism, parameter: object) -> bytes:
        failure: Exception | None = None
        for remedy in _Remedy:
            if remedy is _Remedy.FIND_KEY and module.held(self.place) is None:
                continue
            if not self._may(remedy, module):
                break
            found = False
            try:
                key = self._ready(remedy, module)
                found = True
                return bytes(key.sign(data, mechanism=mechanism, mechanism_param=parameter))
            except _NOT_SO as exc:
                msg = f"{self.place}: the token does not sign so ({type(exc).__name__})"
                raise InputError(msg) from exc
            except _WRONG_PIN as exc:
                msg = f"{self.place}: the token refuses the PIN ({type(exc).__name__})"
                raise PinRefusedError(msg) from exc
            except _SESSION_GONE as exc:
                failure = exc
                module.drop(self.place)
            except _MODULE_ERRORS as exc:
                failure = exc
                if not found:
                    self._key = None
                elif remedy is not _Remedy.NONE:
                    # The key was just looked for and is there: this one operation is what fails.
                    break
        msg = f"{self.place}: {type(failure).__name__}"
        raise KeyUnavailableError(msg) from failure

    def _may(self, remedy: _Remedy, module: Module) -> bool:
        """
        Whether a remedy takes nothing from another key.
        """
        match remedy:
            case _Remedy.OPEN_TOKEN:
                return not module.anybody_else(self, on_token=self.place)
            case _Remedy.BEGIN_ANEW:
                return not module.anybody_else(self)
            case _:
                return True

    def _ready(self, remedy: _Remedy, module: Module) -> Any:
        """
        The key on the token, once a remedy was applied.
        """
        if remedy is _Remedy.OPEN_TOKEN:
            module.drop(self.place)
        elif remedy is _Remedy.BEGIN_ANEW:
            module.begin_anew()
        session = module.session(self.place, self._pin)
        if self._key is None or self._session is not session or remedy is not _Remedy.NONE:
            self._key, self._session = self._find(session), session
        return self._key

    def _find(self, session: Any) -> Any:
        about: dict[str, Any] = {"object_class": ObjectClass.PRIVATE_KEY}
        if self.place.label is not None:
            about["label"] = self.place.label
        if self.place.id is not None:
            about["id"] = self.place.id
        return session.get_key(**about)


def token_name(place: TokenKey) -> TokenName:
    """
    Which token a key is on.
    """
    return str(place.module), place.token, place.serial


def _text(serial: object) -> str:
    return serial.decode(errors="replace").strip() if isinstance(serial, bytes) else str(serial).strip()
