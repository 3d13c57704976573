"""HTTP of artifacts: upload, download with ranges, checksums."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Stream
from litestar.status_codes import (
    HTTP_200_OK,
    HTTP_206_PARTIAL_CONTENT,
    HTTP_304_NOT_MODIFIED,
    HTTP_416_REQUESTED_RANGE_NOT_SATISFIABLE,
)

from hub.artifacts import ranges
from hub.artifacts.service import Artifacts

AnyRequest = Request[Any, Any, State]
CHUNK = 256 * 1024
MAX_UPLOAD = 16 * 1024**3
_TYPE = "application/octet-stream"  # not gzip: nothing on the way may unpack what was hashed as it is


class ArtifactsController(Controller):
    """`/artifacts`: bundles by role and release."""

    path = "/artifacts/{role:str}/{release_id:str}"
    tags = ["artifacts"]  # noqa: RUF012  (litestar reads it from the class)

    @post("/", opt={"access": "release-manager"}, request_max_body_size=MAX_UPLOAD)
    async def upload(
        self,
        request: AnyRequest,
        artifacts: NamedDependency[Artifacts],
        role: FromPath[str],
        release_id: FromPath[str],
    ) -> dict[str, Any]:
        """Upload a declared release's bundle; it must be byte for byte the one that was signed."""
        return await artifacts.upload(role, release_id, request.stream(), request.state.caller)

    @get("/bundle", opt={"access": "device"})
    async def bundle(
        self,
        request: AnyRequest,
        artifacts: NamedDependency[Artifacts],
        role: FromPath[str],
        release_id: FromPath[str],
    ) -> Response[bytes] | Stream:
        """Download a bundle, whole or one range of it; it never changes."""
        path, sha256, size = await asyncio.to_thread(artifacts.find, role, release_id)
        headers = {
            "ETag": f'"{sha256}"',
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, max-age=31536000, immutable",
        }
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(b"", status_code=HTTP_304_NOT_MODIFIED, headers=headers)
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
            _chunks(path, first, last - first + 1),
            media_type=_TYPE,
            headers=headers,
            status_code=HTTP_206_PARTIAL_CONTENT if span else HTTP_200_OK,
        )

    @get("/checksums", opt={"access": "device"}, sync_to_thread=True)
    def checksums(
        self, artifacts: NamedDependency[Artifacts], role: FromPath[str], release_id: FromPath[str]
    ) -> Response[bytes]:
        """The hash, size and mode of every file; these very bytes are what the release's signature covers."""
        return Response(artifacts.checksums(role, release_id), media_type="application/json")


async def _chunks(path: Path, first: int, left: int) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        file.seek(first)
        while left > 0:
            chunk = await asyncio.to_thread(file.read, min(CHUNK, left))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk
    finally:
        file.close()
