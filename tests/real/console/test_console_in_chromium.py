"""
The console's pages in real Chromium: at two sizes, by keyboard, with scripts off, with hostile names in every field, with
10,000 partners, and as a check of accessibility has them.
"""

import contextlib
import shutil
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from tests.support import console_site
from tests.support import evidence_samples as samples
from tests.support.console_site import HOSTILE, LONG, configure, keep, keep_hostile
from tests.support.ports import free_port

SIZES = ({"width": 1280, "height": 800}, {"width": 390, "height": 844})
PAGES = (
    "/",
    "/?all=1",
    "/partners",
    "/verdicts",
    "/sources",
    "/cluster",
    "/identities",
    "/exceptions",
    "/trial",
    "/trial?trust=partners&policy=audit&hours=168",
)
# Seconds that only a failure reaches: a busy machine gives a process its turn late.
_PATIENCE_MS = 60_000.0


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which("chromium")
    assert path is not None, "chromium is not installed: run scripts/system-packages test"
    with sync_playwright() as playwright:
        # As root, as in CI, it has no sandbox of its own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(chromium, console, **options):
    """
    A browser's context in which somebody has logged in by the printed link, and everything that its pages asked for.
    """
    context = chromium.new_context(**options)
    context.set_default_timeout(_PATIENCE_MS)
    page = context.new_page()
    page.asked = []
    page.said = []
    context.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.said.append(message.text))
    page.on("dialog", lambda dialog: page.said.append(f"dialog {dialog.message}"))
    link = urlsplit(console.link())
    page.base = f"{link.scheme}://{link.netloc}"
    page.goto(link.geturl())
    yield page
    context.close()


@pytest.fixture(scope="module")
def console(tmp_path_factory):
    """
    A console over hostile verdicts, and some that are well.
    """
    folder = tmp_path_factory.mktemp("console")
    fingerprint = f"01{0:062x}"
    config = configure(
        folder,
        '[policy.mine]\nbase = "strict"\nstale = { action = "accept_warn", until = 2099-01-01 }\n[[policy.mine.exception]]\n'
        f'fingerprint = "{fingerprint}"\nuntil = 2099-01-01\nreason = "<b>the CA moves</b>"\n',
    )
    config.write_text(config.read_text().replace('["root.pem"]\n', '["root.pem"]\npolicy = "mine"\n'))
    keep(folder / "state", 60, texts=("CN=well,O=company",))
    keep(folder / "state", 2, texts=("CN=bad",), statements=samples.REVOKED)
    keep_hostile(folder / "state")
    with console_site.running(config, "--listen", f"127.0.0.1:{free_port()}") as made:
        yield made


@pytest.fixture(scope="module")
def places(console, chromium):
    """
    Every page, and the page of each hostile verdict and partner.
    """
    with opened(chromium, console, java_script_enabled=False) as page:
        page.goto(page.base + "/verdicts?answer=refused")
        linked = [link.get_attribute("href") for link in page.locator("main a").all()]
    return tuple(dict.fromkeys((*PAGES, *linked)))


@pytest.mark.parametrize("size", SIZES, ids=("desk", "telephone"))
def test_every_page_fits_loads_nothing_from_elsewhere_and_runs_nothing(console, chromium, places, size):
    with opened(chromium, console, viewport=size) as page:
        for place in places:
            answer = page.goto(page.base + place)
            assert 200 == answer.status, place
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= size["width"], f"{place} is {width} wide"
            assert page.title().endswith("· cftpki")
            assert (
                0 == page.locator("script, iframe, object, embed, style, [style], main img, base").count()
            ), place
        assert {page.base} == {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in page.asked}
        assert [] == page.said
        assert len(places) >= len(PAGES) + len(HOSTILE)


def test_hostile_names_are_shown_as_what_they_are(console, chromium):
    with opened(chromium, console, java_script_enabled=False) as page:
        page.goto(page.base + "/partners")
        shown = page.locator("main").inner_text()
        assert HOSTILE[0] in shown
        assert "{{ 7 * 7 }}" in shown
        assert ("\\u202egnp.elif", False) == (
            "\\u202egnp.elif" if "\\u202egnp.elif" in shown else "",
            "\u202e" in shown,
        )
        page.get_by_label("Name, serial").fill(HOSTILE[1])
        page.get_by_role("button", name="Show").click()
        assert HOSTILE[1] == page.get_by_label("Name, serial").input_value()
        assert 1 == page.locator("tbody tr").count()
        page.goto(page.base + "/verdicts?answer=refused&q=" + LONG[:40])
        page.locator("tbody a").first.click()
        assert LONG in page.locator("main").inner_text()


def test_keyboard_alone_leads_everywhere(console, chromium):
    with opened(chromium, console, viewport=SIZES[0], java_script_enabled=True) as page:
        page.keyboard.press("Tab")
        assert "Skip to the content" == page.evaluate("document.activeElement.textContent")
        box = page.locator(".skip").bounding_box()
        assert box["y"] >= 0
        page.keyboard.press("Enter")
        assert "main" == page.evaluate("document.activeElement.id || document.querySelector(':target').id")
        page.goto(page.base + "/partners")
        seen = []
        for _ in range(15):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "(() => { const e = document.activeElement, s = getComputedStyle(e);"
                " return [e.tagName, e.textContent || e.name, parseFloat(s.outlineWidth) >= 2 && s.outlineStyle !== 'none']; })()"
            )
            seen.append(focused)
        assert all(outlined for _, _, outlined in seen), seen
        names = [text.strip() for _, text, _ in seen]
        assert [
            "Now",
            "Partners",
            "Verdicts",
            "Sources",
            "Cluster",
            "Identities",
            "Exceptions",
            "Try a policy",
        ] == names[1:9]
        assert ["INPUT", "SELECT", "BUTTON", "A"] == [tag for tag, _, _ in seen[9:13]]
        page.goto(page.base + "/partners")
        page.get_by_label("Name, serial").focus()
        page.keyboard.type("bad 1")
        page.keyboard.press("Enter")
        page.wait_for_url("**/partners?q=bad+1*")
        assert 1 == page.locator("tbody tr").count()


def test_everything_works_with_scripts_off(console, chromium):
    with opened(chromium, console, java_script_enabled=False) as page:
        page.get_by_role("link", name="Try a policy").click()
        page.get_by_label("under policy").select_option("audit")
        page.get_by_role("button", name="Decide again").click()
        assert "would be refused" in page.locator(".lead").inner_text()
        page.get_by_role("link", name="Partners").click()
        page.get_by_label("Which").select_option("refused")
        page.get_by_role("button", name="Show").click()
        page.get_by_role("link", name="CN=bad 1").click()
        assert "refused 44 revoked" in page.locator("main").inner_text()
        page.get_by_role("link", name="Load anew every 30 s").click()
        assert "30" == page.locator("meta[http-equiv=refresh]").get_attribute("content")
        page.get_by_role("link", name="Stop").click()
        assert 0 == page.locator("meta[http-equiv=refresh]").count()
        page.get_by_role("button", name="Log out").click()
        assert 401 == page.goto(page.base + "/partners").status
        assert page.get_by_label("Token").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_what_a_check_of_accessibility_finds(console, chromium, scheme):
    axe = Axe()
    with opened(
        chromium, console, viewport=SIZES[scheme == "dark"], color_scheme=scheme, bypass_csp=True
    ) as page:
        places = (
            "/",
            "/partners?q=bad",
            "/verdicts?q=bad",
            "/sources",
            "/cluster",
            "/identities",
            "/exceptions",
            "/trial",
        )
        for place in places if scheme == "light" else places[1:4]:
            page.goto(page.base + place)
            found = axe.run(
                page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]}
            )
            assert [] == [
                (place, one["id"], [node["html"][:200] for node in one["nodes"][:3]])
                for one in found.response["violations"]
            ]


def test_ten_thousand_partners_are_turned_page_by_page(tmp_path, chromium):
    config = configure(tmp_path)
    keep(tmp_path / "state", 10_000, texts=("CN=partner,O=company",))
    with (
        console_site.running(config, "--listen", f"127.0.0.1:{free_port()}") as made,
        opened(chromium, made, java_script_enabled=False, viewport=SIZES[1]) as page,
    ):
        page.goto(page.base + "/partners")
        assert "10000 partners" in page.locator("main").inner_text()
        assert 50 == page.locator("tbody tr").count()
        page.get_by_role("link", name="after").click()
        assert "page 2 of 200" in page.locator("main").inner_text()
        page.get_by_label("Name, serial").fill("company 9999")
        page.get_by_role("button", name="Show").click()
        assert 1 == page.locator("tbody tr").count()
