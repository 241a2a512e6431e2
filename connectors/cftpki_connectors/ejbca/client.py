"""
The routes of EJBCA's REST interface (v1) that we need, one method each.

Owns paths and bodies; decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_connectors.ca.client import CaAnswer, CaClient, CaError, CaRequest
from cftpki_connectors.ca.values import printable
from cftpki_connectors.ejbca.answers import Enrolled, Waiting, cas_of, enrolled, error_of, fields_of
from cftpki_connectors.ejbca.options import EjbcaOptions, Request
from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.ports.clock import Clock

_JSON = frozenset({"application/json"})


class EjbcaClient:
    """
    Asks one server, as whoever the connection's certificate says.

    Every method raises `CaError` where no usable answer came, `RestError` where the server said no; `sent` of either
    tells whether a certificate may exist nevertheless.

    Args:
        options: where, and which CA and profiles.
        http: who does the asking.
        clock: for `Retry-After`.

    """

    def __init__(self, options: EjbcaOptions, http: CaClient, clock: Clock) -> None:
        self._options = options
        self._http = http
        self._clock = clock

    async def status(self, *, deadline: float) -> str:
        """
        Whether the interface is there and takes our certificate; the server's version.
        """
        fields = fields_of(await self._get("certificate/status", deadline))
        return printable(str(fields.get("revision") or fields.get("version") or "of no version"))

    async def enrol(self, csr: bytes, username: str, password: str, *, deadline: float) -> Enrolled | Waiting:
        """
        Ask for a certificate for a request (DER).
        """
        options = self._options
        body: dict[str, object] = {
            "certificate_request": x509.load_der_x509_csr(csr).public_bytes(Encoding.PEM).decode("ascii"),
            "certificate_authority_name": options.ca,
            "username": username,
            "password": password,
            "include_chain": True,
        }
        if options.request is Request.PKCS10ENROLL:
            body["certificate_profile_name"] = options.certificate_profile
            body["end_entity_profile_name"] = options.end_entity_profile
        answer = await self._send("POST", f"certificate/{options.request}", deadline, body)
        return enrolled(answer, self._clock.now())

    async def finalize(self, request: int, password: str, *, deadline: float) -> Enrolled | Waiting:
        """
        Ask for what somebody had to approve.
        """
        body = {"response_format": "DER", "password": password}
        answer = await self._send("POST", f"certificate/{request}/finalize", deadline, body)
        return enrolled(answer, self._clock.now())

    async def revoke(self, issuer: str, serial: int, reason: str, *, deadline: float) -> CaAnswer:
        """
        Revoke, the issuer as EJBCA writes its name; 202 where somebody has to approve.
        """
        path = f"certificate/{quote(issuer, safe='')}/{serial:X}/revoke?{urlencode({'reason': reason})}"
        return await self._send("PUT", path, deadline)

    async def cas(self, *, deadline: float) -> Mapping[str, str]:
        """
        The CAs that we may see, by name, with their subjects.
        """
        return cas_of(await self._get("ca", deadline))

    async def ca_chain(self, subject: str, *, deadline: float) -> tuple[bytes, ...]:
        """
        A CA's certificate with those above it (DER).
        """
        path = f"ca/{quote(subject, safe='')}/certificate/download"
        answer = self._checked(await self._http.send(CaRequest(url=self._url(path)), deadline=deadline))
        try:
            found = x509.load_pem_x509_certificates(answer.body)
        except (ValueError, x509.InvalidVersion) as error:
            raise CaError(Fault.UNREACHABLE, "the CA's chain cannot be read") from error
        return tuple(one.public_bytes(Encoding.DER) for one in found[:16])

    async def _get(self, path: str, deadline: float) -> CaAnswer:
        request = CaRequest(url=self._url(path), accepts=_JSON)
        return self._checked(await self._http.send(request, deadline=deadline))

    async def _send(
        self, method: str, path: str, deadline: float, body: Mapping[str, object] | None = None
    ) -> CaAnswer:
        request = CaRequest(
            url=self._url(path),
            method=method,
            body=b"" if body is None else json.dumps(body).encode(),
            # Against forms in somebody's browser: EJBCA wants a header that these cannot set, where it is so configured.
            headers={"Content-Type": "application/json", "X-Keyfactor-Requested-With": "cftpki"},
            accepts=_JSON,
        )
        return self._checked(await self._http.send(request, deadline=deadline))

    def _url(self, path: str) -> str:
        return f"{self._options.url}/v1/{path}"

    def _checked(self, answer: CaAnswer) -> CaAnswer:
        if 200 <= answer.status < 300:
            return answer
        raise error_of(answer, self._clock.now())
