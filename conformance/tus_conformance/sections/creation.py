"""Creation: POST, Location, Upload-Length, Upload-Metadata, Tus-Max-Size."""

from base64 import b64decode, b64encode

from tus_conformance import expect
from tus_conformance.case import MAY, MUST, SHOULD, Section
from tus_conformance.subject import Tus
from tus_conformance.verdict import NotApplicable
from tus_conformance.wire import Answer, Url

creation = Section("creation", "Creation", needs=("creation",))
case = creation.case

POST_SOURCE = "Creation, POST"
METADATA_SOURCE = "Creation, Upload-Metadata"
ONE_OF = "The request MUST include one of the following headers:"
NOT_NEGATIVE = "The value MUST be a non-negative integer."
LOCATION = "The Server MUST set the `Location` header to the URL of the created resource."
METADATA = (
    "If an upload contains additional metadata, responses to `HEAD` requests MUST include the "
    "`Upload-Metadata` header and its value as specified by the Client during the creation."
)


@case(
    1,
    MUST,
    "Creation",
    "If the Server supports this extension, it MUST add `creation` to the `Tus-Extension` header.",
    always=True,
)
def announced(tus: Tus) -> None:
    """POST creates an upload if, and only if, creation is announced."""
    works = tus.post(("Upload-Length", "10")).status == 201
    if "creation" in tus.features.extensions:
        expect.that(works, "POST to create an upload, as announced", "it does not")
    elif works:
        expect.that(False, "`creation` in Tus-Extension", "POST creates uploads without it")
    else:
        raise NotApplicable("creation is not announced")


@case(
    2,
    MUST,
    POST_SOURCE,
    "The Server MUST acknowledge a successful upload creation with the `201 Created` status.",
)
def created(tus: Tus) -> None:
    """POST answers 201."""
    expect.status(tus.post(("Upload-Length", "10")), 201)


@case(3, MUST, POST_SOURCE, LOCATION)
def location(tus: Tus) -> None:
    """POST answers with a Location, and HEAD finds the upload there."""
    answer = tus.ask("POST", tus.url, ("Upload-Length", "10"), body=b"")
    expect.success(answer, "POST")
    url = tus.located(expect.one(answer, "Location"))
    expect.success(tus.head(url), "HEAD of the Location")


@case(4, MUST, POST_SOURCE, LOCATION)
def every_upload_has_its_own_url(tus: Tus) -> None:
    """Two uploads have two URLs, and bytes for one are not in the other."""
    first, second = tus.create(), tus.create()
    expect.that(first != second, "two URLs", f"{first} twice")
    expect.success(tus.patch(first, 0, b"hello"), "PATCH")
    tus.stays(second, 0)


@case(5, MAY, POST_SOURCE, "This URL MAY be absolute or relative.")
def absolute_location(tus: Tus) -> None:
    """Location is absolute, which the most simple clients need, and leads back to this server."""
    text = expect.one(tus.post(("Upload-Length", "10")), "Location")
    expect.that("://" in text, "an absolute URL", text)
    came = tus.url.resolve(text).authority
    expect.that(came == tus.url.authority, f"a URL at {tus.url.authority}", text)


@case(6, MUST, POST_SOURCE, ONE_OF)
def no_length(tus: Tus) -> None:
    """POST with neither Upload-Length nor Upload-Defer-Length is refused."""
    expect.refused(tus.post(), "POST without a length")


@case(7, MUST, "Core Protocol, Upload-Length", NOT_NEGATIVE)
def negative_length(tus: Tus) -> None:
    """POST with a negative Upload-Length is refused."""
    expect.refused(tus.post(("Upload-Length", "-1")), "Upload-Length: -1")


@case(8, MUST, "Core Protocol, Upload-Length", NOT_NEGATIVE)
def length_that_is_no_number(tus: Tus) -> None:
    """POST with an Upload-Length that is no integer is refused."""
    for text in ("ten", "1.5", "1 0", "1,0"):
        expect.refused(tus.post(("Upload-Length", text)), f"Upload-Length: {text}")


@case(
    9,
    MAY,
    POST_SOURCE,
    "The `Upload-Length` header MAY be set to 0, indicating that the Client wants to upload an "
    "empty file.",
)
def empty_file(tus: Tus) -> None:
    """An upload of 0 bytes is created and complete at once."""
    url = tus.create(0)
    answer = tus.head(url)
    expect.integer(answer, "Upload-Length", 0)
    expect.integer(answer, "Upload-Offset", 0)


@case(10, MUST, POST_SOURCE, METADATA)
def metadata(tus: Tus) -> None:
    """HEAD has the Upload-Metadata of the creation, as it was."""
    text = "filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg=="
    expect.value(tus.head(_with(tus, text)), "Upload-Metadata", text)


@case(11, MUST, POST_SOURCE, METADATA)
def metadata_pairs(tus: Tus) -> None:
    """HEAD has every pair of the metadata, in whatever order, and none besides."""
    given = {
        "filename": "übergröße 日本.bin".encode(),
        "filetype": b"application/octet-stream",
        "X-Custom_key.1": b"a, b",
    }
    came = _pairs(tus.head(_with(tus, _text(given))))
    expect.that(came == given, f"the pairs of {_text(given)}", came)


@case(
    12,
    MAY,
    METADATA_SOURCE,
    "In these cases, the space, which would normally separate the key and the value, MAY be left "
    "out.",
)
def metadata_without_value(tus: Tus) -> None:
    """A key without a value is kept, with or without the space."""
    for text in ("is_confidential", "is_confidential ,filename YQ=="):
        came = _pairs(tus.head(_with(tus, text)))
        expect.that(came.get("is_confidential") == b"", f"the pairs of {text!r}", came)


@case(13, MUST, METADATA_SOURCE, "All keys MUST be unique.")
def metadata_key_twice(tus: Tus) -> None:
    """Metadata with a key twice is refused, or HEAD has the key once."""
    answer = tus.post(("Upload-Length", "10"), ("Upload-Metadata", "a YQ==,a Yg=="))
    if answer.ok:
        came = tus.head(tus.located(expect.one(answer, "Location"))).get("Upload-Metadata") or ""
        keys = [part.split()[0] for part in came.split(",") if part.strip()]
        expect.that(len(keys) == len(set(keys)), "every key once", came)


@case(
    14,
    MUST,
    METADATA_SOURCE,
    "The key SHOULD be ASCII encoded and the value MUST be Base64 encoded.",
)
def metadata_that_is_not_base64(tus: Tus) -> None:
    """A value that is not Base64 is refused, or HEAD does not repeat it."""
    answer = tus.post(("Upload-Length", "10"), ("Upload-Metadata", "filename not*base64"))
    if answer.ok:
        came = tus.head(tus.located(expect.one(answer, "Location"))).get("Upload-Metadata") or ""
        expect.that("not*base64" not in came, "no value that is not Base64", came)


@case(
    15,
    SHOULD,
    METADATA_SOURCE,
    "Since metadata can contain arbitrary binary values, Servers SHOULD carefully validate "
    "metadata values or sanitize them before using them as header values to avoid header "
    "smuggling.",
)
def metadata_smuggles_no_header(tus: Tus) -> None:
    """Line ends in a metadata value become header fields of no answer."""
    evil = b64encode(b'a.txt"\r\nX-Smuggled: yes\r\nX-Rest: "').decode()
    text = f"filename {evil},filetype {evil},name {evil},type {evil}"
    answer = tus.post(("Upload-Length", "5"), ("Upload-Metadata", text))
    expect.absent(answer, "X-Smuggled")
    if answer.ok:
        url = tus.located(expect.one(answer, "Location"))
        for one in (tus.head(url), tus.patch(url, 0, b"hello"), tus.ask("GET", url)):
            expect.absent(one, "X-Smuggled")


@case(
    16,
    MUST,
    POST_SOURCE,
    "If the length of the upload exceeds the maximum, which MAY be specified using the "
    "`Tus-Max-Size` header, the Server MUST respond with the `413 Request Entity Too Large` "
    "status.",
)
def too_large(tus: Tus) -> None:
    """POST with a length above Tus-Max-Size is answered with 413."""
    if tus.features.max_size is None:
        raise NotApplicable("no Tus-Max-Size is announced")
    expect.status(tus.post(("Upload-Length", str(tus.features.max_size + 1))), 413)


@case(
    17,
    MUST,
    "Creation, Upload-Defer-Length",
    "If the length of an upload is not deferred, this header MUST be omitted.",
)
def no_defer_length(tus: Tus) -> None:
    """HEAD of an upload whose length is known has no Upload-Defer-Length."""
    expect.absent(tus.head(tus.create(10)), "Upload-Defer-Length")


@case(18, MUST, POST_SOURCE, "Once set the length MUST NOT be changed.")
def length_is_final(tus: Tus) -> None:
    """A PATCH with another Upload-Length does not change that of the creation."""
    url = tus.create(10)
    tus.patch(url, 0, b"hello", ("Upload-Length", "20"))
    expect.integer(tus.head(url), "Upload-Length", 10)


@case(19, MUST, POST_SOURCE, METADATA)
def metadata_that_is_no_text(tus: Tus) -> None:
    """HEAD has a metadata value that is not UTF-8 as it was."""
    given = {"filename": b"a.bin", "digest": b"\x00\xff\n"}
    came = _pairs(tus.head(_with(tus, _text(given))))
    expect.that(came == given, f"the pairs of {_text(given)}", came)


def _text(pairs: dict[str, bytes]) -> str:
    return ",".join(f"{key} {b64encode(value).decode()}" for key, value in pairs.items())


def _with(tus: Tus, text: str) -> Url:
    """An upload with this metadata; a server may reject metadata, and then nothing is judged."""
    answer = tus.post(("Upload-Length", "10"), ("Upload-Metadata", text))
    if 400 <= answer.status < 500:
        raise NotApplicable(f"the server rejects the metadata {text!r}, which it may")
    expect.success(answer, "POST with metadata")
    return tus.located(expect.one(answer, "Location"))


def _pairs(answer: Answer) -> dict[str, bytes]:
    """The pairs of Upload-Metadata, the values decoded."""
    pairs = {}
    for part in expect.one(answer, "Upload-Metadata").split(","):
        key, _, value = part.strip(" ").partition(" ")
        try:
            pairs[key] = b64decode(value.strip(" "), validate=True)
        except ValueError:
            expect.that(False, "values that are Base64", part)
    return pairs
