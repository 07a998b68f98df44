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
