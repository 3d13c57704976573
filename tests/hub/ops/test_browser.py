"""The Ops page in a real browser: what people see, and what they do by hand."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import registered
from tests.hub.access.browsing import Browser
from tests.hub.access.issuer import Issuer
from tests.hub.ops.conftest import WAIT_MS, Open
from tests.hub.ops.showcase import HOSTILE
from tests.hub.ops.stage import Stage, stage
from tests.hub.test_api_keys import key

pytestmark = pytest.mark.heavy
SECOND = "kiosk-2-aaaaaaaaaaaa"
VIEWS = {
    "overview": ("", ".tile"),
    "rollouts": ("rollouts", "tbody tr"),
    "rollout": (f"rollouts/{SECOND}", ".stop"),
    "devices": ("devices", "canvas"),
    "device": ("devices/shop-general-00", ".plot"),
    "trouble": ("devices/shop-general-09", ".facts"),
    "audit": ("audit", "tbody tr"),
    "compliance": ("compliance", "tbody tr"),
}
"""Every view, and what it has once it is there."""


def show(page: Any, view: str) -> None:
    """Go to a view, and wait until it is there."""
    path, sign = VIEWS[view]
    page.evaluate("path => { location.hash = '#/' + path }", path)
    page.wait_for_selector(sign)


def figure(page: Any, name: str) -> int:
    return int(page.inner_text(f'[data-count="{name}"] b').replace(",", ""))


def until_figure(page: Any, name: str, value: int) -> None:
    page.wait_for_selector(f'[data-count="{name}"] b:text-is("{value}")')


def test_the_overview_shows_the_numbers_of_the_hub(acme: Stage, open_page: Open) -> None:
    page = open_page(acme)
    groups = acme.client.get("/fleet/overview").json()["groups"]
    for name, kind in {
        "online": "presence",
        "sleeping": "presence",
        "silent": "findings",
        "quarantined": "findings",
    }.items():
        assert figure(page, name) == sum(group[kind][name] for group in groups)
    assert page.text_content(".ring-number") == "60"
    assert page.inner_text('[data-group="kiosk/general"] h3 b') == "40"


def test_a_drift_appears_without_anybody_asking(acme: Stage, open_page: Open) -> None:
    page = open_page(acme)
    assert figure(page, "drifted") == 1
    acme.drift("shop-general-20", "kiosk-1-aaaaaaaaaaaa")
    acme.tell()
    until_figure(page, "drifted", 2)


def test_an_empty_fleet_says_how_to_begin(empty: Stage, open_page: Open) -> None:
    page = open_page(empty)
    page.wait_for_selector("text=No devices yet")
    page.evaluate("location.hash = '#/rollouts'")
    page.wait_for_selector("text=No release yet")
    page.evaluate("location.hash = '#/devices'")
    page.wait_for_selector("text=No device matches.")


def test_a_wrong_token_is_refused_in_words(empty: Stage, chromium: Any) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(empty.url)
    page.fill("#token", "fhkey_wrong_wrong_wrong_wrong")
    page.press("#token", "Enter")
    page.wait_for_selector(".error:has-text('not known to this hub')")
    assert page.evaluate("sessionStorage.length") == 0
    context.close()


def test_a_release_is_promoted_by_keyboard_with_a_preview_that_is_true(acme: Stage, open_page: Open) -> None:
    page = open_page(acme, f"rollouts/{SECOND}")
    page.wait_for_selector('[data-key="act-promote"]')
    told = acme.client.post(
        f"/releases/{SECOND}/promote", params={"dry_run": "true"}, json={"targetSegment": "early"}
    ).json()
    tab_to(page, '[data-key="act-promote"]')
    page.keyboard.press("Enter")
    page.wait_for_selector("#preview [data-moving]")
    assert int(page.get_attribute("#preview [data-moving]", "data-moving")) == told["by_reason"]["eligible"]
    page.wait_for_selector('[data-key="confirm"]:not([disabled])')
    tab_to(page, 'input[name="reason"]')
    page.keyboard.type("the canary is well")
    tab_to(page, '[data-key="confirm"]')
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog", state="detached")
    page.wait_for_selector('[data-segment="early"] .road-bar[aria-label="offered to 100% of early"]')
    assert acme.client.get(f"/releases/{SECOND}").json()["basis_points"] == 10_000
    page.wait_for_selector("text=the canary is well")
    assert page.evaluate("document.activeElement.dataset.key") == "act-promote"


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(60):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached by Tab")


def test_what_the_hub_would_refuse_cannot_be_confirmed(acme: Stage, open_page: Open) -> None:
    page = open_page(acme, f"rollouts/{SECOND}")
    page.click('[data-key="act-promote"]')
    page.select_option('select[name="segment"]', "general")
    page.wait_for_selector("#preview .refused")
    assert "rule gate_share" in page.inner_text("#preview")
    assert page.is_disabled('[data-key="confirm"]')


@pytest.mark.parametrize(("verb", "state"), [("pause", "paused"), ("rollback", "rolled_back")])
def test_a_rollout_is_stopped_after_a_preview(acme: Stage, open_page: Open, verb: str, state: str) -> None:
    page = open_page(acme, f"rollouts/{SECOND}")
    page.click(f'[data-key="act-{verb}"]')
    page.wait_for_selector("#preview [data-moving]")
    assert acme.state(SECOND) == "rolling"
    page.click('[data-key="confirm"]')
    page.wait_for_selector(f"#release-state:text-is('{state}')")
    assert acme.state(SECOND) == state


def test_a_halt_appears_with_its_reason(acme: Stage, open_page: Open) -> None:
    page = open_page(acme, f"rollouts/{SECOND}")
    page.wait_for_selector("#release-state:text-is('rolling')")
    for name in ("shop-early-01", "shop-early-02"):
        acme.result(name, SECOND, "failed")
    acme.tell()
    page.wait_for_selector("#release-state:text-is('halted')")
    reason = acme.client.get(f"/releases/{SECOND}").json()["reason"]
    page.wait_for_selector(f'#release-reason:has-text("{reason}")')
    page.wait_for_selector('[data-segment="early"] .halt-fill.over')
    page.wait_for_selector('.bars li:has-text("failed")')
    page.evaluate("location.hash = '#/'")
    page.wait_for_selector('.alert-list :text("rollout halted")')


def test_a_hub_that_is_away_makes_the_page_stale_and_nothing_is_missed(acme: Stage, open_page: Open) -> None:
    page = open_page(acme)
    before = figure(page, "drifted")
    acme.close()
    page.wait_for_selector("#stale:has-text('Stale since')")
    assert page.inner_text("#live-text") == "Stale"
    assert figure(page, "drifted") == before
    acme.drift("shop-general-21", "kiosk-1-aaaaaaaaaaaa")
    acme.client.post("/recovery/shop-general-22/quarantine", json={"reason": "told while the page was away"})
    acme.tell()
    acme.open()
    acme.tell()
    page.wait_for_selector("#stale", state="hidden")
    until_figure(page, "drifted", before + 1)
    page.wait_for_selector("text=told while the page was away")


def test_text_of_strangers_stays_text(acme: Stage, open_page: Open) -> None:
    page = open_page(acme)
    for view in ("overview", "trouble", "audit"):
        show(page, view)
        page.wait_for_function(
            "text => document.querySelector('main').textContent.includes(text)", arg=HOSTILE
        )
        assert page.query_selector_all("main img, main script") == []
    acme.client.post(f"/releases/{SECOND}/pause", json={"reason": HOSTILE})
    acme.tell()
    show(page, "rollout")
    page.wait_for_function("text => document.querySelector('main').textContent.includes(text)", arg=HOSTILE)
    assert page.query_selector_all("main img, main script") == []
    assert "pwned" not in page.title()


def test_a_viewer_sees_everything_and_is_told_what_they_may_not(acme: Stage, open_page: Open) -> None:
    page = open_page(acme, f"rollouts/{SECOND}", token=key(acme)["key"])
    page.wait_for_selector('[data-key="act-pause"]')
    assert page.locator(".actions button").count() == page.locator(".actions button:disabled").count() == 4
    assert "As viewer you look" in page.inner_text(".why-not")
    for view in VIEWS:
        show(page, view)
    show(page, "trouble")
    page.wait_for_selector(".why-not:has-text('orders need operator')")
    assert page.locator("[data-key^=order]:enabled").count() == 0


def test_who_logged_in_needs_no_token_and_logs_out(filled: Path, tmp_path: Path, open_page: Open) -> None:
    """By the session's cookie, each change with its CSRF token."""
    issuer = Issuer()
    shutil.copytree(filled, tmp_path / "hub")
    with stage(tmp_path / "hub", issuer) as hub:
        hub.go_on()
        browser = Browser(hub, issuer)
        browser.log_in(groups=["fleet-operators"])
        page = open_page(hub, f"rollouts/{SECOND}", cookies=browser.cookies)
        assert "(operator)" in page.inner_text("#who")
        assert page.is_disabled('[data-key="act-promote"]')
        page.click('[data-key="act-pause"]')
        page.click('[data-key="confirm"]:not([disabled])')
        page.wait_for_selector("#release-state:text-is('paused')")
        assert browser.request("GET", "/session").status_code == 200
        with page.expect_request("**/logout") as left:
            page.click("#leave:has-text('Log out')")
        assert left.value.response().status == 200
        assert browser.request("GET", "/session").status_code == 401


def test_a_hub_with_a_provider_offers_to_log_in(tmp_path: Path, chromium: Any) -> None:
    with stage(tmp_path, Issuer()) as hub:
        context = chromium.new_context()
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(hub.url)
        page.wait_for_selector("a.button:text-is('Log in')")
        assert page.get_attribute("a.button", "href") == "login?next=/"
        context.close()


def test_the_grid_goes_by_keyboard_and_opens_a_device(acme: Stage, open_page: Open) -> None:
    page = open_page(acme, "devices?segment=general")
    page.wait_for_selector("canvas")
    page.focus("canvas")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector("#said:has-text('shop-general-02')", state="attached")
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:text-is('shop-general-02')")


def test_the_grid_is_drawn_anew_without_losing_whoever_goes_through_it(acme: Stage, open_page: Open) -> None:
    page = open_page(acme, "devices?segment=general")
    page.focus("canvas")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector("#said:has-text('shop-general-02')", state="attached")
    page.evaluate("document.querySelector('canvas').dataset.before = ''")
    acme.tell()
    page.wait_for_selector("canvas:not([data-before])")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#said:has-text('shop-general-03')", state="attached")


def test_devices_are_found_by_condition_and_by_a_part_of_their_id(acme: Stage, open_page: Open) -> None:
    page = open_page(acme, "devices?condition=silent")
    page.wait_for_selector("#device-count:has-text('2 devices of 60')")
    page.select_option("#pick-condition", "")
    page.fill("#search", "early-1")
    page.wait_for_selector("#device-count:has-text('4 devices of 60')")


def test_a_slow_answer_to_a_former_choice_changes_nothing(acme: Stage, open_page: Open) -> None:
    page = open_page(acme, "devices")
    page.wait_for_selector("#device-count:has-text('60 devices of 60')")
    held: list[Any] = []
    asked = re.compile(r"fleet/grid\?.*segment=early")
    page.route(asked, lambda route: held.append(route))
    with page.expect_request(asked):
        page.select_option("#pick-segment", "early")
    page.select_option("#pick-segment", "canary")
    page.wait_for_selector("#device-count:has-text('6 devices of 6')")
    with page.expect_response(asked):
        held[0].continue_()
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 200))")
    assert page.inner_text("#device-count") == "6 devices of 6"


def test_an_order_to_a_device_is_confirmed_with_a_reason(acme: Stage, open_page: Open) -> None:
    page = open_page(acme, "devices/shop-general-30")
    page.click('[data-key="order-quarantine"]')
    page.fill('dialog input[name="reason"]', "smells of smoke")
    page.click("dialog button[type=submit]")
    page.wait_for_selector('[data-key="order-release"]')
    assert acme.client.get("/recovery/shop-general-30").json()["quarantine"]["reason"] == "smells of smoke"


def test_the_page_works_below_the_prefix_of_a_proxy(acme: Stage, open_page: Open) -> None:
    page = open_page(acme, prefix="fleet-one/")
    assert figure(page, "quarantined") == 1
    for view in VIEWS:
        show(page, view)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1920])
def test_every_view_fits(acme: Stage, open_page: Open, width: int, scheme: str) -> None:
    """Nothing is wider than the screen. With FLAGHOIST_SHOTS, a folder, there are pictures to look at."""
    folder = os.environ.get("FLAGHOIST_SHOTS")
    page = open_page(acme, width=width, scheme=scheme)
    for view in VIEWS:
        show(page, view)
        if folder:
            page.screenshot(path=str(Path(folder) / f"{view}-{width}-{scheme}.png"), full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, view


def test_the_colours_are_switched_and_stay(acme: Stage, open_page: Open) -> None:
    page = open_page(acme)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    page.click("#theme")
    assert page.get_attribute("html", "data-theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.reload()
    page.wait_for_selector("#live[data-state=live]")
    assert page.get_attribute("html", "data-theme") == "dark"


def test_a_large_fleet_is_drawn_and_searched(
    empty: Stage, open_page: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    """How long it takes is printed; FLAGHOIST_DEVICES=100000 is a fleet that takes a while to make."""
    devices = int(os.environ.get("FLAGHOIST_DEVICES", "20000"))
    empty.new_token()
    registered.fill(empty, 0, devices)
    begin = time.monotonic()
    assert empty.client.get("/fleet/overview").status_code == 200
    counted = time.monotonic() - begin
    page = open_page(empty, "devices")
    begin = time.monotonic()
    page.wait_for_selector(f"#device-count:has-text('{devices:,} devices of {devices:,}')")
    loaded = time.monotonic() - begin
    drawn = page.evaluate(
        "() => { const begin = performance.now(); document.dispatchEvent(new Event('theme'));"
        " return performance.now() - begin }"
    )
    last = registered.device_id(devices - 1)
    page.fill("#search", last)
    page.wait_for_selector(f"#device-count:has-text('1 device of {devices:,}')")
    assert page.inner_text("tbody td").strip() == last
    with capsys.disabled():
        print(
            f"\n{devices:,} devices: counted in {counted:.2f} s, loaded in {loaded:.2f} s, drawn in {drawn:.0f} ms"
        )
