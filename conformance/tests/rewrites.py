"""Faults of an answer's head: how to change it, and which answers to change."""

from collections.abc import Callable

from mutant_messages import Reply, Request, Rewrite

When = Callable[[Request, Reply], bool]
EXPOSE = "Access-Control-Expose-Headers"
ALLOW_HEADERS = "Access-Control-Allow-Headers"
ALLOW_METHODS = "Access-Control-Allow-Methods"
ORIGIN = "Access-Control-Allow-Origin"


def on(method: str = "", status: int = 0, when: When | None = None) -> When:
    """True for the answers to this method, with this status, that `when` holds for."""

    def test(request: Request, reply: Reply) -> bool:
        right = method in ("", request.method) and status in (0, reply.status)
        return right and (when is None or when(request, reply))

    return test


def drop(name: str, method: str = "", status: int = 0, when: When | None = None) -> Rewrite:
    return _if(on(method, status, when), lambda _, reply: reply.drop(name))


def put(
    name: str, value: str, method: str = "", status: int = 0, when: When | None = None
) -> Rewrite:
    return _if(on(method, status, when), lambda _, reply: reply.put(name, value))


def code(new: int, method: str = "", status: int = 0, when: When | None = None) -> Rewrite:
    """Another status, framed as an answer of it has to be."""

    def rewrite(_: Request, reply: Reply) -> None:
        reply.status = new
        reply.put("Content-Length", str(len(reply.body)))

    return _if(on(method, status, when), rewrite)


def _if(test: When, rewrite: Rewrite) -> Rewrite:
    def conditional(request: Request, reply: Reply) -> None:
        if test(request, reply):
            rewrite(request, reply)

    return conditional


def unlist(element: str, *names: str) -> Rewrite:
    """An element less in the lists of these fields."""

    def rewrite(_: Request, reply: Reply) -> None:
        for name in names:
            if listed := reply.get(name):
                left = [one for one in listed.split(", ") if one != element]
                reply.put(name, ", ".join(left))

    return rewrite


def relative_location(_: Request, reply: Reply) -> None:
    if location := reply.get("Location"):
        reply.put("Location", "/" + location.split("/", 3)[3])


def second_origin(request: Request, reply: Reply) -> None:
    if preflight(request, reply):
        reply.fields.append(("Access-Control-Allow-Origin", "*"))


def credentials_for_all(request: Request, reply: Reply) -> None:
    if cross(request, reply):
        reply.put("Access-Control-Allow-Origin", "*")
        reply.put("Access-Control-Allow-Credentials", "true")


# -- which answers ------------------------------------------------------------------------------


def creation_url(request: Request, _: Reply) -> bool:
    return request.target == "/base/files"


def upload_url(request: Request, _: Reply) -> bool:
    return request.target.startswith("/base/files/")


def versioned(request: Request, _: Reply) -> bool:
    return request.get("Tus-Resumable") is not None


def at_zero(_: Request, reply: Reply) -> bool:
    return reply.get("Upload-Offset") == "0"


def at_the_end(_: Request, reply: Reply) -> bool:
    return reply.get("Upload-Offset") == reply.get("Upload-Length")


def half_way(request: Request, reply: Reply) -> bool:
    return not at_zero(request, reply) and not at_the_end(request, reply)


def after_bytes(request: Request, reply: Reply) -> bool:
    return not at_zero(request, reply)


def plain_post(_: Request, reply: Reply) -> bool:
    return reply.get("Upload-Offset") is None


def partial(_: Request, reply: Reply) -> bool:
    return reply.get("Upload-Concat") == "partial"


def final(request: Request, reply: Reply) -> bool:
    concat = reply.get("Upload-Concat") or request.get("Upload-Concat") or ""
    return concat.startswith("final")


def cross(request: Request, _: Reply) -> bool:
    return request.get("Origin") is not None


def preflight(request: Request, _: Reply) -> bool:
    return request.get("Access-Control-Request-Method") is not None


def preflight_of_upload(request: Request, reply: Reply) -> bool:
    return preflight(request, reply) and upload_url(request, reply)


def preflight_of_creation(request: Request, reply: Reply) -> bool:
    return preflight(request, reply) and creation_url(request, reply)


def refusal(_: Request, reply: Reply) -> bool:
    return reply.status >= 400
