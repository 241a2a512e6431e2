"""
The console's TLS: its certificate from files, read again when they change, and who is asked for one of his own.

OpenSSL makes the handshake, and takes a client's certificate that leads to the trust set's anchors by signatures alone; whether it is
accepted our engine says (`console.judge`), before anything is shown.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import ConsoleSettings
from cftpki_ext.support.failures import reason_of
from cftpki_ext.support.files import read_regular

_MAX_PASSWORD_BYTES = 1024


class CannotServeTlsError(CftPkiError):
    """
    The certificate or its key cannot be used.
    """


class TlsContexts:
    """
    The context for new connections. For one event loop.

    Args:
        settings: name the files.
        anchors: certificates that client certificates must lead to (DER), intermediates that clients forget among them: who is
            accepted is not said here. None where nobody is asked for one.
        log: is told where files that have changed cannot be used: those of before go on.

    Raises:
        CannotServeTlsError: they cannot be used.

    """

    def __init__(self, settings: ConsoleSettings, anchors: Sequence[bytes], log: Log) -> None:
        self._settings = settings
        self._anchors = anchors
        self._log = log
        self._marks = self._look()
        self._context = self._made()

    def current(self) -> ssl.SSLContext:
        """
        The context, of files that have changed a new one.
        """
        marks = self._look()
        if marks != self._marks:
            self._marks = marks
            try:
                self._context = self._made()
                self._log.info("console_certificate_loaded", certificate=str(self._settings.certificate))
            except CannotServeTlsError as error:
                self._log.error("console_certificate_not_loaded", error=str(error))
        return self._context

    def _files(self) -> tuple[Path, ...]:
        wanted = (self._settings.certificate, self._settings.key, self._settings.key_password_file)
        return tuple(file for file in wanted if file is not None)

    def _look(self) -> tuple[object, ...]:
        marks: list[object] = []
        for file in self._files():
            try:
                found = file.stat()
            except OSError as error:
                marks.append(error.errno)
            else:
                marks.append((found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        return tuple(marks)

    def _made(self) -> ssl.SSLContext:
        settings = self._settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # A resumed session would not show its certificate again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        try:
            context.load_cert_chain(
                str(settings.certificate),
                None if settings.key is None else str(settings.key),
                password=self._password,
            )
        except (OSError, ValueError, CftPkiError) as error:
            msg = f"console certificate {settings.certificate} cannot be used: {reason_of(error)}"
            raise CannotServeTlsError(msg) from error
        if self._anchors:
            context.verify_mode = ssl.CERT_REQUIRED
            # An anchor need not sign itself.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            try:
                context.load_verify_locations(cadata=b"".join(self._anchors))
            except (OSError, ValueError) as error:
                msg = f"the anchors of {settings.client_trust} cannot be used for client certificates: {reason_of(error)}"
                raise CannotServeTlsError(msg) from error
        return context

    def _password(self) -> bytes:
        """
        The key's password; an empty one, which opens nothing, instead of a question on a terminal.
        """
        file = self._settings.key_password_file
        if file is None:
            return b""
        return read_regular(file, cap=_MAX_PASSWORD_BYTES, what="password").data.strip(b"\r\n")
