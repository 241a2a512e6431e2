"""
PKCS #11 URIs: what names one private key, and what does not.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.pkcs11_uri import TokenKey, parse_token_uri

MODULE = "?module-path=/usr/lib/softhsm/libsofthsm2.so"


def test_token_uri_names_token_object_and_module():
    assert TokenKey(
        module=Path("/usr/lib/softhsm/libsofthsm2.so"),
        token="mft host",
        label="a;b",
        id=b"\x01\xff",
        serial="7",
    ) == parse_token_uri(f"pkcs11:token=mft%20host;object=a%3Bb;id=%01%FF;serial=7;type=private{MODULE}")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("file:/key.pem", "not a PKCS #11 URI"),
        (f"pkcs11:token={'x' * 1100};object=a{MODULE}", "not a PKCS #11 URI"),
        (f"pkcs11:object=a{MODULE}", "token is missing"),
        (f"pkcs11:token=a{MODULE}", "object or id is missing"),
        ("pkcs11:token=a;object=b", "module-path is missing"),
        ("pkcs11:token=a;object=b?module-path=lib.so", "is not absolute"),
        (f"pkcs11:token=a;object=b{MODULE}&pin-value=1234", "pin-value is not read"),
        (f"pkcs11:token=a;object=b{MODULE}&pin-source=/f", "pin-source is not read"),
        (f"pkcs11:token=a;token=b;object=b{MODULE}", "'token' stands twice"),
        (f"pkcs11:token=a;object=b;slot-id=1{MODULE}", "'slot-id' is not understood"),
        (f"pkcs11:token=a;object=b;type=public{MODULE}", "type is not 'private'"),
        (f"pkcs11:token=a;object=%zz{MODULE}", "begins no octet"),
        (f"pkcs11:token=a;object=%ff{MODULE}", "not UTF-8"),
    ],
)
def test_token_uri_that_names_no_key_is_refused(uri, said):
    with pytest.raises(InputError, match=said):
        parse_token_uri(uri)


@given(st.text(max_size=200).map(lambda text: "pkcs11:" + text))
def test_token_uri_of_anything_is_a_key_or_an_input_error(text):
    try:
        assert isinstance(parse_token_uri(text), TokenKey)
    except InputError:
        return
