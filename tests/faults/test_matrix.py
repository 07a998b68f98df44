"""Every row of the fault matrix: injected, exit code, what is said, nothing left, nothing lost."""

from __future__ import annotations

import time

import pytest
from faults import table

ROWS = {fault.id: fault for faults in table.rows().values() for fault in faults}


def test_every_row_has_an_id_of_its_own():
    assert len(ROWS) == sum(len(faults) for faults in table.rows().values())


def test_the_page_has_every_row():
    page = table.page()
    assert all(fault.injected in page for fault in ROWS.values() if fault.mended)


def _row(fault):
    return pytest.param(fault, id=fault.id, marks=[] if fault.mended else pytest.mark.xfail(strict=True))


@pytest.mark.parametrize("fault", [_row(fault) for fault in ROWS.values()])
def test_fault(fault, bench):
    ended = fault.act(bench)
    assert ended.code == fault.exit_code, ended.output
    assert "".join(fault.says.split()) in "".join(ended.output.split()), ended.output
    assert table.shown_wrongly(ended.output) == []
    for _ in range(50):  # the end of a process that was killed takes a moment
        left = list(table.processes_of(bench.folder))
        if not left:
            break
        time.sleep(0.1)
    assert left == []
    names = {path.name for path in (bench.folder / "tmp").iterdir() if path.name.startswith("slmperf")}
    assert {name for name in names if not name.endswith(".lock")} == set()  # an empty file that sessions lock stays
    assert fault.keeps(bench) is None
