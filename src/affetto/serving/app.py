"""The application: routes, the key, and the headers of every answer."""

import asyncio
import hashlib
import hmac
import json
import re
from base64 import b64encode, urlsafe_b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from affetto._version import __version__
from affetto.inference import Recogniser
from affetto.parallel import cores
from affetto.serving.limits import Limits, Refusal
from affetto.serving.service import Service
from affetto.serving.sessions import PROTOCOL, listen
from affetto.serving.uploads import forget_folder

_KEY = PROTOCOL + ".key."  # of a browser's socket, which cannot send a header: the key in base64
_DRAIN_SECONDS = 2.0
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self)",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_MORE = "affetto.more"  # whether more of the body may come


def application(
    recogniser: Recogniser,
    name: str = "small",
    *,
    api_key: str | None = None,
    workers: int | None = None,
    limits: Limits | None = None,
) -> ASGIApp:
    """Returns an ASGI application that serves a recogniser.

    Args:
        recogniser: the recogniser.
        name: what clients call it.
        api_key: the key that every route under ``/v1`` wants; None for no key.
        workers: threads that compute; None for one a core.
        limits: what clients may ask for.
    """
    return routed(Service(recogniser, name, workers or cores(), limits), api_key)


def routed(service: Service, api_key: str | None, hosts: frozenset[str] = frozenset()) -> ASGIApp:
    """Returns the application; where there are ``hosts``, requests to others are refused."""

    @asynccontextmanager
    async def alive(app: Starlette) -> AsyncIterator[None]:
        yield
        service.jobs.close()
        forget_folder()

    routes = [
        Route("/", lambda request: _html(_read("page.html").replace("{{state}}", "key" if api_key else ""))),
        Route("/docs", lambda request: _docs()),
        Route("/openapi.json", lambda request: JSONResponse(openapi())),
        Route("/health", lambda request: JSONResponse({"status": "ok", "version": __version__})),
        Route("/v1/models", service.models),
        Route("/v1/audio/emotions", service.emotions, methods=["POST"]),
        Route("/v1/audio/embeddings", service.embeddings, methods=["POST"]),
        Route("/v1/speakers", service.list_speakers),
        Route("/v1/speakers/{name}", service.show_speaker),
        Route("/v1/speakers/{name}", service.enrol_speaker, methods=["POST"]),
        Route("/v1/speakers/{name}", service.forget_speaker, methods=["DELETE"]),
        WebSocketRoute("/v1/audio/emotions/stream", lambda socket: listen(service, socket)),
    ]
    handlers: dict[Any, Callable[..., Awaitable[Response]]] = {
        Refusal: _refuse,
        HTTPException: _refuse_route,
        ClientDisconnect: _nothing,
        Exception: _fail,
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers, lifespan=alive), api_key, hosts)


@cache
def openapi() -> dict[str, Any]:
    """Returns the description of the interface."""
    described = json.loads(_read("openapi.json"))
    described["info"]["version"] = __version__
    return dict(described)


class Guard:
    """Wants the key under ``/v1``, refuses other sites' pages, and adds headers to every answer."""

    def __init__(self, app: ASGIApp, api_key: str | None, hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts
        self._key = hashlib.sha256(api_key.encode()).digest() if api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope[_MORE] = scope["type"] == "http"

        async def receive_on() -> Message:
            message = await receive()
            scope[_MORE] = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                more = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in more if pair[0] not in names)]
            await send(message)

        if refusal := self._refused(HTTPConnection(scope)):
            await _drain(scope, receive_on)
            response = JSONResponse(refusal.body, refusal.status, refusal.headers)
            await response(scope, receive_on, send_on)
        else:
            await self._app(scope, receive_on, send_on)

    def _refused(self, connection: HTTPConnection[Any]) -> Refusal | None:
        host, origin = connection.headers.get("host", ""), connection.headers.get("origin")
        try:
            name, site = urlsplit(f"//{host}").hostname, urlsplit(origin or "").netloc
        except ValueError:
            return Refusal(400, "bad_request", "the host or the origin of the request is no address")
        if self._hosts and name not in self._hosts:
            return Refusal(403, "forbidden", "this name of the server is not known here; use 127.0.0.1")
        if origin is not None and site.lower() != host.lower():
            return Refusal(403, "forbidden", "pages of other sites may not use this server")
        # The path that decides of the route: one made from the header Host could be another.
        if self._key is None or not connection.scope["path"].startswith("/v1"):
            return None
        given = hashlib.sha256(_given_key(connection)).digest()
        if hmac.compare_digest(given, self._key):
            return None
        message = "a key is needed: Authorization: Bearer KEY"
        return Refusal(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})


def _given_key(connection: HTTPConnection[Any]) -> bytes:
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip().encode("latin-1")
    for name in connection.scope.get("subprotocols", []):
        if name.startswith(_KEY):
            coded = name.removeprefix(_KEY)
            try:
                return urlsafe_b64decode(coded + "=" * (-len(coded) % 4))
            except ValueError:
                break
    return b""


async def _drain(scope: Scope, receive: Receive) -> None:
    """Reads on for a while: else a client that is still sending may never see the answer."""
    waits = any(name == b"expect" for name, _ in scope["headers"])
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while scope[_MORE] and not waits:
                await receive()
    except TimeoutError:
        pass


async def _refuse(request: Request, refusal: Refusal) -> Response:
    await _drain(request.scope, request.receive)
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


async def _refuse_route(request: Request, error: HTTPException) -> Response:
    await _drain(request.scope, request.receive)
    codes = {404: ("not_found", "no such route; see /docs"), 405: ("method_not_allowed", "see /docs")}
    code, message = codes.get(error.status_code, ("error", "the request is refused"))
    return JSONResponse(Refusal(error.status_code, code, message).body, error.status_code, error.headers)


async def _nothing(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # whose client is gone


async def _fail(request: Request, error: Exception) -> Response:
    refusal = Refusal(500, "internal_error", "the server failed; its log says why")
    return JSONResponse(refusal.body, refusal.status)


@cache
def _read(name: str) -> str:
    return files("affetto.serving").joinpath(name).read_text(encoding="utf-8")


@cache
def _html(text: str) -> Response:
    """Returns a page that may run its own scripts and styles, and may ask this server alone."""

    def allowed(tag: str) -> str:
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        return " ".join(
            f"'sha256-{b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in inside
        )

    scripts = f"script-src {allowed('script')} blob:; " if "<script>" in text else ""
    policy = (
        f"default-src 'none'; {scripts}"
        f"style-src {allowed('style')}; connect-src 'self'; img-src data: blob:; media-src blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})


@cache
def _docs() -> Response:
    from jinja2 import Environment

    return _html(Environment(autoescape=True).from_string(_read("docs.html")).render(**openapi()))
