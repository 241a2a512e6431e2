"""
A STATUS with something in each of its parts: every metric that there is can be made of it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cftpki_ext.identity.renewal.standing import Standing
from cftpki_ext.service.metrics import Seen
from cftpki_ext.service.monitoring.latencies import Latencies

AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
_TIME = AT.isoformat()


def _seconds() -> dict[str, Any]:
    took = Latencies()
    took.add(0.2)
    return took.status()


STATUS: dict[str, Any] = {
    "version": "1.0",
    "uptime_s": 7,
    "sessions": 1,
    "max_sessions": 10,
    "requests": {"check": 1},
    "results": {"reply": 1},
    "rules": ["in"],
    "verdicts": {
        "accepted": 2,
        "accepted_with_warnings": 1,
        "refused": {"revoked": 1},
        "would_be_refused": {"no_path": 1},
        "policy_rows": {"older_good accept_warn": 1},
    },
    "evidence": {
        "kept": 3,
        "not_kept": 0,
        "bytes": 1,
        "reaches_back_s": 2,
        "lasts_s": 3,
        "keep_s": 4,
        "breaks": 0,
        "let_go_early": 0,
        "strangers_bytes": 1,
    },
    "key_uses": {"mft": {"signed": 1, "handed_over": 0}},
    "renewals": {"running": True, "fault": None},
    "reloads": {"ok": 1, "failed": 1, "last_error": "why", "at": _TIME},
    "refresh": {
        "partners": 1,
        "waiting": 0,
        "renewed": 1,
        "failed": 0,
        "requests": 1,
        "troubles": [{"location": "http://ca", "ends_in_s": 5}],
        "ending": {
            "within_7d": 1,
            "within_30d": 1,
            "within": 1,
            "within_days": 30,
            "first": [{"partner": "CN=a", "serial": "1", "days": 3}],
        },
    },
    "board": dict.fromkeys(
        (
            *("ready", "entries", "bytes", "max_bytes", "hosts"),
            *("boards", "handed_out", "sessions", "given", "lost", "refused"),
        ),
        1,
    ),
    "signers": {
        "mft": {"ready": True, "error": None, "queue": 0, "signatures": 1, "failures": 0, "restarts": 0}
    },
    "processes": [{"role": "judge", "ready": True, "queue": 0, "rss_bytes": 1, "restarts": 0}],
    "judging": {"known_waiting": 0, "strangers_waiting": 0, "standing": 1, "given_again": 1},
    "answers": dict.fromkeys(("memory", "disk", "cluster", "network"), 1),
    "cluster": {
        "up": True,
        "since": _TIME,
        "nodes": [{"node": "a", "here": True, "lag_s": 1}],
        "lag_s": 1,
        **dict.fromkeys(
            ("bytes", "max_bytes", "leases", "leases_held", "put", "fenced", "too_much", "full", "late"), 1
        ),
        "sharing": dict.fromkeys(("leases_now", "brought", "used", "not_used", "asked"), 1),
        "news": {
            "heard": {"revoked": 1},
            **dict.fromkeys(("waiting", "put_off", "told", "dropped", "missed"), 1),
        },
    },
    "measures": {
        "verdicts": [["in", "accepted", "", "cache", 2], ["in", "refused", "revoked", "cache", 1]],
        "verdict_seconds": {"cache": _seconds()},
        "request_seconds": {"check": _seconds()},
    },
    "sources": {
        "known": 1,
        "down": 0,
        "locations": [
            {
                "trust": "t",
                "kind": "ocsp",
                "location": "http://ca/ocsp",
                "up": True,
                **dict.fromkeys(("since", "asked", "answered", "next_update"), _TIME),
                "answers": 1,
                "failures": 0,
            }
        ],
        "seconds": {"ocsp": _seconds()},
        "clocks": {"http://ca": {"offset_s": 0.5, "at": _TIME}},
    },
    "exceptions": {
        "in_force": 1,
        "ended": 0,
        "within_7d": 1,
        "within_30d": 1,
        "first": [{"policy": "p", "fingerprint": "f" * 64, "until": _TIME, "reason": "why"}],
        "rows": [{"policy": "p", "cause": "stale", "action": "accept_warn", "until": _TIME}],
    },
}
IDENTITY: dict[str, Any] = {
    "name": "mft",
    "kind": "enrollers",
    "states": [Standing.HEALTHY.value],
    "trouble": None,
    "runway": _TIME,
    "runway_s": 5,
    "next": {"at": _TIME},
    "generation": {"number": 1},
    "failures": 0,
    "open_orders": [],
    "orphans": [],
}
SEEN = Seen(status=STATUS, identities={"mft": IDENTITY}, config_ok=True, at=AT)
