"""axe-core finds nothing serious, in either theme and at either width."""

import pytest


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 380)], ids=["light", "dark", "narrow"]
)
def test_axe_finds_no_serious_violation(open_page, gallery, draw_all, axe, scheme, width):
    page = open_page(gallery, width=width, color_scheme=scheme)
    page.get_by_role("button", name="Open all that are not").click()
    draw_all(page, page.locator("tbody.test").nth(3))
    found = axe.run(page).response["violations"]
    serious = [
        f"{item['id']} ({item['impact']}): {node['target']} {node['failureSummary']}"
        for item in found
        if item["impact"] in ("serious", "critical")
        for node in item["nodes"][:3]
    ]
    assert serious == []


def test_every_chart_has_a_name_and_a_sentence(open_page, gallery, draw_all):
    page = open_page(gallery)
    test = page.locator("tbody.test").nth(2)
    test.locator(".open").click()
    assert draw_all(page, test) > 0
    for figure in test.get_by_role("figure").all():
        title = figure.locator("figcaption").inner_text()
        assert figure.get_by_role("img", name=f"Chart: {title}", exact=True).count() == 1
        assert len(figure.locator(".alt").inner_text()) > 10
