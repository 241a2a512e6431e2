"""
Many lists together: what they come to, and that a file full of them does not cost the square of their number.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.revocation.crl_combine import Heard, combine
from cftpki_ext.revocation.crl_parse import read_crl
from cftpki_ext.revocation.crl_signer import Signer
from cftpki_ext.x509 import parse_certificate
from cftpki_ext.x509.reasons import ALL_REASONS
from tests.support.pki import DAY, NOW, make_crl, make_root


def test_lists_of_one_scope_are_weighed_in_one_pass():
    root = make_root("Root")
    signer = Signer(certificate=parse_certificate(root.der), path=(parse_certificate(root.der),))
    view = read_crl(make_crl(root))
    heard = [
        Heard(
            statement=Statement(kind=SourceKind.CRL, origin=Origin.HANDED_IN, received_at=NOW, raw=b""),
            view=replace(view, this_update=NOW - DAY + timedelta(seconds=age), number=age),
            signer=signer,
            reasons=ALL_REASONS,
        )
        for age in range(4000)
    ]
    begin = time.process_time()

    assert combine(heard, NOW)[0] is CertificateStatus.GOOD
    assert [item.status for item in heard[-2:]] == [CertificateStatus.UNDETERMINED, CertificateStatus.GOOD]
    assert time.process_time() - begin < 1
