"""
Templates of filters and base names: what is read, what is written, and that no value becomes a part of the filter.
"""

from __future__ import annotations

import pytest
import sansldap
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.errors import InputError
from cftpki_ext.directory.templates import (
    Missing,
    escape_value,
    filled,
    filled_base,
    parse_base,
    parse_filter,
)
from cftpki_ext.x509.dn_text import names_of

# What means something in a filter, in a name, in a URL, or to a terminal, and any other octet.
HOSTILE = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.text(alphabet="()*\\\0&|!=<>~:;,+\"'#/ {}%?\x1b\r\nA é\U0001f511", min_size=1, max_size=40).map(
        str.encode
    ),
)


def fill(template, **values):
    known = {name.replace("__", "."): value for name, value in values.items()}
    return filled(parse_filter(template), lambda name: known.get(name, ()))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("(cn={a})", "(cn=x)"),
        ("(&(objectClass=partner)(cn={a}))", "(&(objectClass=partner)(cn=x))"),
        (
            "(&\n  (objectClass=partner)\n  (|(cn={a})(uid={a}))\n)\n",
            "(&(objectClass=partner)(|(cn=x)(uid=x)))",
        ),
        ("(cn=*{a}*)", "(cn=*x*)"),
        ("(mail=*)", "(mail=*)"),
        ("(!(cn={a}))", "(!(cn=x))"),
        ("(cn:caseExactMatch:={a})", "(cn:caseExactMatch:=x)"),
        ("(cn:dn:2.5.13.2:={a})", "(cn:dn:2.5.13.2:=x)"),
        ("(:2.5.13.2:={a})", "(:2.5.13.2:=x)"),
        ("(userAccountControl:1.2.840.113556.1.4.803:=2)", "(userAccountControl:1.2.840.113556.1.4.803:=2)"),
        ("(age>=5)", "(age>=5)"),
        ("(cn=\\2a\\28)", "(cn=\\2a\\28)"),
        ("(cn=é)", "(cn=\\c3\\a9)"),
        ("(altSecurityIdentities=X509:<I>{a})", "(altSecurityIdentities=X509:\\3cI\\3ex)"),
    ],
)
def test_template_is_filled(template, expected):
    assert expected == fill(template, a=(b"x",))


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("", "a parenthesis '(' is missing at character 1"),
        ("cn={a}", "a parenthesis '(' is missing at character 1"),
        ("(cn={a}", "a parenthesis ')' is missing at character 8"),
        ("(cn={a}))", "something follows the filter at character 9"),
        ("(&)", "'&' joins 0 filters at character 3"),
        ("(!(a=b)(c=d))", "'!' joins 2 filters at character 13"),
        ("({a}=x)", "an attribute with =, >=, <=, ~= or := is missing at character 2"),
        ("(cn=)", "compares with nothing at character 5"),
        ("(cn=**)", "compares with nothing but '*' at character 7"),
        ("(cn>=a*)", "'*' belongs into a comparison with = alone; write it as \\2a at character 8"),
        ("(cn:=a*)", "'*' belongs into a comparison with = alone; write it as \\2a at character 8"),
        ("(cn={})", "'{' begins no field; write it as \\7b at character 5"),
        ("(cn=\\zz)", "'\\' is followed by two hexadecimal digits at character 5"),
        ("(cn=a(b)", "a character that a value may not hold as it is at character 6"),
        ("(!" * 10 + "(a=b)" + ")" * 10, "is more than 8 deep at character 19"),
        ("(&" + "(a=b)" * 65 + ")", "has more than 64 comparisons at character 324"),
        ("(cn=" + "x" * 5000 + ")", "is longer than 4096 characters"),
    ],
)
def test_template_that_is_no_filter_is_a_fault(template, why):
    with pytest.raises(InputError) as caught:
        parse_filter(template)
    assert why == str(caught.value)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("(cn={b})", Missing("the certificate has no b")),
        ("(&(objectClass=*)(cn={b}))", Missing("the certificate has no b")),
        ("(!(cn={b}))", Missing("the certificate has no b")),
        ("(|(cn={b})(uid={b}))", Missing("the certificate has no b")),
        ("(|(cn={b})(uid={a}))", "(|(uid=x))"),
        ("(!(|(cn={b})(uid={a})))", Missing("the certificate has no b")),
        ("(&(uid={a})(!(&(o=c)(|(cn={b})(uid={a})))))", Missing("the certificate has no b")),
        ("(|(!(cn={b}))(uid={a}))", "(|(uid=x))"),
        ("(&(|(cn={b})(uid={a}))(o={b}))", Missing("the certificate has no b")),
    ],
)
def test_what_the_certificate_lacks_matches_nobody(template, expected):
    assert expected == fill(template, a=(b"x",), b=(b"",))


def test_field_with_several_values_means_any_of_them():
    assert "(&(o=y)(|(cn=x)(cn=z)))" == fill("(&(o=y)(cn={a}))", a=(b"x", b"z", b"x"))


def test_field_with_too_many_values_searches_for_nobody():
    values = tuple(b"%d" % n for n in range(17))
    expected = Missing("the certificate has 17 values of a, at most 16 are searched by")
    assert expected == fill("(cn={a})", a=values)


def test_filter_that_grows_too_long_searches_for_nobody():
    expected = Missing("what is searched by is longer than 8192 characters")
    assert expected == fill("(cn={a})", a=(b"(" * 3000,))


@given(HOSTILE)
def test_value_survives_a_parser_of_others_and_changes_nothing_else(value):
    text = fill("(&(objectClass=partner)(cn={a})(!(ou=x{a}y)))", a=(value,))
    assert text.isascii()
    assert text.isprintable()
    expected = sansldap.FilterAnd(
        [
            sansldap.FilterEquality("objectClass", b"partner"),
            sansldap.FilterEquality("cn", value),
            sansldap.FilterNot(sansldap.FilterEquality("ou", b"x" + value + b"y")),
        ]
    )
    assert expected == sansldap.LDAPFilter.from_string(text)


@given(HOSTILE, HOSTILE)
def test_value_within_a_substring_filter_brings_no_star(before, after):
    text = fill("(cn={a}*{b})", a=(before,), b=(after,))
    assert sansldap.FilterSubstrings("cn", before, [], after) == sansldap.LDAPFilter.from_string(text)


@given(HOSTILE)
def test_value_of_a_rule_brings_no_rule(value):
    text = fill("(cn:dn:2.5.13.2:={a})", a=(value,))
    expected = sansldap.FilterExtensibleMatch("2.5.13.2", "cn", value, dn_attributes=True)
    assert expected == sansldap.LDAPFilter.from_string(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    try:
        found = parse_filter(text)
    except InputError:
        return
    written = filled(found, lambda _: (b"x",))
    assert isinstance(written, str)
    sansldap.LDAPFilter.from_string(written)


def test_every_octet_that_means_something_is_escaped():
    assert "\\00\\28\\29\\2a\\5c\\1b\\ff" == escape_value(b"\0()*\\\x1b\xff")
    assert "\\20a b\\20" == escape_value(b" a b ")


# -- base names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("ou=partners,dc=example", "ou=partners,dc=example"),
        ("", ""),
        ("ou={a},dc=example", "ou=x,dc=example"),
        ("cn={a}+ou=x{a},dc=example", "cn=x+ou=xx,dc=example"),
        ("{a}", "x"),
    ],
)
def test_base_is_filled(template, expected):
    assert expected == filled_base(template, lambda _: ("x",))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a,dc=evil", "ou=a\\2Cdc\\3Devil,dc=example"),
        (" a ", "ou=\\20a\\20,dc=example"),
        ("#04", "ou=\\2304,dc=example"),
        ('"\\+<>;', "ou=\\22\\5C\\2B\\3C\\3E\\3B,dc=example"),
        ("a\0b\x1b", "ou=a\\00b\\1B,dc=example"),
        ("é", "ou=\\C3\\A9,dc=example"),
    ],
)
def test_value_in_a_base_stays_one_value(value, expected):
    assert expected == filled_base("ou={a},dc=example", lambda _: (value,))


@given(st.text(alphabet="()*\\&|=<>;,+\"'#/ A é", min_size=1, max_size=30))
def test_value_in_a_base_is_read_back_as_it_was(value):
    base = filled_base("CN={a},DC=example", lambda _: (value,))
    (name,) = names_of(base)
    assert {("2.5.4.3", value), ("0.9.2342.19200300.100.1.25", "example")} == set(name.attributes)


@pytest.mark.parametrize("values", [(), ("",), ("a", "b")])
def test_base_without_exactly_one_value_is_searched_by_nobody(values):
    said = {0: "no a", 2: "2 values of a, and one is asked for"}[len(list(filter(None, values)))]
    assert Missing(f"the certificate has {said}") == filled_base("ou={a}", lambda _: values)


@pytest.mark.parametrize("template", ["{a},dc=x", "{a}=x", "ou=x,{a},dc=x", "ou={a,dc=x", "ou=x\n"])
def test_field_outside_a_value_of_a_base_is_a_fault(template):
    with pytest.raises(InputError):
        parse_base(template)
