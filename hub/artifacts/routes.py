"""HTTP of artifacts: upload and validation, download with ranges, single files, checksums, signed URLs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, HttpMethod, Response, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK

from hub.artifacts import signedurls
from hub.artifacts.limits import MAX_BUNDLE
from hub.artifacts.serve import TYPE, AnyRequest, answer
from hub.artifacts.service import Artifacts
from hub.artifacts.validate import UPLOAD_LIMIT
from hub.conditional import is_known
from hub.errors import NotFound

ENVELOPE_TYPE: Final = "application/vnd.flaghoist.envelope+msgpack"
READ: Final = (HttpMethod.GET, HttpMethod.HEAD)
Download = Response[bytes] | Stream

DOWNLOAD: Final = {"access": "device", "counted": False}
"""A device takes a release file by file; what bounds that is the ceiling on bytes."""


class SignedUrlRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how long a URL is to open its bundle, in seconds."""

    expires_in: Annotated[int, msgspec.Meta(ge=1, le=signedurls.LONGEST_S)] = 300


class ArtifactsController(Controller):
    """`/artifacts`: bundles by role and release, and their files by hash."""

    path = "/artifacts"
    tags = ["artifacts"]  # noqa: RUF012  (litestar reads it from the class)

    @post("/{role:str}/{release_id:str}", opt={"access": "release-manager"}, request_max_body_size=MAX_BUNDLE)
    async def upload(
        self,
        request: AnyRequest,
        artifacts: NamedDependency[Artifacts],
        role: FromPath[str],
        release_id: FromPath[str],
    ) -> dict[str, Any]:
        """Upload a declared release's bundle; it must be byte for byte the one that was signed."""
        return await artifacts.upload(role, release_id, request.stream(), request.state.caller)

    @post(
        "/validate",
        opt={"access": "operator"},
        request_max_body_size=UPLOAD_LIMIT,
        status_code=HTTP_200_OK,
    )
    async def validate(self, request: AnyRequest, artifacts: NamedDependency[Artifacts]) -> dict[str, Any]:
        """Say everything that is wrong with an archive; nothing of it is kept."""
        return await artifacts.validate(request.stream())

    @post("/retention", opt={"access": "admin"}, status_code=HTTP_200_OK, sync_to_thread=True)
    def retention(
        self,
        request: AnyRequest,
        artifacts: NamedDependency[Artifacts],
        dry_run: FromQuery[bool] = False,
    ) -> dict[str, Any]:
        """Remove bundles that nothing can need any longer; with `dry_run`, only say which."""
        return artifacts.prune(request.state.caller, dry_run=dry_run)

    @route("/{role:str}/{release_id:str}/bundle", http_method=READ, opt=DOWNLOAD)
    async def bundle(
        self,
        request: AnyRequest,
        artifacts: NamedDependency[Artifacts],
        role: FromPath[str],
        release_id: FromPath[str],
    ) -> Download:
        """Download a bundle, whole or one range of it; it never changes."""
        path, sha256 = await asyncio.to_thread(artifacts.find, role, release_id)
        return answer(request, path, sha256, artifacts.ceiling)

    @route(
        "/{role:str}/{release_id:str}/signed/{expires_at:int}/{signature:str}/bundle",
        http_method=READ,
        opt={"access": "public", "counted": False},
    )
    async def signed_bundle(
        self,
        request: AnyRequest,
        artifacts: NamedDependency[Artifacts],
        role: FromPath[str],
        release_id: FromPath[str],
        expires_at: FromPath[int],
        signature: FromPath[str],
    ) -> Download:
        """The same without a token, by an address that the hub signed and that ends soon."""
        artifacts.check_url(role, release_id, expires_at, signature)
        path, sha256 = await asyncio.to_thread(artifacts.find, role, release_id)
        return answer(request, path, sha256, artifacts.ceiling)

    @post(
        "/{role:str}/{release_id:str}/signed-url",
        opt=DOWNLOAD,
        sync_to_thread=True,
        status_code=HTTP_200_OK,
    )
    def signed_url(
        self,
        artifacts: NamedDependency[Artifacts],
        role: FromPath[str],
        release_id: FromPath[str],
        data: JSONBody[SignedUrlRequest | None] = None,
    ) -> dict[str, Any]:
        """Return an address that opens the bundle for a short time without a token."""
        return artifacts.signed_url(role, release_id, (data or SignedUrlRequest()).expires_in)

    @route("/blobs/{sha256:str}", http_method=READ, opt=DOWNLOAD)
    async def blob(
        self, request: AnyRequest, artifacts: NamedDependency[Artifacts], sha256: FromPath[str]
    ) -> Download:
        """Download one file of any bundle, by the hash of its content."""
        path = await asyncio.to_thread(artifacts.blob, sha256)
        return answer(request, path, sha256, artifacts.ceiling)

    @route(
        "/{role:str}/{release_id:str}/blobs/{sha256:str}",
        http_method=READ,
        opt=DOWNLOAD,
    )
    async def release_blob(
        self,
        request: AnyRequest,
        artifacts: NamedDependency[Artifacts],
        role: FromPath[str],
        release_id: FromPath[str],
        sha256: FromPath[str],
    ) -> Download:
        """The same beside the bundle, where mirrors that know only a bundle's address look."""
        path = await asyncio.to_thread(artifacts.blob, sha256)
        return answer(request, path, sha256, artifacts.ceiling)

    @route(
        "/{role:str}/{release_id:str}/checksums",
        http_method=READ,
        opt=DOWNLOAD,
        sync_to_thread=True,
    )
    def checksums(
        self,
        request: AnyRequest,
        artifacts: NamedDependency[Artifacts],
        role: FromPath[str],
        release_id: FromPath[str],
    ) -> Response[bytes]:
        """The hash, size and mode of every file; these very bytes are what the release's signature covers."""
        return _small(request, *artifacts.checksums(role, release_id), "application/json")

    @route(
        "/{role:str}/{release_id:str}/checksums.gz",
        http_method=READ,
        opt=DOWNLOAD,
        sync_to_thread=True,
    )
    def packed_checksums(
        self,
        request: AnyRequest,
        artifacts: NamedDependency[Artifacts],
        role: FromPath[str],
        release_id: FromPath[str],
    ) -> Response[bytes]:
        """The same as a gzip file, for thin links."""
        return _small(request, *artifacts.packed_checksums(role, release_id), TYPE)

    @route(
        "/{role:str}/{release_id:str}/changes/{name:str}",
        http_method=READ,
        opt=DOWNLOAD,
        sync_to_thread=True,
    )
    def changes(
        self,
        request: AnyRequest,
        artifacts: NamedDependency[Artifacts],
        role: FromPath[str],
        release_id: FromPath[str],
        name: FromPath[str],
    ) -> Response[bytes]:
        """What leads from the checksums of the release `name` (its id and `.gz`) to this one's, as a gzip file."""
        before = name.removesuffix(".gz")
        if before == name:
            raise NotFound(
                f"There is no {name!r}; changes are called like the release that they lead from, .gz."
            )
        return _small(request, *artifacts.changes(role, release_id, before), TYPE)

    @route(
        "/{role:str}/{release_id:str}/release",
        http_method=READ,
        opt=DOWNLOAD,
        sync_to_thread=True,
    )
    def release(
        self,
        request: AnyRequest,
        artifacts: NamedDependency[Artifacts],
        role: FromPath[str],
        release_id: FromPath[str],
    ) -> Response[bytes]:
        """The signed release, as it was declared."""
        return _small(request, *artifacts.envelope(role, release_id), ENVELOPE_TYPE)


def _small(request: AnyRequest, data: bytes, sha256: str, media_type: str) -> Response[bytes]:
    headers = {"ETag": f'"{sha256}"', "Cache-Control": "private, max-age=31536000, immutable"}
    if is_known(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(b"", status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(b"", headers={**headers, "Content-Length": str(len(data))}, media_type=media_type)
    return Response(data, headers=headers, media_type=media_type)
