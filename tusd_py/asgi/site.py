"""What a server of our own has beside the uploads: whether it is well, and its metrics.

`/healthz` says that the process answers: one that does not is to be killed. `/readyz` says whether
it can take uploads now: one that cannot is to be left alone until it can.
"""

from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tusd_py.metrics import Metrics

HEALTH_PATH = "/healthz"
READY_PATH = "/readyz"

Page = Callable[[Request], Awaitable[Response]]


def build_site(
    metrics: Metrics,
    metrics_path: str | None,
    endpoint: str,
    why_not_ready: Callable[[], Awaitable[str]],
    ui: Sequence[Route] = (),
) -> Starlette:
    """The pages beside the uploads.

    Args:
        metrics: What `metrics_path` shows.
        metrics_path: Such as `/metrics`, None for none.
        endpoint: The path of the uploads, for whoever looks at `/` where there is no page.
        why_not_ready: Why no upload can be taken now, in one line; empty if there is no reason.
        ui: The page, and what belongs to it.
    """
    routes = [
        Route(HEALTH_PATH, _always("ok\n")),
        Route(READY_PATH, _ready(why_not_ready)),
        *ui,
        Route("/", _always(_hint(endpoint))),
    ]
    if metrics_path is not None:
        routes.insert(0, Route(metrics_path, _metrics(metrics)))
    return Starlette(routes=routes)


def _hint(endpoint: str) -> str:
    return f"This is tusd-py. Send uploads with a tus client to {endpoint}\n"


def _always(text: str) -> Page:
    async def page(_: Request) -> Response:
        return PlainTextResponse(text)

    return page


def _ready(why_not_ready: Callable[[], Awaitable[str]]) -> Page:
    async def page(_: Request) -> Response:
        why_not = await why_not_ready()
        return PlainTextResponse(f"{why_not or 'ready'}\n", 503 if why_not else 200)

    return page


def _metrics(metrics: Metrics) -> Page:
    async def page(_: Request) -> Response:
        content, content_type = metrics.render()
        return Response(content, media_type=content_type)

    return page
