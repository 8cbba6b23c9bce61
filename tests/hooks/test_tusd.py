"""tusd's JSON in both directions, field by field, by the examples of its documentation."""

import json
from dataclasses import replace

import pytest

from tests.hooks.hook_server import Json
from tusd_py.hooks.events import TUSD_HOOKS, HookCalled
from tusd_py.hooks.interface import (
    FinishedUpload,
    Hooks,
    HookUnanswered,
    NewUpload,
    Progress,
    RequestInfo,
    UploadEvent,
    UploadInfo,
    build_details,
    parse_details,
)
from tusd_py.hooks.tusd import (
    Answer,
    Call,
    NoAnswer,
    TusdHooks,
    build_call,
    canonical,
    parse_answer,
)
from tusd_py.protocol.errors import Rejected, TerminationRejected, UploadStopped
from tusd_py.protocol.upload import Phase, Reply

pytestmark = pytest.mark.anyio

BROWSER = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:109.0) Gecko/20100101 Firefox/116.0"
REQUEST = RequestInfo(
    method="PATCH",
    sent_method="PATCH",
    path="/files/5d892c228ec8d0451dfec588697e8930",
    client="127.0.0.1",
    port=59395,
    uri="/files/5d892c228ec8d0451dfec588697e8930",
    header_lines=(
        ("host", "localhost:8080"),
        ("tus-resumable", "1.0.0"),
        ("user-agent", BROWSER),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ),
)
UPLOAD = UploadInfo(
    id="5d892c228ec8d0451dfec588697e8930",
    length=432_724,
    offset=432_724,
    metadata={
        "filename": b"Screenshot 2023-08-17 at 09.00.40 1.png",
        "filetype": b"image/png",
    },
    location="/my/upload/directory/14b1c4c77771671a8479bc0444bbc5ce",
    request=REQUEST,
)
DOCUMENTED: Json = {
    "Type": "post-finish",
    "Event": {
        "Upload": {
            "ID": "5d892c228ec8d0451dfec588697e8930",
            "Size": 432724,
            "SizeIsDeferred": False,
            "Offset": 432724,
            "MetaData": {
                "filename": "Screenshot 2023-08-17 at 09.00.40 1.png",
                "filetype": "image/png",
            },
            "IsPartial": False,
            "IsFinal": False,
            "PartialUploads": None,
            "Storage": {
                "Type": "filestore",
                "Path": "/my/upload/directory/14b1c4c77771671a8479bc0444bbc5ce",
                "InfoPath": "",
            },
        },
        "HTTPRequest": {
            "Method": "PATCH",
            "URI": "/files/5d892c228ec8d0451dfec588697e8930",
            "RemoteAddr": "127.0.0.1:59395",
            "Header": {
                "Host": ["localhost:8080"],
                "Tus-Resumable": ["1.0.0"],
                "User-Agent": [BROWSER],
                "Cookie": ["a=1", "b=2"],
            },
        },
    },
}


def built(upload: UploadInfo) -> Json:
    found: Json = json.loads(build_call("post-finish", upload))["Event"]
    return found


def test_a_call_is_as_documented() -> None:
    """The info file, which there is none of here, is the one difference."""
    assert json.loads(build_call("post-finish", UPLOAD)) == DOCUMENTED


@pytest.mark.parametrize(
    ("upload", "changes"),
    [
        (replace(UPLOAD, length=None), {"Size": 0, "SizeIsDeferred": True}),
        (
            replace(UPLOAD, length=None, is_final=True, parts=("a", "b")),
            {"Size": 0, "IsFinal": True, "PartialUploads": ["a", "b"]},
        ),
        (replace(UPLOAD, offset=7), {"Offset": 7}),
        (replace(UPLOAD, metadata={}), {"MetaData": {}}),
        (
            # As Go writes what is no UTF-8.
            replace(UPLOAD, metadata={"n": "ü".encode(), "x": b"\xff"}),
            {"MetaData": {"n": "ü", "x": "\ufffd"}},
        ),
        (replace(UPLOAD, is_partial=True), {"IsPartial": True}),
        (replace(UPLOAD, location=""), {"Storage": None}),
        (
            replace(UPLOAD, location="s3://my-upload-bucket/my-prefix/14b1"),
            {"Storage": {"Type": "s3store", "Bucket": "my-upload-bucket", "Key": "my-prefix/14b1"}},
        ),
    ],
)
def test_a_field_of_the_upload(upload: UploadInfo, changes: Json) -> None:
    assert built(upload)["Upload"] == DOCUMENTED["Event"]["Upload"] | changes


@pytest.mark.parametrize(
    ("request_", "field", "value"),
    [
        (replace(REQUEST, method="PATCH", sent_method="POST"), "Method", "POST"),
        (replace(REQUEST, uri="/files/a%20b?c=d"), "URI", "/files/a%20b?c=d"),
        (replace(REQUEST, client="::1"), "RemoteAddr", "[::1]:59395"),
        (replace(REQUEST, client="", port=0), "RemoteAddr", ""),
        (replace(REQUEST, header_lines=()), "Header", {}),
    ],
)
def test_a_field_of_the_request(request_: RequestInfo, field: str, value: object) -> None:
    expected = DOCUMENTED["Event"]["HTTPRequest"] | {field: value}
    assert built(replace(UPLOAD, request=request_))["HTTPRequest"] == expected


def test_the_outbox_keeps_everything() -> None:
    """A hook that is told after a restart has the same fields."""
    kept = UploadInfo(
        id=UPLOAD.id, metadata=UPLOAD.metadata, offset=7, **parse_details(build_details(UPLOAD))
    )
    assert kept == replace(UPLOAD, offset=7)
    older = UploadInfo(id="a", metadata={}, **parse_details("{}"))
    assert older == UploadInfo(id="a", metadata={}, length=None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("upload-length", "Upload-Length"), ("HOST", "Host"), ("x-a", "X-A"), ("dnt", "Dnt")],
)
def test_names_of_headers_are_as_go_writes_them(name: str, expected: str) -> None:
    assert canonical(name) == expected


WHOLE = """{
    "HTTPResponse": {
        "StatusCode": 400,
        "Body": "{\\"message\\":\\"the upload is too big\\"}",
        "Header": {"Content-Type": "application/json"}
    },
    "RejectUpload": true,
    "RejectTermination": true,
    "ChangeFileInfo": {
        "ID": "my-custom-upload-id",
        "MetaData": {"my-custom-field": "..."},
        "Storage": {
            "Path": "./upload-e7a036dc-33f4-451f-9520-49032b87e952/presentation.pdf"
        }
    },
    "StopUpload": true
}"""


def test_an_answer_is_read_as_documented() -> None:
    assert parse_answer(WHOLE.encode()) == Answer(
        status=400,
        body='{"message":"the upload is too big"}',
        headers={"Content-Type": "application/json"},
        reject_upload=True,
        reject_termination=True,
        stop_upload=True,
        id="my-custom-upload-id",
        metadata={"my-custom-field": "..."},
        path="upload-e7a036dc-33f4-451f-9520-49032b87e952/presentation.pdf",
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("{}", Answer()),
        ('{"HTTPResponse": null, "RejectUpload": null, "ChangeFileInfo": null}', Answer()),
        ('{"httpresponse": {"STATUSCODE": 418}}', Answer(status=418)),
        ('{"HTTPResponse": {"Headers": {"X-Some-Header": "yes"}}}', Answer()),
        ('{"More": [1, {"a": "b"}], "StopUpload": true}', Answer(stop_upload=True)),
        ('{"ChangeFileInfo": {"MetaData": {}}}', Answer(metadata={})),
        ('{"ChangeFileInfo": {"MetaData": {"a": null}}}', Answer(metadata={"a": ""})),
        ('{"ChangeFileInfo": {"MetaData": null, "ID": ""}}', Answer()),
        ('{"ChangeFileInfo": {"Storage": {"Path": ""}}}', Answer()),
        ('{"ChangeFileInfo": {"MaxSpeed": 1024}}', Answer(max_speed=1024)),
        ('{"ChangeFileInfo": {"maxSpeed": 0}}', Answer()),
        (
            '{"HTTPResponse": {"Header": {"Upload-Offset": "9", "X": "1"}}}',
            Answer(headers={"X": "1"}),
        ),
        ('  {"HTTPResponse": {"Body": "\\u00fc"}}\n', Answer(body="ü")),
        (
            '{"HTTPResponse": {"Body": "a\\ud800b \\ud83d\\ude00"}}',
            Answer(body="a\ufffdb \U0001f600"),
        ),
        ('{"ChangeFileInfo": {"MetaData": {"a": "\\udc00"}}}', Answer(metadata={"a": "\ufffd"})),
    ],
)
def test_an_answer_is_read_as_go_reads_it(said: str, expected: Answer) -> None:
    assert parse_answer(said.encode()) == expected


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "no JSON"),
        ("<html>Bad Gateway</html>", "no JSON"),
        ("\xff", "no JSON"),
        ('{"RejectUpload": true,}', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no JSON object"),
        ("null", "no JSON object"),
        ('"no"', "no JSON object"),
        ('{"RejectUpload": "true"}', "RejectUpload must be true or false"),
        ('{"RejectUpload": 1}', "RejectUpload must be true or false"),
        ('{"HTTPResponse": []}', "HTTPResponse must be an object"),
        ('{"HTTPResponse": {"StatusCode": "400"}}', "HTTPResponse.StatusCode must be a whole"),
        ('{"HTTPResponse": {"StatusCode": true}}', "HTTPResponse.StatusCode must be a whole"),
        ('{"HTTPResponse": {"StatusCode": 4.5}}', "HTTPResponse.StatusCode must be a whole"),
        ('{"HTTPResponse": {"StatusCode": 42}}', "42 is no status"),
        ('{"HTTPResponse": {"StatusCode": 100}}', "100 is no status"),
        ('{"HTTPResponse": {"Body": {}}}', "HTTPResponse.Body must be text"),
        ('{"HTTPResponse": {"Header": {"X": ["a"]}}}', "values of HTTPResponse.Header must be"),
        ('{"HTTPResponse": {"Header": {"X: y\\r\\nZ": "a"}}}', "no name of a header"),
        ('{"ChangeFileInfo": {"ID": "a/b"}}', "ChangeFileInfo.ID 'a/b' cannot be used"),
        ('{"ChangeFileInfo": {"ID": "../../etc"}}', "ChangeFileInfo.ID"),
        ('{"ChangeFileInfo": {"MetaData": {"a b": "c"}}}', "has the key 'a b'"),
        ('{"ChangeFileInfo": {"MetaData": {"a": 1}}}', "values of ChangeFileInfo.MetaData"),
        ('{"ChangeFileInfo": {"Storage": {"Path": "/etc/passwd"}}}', "Storage.Path '/etc/passwd'"),
        ('{"ChangeFileInfo": {"Storage": {"Path": "a/../../b"}}}', "Storage.Path"),
        ('{"ChangeFileInfo": {"Storage": {"Path": "a/.."}}}', "Storage.Path"),
        ('{"ChangeFileInfo": {"Storage": {"Path": "a\\u0000b"}}}', "Storage.Path"),
        ('{"ChangeFileInfo": {"MaxSpeed": 1023}}', "ChangeFileInfo.MaxSpeed is 1023; give 1024"),
        (
            '{"ChangeFileInfo": {"MaxSpeed": 9223372036854775808}}',
            "MaxSpeed is 9223372036854775808",
        ),
        ('{"ChangeFileInfo": {"MaxSpeed": "1MB"}}', "ChangeFileInfo.MaxSpeed must be a whole"),
    ],
)
def test_what_is_no_answer_says_why(said: str, why: str) -> None:
    """One line in the log that tells the author of the hook server what to mend."""
    with pytest.raises(NoAnswer) as caught:
        parse_answer(said.encode("latin-1"))
    assert why in str(caught.value)
    assert str(caught.value).isprintable()


class Script:
    """A carrier that says what it is told to."""

    def __init__(self, said: object) -> None:
        self.said = said
        self.calls: list[Call] = []

    async def carry(self, call: Call) -> bytes | None:
        self.calls.append(call)
        if isinstance(self.said, Exception):
            raise self.said
        return None if self.said is None else json.dumps(self.said).encode()

    async def close(self) -> None:
        """Nothing is open."""


SAID: Json = {"HTTPResponse": {"StatusCode": 422, "Body": "no", "Header": {"X-Why": "tea"}}}
NEW = NewUpload(id="chosen", length=5, metadata={"a": b"b"}, request=REQUEST)
PROGRESS = Progress(id="a", length=5, offset=2, metadata={}, request=REQUEST)
FINISHED = FinishedUpload(id="a", length=5, offset=5, metadata={}, created_at=1.0)
EVENT = UploadEvent(
    id="a", length=5, metadata={}, event_id="a-7", phase=Phase.COMPLETE, at=1.0, request=REQUEST
)
ALL = frozenset(TUSD_HOOKS)


def hooks_that_say(said: object) -> tuple[Hooks, Script, list[HookCalled]]:
    script, seen = Script(said), list[HookCalled]()
    return TusdHooks(script, ALL, 1.0, seen.append).over(Hooks()), script, seen


async def test_pre_create_may_change_what_tusd_lets_it_change_and_the_speed() -> None:
    hooks, script, seen = hooks_that_say(
        {
            "ChangeFileInfo": {
                "ID": "x",
                "MetaData": {"k": "ü"},
                "Storage": {"Path": "y/z"},
                "MaxSpeed": 5000,
            },
            "HTTPResponse": {"Header": {"X-Why": "tea"}},
        }
    )
    assert hooks.on_create is not None
    changes = await hooks.on_create(NEW)
    assert changes is not None
    assert (changes.id, changes.metadata, changes.target) == ("x", {"k": "ü".encode()}, "y/z")
    assert (changes.max_speed, changes.reply) == (5000, Reply(headers={"X-Why": "tea"}))
    assert seen == [HookCalled(hook="pre-create", failed=False)]
    (call,) = script.calls
    sent = json.loads(call.body)["Event"]["Upload"]
    assert (sent["ID"], sent["Storage"], call.upload.id) == ("", None, ""), "there is no id yet"


async def test_an_empty_answer_changes_nothing() -> None:
    hooks, _, _ = hooks_that_say({})
    assert hooks.on_create is not None
    changes = await hooks.on_create(NEW)
    assert changes is not None
    assert (changes.id, changes.metadata, changes.target, changes.reply) == (None,) * 4
    assert changes.max_speed is None


@pytest.mark.parametrize(
    ("flag", "kind", "ask"),
    [
        ("RejectUpload", Rejected, lambda hooks: hooks.on_create(NEW)),
        ("RejectTermination", TerminationRejected, lambda hooks: hooks.on_terminating(UPLOAD)),
        ("StopUpload", UploadStopped, lambda hooks: hooks.on_progress(PROGRESS)),
    ],
)
async def test_a_refusal(flag: str, kind: type[Rejected], ask: object) -> None:
    assert callable(ask)
    hooks, _, _ = hooks_that_say(SAID | {flag: True})
    with pytest.raises(kind) as caught:
        await ask(hooks)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.body) == (422, "no")
    assert caught.value.headers == (("X-Why", "tea"),)
    bare, _, _ = hooks_that_say({flag: True})
    with pytest.raises(kind) as caught:
        await ask(bare)
    assert (caught.value.status, caught.value.body) == (400, ""), "tusd's default"


@pytest.mark.parametrize("flag", ["RejectUpload", "RejectTermination", "StopUpload"])
async def test_other_hooks_refuse_nothing(flag: str) -> None:
    """Tusd respects each of them for its own hook only."""
    hooks, _, _ = hooks_that_say(SAID | {flag: True})
    assert hooks.on_finish is not None
    assert await hooks.on_finish(FINISHED) == Reply(status=422, headers={"X-Why": "tea"}, body="no")


@pytest.mark.parametrize("said", [NoAnswer("nobody there"), [], {"RejectUpload": 7}])
async def test_without_an_answer_nothing_goes_on(
    said: object, caplog: pytest.LogCaptureFixture
) -> None:
    hooks, _, seen = hooks_that_say(said)
    assert hooks.on_create is not None
    assert hooks.on_finish is not None
    assert hooks.on_terminating is not None
    for asked in (hooks.on_create(NEW), hooks.on_finish(FINISHED), hooks.on_terminating(UPLOAD)):
        with pytest.raises(HookUnanswered) as caught:
            await asked
        assert caught.value.status == 500
    assert [each.failed for each in seen] == [True] * 3
    assert len(caplog.records) == 3
    assert not any(record.exc_info for record in caplog.records)
    assert "the hook pre-create of upload - failed: " in caplog.messages[0]


async def test_an_event_is_delivered_when_it_was_taken() -> None:
    """Whatever is said to it: told again it would be done again."""
    hooks, script, seen = hooks_that_say(["garbage"])
    for tell in (hooks.on_created, hooks.on_finished, hooks.on_terminate):
        assert tell is not None
        await tell(EVENT)
    assert [call.hook for call in script.calls] == ["post-create", "post-finish", "post-terminate"]
    assert {call.event_id for call in script.calls} == {"a-7"}
    assert not any(each.failed for each in seen)


def test_only_what_is_enabled_is_called() -> None:
    hooks = TusdHooks(Script({}), frozenset({"pre-finish", "post-create"})).over(Hooks())
    assert hooks.on_finish is not None
    assert hooks.on_created is not None
    assert (hooks.on_create, hooks.on_progress, hooks.on_finished) == (None, None, None)
    assert (hooks.on_terminating, hooks.on_terminate) == (None, None)
