"""Fields of a file from another tool. A wrong value ends in one line that names the file and the field."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_slmperf.errors import InvalidInput

Setting = str | int | float | bool

FIX = "measure it again, or leave the file out"
_MOST = 1e18  # larger than any reading; sums and products of such numbers are finite
_LEAST_S = 1e-9  # the shortest time, so that rates computed from it are finite
_ROUNDING = 1e-6  # differences of equal times may be this little below 0
_SHOWN = 60  # largest number of characters of a wrong value in an error
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")
_MEASURED = re.compile(
    r"(mean|median|std|p\d+(\.\d+)?)_.*|.*(_throughput|_ms|_s|_per_s|_per_sec|_per_second|_tput_per_gpu)|concurrency"
)


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one object in a file. ``writer`` is the tool that writes such files, ``path`` is the object's place in
    the file."""

    file: str
    values: Mapping[str, Any]
    writer: str
    path: str = ""

    def has(self, name: str) -> bool:
        """Whether the field is present and not null."""
        return self.values.get(name) is not None

    def below(self, name: str) -> Fields:
        """The object in the field; an object without fields if the field is absent or null."""
        value = self.values.get(name)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise self.wrong(name, "not an object")
        return Fields(self.file, value, self.writer, f"{self.path}{name}.")

    def number(self, name: str) -> float:
        """A finite number of at least 0; a number that is below 0 by rounding is 0."""
        if name not in self.values:
            raise InvalidInput(f"{self.file}: field {self.path + name!r} is missing, which {self.writer} writes; {FIX}")
        value = self.values[name]
        if not is_number(value) or not -_ROUNDING <= value <= _MOST:
            raise self.wrong(name, "not a finite number of at least 0")
        return max(0.0, float(value))

    def optional(self, name: str) -> float | None:
        """A finite number of at least 0; None where the field is absent or null."""
        return self.number(name) if self.has(name) else None

    def duration(self, name: str) -> float:
        """A positive number of seconds."""
        seconds = self.number(name)
        if seconds == 0:
            raise self.wrong(name, "not a positive number of seconds")
        return seconds

    def count(self, name: str) -> int | None:
        """A whole number of at least 0; None where the field is absent or null."""
        value = self.values.get(name)
        if value is None:
            return None
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not is_number(value) or not 0 <= value <= _MOST:
            raise self.wrong(name, "not a whole number of at least 0")
        return int(value)

    def times(self, name: str) -> list[float]:
        """A list of positive times in seconds."""
        values = self.values.get(name)
        if (
            not isinstance(values, list)
            or not values
            or not all(is_number(value) and _LEAST_S <= value <= _MOST for value in values)
        ):
            raise self.wrong(name, "not a list of positive times in seconds")
        return [float(value) for value in values]

    def setting(self, name: str) -> Setting | None:
        """The value of a setting: a word, a number or None. An infinite number is returned as ``inf``, as vLLM writes it."""
        value = self.values.get(name)
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            return int(value) if value.isdigit() else float(value)  # text in one file, a number in the next
        if value is None or isinstance(value, str | bool):
            return value
        if isinstance(value, float) and value == math.inf:
            return "inf"
        if not is_number(value):
            raise self.wrong(name, "not a word or a finite number")
        return value  # type: ignore[no-any-return]  # a finite int or float

    def settings(self, names: Sequence[str]) -> dict[str, Setting]:
        """The settings in ``names`` that are present and not null."""
        return {name: value for name in names if (value := self.setting(name)) is not None}

    def text(self, name: str, default: str = "unknown") -> str:
        """The text in the field, or ``default`` if there is none."""
        value = self.values.get(name)
        return value if isinstance(value, str) and value.strip() else default

    def wrong(self, name: str, what: str) -> InvalidInput:
        shown = json.dumps(self.values.get(name))
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
        return InvalidInput(f"{self.file}: field {self.path + name!r} is {shown}, {what}; {FIX}")


def is_number(value: Any) -> bool:
    """Whether the value is a finite number. An integer that is too large for a float is not."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def is_measured(name: str) -> bool:
    """Whether a field of this name holds a measured value, by the words that benchmarks use. Such a field is never a
    setting."""
    return _MEASURED.fullmatch(name) is not None
