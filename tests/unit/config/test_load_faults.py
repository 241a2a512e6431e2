"""
Loading a configuration: every fault with its line and remedy.
"""

from __future__ import annotations

import pytest

from tests.support.config_site import IDENTITY, TRUST

FAULTS = {
    "section_unknown": ("[tust.x]\n", '1: [tust] unknown section (did you mean "trust"?)'),
    "key_unknown": (
        f'{TRUST}ancors = ["x"]\n',
        '3: [trust.partners.ancors] unknown key (did you mean "anchors"?)',
    ),
    "key_unknown_without_a_near_one": (f"{TRUST}zzzz = 1\n", "3: [trust.partners.zzzz] unknown key"),
    "cause_unknown": (
        '[policy.p]\nunreachabel = "accept"\n',
        '2: [policy.p.unreachabel] unknown key (did you mean "unreachable"?)',
    ),
    "treatment_key_unknown": (
        '[policy.p]\nstale = { action = "accept", max_stal = "1h" }\n',
        '2: [policy.p.stale.max_stal] unknown key (did you mean "max_stale"?)',
    ),
    "number_is_no_string": ("[service]\nsocket = 3\n", "2: [service.socket] must be a string"),
    "module_calls_of_a_key_in_a_file": (
        f'{IDENTITY}module_calls = "any"\n',
        "4: [identity.mft.module_calls] this key is in a file: it has no PKCS #11 module",
    ),
    "string_is_no_list": ('[trust.a]\nanchors = "root.pem"\n', "2: [trust.a.anchors] must be a list"),
    "string_is_no_boolean": (TRUST + 'deltas = "yes"\n', "3: [trust.partners.deltas] must be true or false"),
    "type_wrong": ('[service]\nmax_sessions = "3"\n', "2: [service.max_sessions] must be a whole number"),
    "section_is_no_table": ("service = 3\n", "1: [service] must be a table"),
    "trust_is_no_table": ("trust = 3\n", "1: [trust] must be tables with names: [trust.NAME]"),
    "rule_is_no_array": ("[rule]\n", "1: [rule] must be an array of tables: [[rule]]"),
    "boolean_is_no_number": ("[limits]\nredirects = true\n", "2: [limits.redirects] must be a whole number"),
    "limit_out_of_range": ("[limits]\nredirects = 11\n", "2: [limits.redirects] 11 is out of range: 0 to 10"),
    "duration_out_of_range": (
        '[limits]\nclock_skew = "2h"\n',
        "2: [limits.clock_skew] 2h is out of range: 0ms to 1h",
    ),
    "reserve_uses_up_the_budget": (
        "[limits]\nbudget_ms = 200\nreserve_ms = 200\n",
        "3: [limits.reserve_ms] 200ms leaves nothing of budget_ms = 200ms",
    ),
    "anchor_missing": (
        '[trust.t]\nanchors = [\n  "root.pem",\n  "gone.pem",\n]\n',
        "4: [trust.t.anchors[2]] certificate: DIR/gone.pem: no such file or directory",
    ),
    "anchors_empty": (
        "[trust.t]\nanchors = []\n",
        "2: [trust.t.anchors] names no trust anchor, so nobody could ever be accepted",
    ),
    "anchors_absent": (
        "[trust.t]\n",
        "1: [trust.t.anchors] names no trust anchor, so nobody could ever be accepted",
    ),
    "anchor_is_a_directory": (
        '[trust.t]\nanchors = ["."]\n',
        "2: [trust.t.anchors[1]] certificate: DIR is not a regular file",
    ),
    "anchor_holds_a_key": (
        '[trust.t]\nanchors = ["key.pem"]\n',
        "2: [trust.t.anchors[1]] certificate: DIR/key.pem holds no certificate",
    ),
    "source_unknown": (
        f'{TRUST}sources = ["ocps"]\n',
        "3: [trust.partners.sources[1]] 'ocps' is none of ocsp, crl, rest (did you mean \"ocsp\"?)",
    ),
    "source_twice": (
        f'{TRUST}sources = ["crl", "crl"]\n',
        "3: [trust.partners.sources] names a source twice",
    ),
    "url_of_another_scheme": (
        f'{TRUST}ocsp = ["ftp://x"]\n',
        "3: [trust.partners.ocsp[1]] 'ftp://x' is no http or https address",
    ),
    "url_with_a_secret": (
        f'{TRUST}proxy = "http://me:secret@proxy"\n',
        "3: [trust.partners.proxy] holds a user name or password: secrets come from files or the environment",
    ),
    "crl_file_missing": (
        f'{TRUST}crl = ["gone.crl"]\n',
        "3: [trust.partners.crl[1]] CRL: DIR/gone.crl: no such file or directory",
    ),
    "crl_file_is_no_crl": (
        f'{TRUST}crl = ["root.der"]\n',
        "3: [trust.partners.crl[1]] CRL: DIR/root.der is no CRL",
    ),
    "host_with_a_scheme": (
        f'{TRUST}allow_hosts = ["http://x"]\n',
        (
            "3: [trust.partners.allow_hosts[1]] 'http://x' is no host: write a name, *.suffix, an address or a CIDR,"
            " without http://"
        ),
    ),
    "network_across_the_edge_of_ipv4_in_ipv6": (
        f'{TRUST}[[rule]]\ndirection = "server"\ntrust = "partners"\nnetworks = ["::ffff:0:0/95"]\n',
        "6: [rule[1].networks[1]] ::ffff:0:0/95 has host bits set",
    ),
    "ipv4_network_written_in_both_ways": (
        (
            f'{TRUST}[[rule]]\nname = "a"\ndirection = "server"\ntrust = "partners"\nnetworks = ["10.0.0.0/8"]\n'
            '[[rule]]\ndirection = "server"\ntrust = "partners"\nnetworks = ["::ffff:10.0.0.0/104"]\n'
        ),
        "8: [rule[2]] applies to the same sessions as rule[1] ('a'): tell them apart by networks, profile or port",
    ),
    "check_required_and_left_to_the_host": (
        f'{TRUST}[[rule]]\ndirection = "server"\ntrust = "partners"\nrequire_check = true\nnot_handled = ["HandshakeDone"]\n',
        "6: [rule[1].require_check] needs the phase handshake_done, which is left to the host",
    ),
    "check_required_and_left_to_the_host_by_the_service": (
        (
            '[service]\nphases = ["StartHandshake", "HandshakeDone"]\n'
            f'{TRUST}[[rule]]\ndirection = "client"\ntrust = "partners"\nrequire_check = true\n'
        ),
        "8: [rule[1].require_check] needs the phase check_certificate, which is left to the host",
    ),
    "check_required_of_nobody": (
        f'{TRUST}[[rule]]\ndirection = "server"\ntrust = "partners"\nrequire_check = true\nclient_auth = false\n',
        "6: [rule[1].require_check] with client_auth = false there is no certificate to check",
    ),
    "network_with_host_bits": (
        f'{TRUST}allow_networks = ["10.0.0.1/8"]\n',
        "3: [trust.partners.allow_networks[1]] 10.0.0.1/8 has host bits set",
    ),
    "policy_unknown": (
        f'{TRUST}policy = "resilent"\n',
        '3: [trust.partners.policy] there is no [policy.resilent] (did you mean "resilient"?)',
    ),
    "policy_base_unknown": (
        '[policy.p]\nbase = "strct"\n',
        '2: [policy.p.base] there is no [policy.strct] (did you mean "strict"?)',
    ),
    "policy_based_on_itself": (
        '[policy.p]\nbase = "p"\n',
        "2: [policy.p.base] 'p' never comes to a built-in profile: the bases go in a circle",
    ),
    "policy_named_like_a_profile": (
        "[policy.strict]\n",
        "1: [policy.strict] 'strict' is a built-in profile: choose another name",
    ),
    "policy_without_action": (
        '[policy.p]\nstale = { max_stale = "1h" }\n',
        '2: [policy.p.stale] says no action: add action = "refuse", "accept_warn" or "accept" to \'p\'',
    ),
    "policy_that_bounds_a_refusal": (
        '[policy.p]\nstale = { action = "refuse", max_stale = "1h" }\n',
        "2: [policy.p.stale] max_stale and until bound an acceptance; this refuses anyway",
    ),
    "until_past": (
        '[policy.p]\nstale = { action = "accept", until = 2026-05-31 }\n',
        "2: [policy.p.stale.until] 2026-06-01T00:00:00+00:00 is past: the exception has ended, take it out",
    ),
    "until_without_zone": (
        '[policy.p]\nstale = { action = "accept", until = 2027-01-01T00:00:00 }\n',
        "2: [policy.p.stale.until] 2027-01-01T00:00:00 has no time zone: write 2027-01-01T00:00:00Z for UTC",
    ),
    "chain_missing": (
        '[identity.i]\nchain = "gone.pem"\nkey = "key.pem"\n',
        "2: [identity.i.chain] chain: DIR/gone.pem: no such file or directory",
    ),
    "key_not_named": (
        '[identity.i]\nchain = "chain.pem"\n',
        "1: [identity.i.key] 'key' is missing: name the file",
    ),
    "key_of_another": (
        '[identity.i]\nchain = "chain.pem"\nkey = "other.pem"\n',
        "3: [identity.i.key] key: DIR/other.pem does not belong to the first certificate of DIR/chain.pem",
    ),
    "key_encrypted": (
        '[identity.i]\nchain = "chain.pem"\nkey = "encrypted.pem"\n',
        "3: [identity.i.key] key: DIR/encrypted.pem is encrypted: set password_file or password_env",
    ),
    "key_not_encrypted": (
        '[identity.i]\nchain = "chain.pem"\nkey = "key.pem"\npassword_file = "password"\n',
        "3: [identity.i.key] key: DIR/key.pem is not encrypted, but a password is set",
    ),
    "key_is_no_key": (
        '[identity.i]\nchain = "chain.pem"\nkey = "password"\n',
        "3: [identity.i.key] key: DIR/password is no private key, or the password is wrong",
    ),
    "password_env_not_set": (
        '[identity.i]\nchain = "chain.pem"\nkey = "encrypted.pem"\npassword_env = "CFTPKI_NOT_SET"\n',
        "4: [identity.i.password_env] password: environment variable CFTPKI_NOT_SET is not set",
    ),
    "password_inline": (
        f'{IDENTITY}password = "geheim"\n',
        '4: [identity.mft.password] unknown key (did you mean "password_env"?)',
    ),
    "rule_trust_unknown": (
        f'{TRUST}[[rule]]\ndirection = "server"\ntrust = "partner"\n',
        '5: [rule[1].trust] there is no [trust.partner] (did you mean "partners"?)',
    ),
    "rule_identity_unknown": (
        f'{TRUST}{IDENTITY}[[rule]]\ndirection = "server"\ntrust = "partners"\nidentity = "mtf"\n',
        '9: [rule[1].identity] there is no [identity.mtf] (did you mean "mft"?)',
    ),
    "rule_direction_missing": (
        f'{TRUST}[[rule]]\ntrust = "partners"\n',
        "3: [rule[1].direction] 'direction' is missing",
    ),
    "rule_port_out_of_range": (
        f'{TRUST}[[rule]]\ndirection = "server"\ntrust = "partners"\nport = 65536\n',
        "6: [rule[1].port] must be less than or equal to 65535",
    ),
    "rule_phase_unknown": (
        f'{TRUST}[[rule]]\ndirection = "server"\ntrust = "partners"\nnot_handled = ["CryptDat"]\n',
        (
            "6: [rule[1].not_handled[1]] 'CryptDat' is none of start_task, start_handshake, get_certificate, get_ca_list,"
            " check_certificate, crypt_data, handshake_alert, handshake_done, end_session, end_task"
            ' (did you mean "crypt_data"?)'
        ),
    ),
    "rule_client_auth_in_client_mode": (
        f'{TRUST}[[rule]]\ndirection = "client"\ntrust = "partners"\nclient_auth = true\n',
        "6: [rule[1].client_auth] is for server mode: a client does not ask for client certificates",
    ),
    "rules_overlap": (
        (
            f'{TRUST}[[rule]]\nname = "a"\ndirection = "server"\ntrust = "partners"\n'
            '[[rule]]\nname = "b"\ndirection = "server"\ntrust = "partners"\n'
        ),
        "7: [rule[2]] applies to the same sessions as rule[1] ('a'): tell them apart by networks, profile or port",
    ),
    "rule_names_twice": (
        (
            f'{TRUST}[[rule]]\nname = "a"\ndirection = "server"\ntrust = "partners"\n'
            '[[rule]]\nname = "a"\ndirection = "client"\ntrust = "partners"\n'
        ),
        "8: [rule[2].name] 'a' is also the name of rule[1]",
    ),
    "name_that_no_log_can_carry": (
        '[trust."a\\nb"]\nanchors = ["root.pem"]\n',
        "1: [trust.a\\nb] 'a\\nb' is no name: letters, digits, '.', '_' and '-', at most 64",
    ),
    "socket_path_too_long": (
        f'[service]\nsocket = "/{"x" * 107}"\n',
        "2: [service.socket] the path has 108 bytes, a unix socket's at most 107: use a shorter directory",
    ),
    "user_unknown": (
        '[service]\nallow_users = ["nobody-here"]\n',
        "2: [service.allow_users[1]] there is no user 'nobody-here'",
    ),
    "toml_broken": ("[service\n", "1: [file] is no TOML: expected ']' at the end of a table declaration"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_load_with_one_fault_names_line_key_and_remedy(site, case):
    text, fault = FAULTS[case]

    assert [fault] == site.faults(text)


def test_load_with_many_faults_names_all_in_the_order_of_the_file(site):
    """
    Every fault that can stand beside others, in one file: none hides another.
    """
    text = "[policy.a]\nunreachabel = 1\n[trust.t]\nanchors = []\npolicy = 'x'\n[identity.i]\nkey = 'key.pem'\n[[rule]]\n"

    faults = site.faults(text)

    assert [2, 4, 5, 6, 8, 8] == [int(fault.partition(":")[0]) for fault in faults]
