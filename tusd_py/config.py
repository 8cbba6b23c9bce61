"""Sizes and durations as people write them."""

import re

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "k": 2**10,
    "m": 2**20,
    "g": 2**30,
    "t": 2**40,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)", re.ASCII)
_SECONDS_ALONE = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes: `1048576`, `5GiB` or `5G` (powers of 1024), `5GB` (powers of 1000).

    Raises:
        ValueError: It is none of these; the message says so.
    """
    found = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None or ("." in found[1] and unit == 1):
        raise ValueError(f"{text!r} is not a size; write bytes, or a unit as in 500MB or 5GiB")
    return int(float(found[1]) * unit) if "." in found[1] else int(found[1]) * unit


def build_size(size: int) -> str:
    """For people: `1.5 GiB`; the reverse of `parse_size` but for rounding."""
    amount, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"


def parse_duration(text: str) -> float:
    """Seconds: `90`, `90s`, `15m`, `24h`, `7d`, `250ms`, or several in a row as in `1h30m`.

    Raises:
        ValueError: It is none of these; the message says so.
    """
    stripped = text.strip().lower()
    if _SECONDS_ALONE.fullmatch(stripped):
        return float(stripped)
    parts = _DURATION.findall(stripped)
    if not parts or "".join(number + unit for number, unit in parts) != stripped:
        raise ValueError(f"{text!r} is not a duration; write it as in 90s, 15m, 24h or 7d")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
