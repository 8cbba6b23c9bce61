"""From the credentials of a request to who asks: the `authorize` of `tusd-py serve`."""

from collections.abc import Sequence

from tusd_py.auth.interface import Bearers
from tusd_py.auth.signed import SignedUrls
from tusd_py.hooks.interface import Access
from tusd_py.protocol.errors import NotAuthenticated
from tusd_py.protocol.grant import Grant

BEARER = 'Bearer realm="tusd-py"'
INVALID = f'{BEARER}, error="invalid_token"'


class Credentials:
    """Lets in whoever has a token that one of several knows, or a signed URL.

    Args:
        bearers: Asked in this order.
        signed: For requests without a token; None where no URL is signed.
    """

    def __init__(self, bearers: Sequence[Bearers], signed: SignedUrls | None = None) -> None:
        self._bearers = bearers
        self._signed = signed

    async def __call__(self, access: Access) -> Grant:
        """See `Hooks.authorize`.

        Raises:
            NotAuthenticated: There are no credentials, or they are not good.
            NotAllowed: A signed URL is for something else.
        """
        token = _bearer_token(access.request.headers.get("authorization", ""))
        if token is not None and self._bearers:
            return Grant(principal=await self._whose(token))
        if self._signed is not None and not self._bearers:
            return await self._signed(access)
        grant = None if self._signed is None else self._signed.find(access)
        if grant is None:
            raise NotAuthenticated("send a token: 'Authorization: Bearer TOKEN'", BEARER)
        return grant

    async def _whose(self, token: str) -> str:
        for bearers in self._bearers:
            principal = await bearers.whose(token)
            if principal is not None:
                return principal
        raise NotAuthenticated("this token is not known here, or not any more", INVALID)


def _bearer_token(value: str) -> str | None:
    """The token, None if the header has none (RFC 6750, 2.1)."""
    scheme, _, token = value.partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else None
