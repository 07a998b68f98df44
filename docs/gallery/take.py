"""Take a results file into the gallery: python docs/gallery/take.py NAME .slmperf/results.json

Writes ``docs/gallery/data/NAME.json``: the same results, without what belongs to the machine they were measured on
(folders, host name) and with six digits a figure.  The documentation's build makes the report from it, and
``docs/pictures/make.py`` photographs it.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

from pytest_slmperf.model.results_file import load_results

DATA = Path(__file__).resolve().parent / "data"
FOLDERS = re.compile(r"(?<![\w./~:])/(?!sys/|proc/|dev/)(?:[^\s/\"':,]+/)+")  # an absolute path up to its last part


def scrubbed(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: scrubbed(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [scrubbed(item, key) for item in value]
    if isinstance(value, float):
        return round(value, 6) if key in ("t_start", "t_end") else float(f"{value:.6g}")
    if isinstance(value, str):
        return (
            FOLDERS.sub("", value).replace(platform.node(), "host")
            if len(platform.node()) > 2
            else FOLDERS.sub("", value)
        )
    return value


def main() -> None:
    name, source = sys.argv[1], Path(sys.argv[2])
    load_results(source)  # refused here rather than in the documentation's build
    document = scrubbed(json.loads(source.read_text()))
    DATA.mkdir(exist_ok=True)
    # one line a result, so that a new measurement is a readable change
    rows = [json.dumps(result, ensure_ascii=False, separators=(",", ":")) for result in document.pop("results")]
    head = json.dumps(document, ensure_ascii=False, separators=(",", ":"))[:-1]
    path = DATA / f"{name}.json"
    path.write_text(f'{head},"results":[\n' + ",\n".join(rows) + "\n]}\n")
    load_results(path)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
