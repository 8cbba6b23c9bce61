"""What an object has beside its bytes, and its key: whatever a client tells."""

import email.header
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.s3_place import S3Place
from tests.storage.s3_servers import KMS_KEY, STORAGE_CLASS, S3Server
from tests.storage.samples import UPLOAD, finished, named
from tests.storage.test_s3 import SETTINGS, Killed, Record, check_only, content_of, opened, pieces
from tests.storage.test_s3_concat import Finals, stored
from tusd_py.protocol.metadata import build_upload_metadata
from tusd_py.protocol.upload import Upload
from tusd_py.storage.interface import WrongInstance
from tusd_py.storage.s3 import S3Settings, S3Storage
from tusd_py.storage.s3_objects import (
    InvalidKey,
    ObjectSettings,
    build_key,
    build_metadata,
    check_target,
    check_template_of_keys,
    parse_tags,
)
from tusd_py.storage.s3_parts import MIB


def decoded(value: str) -> bytes:
    """What a value in the bucket is, by Python's own reading of RFC 2047."""
    found = b""
    for text, charset in email.header.decode_header(value):
        found += text if isinstance(text, bytes) else text.encode(charset or "ascii")
    return found


class TestMetadata:
    @given(value=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
    def test_any_value_is_one_line_and_can_be_read_again(self, value: bytes) -> None:
        (told,) = build_metadata({"key": value}, room=2_048).values()
        assert told.isascii()
        assert not told or told.isprintable()
        # What S3's signatures make of it.
        assert " ".join(told.split()) == told
        assert decoded(told) == value

    def test_plain_words_are_told_as_they_are(self) -> None:
        assert build_metadata({"Name": b"a b.txt", "flag": b""}, room=100) == {
            "name": "a b.txt",
            "flag": "",
        }
        assert build_metadata({"name": "Grüße".encode()}, room=100) == {
            "name": "=?utf-8?B?R3LDvMOfZQ==?="
        }

    @pytest.mark.parametrize("value", [b" a", b"a ", b"a  b", b"\t", b"a\n", b"=?utf-8?B?YQ==?="])
    def test_what_a_header_would_change_is_not(self, value: bytes) -> None:
        (told,) = build_metadata({"key": value}, room=100).values()
        assert told.startswith("=?utf-8?B?")
        assert decoded(told) == value

    @pytest.mark.parametrize("key", ["a b", "a:b", "\xe4", "a(b", "x\r\ny", "_a", "=?x", ""])
    def test_a_key_that_is_no_name_of_a_header_is_left_out(self, key: str) -> None:
        assert build_metadata({key: b"x", "ok": b"y"}, room=100) == {"ok": "y"}

    @pytest.mark.parametrize("key", ["tusd-py-id", "TUSD-PY-ID", "tusd_py_id"])
    def test_no_client_says_whose_an_object_is(self, key: str) -> None:
        assert build_metadata({key: b"another"}, room=100) == {}

    def test_of_names_that_are_alike_the_first_counts(self) -> None:
        told = build_metadata({"A_b": b"1", "a-B": b"2", "a_b": b"3"}, room=100)
        assert told == {"a_b": "1"}

    def test_what_does_not_fit_is_left_out_whole(self) -> None:
        told = build_metadata({"a": b"x" * 50, "b": b"y" * 60, "c": b"z" * 40}, room=100)
        assert told == {"a": "x" * 50, "c": "z" * 40}


class TestSettings:
    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            ({"encryption": "rot13"}, "'rot13' is no encryption"),
            ({"kms_key": "k"}, "aws:kms"),
            ({"encryption": "AES256", "kms_key": "k"}, "aws:kms"),
            ({"tags": {f"t{n}": "" for n in range(11)}}, "11 tags"),
            ({"tags": {"": "x"}}, "the tag ''"),
            ({"tags": {"x": "y" * 257}}, "the tag 'x'"),
            ({"tags": {"x" * 129: ""}}, "the tag 'x"),
        ],
    )
    def test_what_cannot_be_is_said_at_once(self, words: dict[str, Any], complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            ObjectSettings(**words)

    @pytest.mark.parametrize(
        ("text", "tags"),
        [
            ("", {}),
            ("team=video&kind=upload", {"team": "video", "kind": "upload"}),
            ("a=&b=c%20d%26", {"a": "", "b": "c d&"}),
        ],
    )
    def test_tags(self, text: str, tags: dict[str, str]) -> None:
        assert parse_tags(text) == tags

    @pytest.mark.parametrize("text", ["team", "a=b&&c=d", "a=1&a=2"])
    def test_what_are_no_tags(self, text: str) -> None:
        with pytest.raises(ValueError, match="tag"):
            parse_tags(text)


class TestKey:
    @pytest.mark.parametrize(
        "target",
        ["film.mp4", "a/b c/ü.bin", "b.info", "b.tail-1", "a/.tusd-py/b.info", "x" * 1_021],
    )
    def test_an_application_may_choose_it_behind_the_prefix(self, target: str) -> None:
        assert check_target("in/", target) == f"in/{target}"

    @pytest.mark.parametrize(
        ("target", "complaint"),
        [
            ("x" * 1_022, "1025 bytes"),
            ("ü" * 511, "1025 bytes"),
            ("a\nb", "characters"),
            ("a\x7f", "characters"),
            ("a\x85", "characters"),
            ("a\uffff", "characters"),
            ("a\ud800", "characters"),
            (".tusd-py/b.info", "kept beside"),
            (".tusd-py/b.tail-7", "kept beside"),
        ],
    )
    def test_but_not_any(self, target: str, complaint: str) -> None:
        with pytest.raises(InvalidKey, match=complaint):
            check_target("in/", target)

    def test_no_client_lets_it_be_that_of_its_info_object(self) -> None:
        upload = named("b.info", ".tusd-py")
        assert build_key("in/", "{filename}/{id}", upload) == "in/tusd-py/b.info"
        with pytest.raises(InvalidKey, match="kept beside"):
            check_template_of_keys("in/", ".tusd-py/{id}")

    def test_a_prefix_that_no_key_can_have(self) -> None:
        with pytest.raises(InvalidKey, match="characters"):
            S3Storage("bucket", S3Settings(object_prefix="a\tb"))

    def test_a_prefix_that_leaves_no_room_for_the_longest_name(self) -> None:
        """An id has up to 128 bytes, and a file name 200."""
        template = "{id}/{filename}"
        check_template_of_keys("x" * 695, template)
        with pytest.raises(InvalidKey, match="bytes; S3 takes"):
            check_template_of_keys("x" * 696, template)


def told(upload_id: str, **metadata: bytes) -> Upload:
    return UPLOAD._replace(id=upload_id, upload_metadata=build_upload_metadata(metadata))


def head(place: S3Place, key: str) -> dict[str, Any]:
    found: dict[str, Any] = place.client.head_object(Bucket=place.bucket, Key=key)
    return found


FILM = {"filename": "Ü \r\nX: y/..\\b.mp4".encode(), "filetype": b"video/mp4", "note": b"a  b"}
OBJECTS = ObjectSettings(
    storage_class=STORAGE_CLASS,
    encryption="aws:kms",
    kms_key=KMS_KEY,
    tags={"team": "video & co", "kind": ""},
)

pytestmark = pytest.mark.anyio


class TestObject:
    @pytest.mark.parametrize("size", [0, 3, 11 * MIB])
    @pytest.mark.parametrize(
        "objects",
        [ObjectSettings(), replace(OBJECTS, encryption=None, kms_key=None), OBJECTS],
        ids=["plain", "clear", "all"],
    )
    async def test_has_what_was_told_and_asked_for(
        self, s3_place: S3Place, size: int, objects: ObjectSettings
    ) -> None:
        """However it is made: from nothing, of a copy, of parts."""
        storage = await opened(s3_place, replace(SETTINGS, objects=objects))
        data = content_of(size)
        # While the length is not told, few bytes are a piece, and become the object by a copy.
        record = Record(told("b", **FILM)._replace(upload_length=None))
        await storage.note(record.upload)
        await record.append(storage, *pieces(data))
        await record.finish(storage)
        found = head(s3_place, "b")
        assert found["ContentType"] == "video/mp4"
        assert found["ContentDisposition"] == (
            "inline; filename=\"_ X: y_.._b.mp4\"; filename*=UTF-8''%C3%9C%20X%3A%20y_.._b.mp4"
        )
        metadata = {name: decoded(value) for name, value in found["Metadata"].items()}
        assert metadata == {**FILM, "tusd-py-id": b"b"}
        where = {"Bucket": s3_place.bucket, "Key": "b"}
        tags = s3_place.client.get_object_tagging(**where).get("TagSet", [])
        assert {tag["Key"]: tag["Value"] for tag in tags} == objects.tags
        assert found.get("StorageClass") == objects.storage_class
        for each in (found, head(s3_place, ".tusd-py/b.info")):
            assert each.get("ServerSideEncryption") == objects.encryption
            assert each.get("SSEKMSKeyId") == objects.kms_key
        assert "StorageClass" not in head(s3_place, ".tusd-py/b.info")
        check_only(s3_place, {"b": data})
        await storage.close()

    async def test_what_waits_to_be_a_part_is_encrypted_too(self, s3_place: S3Place) -> None:
        storage = await opened(s3_place, replace(SETTINGS, objects=OBJECTS))
        record = Record(UPLOAD._replace(upload_length=100))
        await record.append(storage, b"abc")
        (key,) = s3_place.objects()
        assert head(s3_place, key)["ServerSideEncryption"] == "aws:kms"
        await storage.close()

    async def test_a_final_of_encrypted_parts(self, s3_place: S3Place) -> None:
        storage = await opened(s3_place, replace(SETTINGS, objects=OBJECTS))
        parts, data = await stored(storage, 11 * MIB, 3, 6 * MIB)
        await Finals().assemble(storage, parts)
        assert s3_place.content("f") == data
        assert head(s3_place, "f")["ServerSideEncryption"] == "aws:kms"
        await storage.close()

    @pytest.mark.parametrize("size", [3, 6 * MIB])
    async def test_goes_on_without_metadata_that_the_store_does_not_take(
        self,
        swift_server: S3Server,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        size: int,
    ) -> None:
        """Swift takes values of 256 bytes; a client that tells more must not be stuck for ever."""
        for name, value in swift_server.environment.items():
            monkeypatch.setenv(name, value)
        place = S3Place(swift_server)
        storage = await opened(place)
        data = content_of(size)
        record = Record(told("b", note=b"x" * 300, filetype=b"video/mp4"))
        record.upload = record.upload._replace(upload_length=size)
        await record.append(storage, *pieces(data))
        await record.finish(storage)
        found = head(place, "b")
        assert found["Metadata"] == {"tusd-py-id": "b"}
        assert "Metadata value longer than 256" in caplog.text
        assert found["ContentType"] == "video/mp4"
        check_only(place, {"b": data})
        await storage.close()

    @pytest.mark.parametrize(
        "objects",
        [ObjectSettings(storage_class="NOPE"), replace(OBJECTS, kms_key="no-such-key")],
    )
    async def test_what_the_store_does_not_have_is_said_at_the_start(
        self, s3_place: S3Place, objects: ObjectSettings
    ) -> None:
        """And not when the first client has sent all its bytes."""
        with pytest.raises(WrongInstance, match="takes no object of this storage class"):
            await opened(s3_place, replace(SETTINGS, objects=objects))
        check_only(s3_place, {})

    async def test_nothing_is_left_of_the_trial(self, s3_place: S3Place) -> None:
        storage = await opened(s3_place, replace(SETTINGS, objects=OBJECTS))
        check_only(s3_place, {})
        await storage.close()

    async def test_a_key_that_an_application_chose(self, s3_place: S3Place) -> None:
        storage = await opened(s3_place, replace(SETTINGS, object_prefix="in/"))
        upload = await finished(storage, UPLOAD._replace(target="films/ü 1.mp4"), b"abc")
        assert upload.path == "in/films/ü 1.mp4"
        assert s3_place.objects() == {"in/films/ü 1.mp4": b"abc"}
        await storage.close()

    async def test_another_upload_to_it_goes_on(self, s3_place: S3Place) -> None:
        """One that was killed when it was begun is removed, and nothing of the other is."""
        storage = await opened(s3_place)
        one = Record(UPLOAD._replace(id="one", target="film", upload_length=20 * MIB), kill_at=2)
        other = Record(UPLOAD._replace(id="other", target="film", upload_length=12 * MIB))
        data = content_of(12 * MIB)
        await other.append(storage, *pieces(data[: 6 * MIB]))
        with pytest.raises(Killed):
            await one.append(storage, *pieces(content_of(6 * MIB, 2)))
        await storage.remove(one.upload)
        await other.append(storage, *pieces(data[6 * MIB :]))
        await other.finish(storage)
        assert s3_place.objects() == {"film": data}
        await storage.close()
