"""A server that wants to know who sends: tokens that are missing, wrong, or end in the middle."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.browser.conftest import Open
from tests.browser.page import HEADS, UploadPage, is_same, list_uploads, statuses
from tests.browser.proxy import DamagingProxy
from tests.serving import Served, eventually, serving

ALICE = "a-token-of-alice-that-nobody-guesses"
BOB = "another-token-that-is-of-bob-alone"
LATER = "the-token-that-alice-is-given-later"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"{ALICE} alice\n")
    return path


@pytest.fixture
def guarded(tmp_path: Path, tokens: Path) -> Iterator[Served]:
    with serving(tmp_path / "uploads", "--auth-tokens", str(tokens)) as served:
        yield served


def enters(shown: UploadPage, token: str) -> None:
    shown.page.get_by_label("Access token").fill(token)
    shown.press("Sign in")


def knows(server: Served, token: str) -> bool:
    found = httpx.head(f"{server.url}none", headers=bearer(token), trust_env=False)
    return found.status_code == 404


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0"}


def saved(shown: UploadPage, name: str) -> bytes:
    """What a click on a file's name saves."""
    with shown.page.expect_download() as saving:
        shown.page.locator(".history a", has_text=name).click()
    return Path(saving.value.path()).read_bytes()


def test_a_token_is_missing_then_wrong_then_right(
    guarded: Served, open_page: Open, make_file: Callable[..., Path]
) -> None:
    file = make_file(1_000_000)
    shown = open_page(guarded.url.removesuffix("files/"))
    created = statuses(shown.page, "POST")
    shown.choose(file)
    shown.sees("The server does not know who you are")
    shown.shoot("token wanted")
    assert shown.complaints_of_axe() == []
    enters(shown, "a-token-that-nobody-was-given")
    shown.sees("The server does not know this token")
    shown.shoot("token wrong")
    assert list_uploads(guarded) == []
    enters(shown, ALICE)
    shown.finishes(file.name)
    shown.sees("Signed in with a token")
    shown.shoot("signed in")
    assert created == [401, 401, 201]
    assert [upload["principal"] for upload in list_uploads(guarded)] == ["alice"]
    assert is_same(saved(shown, file.name), file)
    shown.reload()
    assert is_same(saved(shown, file.name), file), "the token outlives a reload"
    shown.press("Forget it")
    assert shown.page.evaluate("sessionStorage.getItem('tusd-py.token')") == '""'


def test_a_token_ends_in_the_middle(
    guarded: Served, tokens: Path, open_page: Open, large: Path
) -> None:
    """What came under the old one stays, and the rest comes under the new one."""
    with DamagingProxy(guarded) as proxy:
        shown = open_page(proxy.page)
        shown.page.evaluate(
            "(token) => sessionStorage.setItem('tusd-py.token', token)", f'"{ALICE}"'
        )
        shown.reload()
        shown.sends_half(large, proxy)
        shown.press("Pause")
        proxy.lose()
        tokens.write_text(f"{LATER} alice\n")
        asked = statuses(shown.page, "HEAD")
        eventually("the old token is good for ever", lambda: not knows(guarded, ALICE))
        shown.press("Resume")
        shown.sees("The server does not know who you are")
        enters(shown, LATER)
        shown.finishes(large.name)
        assert asked[:2] == [401, 200]
        assert proxy.passed < large.stat().st_size + HEADS, "bytes were sent twice"
        assert len(list_uploads(guarded)) == 1, "it began anew"


def test_the_list_of_the_server_is_ones_own(guarded: Served, tokens: Path, open_page: Open) -> None:
    tokens.write_text(f"{ALICE} alice\n{BOB} bob\n")
    eventually("the new token is not good", lambda: knows(guarded, BOB))
    for token, name in ((ALICE, "YWxpY2VzLmJpbg=="), (BOB, "Ym9icy5iaW4=")):
        headers = {**bearer(token), "Upload-Length": "9", "Upload-Metadata": f"filename {name}"}
        assert httpx.post(guarded.url, headers=headers, trust_env=False).status_code == 201
    shown = open_page(guarded.url.removesuffix("files/"))
    shown.unfolds("Uploads on the server")
    shown.sees("This server takes uploads from those it knows")
    enters(shown, ALICE)
    shown.sees("alices.bin")
    assert shown.page.locator(".server li").count() == 1
