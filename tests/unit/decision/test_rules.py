"""Which rule applies, and which rules contradict each other."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.settings import Rule
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.decision.rules import RuleKey, match, overlaps


def rule(name, *networks, direction=Direction.SERVER, profile=None, port=None):
    nets = tuple(ip_network(n) for n in networks)
    return Rule(name=name, direction=direction, trust="t", networks=nets, profile=profile, port=port)


def key(remote="192.0.2.7", *, direction=Direction.SERVER, profile="SSLP", port=1762):
    return RuleKey(direction=direction, profile=profile, remote=remote, port=port)


def name(rules, wanted):
    found = match(rules, wanted)
    return found.name if found else None


RULES = (
    rule("any"),
    rule("port", port=1762),
    rule("profile", profile="SSLP"),
    rule("both", profile="SSLP", port=1763),
    rule("net8", "198.0.0.0/8", "2001:db8::/32"),
    rule("net24", "198.51.100.0/24"),
    rule("client", direction=Direction.CLIENT),
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (key(profile=None, port=1), "any"),
        (key(profile=None), "port"),
        (key(), "profile"),
        (key(port=1763), "both"),
        (key("198.1.1.1"), "net8"),
        (key("2001:db8::1"), "net8"),
        (key("198.51.100.9"), "net24"),
        (key("::ffff:198.51.100.9"), "net24"),
        (key(direction=Direction.CLIENT), "client"),
        (key("", profile=None, port=1), "any"),
    ],
)
def test_match_most_specific_rule_wins(wanted, expected):
    assert expected == name(RULES, wanted)
    assert expected == name(RULES[::-1], wanted)


def test_match_direction_without_rule_is_none():
    assert name(RULES[:-1], key(direction=Direction.CLIENT)) is None


@pytest.mark.parametrize("remote", ["localhost", "192.0.2.300", "192.0.2.1 ", "1.2.3.4/32", "\n"])
def test_match_garbled_address_matches_nothing_even_a_rule_without_networks(remote):
    assert name(RULES, key(remote)) is None


def test_match_unknown_address_does_not_match_networks():
    assert name((rule("net", "0.0.0.0/0"),), key("")) is None


def test_match_scoped_address_is_compared_without_its_scope():
    assert "link" == name((rule("link", "fe80::/10"),), key("fe80::1%eth0"))


def test_match_whole_internet_is_more_specific_than_no_network():
    assert "zero" == name((rule("any"), rule("zero", "0.0.0.0/0")), key())


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (rule("a"), rule("b"), True),
        (rule("a"), rule("b", direction=Direction.CLIENT), False),
        (rule("a"), rule("b", port=1), False),
        (rule("a", port=1), rule("b", port=2), False),
        (rule("a", port=1), rule("b", port=1), True),
        (rule("a", profile="X"), rule("b", profile="X"), True),
        (rule("a", profile="X"), rule("b", profile="x"), False),
        (rule("a", "10.0.0.0/8"), rule("b", "10.0.0.0/9"), False),
        (rule("a", "10.0.0.0/8"), rule("b", "192.0.2.0/24", "10.0.0.0/8"), True),
        (rule("a", "10.0.0.0/8"), rule("b"), False),
    ],
)
def test_overlaps_equal_rank_on_one_session_is_found(first, second, expected):
    assert ([(first, second)] if expected else []) == overlaps((first, second))


ANY_RULE = st.builds(
    lambda direction, profile, port, networks: Rule(
        name="r", direction=direction, trust="t", profile=profile, port=port, networks=tuple(networks)
    ),
    st.sampled_from(Direction),
    st.sampled_from([None, "A", "B"]),
    st.sampled_from([None, 1, 2]),
    st.lists(
        st.sampled_from([ip_network(n) for n in ("10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "::/0")]),
        max_size=2,
    ),
)
ANY_KEY = st.builds(
    lambda direction, profile, port, remote: RuleKey(
        direction=direction, profile=profile, port=port, remote=remote
    ),
    st.sampled_from(Direction),
    st.sampled_from([None, "A", "B"]),
    st.sampled_from([1, 2]),
    st.sampled_from(["10.0.0.1", "10.1.0.1", "10.2.0.1", "::1", "192.0.2.1", ""]),
)


@given(st.lists(ANY_RULE, max_size=5), ANY_KEY)
def test_match_order_matters_only_where_overlaps_says_so(rules, wanted):
    if not overlaps(rules):
        assert match(rules, wanted) == match(rules[::-1], wanted)
