"""JSON bodies, taken as they are written.

The framework would take "50" for 50 and 1 for true. A number that comes as text is a mistake somewhere, and the next
one that is made there may not look like a number at all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.exceptions import ClientException, InternalServerException, ValidationException

_PATH: Final = " - at `$."


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON body has the types that its handler declares, without any conversion."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes; raises `ClientException` (400) when its sender hangs up before the end."""
        try:
            async for part in super().stream():
                yield part
        except InternalServerException:
            # The framework takes it for a fault of ours, and anybody could fill the log with them.
            raise ClientException("The connection ended before the body did.") from None

    async def json(self) -> Any:
        """Return the body as the handler's `data`; raises `ClientException` (400), for a field one that names it."""
        try:
            found = await super().json()
        except (UnicodeDecodeError, RecursionError) as error:
            # The framework knows a body that is no JSON, and not one that is no text or nested beyond all measure.
            why = "is no UTF-8" if isinstance(error, UnicodeDecodeError) else "is nested too deeply"
            raise ClientException(f"The body {why}.") from None
        field = self.route_handler.parsed_data_field
        if field is None:
            return found
        try:
            return msgspec.convert(found, field.annotation)
        except msgspec.ValidationError as error:
            message, _, key = str(error).removesuffix("`").partition(_PATH)
            raise ValidationException(
                f"Validation failed for {self.scope['method']} {self.scope['path']}",
                extra=[{"message": message, "key": key, "source": "body"}],
            ) from None
