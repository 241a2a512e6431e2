"""
What a hostile CA may write into its header fields.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cftpki_connectors.acme.orders import MAX_ALTERNATES, MAX_LOOKED_AT, MAX_PAGES
from cftpki_connectors.ca.client import CaRequest
from cftpki_connectors.ca.values import CaError, http_date, retry_after
from cftpki_ext.identity.enroller_port import Fault, Issued
from tests.support import pki
from tests.support.orders import held
from tests.support.servers import answer, response
from tests.unit.connectors.acme.test_acme_session import CA, REQUEST, ListCa, order, placed, refusal, reply
from tests.unit.connectors.ca.test_ca_client import fault, serving
from tests.unit.connectors.stepca.test_stepca_faults import CA as AUTHORITY
from tests.unit.connectors.stepca.test_stepca_faults import LEAF, ORDER, Scripted, ca, failure  # noqa: F401 - a fixture

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "Fri, 31 Dec 9999 23:59:59 -0100",
        "Thu, 01 Jan 1970 00:00:00 +99999999999999999999",
        "Mon, 99 Jan 99999 00:00:00 GMT",
    ],
)
def test_date_that_no_clock_shows_is_none(text):
    assert http_date(text) is None
    assert retry_after(text, NOW) is None


def test_retry_after_of_the_last_moment_of_all_is_bounded():
    assert NOW + timedelta(days=30) == retry_after("Fri, 31 Dec 9999 23:59:59 GMT", NOW)
    assert NOW == retry_after("Mon, 01 Jan 1900 00:00:00 GMT", NOW)
    assert NOW + timedelta(days=30) == retry_after("9" * 60, NOW)
    assert retry_after("-1", NOW) is None


@pytest.mark.parametrize(("method", "sent"), [("GET", False), ("POST", True)])
async def test_request_that_is_sent_elsewhere_may_have_been_acted_on_where_it_asks_for_something(
    tmp_path, method, sent
):
    raw = response(b"", status="302 Found", headers={"Location": "https://elsewhere.example/"})
    async with serving(tmp_path, answer(raw)) as server:
        error = await fault(CaRequest(url=server.url(), method=method))
    assert (Fault.MISCONFIGURED, sent) == (error.fault, error.sent)


async def test_renewal_that_is_sent_elsewhere_is_a_possible_orphan_and_no_reason_to_sign(ca: Scripted):  # noqa: F811
    ca.routes["/1.0/renew"] = answer(
        response(b"", status="307 Odd", headers={"Location": "https://x.example/"})
    )
    current = held(Issued(certificates=(LEAF.der, AUTHORITY.der)), ORDER)
    failed = await failure(ca, order=replace(ORDER, current=current))
    assert "the CA may have issued nevertheless" in failed.detail
    assert [] == ca.asked("/1.0/sign")


@pytest.mark.parametrize("location", ["", "http://ca.example/o", "//[", "https://ca.example/" + "o" * 5000])
async def test_order_whose_url_is_none_is_not_taken(location):
    headers = {"Location": location} if location else {}
    ca_ = ListCa({f"{CA}/newOrder": [reply(order("pending"), 201, **headers)]})
    with pytest.raises(CaError, match="gave the order no URL"):
        await placed(ca_).place(REQUEST)


async def test_list_of_orders_that_leads_back_to_itself_ends():
    page = reply({"orders": [f"{CA}/o/1"] * 100}, link=f'<{CA}/orders>;rel="next"')
    ca_ = ListCa({f"{CA}/orders": [page], f"{CA}/o/1": [refusal("malformed")]})
    assert await placed(ca_).find(REQUEST, own=None, taken=()) is None
    assert (MAX_PAGES, MAX_LOOKED_AT) == tuple(
        [url for _, url in ca_.requests].count(one) for one in (f"{CA}/orders", f"{CA}/o/1")
    )


async def test_alternates_without_number_are_followed_a_few_times_and_never_to_plain_http():
    chain = pki.make_root().pem
    urls = [f"{CA}/alternate/{number}" for number in range(1000)]
    link = ", ".join(f'<{url}>;rel="alternate"' for url in urls)
    kind = "application/pem-certificate-chain"
    routes = {f"{CA}/c": [reply(chain, content_type=kind, link=link)]}
    routes |= {url: [reply(chain, content_type=kind)] for url in urls}
    ca_ = ListCa(routes)
    chains, notes = await placed(ca_).download(f"{CA}/c")
    assert (1 + MAX_ALTERNATES, ()) == (len(chains), notes)
