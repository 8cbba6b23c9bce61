"""How the bytes of an upload are cut into parts; nothing here talks to a store.

The rules:
- A part has at least `smallest` bytes, but for the last one, and at most `largest`.
- Parts are numbered upwards from 1. A number that may have been sent is never given to other bytes,
  or a late answer to a former holder could overwrite a part that counts. So numbers are reserved
  before they are used, and whoever goes on after a crash begins behind all that were reserved.
  Where the store wants each part that it gets to count, they are used again, for bytes that are
  mostly the same; whether they are is seen at the end (see `s3_placement.Chain`).
- Numbers are lost that way. What is left of them has to carry what is left of the upload, so parts
  grow; a tenth of the numbers, and some, are kept back for crashes while there is a choice.
- While the length is not known, parts grow with what is there already: a small upload is cut into
  small parts, and a large one comes to its end before the numbers do.
- Where a store wants equal parts, the first plan holds to the end.
"""

import math
from dataclasses import dataclass

MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

_FOR_CRASHES = 0.1
_FOR_THE_LAST_ONE = 16
"""Numbers that one crash may take."""


class OutOfParts(Exception):
    """The store takes no upload of this length, or too many part numbers were lost to crashes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRules:
    """What a store takes, in bytes; the defaults are those of most.

    Attributes:
        preferred: A part, unless the upload is so long that parts must be larger.
        smallest: Any part but the last.
        largest: Any part.
        most_parts: Of one upload.
        largest_object: Of one upload.
        equal: Whether all parts but the last must have one size, as Cloudflare R2 wants it.

    Raises:
        ValueError: They contradict each other.
    """

    preferred: int = 8 * MIB
    smallest: int = 5 * MIB
    largest: int = 5 * GIB
    most_parts: int = 10_000
    largest_object: int = 5 * TIB
    equal: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= self.preferred <= self.largest:
            raise ValueError(
                f"the preferred part size of {self.preferred} bytes must lie between the store's "
                f"smallest, {self.smallest}, and its largest, {self.largest}"
            )
        if self.most_parts < 1 or self.largest_object < 1:
            raise ValueError("a store takes at least one part, and an object of at least one byte")

    @property
    def reach(self) -> int:
        """The longest upload that can be cut into parts, in bytes."""
        return min(self.largest_object, self.most_parts * self.largest)


def next_size(
    rules: PartRules, *, offset: int, length: int | None, used: int, fixed: int | None = None
) -> int:
    """The size of the part that begins at `offset`; a last part may turn out to be shorter.

    Args:
        rules: What the store takes.
        offset: Bytes before this part.
        length: Bytes of the whole upload, None while that is not known.
        used: The highest part number that may have been sent; 0 for none.
        fixed: What the first plan said, where parts must be equal.

    Returns:
        Bytes, at least 1.

    Raises:
        OutOfParts: The upload does not fit into the numbers that are left.
    """
    left = rules.most_parts - used
    if left < 1 or offset >= rules.reach or (length is not None and length > rules.reach):
        raise OutOfParts
    if rules.equal:
        size = fixed or _spread(rules, length or rules.reach, rules.most_parts)
    elif length is None:
        size = _grown(rules, offset, left)
    else:
        size = _spread(rules, length - offset, left)
    rest = (rules.reach if length is None else length) - offset
    if length is not None and math.ceil(rest / size) > left:
        raise OutOfParts
    return min(size, rest)


def _spread(rules: PartRules, rest: int, left: int) -> int:
    """A size in which the rest fits into the numbers, if any does; in whole MiB."""
    return _rounded(rules, rest / _certain(left))


def _certain(left: int) -> float:
    """Numbers that will still be there after some crashes."""
    return max(1.0, left * (1 - _FOR_CRASHES) - _FOR_THE_LAST_ONE)


def _grown(rules: PartRules, offset: int, left: int) -> int:
    """A share of what is there, so large that the longest upload would be reached."""
    if not offset:
        return rules.preferred
    share = math.expm1(math.log(rules.reach / offset) / _certain(left))
    # A part that is as large as it may be, or as all of the rest, is large enough.
    return _rounded(rules, min(offset * share, rules.reach))


def _rounded(rules: PartRules, size: float) -> int:
    return min(rules.largest, max(rules.preferred, math.ceil(size / MIB) * MIB))


def may_end_early(rules: PartRules, *, size: int, used: int) -> bool:
    """Whether a part may be sent before it has its planned size, to set memory free.

    Args:
        rules: What the store takes.
        size: What there is of it, in bytes.
        used: The highest part number that may have been sent.
    """
    return not rules.equal and size >= rules.smallest and used < rules.most_parts // 2


class Numbers:
    """Numbers that are reserved before they are used, and used once.

    Args:
        reserved: The highest number that may have been used before.
        ahead: How many to reserve at a time.
        most: The highest number that there is, None for no end.
        kept: How many that are on record to keep for what cannot wait for a commit.

    Attributes:
        used: The highest number that may have been used.
        reserved: The highest number that is on record.
    """

    def __init__(
        self, reserved: int, *, ahead: int, most: int | None = None, kept: int = 0
    ) -> None:
        self.used = self.reserved = reserved
        self._ahead = ahead
        self._most = most
        self._kept = kept

    @property
    def wanted(self) -> int:
        """What is to be put on record, so that some can be used."""
        wanted = self.used + self._ahead
        return wanted if self._most is None else min(wanted, self._most)

    @property
    def are_out(self) -> bool:
        """Whether some have to be reserved before the next one is used."""
        return self.used + self._kept >= self.reserved

    def note(self, reserved: int) -> None:
        """So many are on record now."""
        self.reserved = max(self.reserved, reserved)

    def take(self) -> int:
        """A number for one thing, for good.

        Raises:
            OutOfParts: None is reserved.
        """
        if self.used >= self.reserved:
            raise OutOfParts
        self.used += 1
        return self.used
