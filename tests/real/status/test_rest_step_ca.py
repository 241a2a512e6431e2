"""
step-ca's CRL by its REST API, the API trusted by the fingerprint of its root: against a real step-ca.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from cftpki_connectors.stepca import PLUGIN
from cftpki_connectors.stepca.enroller import StepCaEnroller
from cftpki_ext.api import check_certificate_async
from cftpki_ext.config import load
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.verdict import SourceFinding, Verdict
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.identity.enroller_port import Issued
from tests.support import pki
from tests.support.ca_servers import StepCa, make_step_ca
from tests.support.orders import Saves, context, held, in_s, make_order

pytestmark = pytest.mark.real

WAIT_S = 15.0


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StepCa]:
    with make_step_ca(tmp_path_factory.mktemp("ca")).running() as running:
        yield running


@pytest.fixture
async def enroller(ca: StepCa, tmp_path: Path) -> AsyncIterator[StepCaEnroller]:
    async with aclosing(StepCaEnroller(PLUGIN.options(**ca.options()), context(tmp_path))) as made:
        yield made


def configure(folder: Path, ca: StepCa, *lines: str, anchor: pki.Entity | None = None) -> Path:
    """
    The anchor is the issuing CA by default, so that the root is not at hand and must come from the API.
    """
    (folder / "anchor.pem").write_bytes((anchor or ca.intermediate).pem)
    path = folder / "c.toml"
    body = [
        '[service]\nsocket = "s"\nstate = "state"\n[trust.p]\nanchors = ["anchor.pem"]\nsources = ["rest"]',
        f'[trust.p.rest]\nprofile = "step-ca"\nurl = "{ca.url}"',
        *lines,
        '[[rule]]\ndirection = "server"\ntrust = "p"\n',
    ]
    path.write_text("\n".join(body))
    return path


async def issued_by(enroller: StepCaEnroller) -> tuple[Issued, object]:
    order, saves = make_order("mft.corp.example"), Saves()
    issued = await enroller.advance(order, saves.last, saves, deadline=in_s(WAIT_S))
    assert isinstance(issued, Issued), issued
    return issued, order


async def ask(issued: Issued, config: Path) -> Verdict:
    return await check_certificate_async(issued.certificates, config=load(config))


def source(verdict: Verdict) -> SourceFinding:
    return verdict.evidence.findings[0].sources[0]


async def test_crl_by_the_api_is_judged_as_a_crl(
    ca: StepCa, enroller: StepCaEnroller, tmp_path: Path
) -> None:
    issued, order = await issued_by(enroller)
    other, _ = await issued_by(enroller)
    config = configure(tmp_path, ca, f'fingerprint = "{ca.fingerprint.upper()}"')
    good = await ask(issued, config)
    assert (0, SourceKind.CRL, f"{ca.url}/1.0/crl") == (good.alert, source(good).kind, source(good).url)
    assert "Step Issuing CA" in (source(good).responder or "")
    assert None is await enroller.revoke(held(issued, order), reason="keyCompromise", deadline=in_s(WAIT_S))
    # A list that was got a moment ago answers until its refresh age; another state directory has none.
    (tmp_path / "later").mkdir()
    config = configure(tmp_path / "later", ca, f'fingerprint = "{ca.fingerprint}"')
    assert (44, 0) == ((await ask(issued, config)).alert, (await ask(other, config)).alert)


async def test_wrong_fingerprint_believes_nobody(
    ca: StepCa, enroller: StepCaEnroller, tmp_path: Path
) -> None:
    issued, _ = await issued_by(enroller)
    verdict = await ask(issued, configure(tmp_path, ca, f'fingerprint = "{"0" * 64}"'))
    assert (46, Cause.UNREACHABLE) == (verdict.alert, source(verdict).cause)
    assert "fingerprint" in source(verdict).detail


async def test_fingerprint_of_another_certificate_that_the_api_shows_does_not_do(
    ca: StepCa, enroller: StepCaEnroller, tmp_path: Path
) -> None:
    stranger = pki.make_root("Stranger")
    issued, _ = await issued_by(enroller)
    fingerprint = stranger.certificate.fingerprint(hashes.SHA256()).hex()
    verdict = await ask(issued, configure(tmp_path, ca, f'fingerprint = "{fingerprint}"'))
    assert 46 == verdict.alert


async def test_without_a_pin_the_system_s_roots_decide(
    ca: StepCa, enroller: StepCaEnroller, tmp_path: Path
) -> None:
    issued, _ = await issued_by(enroller)
    verdict = await ask(issued, configure(tmp_path, ca))
    assert (46, Cause.UNREACHABLE) == (verdict.alert, source(verdict).cause)
    assert "certificate verify failed" in source(verdict).detail


async def test_root_from_a_file_does_as_well(ca: StepCa, enroller: StepCaEnroller, tmp_path: Path) -> None:
    issued, _ = await issued_by(enroller)
    (tmp_path / "root.pem").write_bytes(ca.root.pem)
    assert 0 == (await ask(issued, configure(tmp_path, ca, 'roots = ["root.pem"]'))).alert


def test_words_of_a_json_answer_are_a_fault_for_step_ca(ca: StepCa, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="its answer is a signed CRL"):
        load(configure(tmp_path, ca, 'status = "/status"'))
