"""Creation With Upload: bytes in the body of POST."""

from tus_conformance import expect
from tus_conformance.case import MAY, MUST, SHOULD, Section
from tus_conformance.sections.core_patch import WRONG_TYPE
from tus_conformance.subject import OFFSET_TYPE, Tus
from tus_conformance.verdict import NotApplicable
from tus_conformance.wire import Answer, Url, chunk, compose, last_chunk

creation_with_upload = Section(
    "creation-with-upload", "Creation With Upload", needs=("creation-with-upload",)
)
case = creation_with_upload.case

SOURCE = "Creation With Upload"
ACCEPT = (
    "The Server SHOULD accept as many bytes as possible and MUST include the `Upload-Offset` "
    "header in the response and MUST set its value to the offset of the upload after applying "
    "the accepted bytes."
)
SIZE = (
    "The `Upload-Length` request and response header indicates the size of the entire upload in "
    "bytes."
)
TYPE = ("Content-Type", OFFSET_TYPE)


@case(
    1,
    MUST,
    SOURCE,
    "If the Server supports this extension, it MUST advertise this by including "
    "`creation-with-upload` in the `Tus-Extension` header.",
    always=True,
)
def announced(tus: Tus) -> None:
    """POST takes bytes if, and only if, creation-with-upload is announced."""
    answer = _post(tus, b"hello", 10)
    works = answer.status == 201 and answer.get("Upload-Offset") == "5"
    if "creation-with-upload" in tus.features.extensions:
        expect.that(works, "POST to take bytes, as announced", answer)
    elif works:
        expect.that(False, "`creation-with-upload` in Tus-Extension", "POST takes bytes without it")
    else:
        raise NotApplicable("creation-with-upload is not announced")


@case(
    2,
    MUST,
    SOURCE,
    "Therefore, if the Server does not offer the Creation extension, it MUST NOT offer the "
    "Creation With Upload extension either.",
)
def with_creation(tus: Tus) -> None:
    """The extension is announced together with creation."""
    names = sorted(tus.features.extensions)
    expect.that("creation" in names, "creation beside creation-with-upload", ", ".join(names))


@case(3, MUST, SOURCE, ACCEPT)
def offset_in_the_answer(tus: Tus) -> None:
    """POST with bytes answers with Upload-Offset, and HEAD agrees."""
    answer = _post(tus, b"hello", 10)
    url = _url(tus, answer)
    tus.stays(url, expect.number(answer, "Upload-Offset"))


@case(4, SHOULD, SOURCE, ACCEPT)
def as_many_as_possible(tus: Tus) -> None:
    """POST with 5 of 10 bytes stores all 5."""
    tus.stays(_url(tus, _post(tus, b"hello", 10)), 5)


@case(
    5,
    MAY,
    SOURCE,
    "The Client MAY include either the entirety or a chunk of the upload data in the body of the "
    "`POST` request.",
)
def everything_at_once(tus: Tus) -> None:
    """POST with all the bytes makes a finished upload."""
    answer = _post(tus, b"hello", 5)
    url = _url(tus, answer)
    expect.integer(answer, "Upload-Offset", 5)
    expect.integer(tus.head(url), "Upload-Length", 5)
    tus.stays(url, 5)


@case(6, MUST, SOURCE, ACCEPT)
def patch_goes_on(tus: Tus) -> None:
    """PATCH goes on where POST ended, and the bytes stand in order."""
    answer = _post(tus, b"hello", 11)
    url = _url(tus, answer)
    rest = b"hello world"[expect.number(answer, "Upload-Offset") :]
    expect.status(tus.patch(url, 11 - len(rest), rest), 204)
    tus.stays(url, 11)
    tus.holds(url, b"hello world")


@case(7, MUST, "Core Protocol, Upload-Length", SIZE)
def longer_than_the_upload(tus: Tus) -> None:
    """POST with more bytes than Upload-Length is refused, or stores no more than that."""
    answer = _post(tus, b"hello world", 5)
    if answer.ok:
        url = _url(tus, answer)
        offset = tus.offset(url)
        expect.that(offset <= 5, "no offset above the length of 5", offset)
        expect.integer(answer, "Upload-Offset", offset)


@case(
    8,
    SHOULD,
    "Core Protocol, PATCH",
    WRONG_TYPE,
)
def wrong_type(tus: Tus) -> None:
    """POST with bytes of another type is refused, or stores none of them.

    "In this case, similar rules as for the `PATCH` request and response apply."
    """
    answer = tus.post(
        ("Upload-Length", "10"), ("Content-Type", "application/octet-stream"), body=b"hello"
    )
    if answer.ok:
        tus.stays(_url(tus, answer), 0)


@case(
    9,
    MUST,
    "RFC 9112 7.1",
    "A recipient MUST be able to parse and decode the chunked transfer coding.",
)
def chunked(tus: Tus) -> None:
    """POST takes a chunked body."""
    framing = ("Transfer-Encoding", "chunked")
    fields = tus.fields(tus.url, ("Upload-Length", "10"), TYPE, framing, *tus.features.metadata)
    body = chunk(b"hel") + chunk(b"lo") + last_chunk()
    answer = tus.exchange(tus.url, compose("POST", tus.url, fields), body, "POST")
    tus.remember(answer)
    tus.stays(_url(tus, answer), 5)


@case(
    10,
    MUST,
    "RFC 9110 10.1.1",
    "The origin server MUST NOT wait for the content before sending the 100 (Continue) response.",
)
def expect_continue(tus: Tus) -> None:
    """POST with Expect: 100-continue is answered before the body is sent."""
    fields = [("Upload-Length", "10"), TYPE, ("Content-Length", "5"), ("Expect", "100-continue")]
    fields += tus.features.metadata
    wire = tus.connect()
    wire.send(compose("POST", tus.url, tus.fields(tus.url, *fields)))
    if (final := wire.read_interim("POST")) is None:
        wire.send(b"hello")
        answer = wire.read("POST")
        tus.remember(answer)
        tus.stays(_url(tus, answer), 5)
    else:
        expect.refused(final, "a final answer before the body")


@case(11, MUST, "Creation, POST", "Once set the length MUST NOT be changed.")
def metadata_and_length_stay(tus: Tus) -> None:
    """POST with bytes keeps length and metadata as POST without does."""
    text = "filename aGVsbG8="
    url = _url(tus, _post(tus, b"hello", 10, ("Upload-Metadata", text)))
    answer = tus.head(url)
    expect.integer(answer, "Upload-Length", 10)
    expect.value(answer, "Upload-Metadata", text)


def _post(tus: Tus, data: bytes, length: int, *extra: tuple[str, str]) -> Answer:
    return tus.post(("Upload-Length", str(length)), TYPE, *extra, body=data)


def _url(tus: Tus, answer: Answer) -> Url:
    expect.status(answer, 201)
    return tus.located(expect.one(answer, "Location"))
