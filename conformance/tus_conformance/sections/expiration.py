"""Expiration: Upload-Expires, and what is no longer there."""

import re
import time
from datetime import UTC, datetime

from tus_conformance import expect
from tus_conformance.case import MUST, SHOULD, Section
from tus_conformance.subject import Tus
from tus_conformance.verdict import NotApplicable
from tus_conformance.wire import Answer, Url

expiration = Section("expiration", "Expiration", needs=("expiration",))
case = expiration.case

SOURCE = "Expiration, Upload-Expires"
EVERY_PATCH = (
    "This header MUST be included in every `PATCH` response if the upload is going to expire."
)
FORMAT = (
    "The value of the `Upload-Expires` header MUST be in [RFC 9110]"
    "(https://www.rfc-editor.org/rfc/rfc9110.html#name-date-time-formats) datetime format."
)
IMF_FIXDATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    r"\d{4} \d\d:\d\d:\d\d GMT\Z",
    re.ASCII,
)
LONGEST_WAIT = 4.0


@case(1, MUST, SOURCE, EVERY_PATCH)
def in_patch(tus: Tus) -> None:
    """The answer to PATCH of an unfinished upload has Upload-Expires.

    A server whose uploads do not expire is not free of this: it has announced that they do.
    """
    answer = tus.patch(tus.create(), 0, b"hello")
    expect.success(answer, "PATCH")
    expect.one(answer, "Upload-Expires")


@case(2, MUST, SOURCE, EVERY_PATCH)
def in_a_refused_patch(tus: Tus) -> None:
    """The answer to a PATCH at a wrong offset has Upload-Expires, like every one."""
    url = tus.create()
    if not tus.patch(url, 0, b"hello").all("Upload-Expires"):
        raise NotApplicable("this upload does not expire")
    expect.one(tus.patch(url, 0, b"hello"), "Upload-Expires")


@case(
    3,
    MUST,
    SOURCE,
    "If the expiration is known at the creation, the `Upload-Expires` header MUST be included in "
    "the response to the initial `POST` request.",
)
def in_post(tus: Tus) -> None:
    """POST has Upload-Expires when HEAD right after it knows the time."""
    answer = tus.post(("Upload-Length", "10"))
    url = tus.located(expect.one(answer, "Location"))
    if answer.all("Upload-Expires"):
        expect.one(answer, "Upload-Expires")
    elif tus.head(url).all("Upload-Expires"):
        expect.that(False, "Upload-Expires in the answer to POST", "it is in HEAD alone")
    else:
        raise NotApplicable("the time is not known at the creation")


@case(4, MUST, SOURCE, FORMAT)
def format_in_patch(tus: Tus) -> None:
    """Upload-Expires in the answer to PATCH is an RFC 9110 date."""
    _date(_expires(tus.patch(tus.create(), 0, b"hello")))


@case(5, MUST, SOURCE, FORMAT)
def format_in_post(tus: Tus) -> None:
    """Upload-Expires in the answer to POST is an RFC 9110 date."""
    answer = tus.post(("Upload-Length", "10"))
    if not answer.all("Upload-Expires"):
        raise NotApplicable("the time is not known at the creation")
    _date(expect.one(answer, "Upload-Expires"))


@case(
    6,
    MUST,
    SOURCE,
    "The `Upload-Expires` response header indicates the time after which the unfinished upload "
    "expires.",
)
def in_the_future(tus: Tus) -> None:
    """Upload-Expires of an upload that goes on is not past."""
    answer = tus.patch(tus.create(), 0, b"hello")
    left = _left(answer)
    expect.that(left > -1, "a time that is still to come", f"{-left:.0f} s ago")


@case(
    7,
    SHOULD,
    SOURCE,
    "If a Client does attempt to resume an upload which has since been removed by the Server, the "
    "Server SHOULD respond with the`404 Not Found` or `410 Gone` status.",
)
def expired(tus: Tus) -> None:
    """HEAD and PATCH of an expired upload answer 404 or 410."""
    url = tus.create()
    answer = tus.patch(url, 0, b"hello")
    left = _left(answer)
    if left > LONGEST_WAIT:
        raise NotApplicable(f"uploads live for {left:.0f} s here, which is too long to wait")
    time.sleep(max(left, 0) + 1.0)
    tus.until(lambda: not tus.head(url).ok, within=2.0)
    _gone(tus, url)


def _gone(tus: Tus, url: Url) -> None:
    expect.status(tus.head(url), 404, 410)
    expect.status(tus.patch(url, 5, b"world"), 404, 410)


def _date(text: str) -> datetime:
    """The time that an IMF-fixdate stands for; fails when it is none."""
    expect.that(bool(IMF_FIXDATE.match(text)), "a date like Sun, 06 Nov 1994 08:49:37 GMT", text)
    try:
        date = datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        date = None
    expect.that(date is not None and f"{date:%a}" == text[:3], "a date of the calendar", text)
    assert date is not None
    return date


def _expires(answer: Answer) -> str:
    """Upload-Expires; that it is there at all is for the first case to say."""
    if not answer.all("Upload-Expires"):
        raise NotApplicable("there is no Upload-Expires to judge")
    return expect.one(answer, "Upload-Expires")


def _left(answer: Answer) -> float:
    """Seconds until Upload-Expires, by the clock of the server where it tells its Date."""
    expires = _date(_expires(answer))
    now = answer.get("Date")
    base = _date(now) if now else datetime.now(UTC)
    return (expires - base).total_seconds()
