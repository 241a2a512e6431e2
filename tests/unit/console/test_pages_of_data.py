"""
What is known becomes pages: whatever texts hold, they stay texts, and each state has its word and its shape.

More than 400 lines: one subject with all its pages, over one set of helpers.
"""

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.console.blocks import Cell, Mark, Note, Page, Table
from cftpki_ext.console.plots import Bar, Lane, latency, time_line
from cftpki_ext.console.rendering import Asked, Renderer, moment, statics
from cftpki_ext.console.views.cluster import cluster_page
from cftpki_ext.console.views.exceptions import exceptions_page
from cftpki_ext.console.views.identities import identities_page
from cftpki_ext.console.views.now import now_page
from cftpki_ext.console.views.partners import partners_page
from cftpki_ext.console.views.sources import sources_page
from cftpki_ext.console.views.trial import trial_page
from tests.support.console_site import HOSTILE

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
AT = NOW.isoformat()
RENDERER = Renderer("host")
ASKED = Asked(path="/", query={"q": HOSTILE[1]}, refreshes=True, can_leave=True)
FINE = {"level": "ok", "about": "service", "check": "socket", "detail": "answers", "action": ""}


class Tags(HTMLParser):
    """
    The elements of a page, and their attributes' names.
    """

    def __init__(self, text):
        super().__init__()
        self.names, self.attributes = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}


def html(page, asked=ASKED):
    return RENDERER.page(page, asked)


def health(**more):
    return {
        "config": {"ok": True, "faults": []},
        "findings": [],
        "records": 3,
        "refused": [],
        "at": AT,
    } | more


def first(**more):
    given = {"service": [FINE], "status": {}, "health": health(), "trouble": None, "show_all": False}
    return now_page(**given | more)


def test_all_well_is_green():
    assert (Mark.OK, "Green: nothing found that refuses partners") == (first().lead.mark, first().lead.text)


@pytest.mark.parametrize(
    ("more", "mark", "why"),
    [
        (
            {"service": [FINE | {"level": "fail", "detail": "nobody listens"}]},
            Mark.FAIL,
            "service: nobody listens",
        ),
        (
            {"health": health(findings=[FINE | {"level": "warn", "about": "disk", "detail": "full"}])},
            Mark.WARN,
            "disk: full",
        ),
        (
            {"health": health(config={"ok": False, "faults": ["c.toml:1: x"]})},
            Mark.FAIL,
            "configuration: the service could not begin with it: c.toml:1: x",
        ),
        ({"health": None, "trouble": "permission denied"}, Mark.FAIL, "state directory: permission denied"),
    ],
)
def test_what_is_wrong_is_said_first_by_colour_word_and_reason(more, mark, why):
    lead = first(**more).lead
    assert (mark, (why,)) == (lead.mark, lead.more)
    assert lead.text.startswith("Red" if mark is Mark.FAIL else "Yellow")


def test_configuration_that_this_user_cannot_judge_is_no_alarm():
    lead = first(health=health(config={"ok": None, "faults": ["key: permission denied"]})).lead
    assert Mark.OK is lead.mark


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_makes_no_element_no_attribute_and_no_control_character(text):
    row = {
        "id": "a" * 32,
        "at": text,
        "answer": text,
        "partner": text,
        "fingerprint": text,
        "rule": text,
        "policy": text,
        "from": text,
    }
    finding = FINE | {"level": "fail", "about": text, "check": text, "detail": text, "action": text}
    page = html(first(service=[finding], health=health(refused=[row], at=text), status={"version": text}))
    assert Tags(html(first())).names | {"th", "thead"} >= Tags(page).names
    assert not {one for one in Tags(page).attributes if one.startswith("on") or one == "style"}
    assert not [one for one in page if not (one.isprintable() or one == "\n")]


@given(st.text(max_size=300))
def test_any_text_stays_one_text(text):
    cell = Cell(text=text, href="/", is_time=True, mark=Mark.WARN)
    page = Page(
        title="t",
        here="/",
        lead=Note(mark=Mark.FAIL, text=text, more=(text,)),
        blocks=(Table(caption=text, headings=("a",), rows=((cell,),)),),
        at=text,
    )
    made = html(page)
    assert not {"script", "iframe", "img", "svg"} & Tags(made.split("<main", 1)[1]).names
    assert all(one.isprintable() or one == "\n" for one in made)


def test_moments_are_in_utc_for_people_and_programs():
    shown = '<time datetime="2026-11-28T10:00:00Z">2026-11-28 10:00:00 UTC</time>'
    assert shown == str(moment("2026-11-28T12:00:00+02:00"))
    assert "&lt;b&gt;" == str(moment("<b>"))


def test_pages_load_nothing_but_our_own_two_files_and_no_script():
    made = html(first())
    loaded = {
        part.split('"')[0] for part in made.split('src="')[1:] + made.split('rel="stylesheet" href="')[1:]
    }
    assert loaded == set(statics())
    assert ("<script" in made, "style=" in made, 'http-equiv="refresh" content="30"' in made) == (
        False,
        False,
        True,
    )


def identity(**more):
    return {
        "name": "mft",
        "kind": "enrollers",
        "state": "healthy",
        "states": ["healthy"],
        "alarm": None,
        "trouble": None,
        "generation": {"number": 2},
        "certificate": {"not_before": AT, "not_after": (NOW + timedelta(days=90)).isoformat()},
        "runway": (NOW + timedelta(days=90)).isoformat(),
        "next": {"at": (NOW + timedelta(days=60)).isoformat(), "why": "lifetime"},
        "damaged": [],
        "generations": [
            {
                "number": number,
                "in_force": number == 2,
                "not_before": (NOW - timedelta(days=60 * (2 - number))).isoformat(),
                "ends": (NOW + timedelta(days=30 + 60 * (number - 1))).isoformat(),
                "written_at": AT,
                "enroller": "acme",
                "serial": "01",
                "subject": "CN=mft",
            }
            for number in (1, 2)
        ],
    } | more


def test_identities_have_their_generations_and_runway_as_a_time_line():
    page = identities_page({"identities": [identity()], "at": AT}, None, now=NOW)
    assert (Mark.OK, "1 identity, all well") == (page.lead.mark, page.lead.text)
    made = html(page)
    assert ({"svg", "rect", "title", "desc"} <= Tags(made).names, made.count('<rect class="now"')) == (
        True,
        1,
    )
    alarmed = identities_page(
        {"identities": [identity(alarm="expired", trouble="EXPIRED", states=["expired"])], "at": AT},
        None,
        now=NOW,
    )
    assert (Mark.FAIL, ("mft: EXPIRED",)) == (alarmed.lead.mark, alarmed.lead.more)


def source(**more):
    return {
        "trust": "partners",
        "kind": "ocsp",
        "location": "http://ca/",
        "points": [[AT, 12, None], [AT, 900, "timed_out"]],
        "updates": [AT, (NOW - timedelta(hours=1)).isoformat()],
    } | more


TOLD = {
    "sources": {
        "locations": [
            {
                "trust": "partners",
                "kind": "ocsp",
                "location": "http://ca/",
                "up": False,
                "since": AT,
                "asked": AT,
                "answered": None,
                "next_update": None,
                "answers": 1,
                "failures": 9,
                "cause": "timed_out",
                "detail": "nothing came",
            }
        ]
    }
}


def test_sources_have_latency_and_next_update_as_plots_and_in_a_table():
    page = sources_page({"series": [source()], "records": 2, "at": AT}, None, now=NOW)
    assert Mark.NOTE is page.lead.mark
    made = html(page)
    assert (1, 1, 1) == (
        made.count('class="good"'),
        made.count('class="bad"'),
        made.count('<rect class="late"'),
    )
    assert "12 ms" in made
    page = sources_page({"series": [source()], "records": 2, "at": AT}, TOLD, now=NOW)
    assert (Mark.WARN, ("ocsp http://ca/: timed_out: nothing came",)) == (page.lead.mark, page.lead.more)


def test_table_of_many_columns_moves_within_a_frame_of_its_own():
    frame = '<div class="scroll" role="region" tabindex="0" aria-label="Sources">'
    assert 1 == html(sources_page({"series": [source()], "records": 2, "at": AT}, TOLD, now=NOW)).count(frame)
    assert 0 == html(first()).count('class="scroll"')


def test_partners_have_pages_that_keep_what_was_asked():
    data = {
        "rows": [],
        "counts": {},
        "chosen": 101,
        "page": 2,
        "pages": 3,
        "looked": 0,
        "oldest": None,
        "let_go": 0,
        "at": AT,
    }
    made = html(partners_page(data, {"q": "a&b", "show": "refused", "page": 2}))
    assert 'href="/partners?q=a%26b&amp;show=refused&amp;page=1"' in made
    assert 'href="/partners?q=a%26b&amp;show=refused&amp;page=3"' in made


def test_trial_says_how_many_would_be_refused():
    whose = {
        "count": 3,
        "rows": [
            {
                "partner": "CN=a",
                "fingerprint": "ab",
                "why": "revoked",
                "times": 2,
                "last_id": "ff",
                "last_at": AT,
            }
        ],
    }
    data = {
        "since": AT,
        "whole": False,
        "looked": 9,
        "reach": AT,
        "replayed": 9,
        "skipped": 1,
        "unreadable": 0,
        "changes": [],
        "refused": whose,
        "let_in": {"count": 0, "rows": []},
        "at": AT,
    }
    page = trial_page(
        {"trusts": {"partners": "audit"}, "policies": ["strict"], "at": AT},
        {"trust": "partners", "policy": "strict", "hours": 24},
        data,
    )
    assert (Mark.FAIL, "3 partners would be refused, 0 partners let in") == (page.lead.mark, page.lead.text)
    assert "Would be refused (3), the first 1" in html(page)


def test_exceptions_say_which_hold_and_what_lets_everybody_in():
    one = {
        "policy": "p",
        "fingerprint": "ab" * 32,
        "until": AT,
        "reason": "CA moves",
        "causes": ["stale"],
        "in_force": True,
        "subject": None,
        "times": 0,
    }
    data = {
        "exceptions": [one, one | {"in_force": False}],
        "rows": [],
        "blocks": [],
        "audits": ["partners"],
        "config_ok": True,
        "at": AT,
    }
    page = exceptions_page(data)
    assert (Mark.WARN, "1 exceptions hold, 1 have ended") == (page.lead.mark, page.lead.text)


@given(
    st.lists(
        st.tuples(st.datetimes(timezones=st.just(UTC)), st.integers(-5, 10**9), st.booleans()),
        min_size=1,
        max_size=20,
    )
)
def test_latency_is_drawn_within_its_plot(points):
    plot = latency(points, name="n", title="t", description="d")
    assert all(0 <= one.x <= 100 and 0 <= one.y <= plot.height for one in plot.shapes)


@given(
    st.lists(
        st.tuples(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC))), max_size=10
    )
)
def test_time_line_is_drawn_within_its_plot(bars):
    lanes = [
        Lane(name="a", bars=tuple(Bar(begins=one, ends=two, look="now") for one, two in bars), marks=(NOW,))
    ]
    plot = time_line(
        lanes, now=NOW, name="n", title="t", description="d", within=(timedelta(days=9), timedelta(days=9))
    )
    assert all(
        0 <= one.x <= 100 and one.x + one.width <= 100.5 and 0 <= one.y <= plot.height for one in plot.shapes
    )


def cluster(**more):
    return {
        "server": "rediss://r:6379",
        "up": True,
        "since": AT,
        "fault": None,
        "refused": None,
        "node": "a",
        "vouched": True,
        "lag_s": 0.1,
        "bytes": 2048,
        "max_bytes": 4096,
        "leases": 7,
        "nodes": [
            {"node": name, "version": "1", "lag_s": lag_s, "silent_s": 0.5, "ahead_s": 0.0, "here": here}
            for name, lag_s, here in (("a", 0.1, True), ("b", 0.2, True))
        ],
        "sharing": {"leases_now": 2, "brought": 5},
        "news": {"told": 1, "waiting": 0, "put_off": 3, "heard": {"revoked": 4}},
    } | more


ANSWERS = {"memory": 90, "disk": 6, "cluster": 3, "network": 1}


def rows_of(page, caption):
    (found,) = (one for one in page.blocks if isinstance(one, Table) and one.caption.startswith(caption))
    return [tuple(cell.text for cell in row) for row in found.rows]


def test_cluster_shows_nodes_lag_answers_by_tier_and_leases():
    page = cluster_page({"cluster": cluster(), "answers": ANSWERS}, at=AT)
    assert (Mark.OK, "2 of 2 nodes are there, this one is 0.1 s behind") == (page.lead.mark, page.lead.text)
    assert [
        ("a", "there", "1", "0.1 s", "0.5 s", "-"),
        ("b", "there", "1", "0.2 s", "0.5 s", "-"),
    ] == rows_of(page, "Nodes")
    assert [("90", "90.0 %"), ("6", "6.0 %"), ("3", "3.0 %"), ("1", "1.0 %")] == [
        row[1:] for row in rows_of(page, "Where the answers")
    ]
    assert ["2", "7"] == [row[1] for row in rows_of(page, "Leases")][:2]
    assert ("revocations that are verified later", "3") in rows_of(page, "Told and heard")
    assert "2 of 2 nodes are there" in html(first(status={"cluster": cluster()}))


@pytest.mark.parametrize(
    ("more", "words", "more_words"),
    [
        (
            {"up": False, "fault": "connection refused"},
            "The server that nodes share does not answer",
            ("rediss://r:6379: connection refused",),
        ),
        ({"lag_s": 11.0}, "2 of 2 nodes are there, this one is 11.0 s behind", ()),
        ({"news": {"waiting": 1}}, "2 of 2 nodes are there, this one is 0.1 s behind", ()),
        (
            {"nodes": [{"node": "a", "here": True}, {"node": "b", "here": False}]},
            "1 of 2 nodes are there, this one is 0.1 s behind",
            (),
        ),
    ],
)
def test_cluster_in_trouble_is_a_warning(more, words, more_words):
    lead = cluster_page({"cluster": cluster(**more)}, at=AT).lead
    assert (Mark.WARN, words, more_words) == (lead.mark, lead.text, lead.more)


@pytest.mark.parametrize(
    ("status", "words"),
    [(None, "The service does not answer"), ({"cluster": None}, "This node is by itself")],
)
def test_cluster_that_is_none_or_not_known_is_said_so(status, words):
    page = cluster_page(status, at=AT)
    assert (Mark.NOTE, ()) == (page.lead.mark, page.blocks)
    assert page.lead.text.startswith(words)
    assert "cluster" not in [name for name, _ in first(status=status).blocks[0].pairs]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_of_other_nodes_makes_no_element(text):
    nodes = [{"node": text, "version": text, "here": True}]
    made = html(cluster_page({"cluster": cluster(server=text, fault=text, nodes=nodes)}, at=AT))
    plain = html(cluster_page({"cluster": cluster(fault="x")}, at=AT))
    assert Tags(plain).names >= Tags(made).names
    assert not [one for one in made if not (one.isprintable() or one == "\n")]
