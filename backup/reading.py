"""Reads options one by one, as text, number, size or duration, and remembers every fault."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from backup.errors import Fault
from backup.options import OPTIONS

_BY_NAME = {option.name: option for option in OPTIONS}

# The server keeps its timeouts in an int.
_LONGEST_TIMEOUT_MS = 2**31 - 1


def is_number(text: str, low: int, high: int) -> bool:
    """Whether the text is a whole number in that range, in the digits 0 to 9."""
    return text.isascii() and text.isdigit() and low <= int(text) <= high


class Reader:
    """Reads one option after the other and remembers what is wrong with them."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.faults: list[Fault] = []
        for name in values:
            # Bytes that are no UTF-8 reach Python as lone surrogates.
            if re.search("[\udc80-\udcff]", values[name]):
                self.fault(name, "is not UTF-8", "write it in UTF-8")
            if name not in _BY_NAME:
                near = difflib.get_close_matches(name, list(_BY_NAME), n=1)
                remedy = f"did you mean {near[0]}?" if near else "remove it"
                self.fault(name, "is not an input of this action", remedy)

    def fault(self, option: str, problem: str, remedy: str) -> None:
        self.faults.append(Fault(option, problem, remedy))

    def given(self, name: str) -> bool:
        return bool(self.values.get(name, "").strip())

    def text(self, name: str) -> str:
        option = _BY_NAME[name]
        value = self.values.get(name, "")
        # A password may begin or end with a space; nothing else means to.
        value = value if option.secret else value.strip()
        return value or option.default

    def lines(self, name: str) -> tuple[str, ...]:
        return tuple(line.strip() for line in self.text(name).splitlines() if line.strip())

    def matching(self, name: str, pattern: str, example: str) -> str | None:
        text = self.text(name)
        if text and not re.fullmatch(pattern, text):
            self.fault(name, f"{text!r} is not of its form", f"write it like {example}")
        return text or None

    def tag(self, name: str, line: str) -> tuple[str, str]:
        key, separator, value = line.partition("=")
        if not separator or not key.strip():
            self.fault(name, f"{line!r} is no tag", "write key=value, one a line")
        return key.strip(), value.strip()

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        text = self.text(name)
        if text not in allowed:
            self.fault(name, f"{text!r} is not known", f"use one of {', '.join(allowed)}")
        return text

    def flag(self, name: str) -> bool:
        text = self.text(name).lower()
        if text not in ("true", "false"):
            self.fault(name, f"{text!r} is neither true nor false", "write true or false")
        return text == "true"

    def number(self, name: str, low: int, high: int) -> int:
        text = self.text(name)
        if is_number(text, low, high):
            return int(text)
        self.fault(name, f"{text!r} will not do", f"write a whole number from {low} to {high}")
        return low

    def quantity(self, name: str, unit: int) -> float | None:
        """A number of units, as seconds; None when nothing is given."""
        text = self.text(name)
        if not text:
            return None
        if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", text) and float(text) > 0:
            return float(text) * unit
        self.fault(name, f"{text!r} will not do", "write a number above 0, as in 240 or 1.5")
        return None

    def duration_ms(self, name: str) -> int:
        match = re.fullmatch(r"(\d+) ?(ms|s|min|h)", self.text(name))
        if match:
            unit = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}[match[2]]
            if 0 < int(match[1]) * unit <= _LONGEST_TIMEOUT_MS:
                return int(match[1]) * unit
        self.fault(name, f"{self.text(name)!r} is no duration", "write 60s, 5min or 500ms")
        return 1

    def size(self, name: str, *, minimum: int) -> int:
        """Bytes; 0 when nothing is given."""
        text = self.text(name)
        units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
        match = re.fullmatch(r"(\d+) ?([KMG]i?B)", text)
        size = int(match[1]) * units[match[2]] if match and match[2] in units else 0
        if text and size < minimum:
            least = f"{minimum >> 20}MiB"
            self.fault(name, f"{text!r} is no size of {least} or more", f"write {least}, or 1GiB")
        return size
