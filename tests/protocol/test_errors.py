"""What a client reads when something goes wrong: a stable code, the right status, a sentence."""

import re

import pytest

from tests.protocol.samples import LONG
from tusd_py.protocol import errors
from tusd_py.protocol.errors import TusError

LINE = re.compile(r"( +)([A-Z]\w+)(?: +(\d{3}|any))?(?: +(ERR_\w+))?")

WEIRD = "\u00e4\x00" * LONG
ALL: list[TusError] = [
    errors.UnsupportedVersion(None, "1.0.0"),
    errors.UnsupportedVersion(WEIRD, "1.0.0"),
    errors.InvalidContentType(None),
    errors.InvalidContentType(WEIRD),
    errors.InvalidHeader("Content-Length", "is not a number"),
    errors.InvalidHeader("Content-Length", "is not a number", WEIRD),
    errors.InvalidUploadOffset("Upload-Offset", "is missing"),
    errors.InvalidUploadLength("Upload-Length", "is missing"),
    errors.InvalidUploadDeferLength("Upload-Defer-Length", "must be 1", WEIRD),
    errors.InvalidUploadMetadata("Upload-Metadata", "has a key twice", WEIRD),
    errors.MetadataTooLong(5),
    errors.InvalidUploadChecksum("Upload-Checksum", "is not Base64", WEIRD),
    errors.InvalidUploadConcat("Upload-Concat", "is empty", WEIRD),
    errors.UnsupportedAlgorithm(WEIRD, "sha1"),
    errors.InvalidPart(WEIRD, "does not exist"),
    errors.InvalidQuestion("limit is a number above 0"),
    errors.MethodNotAllowed(WEIRD, "POST"),
    errors.NotAuthenticated("send a token", "Bearer"),
    errors.NotAllowed("this URL is for downloads"),
    errors.UploadNotFound(WEIRD),
    errors.UploadGone("a", "has expired"),
    errors.UploadNotFinished("a", 5, 100),
    errors.UploadNotFinished("a", 5, None),
    errors.OffsetMismatch(5, 6),
    errors.OffsetMismatch(5, None),
    errors.UploadTooLarge(101, 100),
    errors.LengthExceeded(100),
    errors.FinalNotModifiable(),
    errors.ChecksumMismatch("sha1"),
    errors.UploadLocked("a"),
    errors.UploadInterrupted("a"),
    errors.UploadPaused("a"),
    errors.NotReceiving("a"),
    errors.StaleGeneration("a"),
    errors.Rejected(418, "no teapots", {"X-Why": "tea"}),
    errors.Rejected(400, ""),
    errors.UploadStopped(400, ""),
    errors.TerminationRejected(400, ""),
    errors.UploadExists("a"),
    errors.TooManyRequests(5, 0.5),
    errors.TooManyUploads(5),
    errors.TooManyUploadsInAll(5),
    errors.ReadTimeout(),
    errors.ReadTooSlow(),
    errors.ServerShutdown(),
    errors.StorageFull(),
    errors.FloorReached(64 << 20),
    errors.StorageFailed(),
    errors.StorageBusy(),
    errors.StoredBytesLost("a"),
]


def kinds(kind: type[TusError] = TusError) -> set[type[TusError]]:
    below = [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]
    return set(below).union(*(kinds(one) for one in below))


def drawn() -> dict[str, tuple[str, str | None, str]]:
    """The tree at the top of the module: names to parents, statuses and codes."""
    tree: dict[str, tuple[str, str | None, str]] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = LINE.fullmatch(line)
        if found is None:
            continue
        indent, name, status, code = len(found[1]), found[2], found[3], found[4]
        while above and above[-1][0] >= indent:
            above.pop()
        if above:
            tree[name] = (above[-1][1], status or tree[above[-1][1]][1], code)
        above.append((indent, name))
    return tree


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Whoever catches a class must be able to see what else that catches."""
    actual = {
        kind.__name__: (kind.__bases__[0].__name__, str(getattr(kind, "status", "any")), kind.code)
        for kind in kinds()
    }
    assert drawn() == actual


def test_every_kind_of_error_is_among_the_samples() -> None:
    assert {type(error) for error in ALL} == kinds()


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_an_error_says_in_one_short_line_what_is_wrong(error: TusError) -> None:
    """A body that echoes whatever came is a gift to whoever sends much, and to log forgers."""
    sentence = str(error)
    assert 5 < len(sentence) < 1000
    assert sentence.isprintable()
    assert 400 <= error.status < 600
    assert error.code.startswith("ERR_")
    for name, value in error.headers:
        assert re.fullmatch(r"[A-Za-z-]+", name)
        assert value.isprintable()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            errors.UnsupportedVersion(None, "1.0.0"),
            "'Tus-Resumable: 1.0.0' (the header is missing)",
        ),
        (errors.UnsupportedVersion("0.2.2", "1.0.0"), "'Tus-Resumable: 1.0.0' (got '0.2.2')"),
        (errors.InvalidContentType(None), "(the header is missing)"),
        (errors.InvalidContentType("text/plain"), "(got 'text/plain')"),
        (
            errors.InvalidUploadOffset("Upload-Offset", "must", "-1"),
            "Upload-Offset must (got '-1')",
        ),
        (errors.UnsupportedAlgorithm("md4", "sha1,md5"), "'md4' is not one of sha1,md5"),
        (errors.MethodNotAllowed("PUT", "POST"), "'PUT' is not possible here; use one of POST"),
        (errors.UploadNotFinished("a", 5, 100), "5 of 100 bytes"),
        (errors.UploadNotFinished("a", 5, None), "5 of an unknown number of bytes"),
        (errors.UploadTooLarge(101, 100), "101 bytes are more than the 100"),
        (errors.LengthExceeded(100), "beyond the upload's 100 bytes"),
        (errors.FloorReached(67108864), "keeps 67108864 bytes of its disk free"),
        (errors.Rejected(418, "no teapots"), "no teapots"),
    ],
)
def test_the_sentence_tells_what_came_and_what_was_expected(error: TusError, words: str) -> None:
    assert words in str(error)


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.UnsupportedVersion(None, "1.0.0"), {"Tus-Version": "1.0.0"}),
        (errors.MethodNotAllowed("PUT", "OPTIONS, POST"), {"Allow": "OPTIONS, POST"}),
        (errors.UploadLocked("a"), {"Retry-After": "1"}),
        (errors.UploadInterrupted("a"), {"Retry-After": "1"}),
        (errors.ReadTimeout(), {"Retry-After": "1", "Connection": "close"}),
        (errors.ServerShutdown(), {"Retry-After": "5", "Connection": "close"}),
        (errors.StorageFull(), {"Retry-After": "60"}),
        (errors.FloorReached(1), {"Retry-After": "60"}),
        (errors.StorageBusy(), {"Retry-After": "5"}),
        (errors.Rejected(429, "slow down", {"Retry-After": "9"}), {"Retry-After": "9"}),
        (errors.UploadNotFound("a"), {}),
    ],
)
def test_an_error_carries_the_headers_that_belong_to_it(
    error: TusError, headers: dict[str, str]
) -> None:
    assert dict(error.headers) == headers


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UnsupportedVersion, "ERR_UNSUPPORTED_VERSION"),
        (errors.UploadTooLarge, "ERR_MAX_SIZE_EXCEEDED"),
        (errors.InvalidContentType, "ERR_INVALID_CONTENT_TYPE"),
        (errors.InvalidUploadLength, "ERR_INVALID_UPLOAD_LENGTH"),
        (errors.InvalidUploadDeferLength, "ERR_INVALID_UPLOAD_LENGTH_DEFER"),
        (errors.InvalidUploadOffset, "ERR_INVALID_OFFSET"),
        (errors.UploadNotFound, "ERR_UPLOAD_NOT_FOUND"),
        (errors.UploadLocked, "ERR_UPLOAD_LOCKED"),
        (errors.OffsetMismatch, "ERR_MISMATCHED_OFFSET"),
        (errors.LengthExceeded, "ERR_UPLOAD_SIZE_EXCEEDED"),
        (errors.UploadNotFinished, "ERR_UPLOAD_NOT_FINISHED"),
        (errors.InvalidUploadConcat, "ERR_INVALID_CONCAT"),
        (errors.FinalNotModifiable, "ERR_MODIFY_FINAL"),
        (errors.Rejected, "ERR_UPLOAD_REJECTED"),
        (errors.UploadInterrupted, "ERR_UPLOAD_INTERRUPTED"),
        (errors.ServerShutdown, "ERR_SERVER_SHUTDOWN"),
        (errors.ReadTimeout, "ERR_READ_TIMEOUT"),
    ],
)
def test_a_code_is_tusds_where_tusd_has_one(kind: type[TusError], code: str) -> None:
    """From tusd's pkg/handler; tooling that was made for it goes on working."""
    assert kind.code == code
