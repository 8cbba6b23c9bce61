"""Every mutant, and the exact set of cases that it turns red.

A mutant is the server of `mutant_server` with one sentence broken: by a fault inside it, which
has the mutant's name, or by a rewrite of its answers. The cases of a mutant are written as
`core 1 2; creation 16`. They were found by running and then read one by one: a case that is red
for a mutant which does not break its sentence is a mistake in the case.
"""

from dataclasses import dataclass

from mutant_messages import Rewrite
from mutant_store import EXTENSIONS
from rewrites import (
    ALLOW_HEADERS,
    ALLOW_METHODS,
    EXPOSE,
    ORIGIN,
    after_bytes,
    at_the_end,
    at_zero,
    code,
    creation_url,
    credentials_for_all,
    cross,
    drop,
    final,
    half_way,
    partial,
    plain_post,
    preflight_of_creation,
    preflight_of_upload,
    put,
    refusal,
    relative_location,
    second_origin,
    unlist,
    upload_url,
    versioned,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One broken sentence.

    Attributes:
        name: What the server does wrong; for a fault inside it, the fault.
        red: The cases that fail, among those of their sections and the smoke set.
        perhaps: Cases that may fail or not, as the threads happen to meet.
        rewrite: For faults of an answer's head.
        extensions: What is announced.
        lifetime: Seconds until an unfinished upload expires.
        jobs: How many cases may run at once; 1 where the fault leaks into other uploads.
        elsewhere: The fault is in what every case needs; only the sections of `red` are run.
    """

    name: str
    red: frozenset[str]
    perhaps: frozenset[str] = frozenset()
    rewrite: Rewrite | None = None
    extensions: tuple[str, ...] = EXTENSIONS
    lifetime: float = 3600
    jobs: int = 12
    elsewhere: bool = False


def _ids(text: str) -> frozenset[str]:
    """`core 1 2; cors 3` as the identifiers of its cases."""
    groups = [group.split() for group in text.split(";") if group.strip()]
    return frozenset(f"{key}/{number}" for key, *numbers in groups for number in numbers)


def _inside(
    name: str, red: str, *, perhaps: str = "", jobs: int = 12, elsewhere: bool = False
) -> Mutant:
    return Mutant(name=name, red=_ids(red), perhaps=_ids(perhaps), jobs=jobs, elsewhere=elsewhere)


def _answers(name: str, red: str, rewrite: Rewrite, *, elsewhere: bool = False) -> Mutant:
    return Mutant(name=name, red=_ids(red), rewrite=rewrite, elsewhere=elsewhere)


def _silent(extension: str, red: str) -> Mutant:
    """Does what the extension says and does not announce it."""
    left = tuple(name for name in EXTENSIONS if name != extension)
    return Mutant(name=f"{extension}-unannounced", red=_ids(red), extensions=left)


LONG_AGO = "Sun, 06 Nov 1994 08:49:37 GMT"
NO_SUCH_DAY = "Mon, 01 Jan 2030 00:00:00 GMT"
ISO = "2030-01-01T00:00:00Z"

MUTANTS: tuple[Mutant, ...] = (
    _answers("options-500", "core 1; cors 2", code(500, "OPTIONS", when=creation_url)),
    _answers("options-without-version", "core 1 6 7", drop("Tus-Version", "OPTIONS")),
    _answers("version-list-spaces", "core 2", put("Tus-Version", "1.0.0 0.2.2", "OPTIONS")),
    _answers("version-list-old", "core 2", put("Tus-Version", "0.2.2", "OPTIONS")),
    _answers(
        "extension-list-twice",
        "core 3",
        put("Tus-Extension", ",".join([*EXTENSIONS, "creation"]), "OPTIONS"),
    ),
    _answers(
        "extension-list-spaces",
        "core 3",
        put("Tus-Extension", ",".join([*EXTENSIONS, "x y"]), "OPTIONS"),
    ),
    Mutant(
        name="extension-list-empty",
        red=_ids(
            "core 4; creation 1; creation-with-upload 1; creation-defer-length 1; checksum 1; "
            "checksum-trailer 1; termination 1; concatenation 1"
        ),
        extensions=(),
    ),
    _answers("max-size-text", "core 5", put("Tus-Max-Size", "1 GB", "OPTIONS")),
    _answers("options-412", "core 6", code(412, "OPTIONS", when=versioned)),
    _answers("options-of-upload-404", "core 7; cors 3", code(404, "OPTIONS", when=upload_url)),
    _answers("head-without-resumable", "core 8", drop("Tus-Resumable", "HEAD", 200)),
    _answers("patch-without-resumable", "core 9", drop("Tus-Resumable", "PATCH", 204)),
    _answers("post-without-resumable", "core 10", drop("Tus-Resumable", "POST", 201)),
    _answers("404-without-resumable", "core 11", drop("Tus-Resumable", "HEAD", 404)),
    _answers("409-without-resumable", "core 12", drop("Tus-Resumable", "PATCH", 409)),
    _answers("resumable-short", "core 13; termination 8", put("Tus-Resumable", "1.0")),
    _inside("old-head-processed", "core 14"),
    _answers("412-without-version", "core 15", drop("Tus-Version", status=412)),
    _inside("old-patch-processed", "core 15 16"),
    _answers(
        "head-without-zero",
        "core 16 18 37 39",
        drop("Upload-Offset", "HEAD", 200, at_zero),
        elsewhere=True,
    ),
    _inside("412-but-processed", "core 16; termination 9"),
    _inside("old-post-processed", "core 17"),
    _answers(
        "head-without-offset-half-way",
        "core 19 28 29 36 38 41 42 43 45",
        drop("Upload-Offset", "HEAD", 200, half_way),
        elsewhere=True,
    ),
    _answers(
        "head-without-offset-at-the-end",
        "core 20 31",
        drop("Upload-Offset", "HEAD", 200, at_the_end),
        elsewhere=True,
    ),
    _answers(
        "head-without-length-at-the-end",
        "core 21",
        drop("Upload-Length", "HEAD", 200, at_the_end),
        elsewhere=True,
    ),
    _answers("head-206", "core 22", code(206, "HEAD", 200)),
    _answers("head-cached", "core 23", put("Cache-Control", "no-cache", "HEAD", 200)),
    _answers("head-of-nothing-400", "core 24", code(400, "HEAD", 404)),
    _answers("head-of-nothing-has-offset", "core 25", put("Upload-Offset", "0", "HEAD", 404)),
    _answers("patch-200", "core 26 29 41 42 43 45 46 47", code(200, "PATCH", 204), elsewhere=True),
    _answers(
        "patch-without-offset",
        "core 27 28 29 41 42",
        drop("Upload-Offset", "PATCH", 204),
        elsewhere=True,
    ),
    _inside("patch-tells-its-size", "core 28 29; resilience 2 10 53"),
    _inside("empty-patch-moves", "core 29; creation-defer-length 8"),
    _inside("bytes-changed", "core 30"),
    _inside("few-patches", "core 31"),
    _answers("wrong-type-400", "core 32 33", code(400, "PATCH", 415)),
    _inside("wrong-type-taken", "core 32"),
    _inside("no-type-taken", "core 33"),
    _inside("high-offset-400", "core 34; resilience 21 22 23 24 27 30"),
    _inside("high-offset-padded", "core 34 36; resilience 27 30 43"),
    _inside("mismatch-appends", "core 34 35 36; resilience 12 21 22 23 24 27 30 35 43"),
    _inside("low-offset-400", "core 35; resilience 12"),
    _inside("low-offset-truncates", "core 36; resilience 12 35", perhaps="resilience 11"),
    _inside(
        "mismatch-stores",
        "core 36; resilience 12 21 22 23 24 25 27 30 35 43",
        perhaps="resilience 11",
    ),
    _inside("no-offset-is-zero", "core 37"),
    _inside("negative-offset-taken", "core 38"),
    _inside("any-offset-taken", "core 39"),
    _answers("patch-of-nothing-400", "core 40", code(400, "PATCH", 404)),
    _inside("override-ignored", "core 41 42; termination 10 11"),
    _inside("override-of-post-ignored", "core 41; termination 10"),
    _inside("override-of-put-ignored", "core 42"),
    _inside("names-case-sensitive", "core 43 44"),
    _inside("whitespace-kept", "core 45"),
    _inside("type-case-sensitive", "core 46"),
    _inside("unknown-header-refused", "core 47"),
    _answers("post-200", "creation 1 2", code(200, "POST", 201), elsewhere=True),
    _silent("creation", "creation 1; creation-with-upload 2"),
    _answers(
        "post-without-location",
        "creation 3 4 5 9 10 11 12 15 17 18 19",
        drop("Location", "POST", 201),
        elsewhere=True,
    ),
    _answers(
        "location-is-nowhere",
        "creation 3 4 5 9 10 11 12 18 19",
        put("Location", "/base/files/nowhere", "POST", 201, plain_post),
        elsewhere=True,
    ),
    _inside(
        "bytes-in-every-upload", "creation 4; concatenation-unfinished 5 7; resilience 2 42", jobs=1
    ),
    _answers("location-relative", "creation 5", relative_location),
    _inside("no-length-taken", "creation 6"),
    _inside("negative-length-taken", "creation 7; creation-defer-length 10"),
    _inside("any-length-taken", "creation 8; creation-defer-length 10"),
    _inside("empty-file-refused", "creation 9"),
    _answers(
        "metadata-dropped",
        "creation 10 11 12 19; creation-with-upload 11; concatenation 12",
        drop("Upload-Metadata", "HEAD"),
    ),
    _inside(
        "metadata-padding-lost", "creation 10 11 12 19; creation-with-upload 11; concatenation 12"
    ),
    _inside("metadata-first-pair", "creation 11 19"),
    _inside("metadata-as-text", "creation 19"),
    _inside("head-needs-metadata", "creation 3"),
    _inside("metadata-needs-values", "creation 12"),
    _inside("metadata-keys-twice", "creation 13"),
    _inside("metadata-unchecked", "creation 14"),
    _inside("metadata-smuggles", "creation 15"),
    _answers("too-large-400", "creation 16; creation-defer-length 11", code(400, status=413)),
    _inside("max-size-ignored", "creation 16; creation-defer-length 11"),
    _answers(
        "defer-length-always",
        "creation 17; creation-defer-length 6",
        put("Upload-Defer-Length", "1", "HEAD", 200),
    ),
    _inside("length-changes", "creation 18; creation-defer-length 7"),
    _answers(
        "offset-of-post-missing", "creation-with-upload 1 3 5 6", drop("Upload-Offset", "POST", 201)
    ),
    _inside("post-bytes-ignored", "creation-with-upload 1 4 5 9 10"),
    _inside("post-half-stored", "creation-with-upload 1 4 5 9 10"),
    _silent("creation-with-upload", "creation-with-upload 1"),
    _inside("post-bytes-reversed", "creation-with-upload 6"),
    _inside("post-beyond-length", "creation-with-upload 7"),
    _inside("post-type-ignored", "creation-with-upload 8"),
    _inside(
        "chunked-unknown",
        "creation-with-upload 9; checksum 15; checksum-trailer 1 2 3 4 5 6; "
        "resilience 7 32 33 34 36 37",
    ),
    _inside("post-chunked-refused", "creation-with-upload 9"),
    _inside("never-100", "creation-with-upload 10; resilience 28 29"),
    _inside("no-final-after-100", "creation-with-upload 10; resilience 29"),
    _inside("post-body-loses-metadata", "creation-with-upload 11"),
    _inside("defer-refused", "creation-defer-length 1 2 3 5 6 7 8 9 10 11"),
    _silent("creation-defer-length", "creation-defer-length 1"),
    _answers(
        "defer-length-missing", "creation-defer-length 2 3 10", drop("Upload-Defer-Length", "HEAD")
    ),
    _answers(
        "defer-length-only-at-first",
        "creation-defer-length 3",
        drop("Upload-Defer-Length", "HEAD", 200, after_bytes),
    ),
    _inside("any-defer-value", "creation-defer-length 4"),
    _inside("defer-value-422", "creation-defer-length 4"),
    _inside("deferred-length-ignored", "creation-defer-length 5 6 7 8 9 11"),
    _inside("length-below-offset", "creation-defer-length 9"),
    _answers("patch-without-expires", "expiration 1", drop("Upload-Expires", "PATCH", 204)),
    _answers("409-without-expires", "expiration 2", drop("Upload-Expires", "PATCH", 409)),
    _answers("post-without-expires", "expiration 3", drop("Upload-Expires", "POST", 201)),
    _answers("expires-iso-in-patch", "expiration 4 6 7", put("Upload-Expires", ISO, "PATCH", 204)),
    _answers(
        "expires-wrong-weekday",
        "expiration 4 6 7",
        put("Upload-Expires", NO_SUCH_DAY, "PATCH", 204),
    ),
    _answers("expires-iso-in-post", "expiration 5", put("Upload-Expires", ISO, "POST", 201)),
    _answers(
        "expires-in-the-past", "expiration 6 7", put("Upload-Expires", LONG_AGO, "PATCH", 204)
    ),
    Mutant(name="expired-400", red=_ids("expiration 7"), lifetime=1),
    Mutant(name="expired-stays", red=_ids("expiration 7"), lifetime=1),
    _inside("checksum-ignored", "checksum 1 6 7 8 9 10 11 12 13 15 16"),
    _silent("checksum", "checksum 1"),
    _answers("algorithms-missing", "checksum 2 3 4", drop("Tus-Checksum-Algorithm", "OPTIONS")),
    _answers(
        "algorithms-without-sha1",
        "checksum 3",
        put("Tus-Checksum-Algorithm", "md5,crc32", "OPTIONS"),
    ),
    _answers(
        "algorithms-in-upper-case",
        "checksum 4",
        put("Tus-Checksum-Algorithm", "sha1,MD5", "OPTIONS"),
    ),
    _inside("sha1-fails", "checksum 5 9 12 14 15 16; checksum-trailer 2 3 6"),
    _inside("mismatch-400", "checksum 7"),
    _inside("mismatch-stored", "checksum 8 9 12 13 15 16; checksum-trailer 3 4 5 6"),
    _inside("checksum-of-everything", "checksum 9 14; checksum-trailer 3"),
    _inside("mismatch-drops-all", "checksum 9; checksum-trailer 3"),
    _inside("unknown-algorithm-422", "checksum 10"),
    _inside("unknown-algorithm-taken", "checksum 10 11; checksum-trailer 4"),
    _inside("crc32-little-endian", "checksum 12"),
    _inside("malformed-checksum-taken", "checksum 13; checksum-trailer 4"),
    _inside("checksum-not-chunked", "checksum 15"),
    _inside("checksum-of-first-64k", "checksum 16; checksum-trailer 6"),
    _inside("refuses-by-hanging-up", "checksum 16; resilience 27"),
    _inside("trailer-ignored", "checksum-trailer 1 3 4 5 6"),
    _silent("checksum-trailer", "checksum-trailer 1"),
    _inside("trailer-unknown-taken", "checksum-trailer 4"),
    _inside("trailer-case", "checksum-trailer 5"),
    _inside("hex-lower-only", "checksum-trailer 6; resilience 32"),
    _inside("delete-keeps", "termination 1 4 5 6 7 10 11; resilience 14"),
    _silent("termination", "termination 1"),
    _answers("delete-200", "termination 2 3 10 11; resilience 13", code(200, "DELETE", 204)),
    _inside("delete-keeps-finished", "termination 3 7"),
    _answers("head-after-delete-400", "termination 4; resilience 14", code(400, "HEAD", 410)),
    _answers("patch-after-delete-400", "termination 5", code(400, "PATCH", 410)),
    _answers("delete-after-delete-204", "termination 6", code(204, "DELETE", 410)),
    _inside("get-after-delete", "termination 7"),
    _answers("delete-without-resumable", "termination 8", drop("Tus-Resumable", "DELETE", 204)),
    _inside("old-delete-processed", "termination 9"),
    _inside("put-is-delete-ignored", "termination 11"),
    _inside("override-of-patch-ignored", "termination 11"),
    _inside("delete-removes-all", "termination 12", jobs=1),
    _inside(
        "absolute-parts-refused", "concatenation 1 4 5 6 7 8 9 10 11 12 13 14 15", elsewhere=True
    ),
    _silent("concatenation", "concatenation 1"),
    _answers(
        "partial-concat-missing", "concatenation 2", drop("Upload-Concat", "HEAD", 200, partial)
    ),
    _inside("partial-not-told", "concatenation 2"),
    _answers(
        "partial-offset-missing",
        "concatenation 3 9; concatenation-unfinished 7",
        drop("Upload-Offset", "HEAD", 200, partial),
    ),
    _answers(
        "final-200", "concatenation 4; concatenation-unfinished 1", code(200, "POST", 201, final)
    ),
    _answers(
        "final-length-missing",
        "concatenation 5 6 9 13 14 15 16 17; concatenation-unfinished 3 5",
        drop("Upload-Length", "HEAD", 200, final),
    ),
    _inside("final-offset-short", "concatenation 6 9; concatenation-unfinished 5"),
    _answers(
        "final-concat-short",
        "concatenation 7; concatenation-unfinished 4",
        put("Upload-Concat", "final", "HEAD", 200, final),
    ),
    _inside("patch-of-final-400", "concatenation 8; concatenation-unfinished 6"),
    _inside("patch-of-final-modifies", "concatenation 9; concatenation-unfinished 7"),
    _inside("parts-sorted", "concatenation 10"),
    _inside("metadata-of-parts", "concatenation 11"),
    _inside("metadata-of-final-lost", "concatenation 12"),
    _inside("part-only-once", "concatenation 13"),
    _inside("part-in-one-final", "concatenation 14"),
    _inside("relative-parts-refused", "concatenation 16"),
    _inside("length-of-final-taken", "concatenation 17"),
    _inside("missing-part-taken", "concatenation 18"),
    _inside("no-parts-taken", "concatenation 19"),
    _inside("any-concat-value", "concatenation 20"),
    _inside("unfinished-refused", "concatenation-unfinished 1 2 3 4 5 6 7"),
    _silent("concatenation-unfinished", "concatenation-unfinished 1"),
    _inside("final-offset-early", "concatenation-unfinished 2"),
    _inside("final-length-late", "concatenation-unfinished 3"),
    _answers("no-cors", "cors 1", drop(ORIGIN)),
    _answers(
        "cors-wrong-origin",
        "cors 2 3 12 13 14 17 18",
        put(ORIGIN, "https://only.example", when=cross),
    ),
    _answers("preflight-401", "cors 2", code(401, when=preflight_of_creation)),
    _answers("cors-origin-twice", "cors 2 3", second_origin),
    _answers("preflight-of-upload-401", "cors 3", code(401, when=preflight_of_upload)),
    _answers("cors-without-PATCH", "cors 4", unlist("PATCH", ALLOW_METHODS)),
    _answers("cors-without-DELETE", "cors 5", unlist("DELETE", ALLOW_METHODS)),
    _answers(
        "cors-without-Upload-Metadata",
        "cors 6 15",
        unlist("Upload-Metadata", EXPOSE, ALLOW_HEADERS),
    ),
    _answers(
        "cors-without-Upload-Length", "cors 6 14", unlist("Upload-Length", EXPOSE, ALLOW_HEADERS)
    ),
    _answers("cors-without-Content-Type", "cors 7", unlist("Content-Type", ALLOW_HEADERS)),
    _answers(
        "cors-without-Upload-Offset", "cors 7 13 14", unlist("Upload-Offset", EXPOSE, ALLOW_HEADERS)
    ),
    _answers(
        "cors-without-X-HTTP-Method-Override",
        "cors 8",
        unlist("X-HTTP-Method-Override", ALLOW_HEADERS),
    ),
    _answers("cors-without-Upload-Checksum", "cors 9", unlist("Upload-Checksum", ALLOW_HEADERS)),
    _answers("cors-without-Upload-Concat", "cors 10", unlist("Upload-Concat", ALLOW_HEADERS)),
    _answers(
        "cors-without-Upload-Defer-Length", "cors 11", unlist("Upload-Defer-Length", ALLOW_HEADERS)
    ),
    _answers("cors-not-on-post", "cors 12", drop(ORIGIN, "POST", 201)),
    _answers("cors-without-Location", "cors 12", unlist("Location", EXPOSE)),
    _answers("cors-not-on-patch", "cors 13", drop(ORIGIN, "PATCH", 204)),
    _answers("cors-not-on-head", "cors 14", drop(ORIGIN, "HEAD", 200)),
    _answers("cors-without-Upload-Expires", "cors 16", unlist("Upload-Expires", EXPOSE)),
    _answers("cors-without-Tus-Version", "cors 17", unlist("Tus-Version", EXPOSE)),
    _answers("cors-not-on-errors", "cors 18", drop(ORIGIN, when=refusal)),
    _answers("cors-no-vary", "cors 19", drop("Vary")),
    _answers("cors-credentials-for-all", "cors 20", credentials_for_all),
    _answers(
        "cors-credentials-True",
        "cors 20",
        put("Access-Control-Allow-Credentials", "True", when=cross),
    ),
    _inside("cut-head-is-fatal", "resilience 1 20", jobs=1),
    _inside("cut-counts-announced", "resilience 2 3 4 7 8"),
    _inside("cut-drops-tail", "resilience 3 4 7"),
    _inside("cut-loses-last-byte", "resilience 3 4 7"),
    _inside("slow-body-refused", "resilience 3 16 17"),
    _inside("stores-at-the-end", "resilience 3 4 7"),
    _inside("never-closes-on-eof", "resilience 5"),
    _inside("chunked-stored-at-the-end", "resilience 7"),
    _inside("head-waits-for-patch", "resilience 9 10"),
    _inside("offset-as-announced", "resilience 9"),
    _inside("hung-patch-blocks", "resilience 10"),
    # Whether a PATCH that hangs is met as well, is a matter of moments.
    _inside("patches-meet", "resilience 11 19", perhaps="resilience 10"),
    _inside("repeat-acknowledged", "resilience 12", perhaps="resilience 11"),
    _inside("delete-locked", "resilience 13 14"),
    _inside("delete-comes-back", "resilience 14"),
    _inside("creations-race", "resilience 15", jobs=1),
    _inside("patch-beyond-length", "resilience 18 19"),
    _inside("chunked-beyond-length", "resilience 19"),
    _inside("body-reads-beyond", "resilience 20 42"),
    _inside("offset-31-bit", "resilience 21 22 23 24 25"),
    _inside("offset-31-too-large", "resilience 21"),
    _inside("offset-32-bit", "resilience 22 23 24 25"),
    _inside("offset-32-too-large", "resilience 22"),
    _inside("offset-53-too-large", "resilience 23"),
    _inside("offset-63-too-large", "resilience 24"),
    _inside("offset-64-bit", "resilience 25"),
    _inside("length-32-bit", "resilience 26"),
    _inside("length-as-float", "resilience 26"),
    _inside("refusal-waits-for-body", "resilience 30"),
    _inside("continue-to-http-1.0", "resilience 31"),
    _inside("chunk-extension-refused", "resilience 33"),
    _inside("unknown-trailer-refused", "resilience 34"),
    _inside("trailers-are-headers", "resilience 35"),
    _inside("chunk-size-32-bit", "resilience 36"),
    _inside("both-lengths-kept-open", "resilience 37"),
    _inside("unknown-coding-ignored", "resilience 38"),
    _inside("body-read-as-request", "resilience 39 40 43"),
    _inside("two-lengths-taken", "resilience 39"),
    _inside("invalid-length-taken", "resilience 40"),
    _inside("head-with-content", "resilience 41 44 53"),
    _inside("one-request-per-connection", "resilience 41 42 53"),
    _answers("length-on-204", "resilience 45", put("Content-Length", "0", status=204)),
    _answers("coding-on-204", "resilience 46", put("Transfer-Encoding", "chunked", status=204)),
    _inside("close-ignored", "resilience 47"),
    _inside("no-host-taken", "resilience 48"),
    _inside("two-hosts-taken", "resilience 49"),
    _inside("absolute-form-unknown", "resilience 50"),
    _inside("space-before-colon-taken", "resilience 51"),
    _inside("half-close-drops-all", "resilience 6", perhaps="resilience 12"),
    _inside("post-needs-length", "resilience 52"),
)
