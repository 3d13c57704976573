"""The kiosk's service: shows the price list on `/` and says on `/health` whether it can.

Standard library only. From the environment it takes PORT (of this device) and FLAGHOIST_RELEASE_ID.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FILES = Path(__file__).resolve().parent


class NotReady(Exception):
    """What is missing before prices can be shown, in one sentence."""


def read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotReady(f"{path.name} is missing") from None
    except ValueError:
        raise NotReady(f"{path.name} is not JSON") from None
    if not isinstance(content, dict):
        raise NotReady(f"{path.name} is not an object")
    return content


def price_list(settings: dict[str, object]) -> dict[str, float]:
    prices = read_json(FILES / str(settings.get("price_list", "")))
    good = {name: price for name, price in prices.items() if isinstance(price, int | float) and price > 0}
    if not good or len(good) != len(prices):
        raise NotReady(f"{settings.get('price_list')} has no price, or a wrong one")
    return good


def health() -> dict[str, object]:
    """What `/health` answers; `status` is `ok` only when a customer could buy something."""
    answer: dict[str, object] = {
        "status": "ok",
        "release": os.environ.get("FLAGHOIST_RELEASE_ID", ""),
        "version": json.loads((FILES.parent / "bundle.json").read_text(encoding="utf-8"))["version"],
    }
    try:
        answer["prices"] = len(price_list(read_json(FILES / "settings.json")))
    except NotReady as problem:
        answer.update(status="failing", problem=str(problem))
    return answer


def page() -> str:
    settings = read_json(FILES / "settings.json")
    rows = "".join(
        f"<tr><td>{escape(name)}<td>{price:.2f} {escape(str(settings['currency']))}"
        for name, price in price_list(settings).items()
    )
    title = escape(str(settings["title"]))
    return f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><table>{rows}</table>"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/health":
            answer = health()
            self.answer(200 if answer["status"] == "ok" else 503, "application/json", json.dumps(answer))
        elif self.path == "/":
            try:
                self.answer(200, "text/html; charset=utf-8", page())
            except NotReady as problem:
                self.answer(503, "text/plain; charset=utf-8", f"Closed: {problem}.")
        else:
            self.answer(404, "text/plain; charset=utf-8", "Not here.")

    def answer(self, status: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Health is asked all the time; only failures are worth a line in the log."""
        if code != 200:
            super().log_request(str(code), str(size))


def main() -> None:
    port = os.environ.get("PORT", "")
    if not port.isdigit():
        sys.exit("PORT is not set; write PORT=8081 into the device's device.env")
    # Waited for, not handled: an exception raised by a handler can get lost in whatever it interrupts.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with ThreadingHTTPServer(("127.0.0.1", int(port)), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        signal.sigwait(ends)
        server.shutdown()


if __name__ == "__main__":
    main()
