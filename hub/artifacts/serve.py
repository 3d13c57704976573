"""Answers a request for a file that never changes: whole, a range, only its head, or nothing new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from litestar import Request, Response
from litestar.datastructures import State
from litestar.response import Stream
from litestar.status_codes import (
    HTTP_200_OK,
    HTTP_206_PARTIAL_CONTENT,
    HTTP_304_NOT_MODIFIED,
    HTTP_416_REQUESTED_RANGE_NOT_SATISFIABLE,
)

from hub.artifacts import ranges
from hub.artifacts.pace import Ceiling
from hub.conditional import is_known

AnyRequest = Request[Any, Any, State]
CHUNK: Final = 256 * 1024
TYPE: Final = "application/octet-stream"  # not gzip: nothing on the way may unpack what was hashed as it is


def answer(request: AnyRequest, path: Path, sha256: str, ceiling: Ceiling) -> Response[bytes] | Stream:
    """Return the file at `path`, or the part of it that is asked for; `sha256` is its strong ETag."""
    size = path.stat().st_size
    headers = {
        "ETag": f'"{sha256}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
    }
    if is_known(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(b"", status_code=HTTP_304_NOT_MODIFIED, headers=headers)
    if request.method == "HEAD":
        return Response(b"", headers={**headers, "Content-Length": str(size)}, media_type=TYPE)
    span = None
    if request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
        try:
            span = ranges.parse(request.headers.get("range", ""), size)
        except ranges.Unsatisfiable:
            return Response(
                b"",
                status_code=HTTP_416_REQUESTED_RANGE_NOT_SATISFIABLE,
                headers={**headers, "Content-Range": f"bytes */{size}"},
            )
    first, last = span or (0, size - 1)
    headers["Content-Length"] = str(last - first + 1)
    if span:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return Stream(
        _chunks(path, first, last - first + 1, ceiling),
        media_type=TYPE,
        headers=headers,
        status_code=HTTP_206_PARTIAL_CONTENT if span else HTTP_200_OK,
    )


async def _chunks(path: Path, first: int, left: int, ceiling: Ceiling) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        file.seek(first)
        while left > 0:
            chunk = await asyncio.to_thread(file.read, min(CHUNK, left))
            if not chunk:
                return
            await ceiling.take(len(chunk))
            left -= len(chunk)
            yield chunk
    finally:
        file.close()
