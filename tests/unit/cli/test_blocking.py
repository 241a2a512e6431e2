"""
`cftpki partners block` and `unblock` where no service runs: what is kept, what is said, what is refused.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from cftpki_cache.blocked import LIST, BlockFile
from cftpki_ext.api import check_certificate
from cftpki_ext.cli import main
from cftpki_ext.core.blocks import Block
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.verdict import Reason
from tests.support import pki

NOW = datetime.now(UTC).replace(microsecond=0)
ROOT = pki.make_root("Root", not_before=NOW - pki.YEARS, not_after=NOW + pki.YEARS)
LEAF = pki.issue(
    ROOT, "CN=partner,O=Acme", eku=["clientAuth"], not_before=NOW - pki.DAY, not_after=NOW + pki.YEARS
)


@pytest.fixture
def config(tmp_path):
    (tmp_path / "root.pem").write_bytes(ROOT.pem)
    crl = pki.make_crl(ROOT, this_update=NOW - timedelta(hours=1), next_update=NOW + pki.DAY)
    (tmp_path / "root.crl").write_bytes(crl)
    path = tmp_path / "cftpki.toml"
    path.write_text(
        '[service]\nsocket = "s"\nstate = "state"\n[trust.partners]\nanchors = ["root.pem"]\ncrl = ["root.crl"]\n'
        '[[rule]]\nname = "in"\ndirection = "server"\ntrust = "partners"\n'
    )
    return path


def run(config, *arguments):
    return CliRunner().invoke(main, ["partners", *map(str, arguments), "--config", str(config)])


def told(config, *arguments):
    done = run(config, *arguments, "--json")
    assert 0 == done.exit_code, done.stderr
    return json.loads(done.stdout)


def judged(config):
    return check_certificate(LEAF.pem, config=config)


def test_blocked_partner_is_refused_by_python_and_command_line_and_let_in_again(config, tmp_path):
    chain = tmp_path / "partner.pem"
    chain.write_bytes(LEAF.pem)
    assert judged(config).accepted
    made = told(
        config, "block", "CN=partner,O=Acme", "--reason", "its key was stolen", "--until", "2099-01-01"
    )
    assert "subject:CN=partner,O=Acme" == made["blocked"]["what"]
    assert "2099-01-01T00:00:00+00:00" == made["blocked"]["until"]
    assert "stopped" == made["service"]
    verdict = judged(config)
    assert (Reason.BLOCKED, 49) == (verdict.reason, verdict.alert)
    assert "its key was stolen" in verdict.summary
    done = CliRunner().invoke(main, ["check", str(chain), "--config", str(config), "--json"])
    assert (49, "blocked") == (done.exit_code, json.loads(done.stdout)["reason"])
    explained = CliRunner().invoke(
        main, ["explain", verdict.id, "--replay", "--config", str(config), "--json"]
    )
    assert (0, True) == (explained.exit_code, json.loads(explained.stdout)["replay"]["agrees"])
    told(config, "unblock", "cn=PARTNER,o=acme", "--reason", "a new key")
    assert judged(config).accepted
    (lifted,) = BlockFile(tmp_path / "state").book().lifted
    assert ("a new key", made["blocked"]["by"]) == (lifted.reason, lifted.by)


def test_person_is_told_what_is_blocked_until_when_and_what_it_does_not_reach(config):
    done = run(config, "block", "dns:mft.partner.example", "--reason", "lost", "--until", "2099-01-01")
    assert (0, "") == (done.exit_code, done.stderr)
    assert (
        "dns:mft.partner.example is blocked until 2099-01-01 00:00Z; no service answers: one that is started takes this before"
        " it listens, one that is frozen as soon as it goes on; until then hosts that were given a board let known partners in,"
        " for an hour at the longest\n"
    ) == done.stdout
    config.write_text(
        config.read_text() + '[[rule]]\nname = "out"\ndirection = "client"\ntrust = "partners"\n'
        'not_handled = ["check_certificate"]\n'
    )
    done = run(config, "block", "dns:other.example", "--reason", "lost")
    assert "dns:other.example is blocked until it is lifted; " in done.stdout
    assert "cftpki: rule 'out' leaves certificates to the host: no block counts there\n" == done.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("block", "CN=a"), "Missing option '--reason'"),
        (("block", "CN=a", "--reason", " "), "--reason: one to 500 characters, please; 0 were given"),
        (("block", "CN=a", "--reason", "x" * 501), "501 were given"),
        (("block", "CN=a", "--reason", "r", "--until", "2020-01-01"), "is over: nobody would be blocked"),
        (("block", "CN=a", "--reason", "r", "--until", "soon"), "'soon' is no time"),
        (("block", "C=FR, CN=a", "--reason", "r"), "can be read in two orders"),
        (("block", "partner", "--reason", "r"), "names nobody"),
        (("unblock", "CN=a"), "subject:CN=a is not blocked; blocked: nobody"),
    ],
)
def test_wrong_call_blocks_nobody_and_says_why(config, tmp_path, arguments, why):
    done = run(config, *arguments)
    assert 2 == done.exit_code
    assert why in done.stderr
    assert None is BlockFile(tmp_path / "state").document()


def test_key_of_a_certificate_at_hand_is_blocked_in_whatever_certificate_it_is(config, tmp_path):
    again = pki.issue(
        ROOT,
        "CN=another name",
        eku=["clientAuth"],
        private=LEAF.key,
        not_before=NOW - pki.DAY,
        not_after=NOW + pki.YEARS,
    )
    file = tmp_path / "again.pem"
    file.write_bytes(again.pem + ROOT.pem)
    made = told(config, "block", "--key-of", file, "--reason", "stolen")
    assert made["blocked"]["what"].startswith("spki:")
    assert Reason.BLOCKED is judged(config).reason
    told(config, "unblock", "--key-of", file)
    assert judged(config).accepted
    words = ["partners", "block", "--key-of", "-", "--reason", "r", "--json", "--config", str(config)]
    given = CliRunner().invoke(main, words, input=file.read_bytes())
    assert made["blocked"]["what"] == json.loads(given.stdout)["blocked"]["what"]
    for call in (
        ("block", "--reason", "r"),
        ("block", "CN=a", "--key-of", file, "--reason", "r"),
        ("unblock",),
    ):
        done = run(config, *call)
        assert (2, True) == (done.exit_code, "one of the two" in done.stderr)
    file.write_bytes(b"no certificate")
    done = run(config, "block", "--key-of", file, "--reason", "r")
    assert (2, True) == (done.exit_code, done.stderr.startswith("cftpki: "))


def test_partner_is_shut_out_while_somebody_edits_the_configuration(config, tmp_path):
    sound = config.read_text()
    config.write_text(sound.replace('trust = "partners"', 'trust = "partnres"'))
    done = run(config, "block", "CN=partner,O=Acme", "--reason", "stolen")
    assert (0, f"cftpki: {config} has a fault, see cftpki config check; this is done all the same\n") == (
        *(done.exit_code, done.stderr),
    )
    config.write_text(sound)
    assert Reason.BLOCKED is judged(config).reason
    # Where it cannot be told where the state is, nothing is done.
    for text in (sound.replace('state = "state"', "state = 7"), sound.replace("[service]", "[service")):
        config.write_text(text)
        done = run(config, "unblock", "CN=partner,O=Acme")
        assert 2 == done.exit_code
        assert done.stderr.startswith(f"{config}:")
    config.write_text(sound)
    assert Reason.BLOCKED is judged(config).reason


def test_hostile_reason_is_shown_escaped(config):
    done = run(config, "block", "CN=a", "--reason", "a\x1b[31m\nb")
    assert 0 == done.exit_code
    assert r"a\x1b[31m\nb" == BlockFile(config.parent / "state").book().blocks[0].reason


def test_digest_that_means_two_entries_is_not_lifted_by_guess(config):
    digest = "ab" * 32
    run(config, "block", f"fingerprint:{digest}", "--reason", "r")
    run(config, "block", f"spki:{digest}", "--reason", "r")
    done = run(config, "unblock", digest)
    assert 2 == done.exit_code
    assert f"sha256:{digest} means several; blocked: fingerprint:{digest}, spki:{digest}" in done.stderr
    assert 0 == run(config, "unblock", f"spki:{digest}").exit_code
    assert [f"fingerprint:{digest}"] == [one.what for one in BlockFile(config.parent / "state").book().blocks]


def test_block_whose_end_has_come_lets_in_again(config, tmp_path):
    state = tmp_path / "state"
    assert judged(config).accepted
    over = Block(what="subject:CN=partner", reason="r", by="b", at=NOW - pki.DAY, until=NOW)
    BlockFile(state).change(lambda book: book.with_block(over))
    assert judged(config).accepted


def test_damaged_list_refuses_at_every_door_of_this_process(config, tmp_path):
    told(config, "block", "dns:nobody.example", "--reason", "r")
    assert judged(config).accepted
    (tmp_path / "state" / LIST).write_bytes(b"{}")
    with pytest.raises(StoreError, match="it is not known who is blocked"):
        judged(config)
    chain = tmp_path / "partner.pem"
    chain.write_bytes(LEAF.pem)
    done = CliRunner().invoke(main, ["check", str(chain), "--config", str(config)])
    assert 80 == done.exit_code
    assert "list of blocked partners" in done.stderr
    done = run(config, "block", "CN=a", "--reason", "r")
    assert (1, True) == (done.exit_code, "move it and blocked.lock away" in done.stderr)
