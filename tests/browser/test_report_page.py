"""The report in Chromium: sort, filter, search, open, theme, keyboard, print, narrow, without JavaScript."""

from support.sample_results import HOSTILE_IDS, sample_results

from pytest_slmperf.reports.html.report import write_report
from pytest_slmperf.text_out import message

SHOWN = "tbody.test:not([hidden])"


def names(page):
    return page.locator(f"{SHOWN} .name").all_inner_texts()


def outcomes(page):
    return page.locator(SHOWN).evaluate_all("tests => tests.map(test => test.dataset.outcome)")


def section(page, name):
    return page.locator("tbody.test").filter(has=page.locator(".name", has_text=name)).first


def test_worst_first_and_every_test_listed(open_page, gallery):
    page = open_page(gallery)
    assert page.locator("h1").inner_text() == "5 of 15 tests got worse,\n1 could not be measured".replace("\n", " ")
    assert outcomes(page)[:6] == ["failed"] + ["regressed"] * 5
    assert len(names(page)) == 15


def test_sorting_moves_whole_tests_and_says_so(open_page, gallery):
    page = open_page(gallery)
    page.get_by_role("button", name="Test", exact=True).click()
    assert page.locator("th[aria-sort=ascending]").inner_text().strip() == "Test"
    shown = names(page)
    assert shown.index("test_batch[4]") < shown.index("test_batch[16]") < shown.index("test_batch[128]")
    page.get_by_role("button", name="Test", exact=True).click()
    assert names(page) == shown[::-1]
    page.get_by_role("button", name="Change").click()
    assert names(page)[0] == "test_poisson[80% of peak]"
    assert page.locator("tbody.test .detail").count() == 15


def test_filter_and_search_and_reset(open_page, gallery, until):
    page = open_page(gallery)
    chip = page.get_by_role("button", name="5 regressed")
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    assert set(outcomes(page)) == {"regressed"}
    page.get_by_role("button", name="1 improved").click()
    assert len(names(page)) == 6
    page.get_by_role("searchbox").fill("BATCH 64")
    until(lambda: page.locator("#shown").inner_text().startswith("1 of"))
    assert names(page) == ["test_batch[64]"]
    page.get_by_role("searchbox").fill("no such test")
    page.get_by_role("button", name="Show all").click()
    assert len(names(page)) == 15
    assert page.locator("#shown").inner_text() == "15 tests"


def test_search_finds_files_and_metrics(open_page, gallery, until):
    page = open_page(gallery)
    page.get_by_role("searchbox").fill("test_serving.py")
    until(lambda: page.locator("#shown").inner_text().startswith("1 of"))
    page.get_by_role("searchbox").fill("ttft")
    until(lambda: names(page) == ["test_poisson[80% of peak]"])


def test_opening_a_test_draws_its_charts(open_page, gallery, draw_all):
    page = open_page(gallery)
    test = section(page, "test_batch[256]")
    test.get_by_role("button").first.click()
    assert test.get_by_role("heading", name="Why this verdict").is_visible()
    assert draw_all(page, test) == 6
    text = test.inner_text()
    assert "slower by 14.8 %" in text
    assert "launch 2, round 4" in text
    test.get_by_role("button").first.click()
    assert not test.get_by_role("heading", name="Why this verdict").is_visible()


def test_sweep_draws_frontier_roofline_and_replication(open_page, gallery, draw_all):
    page = open_page(gallery)
    test = section(page, "test_max_num_seqs")
    test.get_by_role("button").first.click()
    draw_all(page, test)
    titles = test.locator("figcaption").all_inner_texts()
    assert [title.split(":")[0] for title in titles[:4]] == [
        "Frontier",
        "Frontier",
        "Share of the device's limit",
        "Replication",
    ]
    frontier = test.locator(".canvas svg").first.text_content()
    assert "knee" in frontier
    assert "advised" in frontier


def test_curves_over_batch_are_drawn(open_page, gallery, draw_all):
    page = open_page(gallery)
    assert draw_all(page, page.locator("details.family").first) == 3


def test_what_stands_open_is_drawn_without_scrolling(open_page, gallery, until):
    page = open_page(gallery)
    places = page.locator("details.family").first.locator(".canvas")
    assert page.evaluate("document.querySelector('details.family').getBoundingClientRect().top > innerHeight + 300")
    until(lambda: places.locator("svg.marks").count() == places.count() == 3)
    assert page.evaluate("scrollY") == 0


def test_a_headless_browser_on_virtual_time_draws_what_stands_open(headless, gallery):
    page = headless("--virtual-time-budget=4000", "--window-size=1400,5000", "--dump-dom", gallery.as_uri())
    family = page.split('<details class="family"')[1].split("</details>")[0]
    assert family.count('class="marks"') == family.count('class="canvas') == 3


def test_an_opened_test_is_drawn_to_its_end_without_scrolling(open_page, gallery, until):
    page = open_page(gallery)
    test = section(page, "test_batch[256]")
    test.locator(".open").click()
    until(lambda: test.locator("svg.marks").count() == 6)


def test_link_to_a_test_opens_it(open_page, gallery, until):
    page = open_page(gallery, fragment="#t3")
    page.locator("#t3 .detail").wait_for()
    until(lambda: page.evaluate("document.activeElement.closest('tbody')?.id") == "t3")
    page.locator(".worst a").first.click()
    page.wait_for_selector("tbody.test[data-open] .inside")
    assert page.locator("tbody.test[data-open]").count() == 2


def test_theme_follows_the_system_and_then_the_reader(open_page, gallery, draw_all, until):
    page = open_page(gallery, color_scheme="dark")
    button = page.get_by_role("button", name="Dark mode")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    assert button.get_attribute("aria-pressed") == "true"
    draw_all(page, page.locator("details.family").first)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.evaluate(background) != dark
    until(lambda: "#1f5fbf" in page.locator(".canvas svg").first.evaluate("node => node.outerHTML"))
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate(background) != dark


def test_keyboard_alone_is_enough(open_page, gallery, until):
    page = open_page(gallery)
    press = page.keyboard.press
    focused = "document.activeElement"
    press("Tab")
    assert page.evaluate(f"{focused}.className") == "skip"
    press("Enter")
    assert page.evaluate(f"{focused}.id || location.hash") in ("tests", "#tests")
    press("/")
    page.keyboard.type("batch[128]")
    until(lambda: page.locator("#shown").inner_text().startswith("1 of"))
    for _ in range(12):
        press("Tab")
        if page.evaluate(f"{focused}.classList.contains('open')"):
            break
    assert page.evaluate(f"{focused}.innerText").strip() == "test_batch[128]"
    press("Enter")
    assert section(page, "test_batch[128]").get_by_role("heading", name="Why this verdict").is_visible()
    press("Tab")
    press("Escape")
    assert page.evaluate(f"{focused}.getAttribute('aria-expanded')") == "false"


def test_hostile_names_do_nothing(open_page, hostile, draw_all):
    page = open_page(hostile)
    page.evaluate("document.querySelectorAll('button.open').forEach(button => button.click())")
    for test in page.locator("tbody.test").all():
        draw_all(page, test)
    page.mouse.move(400, 400)
    assert page.evaluate("window.__owned") is None
    assert page.evaluate("Object.prototype.toString.call({}.__proto__)") == "[object Object]"
    shown = "\n".join(page.locator(".ident code").all_text_contents())
    assert [name for name in HOSTILE_IDS if message(name) not in shown] == []
    assert page.locator("main script, main img, main svg[onload]").count() == 0


def test_print_shows_everything_that_is_not_the_same(open_page, gallery):
    page = open_page(gallery)
    page.emulate_media(media="print")
    visible = page.locator("tbody.test .detail").evaluate_all(
        "rows => rows.filter(row => row.getClientRects().length).length"
    )
    assert visible == 15 - 5
    blank = "places => places.filter(place => !place.firstChild && place.getBoundingClientRect().height > 20).length"
    assert page.locator(".canvas").evaluate_all(blank) == 0, "a chart that was never drawn leaves no hole on paper"
    assert not page.get_by_role("searchbox").is_visible()


def test_paper_has_every_chart_of_the_sections_that_it_shows(open_page, gallery, until):
    page = open_page(gallery, color_scheme="dark")
    page.evaluate("""() => addEventListener("beforeprint", () => {
        const noted = ".test:not([data-outcome=same], [data-outcome=measured]) .canvas, details[open] .canvas";
        const places = [...document.querySelectorAll(noted)];
        const root = document.documentElement;
        root.dataset.places = places.length;
        root.dataset.drawn = places.filter((place) => place.querySelector("svg.marks")).length;
    })""")  # runs after the page's own listener: what is not drawn by then is not on the paper
    closed = page.locator(".detail[hidden] svg.marks")
    assert closed.count() == 0
    page.wait_for_timeout(2000)
    page.pdf(format="A4")
    places = int(page.locator("html").get_attribute("data-places"))
    assert places > 50
    assert int(page.locator("html").get_attribute("data-drawn")) == places
    until(lambda: closed.count() == 0)
    assert "#8ab8ff" in page.locator("details.family svg.marks").first.evaluate("node => node.outerHTML")


def test_print_media_have_the_charts_in_the_colours_of_paper(open_page, gallery, until):
    page = open_page(gallery, color_scheme="dark")
    page.wait_for_timeout(1000)
    page.emulate_media(media="print")
    first = section(page, "test_batch[256]").locator("svg.marks").first
    first.wait_for()
    assert "#1f5fbf" in first.evaluate("node => node.outerHTML")


def test_a_heading_does_not_end_a_page(open_page, gallery):
    page = open_page(gallery)
    page.emulate_media(media="print")
    after = "heading => getComputedStyle(heading.closest('.bar-row') ?? heading).breakAfter"
    assert {heading.evaluate(after) for heading in page.locator("h2:not(.small), h3").all()} == {"avoid"}


def test_the_whole_table_is_seen_at_a_tablets_width(open_page, gallery):
    page = open_page(gallery, width=1000)
    assert page.locator("section > .scroll").first.evaluate("box => box.scrollWidth - box.clientWidth") == 0
    assert page.locator("[data-more]:visible").count() == 0


def test_verdicts_of_points_come_before_what_must_be_scrolled_to(open_page, gallery, until):
    page = open_page(gallery, width=400)
    test = section(page, "test_max_num_seqs")
    test.locator(".open").click()
    points = test.get_by_role("region", name="Points of")
    verdict = points.locator(".badge").first.bounding_box()
    assert verdict["x"] + verdict["width"] < 400
    until(lambda: points.get_attribute("data-more") is not None)
    points.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    until(lambda: points.get_attribute("data-more") is None)


def test_no_word_of_a_chart_is_cut_on_a_narrow_screen(open_page, gallery, draw_all):
    page = open_page(gallery, width=400)
    cut = """svg => [...svg.querySelectorAll("text")].filter((text) => {
        const [own, all] = [text.getBoundingClientRect(), svg.getBoundingClientRect()];
        return own.width && (own.left < all.left - 1 || own.right > all.right + 1);
    }).map((text) => text.textContent)"""
    for name in ("test_max_num_seqs", "test_batch[256]", "test_poisson"):
        test = section(page, name)
        test.locator(".open").click()
        draw_all(page, test)
        assert [word for svg in test.locator("svg.marks").all() for word in svg.evaluate(cut)] == []


def test_narrow_screen_needs_no_sideways_scrolling(open_page, gallery):
    page = open_page(gallery, width=360)
    page.get_by_role("button", name="Open all that are not").click()
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert section(page, "test_batch[256]").locator(".badge").first.is_visible()


def test_crowded_page_unpacks_a_calm_test_when_opened(open_page, many, draw_all):
    page = open_page(many)
    calm = page.locator("tbody.test[data-outcome=same]").first
    assert calm.locator(".inside").inner_html() == ""
    calm.locator(".open").click()
    calm.get_by_role("heading", name="Why this verdict").wait_for()
    assert draw_all(page, calm) == 5


def test_without_javascript_the_sections_are_open(open_page, gallery):
    page = open_page(gallery, java_script_enabled=False)
    assert page.get_by_role("heading", name="Why this verdict").count() == 14
    assert page.get_by_role("heading", name="Why this verdict").first.is_visible()
    assert page.get_by_text("need JavaScript").is_visible()


def test_a_single_test_is_counted_in_the_singular(open_page, report_folder, until):
    path = report_folder / "single.html"
    write_report(sample_results(1), path)
    page = open_page(path)
    page.get_by_role("searchbox").fill("no such test")
    until(lambda: page.locator("#shown").inner_text() == "0 of 1 test")
    page.get_by_role("button", name="Show all").click()
    assert page.locator("#shown").inner_text() == "1 test"


def test_a_report_of_nothing_has_no_empty_table(open_page, report_folder):
    path = report_folder / "nothing.html"
    write_report(sample_results(0), path)
    page = open_page(path)
    assert page.get_by_text("No performance test measured anything in this session.").is_visible()
    assert not page.locator("#table").is_visible()
    assert not page.locator("#search").is_visible()
