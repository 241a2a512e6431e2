"""
Which certificates of /cacerts are anchors, and what a change of roots proves.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from cftpki_connectors.ca.anchors import FILE_NAME, Kept, anchors, changes, load, proven, save
from tests.support import pki

OLD_KEY, NEW_KEY = pki.key("ec", "est old"), pki.key("ec", "est new")
OLD = pki.issue(None, "EST Root", ca=True, private=OLD_KEY)
NEW = pki.issue(None, "EST Root", ca=True, private=NEW_KEY)
NEW_WITH_OLD = pki.issue(OLD, "EST Root", ca=True, private=NEW_KEY)
OLD_WITH_NEW = pki.issue(NEW, "EST Root", ca=True, private=OLD_KEY)
ISSUING = pki.issue(OLD, "Issuing", ca=True)
ALL = [one.der for one in (ISSUING, OLD_WITH_NEW, OLD, NEW_WITH_OLD, NEW)]


def test_anchors_are_the_self_signed_ones():
    assert {OLD.der, NEW.der} == set(anchors(ALL, pki.NOW))


def test_anchors_leave_out_what_is_not_valid_or_no_ca():
    expired = pki.issue(None, "Expired", ca=True, not_after=pki.NOW - timedelta(seconds=1))
    leaf = pki.issue(None, "Leaf")

    assert (OLD.der,) == anchors([expired.der, leaf.der, b"garbage", OLD.der], pki.NOW)


def test_anchors_without_a_root_are_the_topmost():
    lower = pki.issue(ISSUING, "Lower", ca=True)

    assert (ISSUING.der,) == anchors([lower.der, ISSUING.der], pki.NOW)
    assert () == anchors([], pki.NOW)


def test_new_root_with_the_old_ones_signature_is_proven():
    assert (NEW.der,) == proven([OLD.der], ALL, pki.NOW)


def test_new_root_without_the_link_is_not_proven():
    assert () == proven([OLD.der], [one for one in ALL if one != NEW_WITH_OLD.der], pki.NOW)


def test_link_without_the_new_root_proves_nothing():
    assert () == proven([OLD.der], [NEW_WITH_OLD.der], pki.NOW)


def test_cross_certificate_under_another_name_is_not_proven():
    """
    Otherwise every issuing CA could make itself a root by signing its own key.
    """
    key = pki.key("ec", "est issuing")
    issuing = pki.issue(OLD, "Issuing", ca=True, private=key)
    itself = pki.issue(None, "Issuing", ca=True, private=key)

    assert () == proven([OLD.der], [issuing.der, itself.der], pki.NOW)


def test_link_that_somebody_else_signed_is_not_proven():
    stranger_key = pki.key("ec", "est stranger")
    stranger = pki.issue(None, "EST Root", ca=True, private=stranger_key)
    forged = pki.issue(stranger, "EST Root", ca=True, private=NEW_KEY)

    assert () == proven([OLD.der], [forged.der, NEW.der, stranger.der], pki.NOW)
    assert () == proven([OLD.der], [pki.break_signature(NEW_WITH_OLD.der), NEW.der], pki.NOW)


@pytest.mark.parametrize("which", ["link", "root", "not a ca"])
def test_link_that_is_not_valid_now_is_not_proven(which):
    link, old = NEW_WITH_OLD, OLD
    if which == "link":
        link = pki.issue(OLD, "EST Root", ca=True, private=NEW_KEY, not_after=pki.NOW - timedelta(seconds=1))
    if which == "root":
        old = pki.issue(None, "EST Root", ca=True, private=OLD_KEY, not_after=pki.NOW - timedelta(seconds=1))
    if which == "not a ca":
        link = pki.issue(OLD, "EST Root", private=NEW_KEY)

    assert () == proven([old.der], [link.der, NEW.der], pki.NOW)


def test_changes_name_what_came_and_how_and_what_went():
    signed = changes([OLD.der], [OLD.der, NEW.der], ALL, pki.NOW)
    told = changes([OLD.der], [NEW.der], [NEW.der], pki.NOW)

    assert ["signed over by the old one" in one for one in signed] == [True]
    assert "told over the authenticated channel" in told[0]
    assert "no longer lists" in told[1]
    assert () == changes([OLD.der], [OLD.der], ALL, pki.NOW)


KEPT = Kept(source="source", roots=(OLD.der,), certificates=tuple(ALL))


def test_what_is_saved_is_loaded_for_the_same_source_only(tmp_path: Path):
    folder = tmp_path / "state"
    save(folder, KEPT)

    assert KEPT == load(folder, "source")
    assert load(folder, "other") is None
    assert 0o600 == (folder / FILE_NAME).stat().st_mode & 0o777


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"source": "source"}',
        b'{"source": "source", "roots": [], "certificates": []}',
        b'{"source": "source", "roots": ["*"], "certificates": []}',
        b'{"source": "source", "roots": [1], "certificates": []}',
        b'{"source": "source", "roots": {"a": 1}, "certificates": []}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_damaged_file_counts_as_none(tmp_path: Path, content):
    (tmp_path / FILE_NAME).write_bytes(content)

    assert load(tmp_path, "source") is None


def test_missing_or_oversized_file_counts_as_none(tmp_path: Path):
    assert load(tmp_path, "source") is None
    save(tmp_path, KEPT)
    document = json.loads((tmp_path / FILE_NAME).read_text())
    (tmp_path / FILE_NAME).write_text(json.dumps(document | {"more": "x" * 1024 * 1024}))
    assert load(tmp_path, "source") is None
