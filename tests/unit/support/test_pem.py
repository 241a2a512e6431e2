"""
PEM or DER from a file: what is taken, and that what is not costs one pass.
"""

from __future__ import annotations

import time

import pytest

from cftpki_ext.core.errors import InputError
from cftpki_ext.support import pem
from tests.support.pki import make_root
from tests.support.pki import pem as to_pem

ROOT = make_root("Root").der


def test_block_with_spaces_and_blank_lines_is_read():
    text = to_pem(ROOT).replace(b"CERTIFICATE-----\n", b"CERTIFICATE----- \t\r\n\r\n \n", 1)

    assert pem.certificates(b"a note\n" + text + text) == (ROOT, ROOT)


@pytest.mark.parametrize("filling", [b"\n", b"\r\n", b" ", b"A", b"A\n"])
def test_block_that_never_ends_is_refused_in_one_pass(filling):
    hostile = b"-----BEGIN CERTIFICATE-----\n" + filling * 2_000_000 + b"!"
    begin = time.process_time()

    with pytest.raises(InputError, match="cut off"):
        pem.certificates(hostile)
    assert time.process_time() - begin < 1
