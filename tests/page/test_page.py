"""What people do on the page: with a mouse, by keyboard, on a phone, with a screen reader."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not there: .ci/page installs it")
from playwright.sync_api import expect

from tests.page.device import NO_MARKUP, TOKEN, Device, changed
from tests.runtime.waiting import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

# Read before a test takes such variables away.
_PICTURES = os.environ.get("MECHA_PAGE_PICTURES")
PIXELS = """canvas => {
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let sum = 0;
    for (let i = 0; i < data.length; i += 997) sum = (sum * 31 + data[i]) % 1000000007;
    return sum;
}"""
# Of each text that can be seen: how it stands out from what is behind it, by the formula of WCAG 2.2, 1.4.3.
FAINT = """() => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (rgb) => rgb.slice(0, 3).map((value) => value / 255)
        .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (node) => {
        for (; node; node = node.parentElement) {
            const colour = numbers(getComputedStyle(node).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const faint = [];
    for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
        if (!own || !node.checkVisibility() || node.disabled || node.closest("template, noscript")) continue;
        const [one, two] = [light(numbers(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
        const contrast = (one + 0.05) / (two + 0.05);
        if (contrast < 4.5) faint.push(`${node.textContent.slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return faint;
}"""
# Numbers all that can be used. Of a group of radio buttons only the chosen one is a stop; arrows lead to the others.
NUMBERED = """() => {
    const all = document.querySelectorAll("button, select, input:not([type=radio]:not(:checked)), [tabindex='0']");
    const stops = [...all].filter((node) => node.checkVisibility() && !node.disabled);
    stops.forEach((node, number) => (node.dataset.number = number));
    return stops.length;
}"""


def detector_of(page: "Page") -> "Locator":
    return page.get_by_role("article", name="object-detector")


def row_of(page: "Page", model: str) -> "Locator":
    return page.get_by_role("row", name=re.compile(f"^{model}\\b"))


def test_the_token_is_asked_for_once_and_kept_in_this_tab_alone(new_page: "Page", device: Device) -> None:
    new_page.goto(device.url)
    field = new_page.get_by_label("Token of this daemon")
    field.fill("another-one-that-is-wrong")
    new_page.keyboard.press("Enter")
    expect(new_page.get_by_role("alert").filter(has_text="The token is wrong.")).to_be_visible()
    new_page.keyboard.press("Escape")
    expect(field).to_be_visible()

    field.fill(TOKEN)
    new_page.keyboard.press("Enter")
    expect(new_page.locator("#ready")).to_have_text(re.compile("ready"))
    new_page.reload()
    expect(new_page.locator("#project")).to_contain_text(str(device.root))

    expect(field).to_be_hidden()
    assert new_page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]


def test_the_live_picture_moves_and_says_in_words_what_was_found(page: "Page") -> None:
    picture = detector_of(page).get_by_role("img", name=re.compile(r"What object-detector sees\. Frame \d+, 640x480: "))
    before = picture.evaluate(PIXELS)
    wait_for(lambda: picture.evaluate(PIXELS) != before, timeout_s=60, what="another picture")

    detector_of(page).get_by_role("button", name="Picture").click()
    expect(picture).to_be_hidden()


def test_another_precision_is_chosen_by_keyboard_and_seen_in_the_chart(page: "Page", device: Device) -> None:
    detector = detector_of(page)
    detector.get_by_role("radio", name="INT8").focus()
    page.keyboard.press("Space")
    expect(detector.locator("[data-part=precision]")).to_have_text("INT8")
    page.keyboard.press("ArrowRight")

    expect(detector.locator("[data-part=precision]")).to_have_text("FP32")
    chart = detector.get_by_role("img", name=re.compile(r"Last minute, 0 to \d+ ms: .*INT8 .*; FP32 \d"))
    expect(chart).to_be_visible()
    assert device.config()["use_int8"] is False
    detector.get_by_role("radio", name="auto").check()
    wait_for(lambda: device.config()["use_int8"] == "auto", timeout_s=60)


def test_of_two_choices_in_a_row_the_last_one_counts(page: "Page", device: Device) -> None:
    held: list[Route] = []

    def hold_the_first(route: "Route") -> None:
        if route.request.method == "PATCH" and not held:
            held.append(route)
        else:
            route.continue_()

    detector = detector_of(page)
    page.route("**/api/nodes/*/config", hold_the_first)
    detector.get_by_role("radio", name="INT8").focus()
    with page.expect_request(lambda request: request.method == "PATCH"):
        page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)  # another one that did not wait would be there by now
    with page.expect_response(lambda answer: answer.request.post_data == '{"use_int8":false}'):
        held[0].continue_()

    expect(detector.get_by_role("radio", name="FP32")).to_be_checked()
    assert device.config()["use_int8"] is False
    detector.get_by_role("radio", name="auto").check()
    wait_for(lambda: device.config()["use_int8"] == "auto", timeout_s=60)


def test_a_threshold_is_written_and_one_that_cannot_be_is_taken_back(page: "Page", device: Device) -> None:
    detector = detector_of(page)
    slider = detector.get_by_role("slider", name="score threshold")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(detector.get_by_role("status")).to_contain_text("score_threshold is 0.26: written to configs/common")
    assert device.config()["score_threshold"] == 0.26

    text = device.config_file.read_text()
    device.config_file.write_text(text.replace('"iou_threshold": 0.45', '"iou_threshold": 45'))
    page.keyboard.press("ArrowRight")
    expect(detector.get_by_role("status")).to_contain_text("iou_threshold: got 45")
    expect(slider).to_have_value("0.26")
    device.config_file.write_text(text)


def test_a_node_is_paused_and_goes_on(page: "Page") -> None:
    detector = detector_of(page)
    detector.get_by_role("button", name="Pause").click()
    expect(detector.locator("[data-part=state]")).to_have_text("paused")
    detector.get_by_role("button", name="Resume").click()
    expect(detector.locator("[data-part=state]")).to_have_text("running")


def test_a_model_is_pulled_with_progress_and_removed_again(page: "Page") -> None:
    row = row_of(page, "cones")
    expect(row).to_contain_text(NO_MARKUP)
    row.get_by_role("button", name="Pull cones").click()
    expect(row.get_by_role("progressbar", name="Progress of cones")).to_be_visible()
    expect(row).to_contain_text(re.compile(r"FP32 \d+\.\d ms, INT8 \d+\.\d ms: \d\.\d\dx"), timeout=120_000)
    expect(row).to_contain_text(re.compile(r"FP32 1\.5 MB"))

    row.get_by_role("button", name="Remove cones").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Remove cones?")).to_be_visible()
    page.keyboard.press("Escape")
    expect(row).not_to_contain_text("available")
    row.get_by_role("button", name="Remove cones").press("Enter")
    page.get_by_role("button", name="Remove", exact=True).press("Enter")
    expect(row).to_contain_text("available")
    assert page.title() != "run"


def test_what_a_node_runs_cannot_be_removed_here(page: "Page") -> None:
    row = row_of(page, "arena-n")
    expect(row).to_contain_text("run by object-detector")
    expect(row.get_by_role("button")).to_have_count(0)


def test_a_broken_catalog_is_told_and_gone_when_it_is_mended(page: "Page", device: Device) -> None:
    text = device.catalog.read_text()
    changed(device.catalog, lambda catalog: catalog + "\n[[models]\n")
    expect(page.get_by_role("alert")).to_contain_text("model_catalog.toml")
    expect(detector_of(page).locator("[data-part=state]")).to_have_text("running")
    device.catalog.write_text(text)
    expect(page.get_by_role("alert")).to_have_text("")


def test_the_log_is_there_and_can_be_narrowed(page: "Page") -> None:
    log = page.get_by_role("log", name="Log")
    expect(log).to_contain_text("object-detector: Loading model")
    page.get_by_label("Show").select_option("errors")
    expect(log.locator("div.INFO").first).to_be_hidden()


def test_all_of_it_is_reached_by_keyboard(page: "Page") -> None:
    expect(row_of(page, "cones").get_by_role("button")).to_be_visible()
    expect(page.get_by_role("slider")).to_have_count(2)
    page.evaluate("document.activeElement?.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the nodes"
    count = page.evaluate(NUMBERED)
    reached = set()
    for _ in range(count):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.dataset.number"))

    assert count > 15
    assert reached == {str(number) for number in range(count)}


def test_a_screen_reader_is_told_what_each_part_is(page: "Page") -> None:
    assert [heading.inner_text() for heading in page.get_by_role("heading", level=2).all()] == [
        "Nodes",
        "Models",
        "Log",
    ]
    for role in ("button", "slider", "radio", "checkbox", "combobox", "img", "log", "table"):
        for one in page.get_by_role(role).all():
            assert one.and_(page.get_by_role(role, name=re.compile("."))).count() == 1, one


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(page: "Page", scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    assert page.evaluate(FAINT) == []


def test_a_phone_shows_all_of_it_without_scrolling_sideways(page: "Page") -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    expect(row_of(page, "arena-n")).to_contain_text("ready")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for button in page.get_by_role("button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44, button
        assert box["x"] + box["width"] <= 360, button


def test_pictures_of_it_can_be_taken(page: "Page", tmp_path: Path) -> None:
    """`MECHA_PAGE_PICTURES=docs/pictures .ci/page` takes those of the documentation."""
    folder = Path(_PICTURES or tmp_path)
    chart = detector_of(page).get_by_role("img", name=re.compile("Last minute"))
    expect(chart).to_be_visible()
    # A chart of a minute is worth looking at after half of one.
    page.wait_for_timeout(30_000 if _PICTURES else 0)
    # What is of this test alone.
    row_of(page, "cones").evaluate("row => (row.hidden = true)")
    page.locator("#project").evaluate(
        "one => (one.textContent = one.textContent.replace(/^.*, /, '/home/you/robot, '))"
    )
    page.screenshot(path=folder / "page.png", full_page=True)
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    page.locator("#project").evaluate(
        "one => (one.textContent = one.textContent.replace(/^.*, /, '/home/you/robot, '))"
    )
    page.screenshot(path=folder / "page-phone.png")
    assert (folder / "page-phone.png").stat().st_size > 10_000


def test_a_daemon_that_ends_is_missed_and_found_again(page: "Page", device: Device) -> None:
    device.stop()
    expect(page.locator("#ready")).to_have_text("no connection")
    expect(page.get_by_role("alert")).to_contain_text("what you see is from before")
    detector_of(page).get_by_role("button", name="Restart").click()
    expect(detector_of(page).get_by_role("status")).to_have_text("the daemon cannot be reached")
    device.start()
    expect(page.locator("#ready")).to_have_text("ready", timeout=120_000)
    expect(detector_of(page).locator("[data-part=state]")).to_have_text("running")
