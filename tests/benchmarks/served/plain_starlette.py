"""Starlette that streams bodies to files and keeps no state: `plain_starlette.py PORT DIR`."""

import os
import secrets
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

PORT, DIRECTORY = int(sys.argv[1]), sys.argv[2]


async def write(request: Request, name: str, offset: int) -> int:
    """Writes the body at the offset, and gives the offset after it."""
    fd = os.open(os.path.join(DIRECTORY, name), os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        async for chunk in request.stream():
            offset += os.pwrite(fd, chunk, offset)
    finally:
        os.close(fd)
    return offset


async def create(request: Request) -> Response:
    """POST: an empty file, or one with the body that came along."""
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"Tus-Extension": "creation,creation-with-upload"})
    name = secrets.token_hex(16)
    offset = await write(request, name, 0)
    headers = {"Location": f"/files/{name}", "Upload-Offset": str(offset)}
    return Response(status_code=201, headers=headers)


async def upload(request: Request) -> Response:
    """PATCH, HEAD and GET."""
    name = request.path_params["name"]
    if request.method == "GET":
        return FileResponse(os.path.join(DIRECTORY, name))
    if request.method == "HEAD":
        offset = os.stat(os.path.join(DIRECTORY, name)).st_size
        return Response(headers={"Upload-Offset": str(offset)})
    offset = await write(request, name, int(request.headers["upload-offset"]))
    return Response(status_code=204, headers={"Upload-Offset": str(offset)})


app = Starlette(
    routes=[
        Route("/files/", create, methods=["POST", "OPTIONS"]),
        Route("/files/{name}", upload, methods=["PATCH", "HEAD", "GET"]),
    ]
)
uvicorn.run(app, port=PORT, loop="uvloop", http="httptools", log_level="warning", access_log=False)
