"""The explorer over HTTP: the page, its data as JSON, and the items' images.

| path | answers |
|---|---|
| ``/``, ``/item/ID`` | the page; its query is the wish |
| ``/api/about`` | models, controls |
| ``/api/users?q=``, ``/api/items?q=`` | what a search finds |
| ``/api/user?user_id=`` | history and attributes |
| ``/api/recommend?...`` | lists of the models for a wish |
| ``/api/item?item_id=`` | an item, and what is similar |
| ``/image/ID`` | an item's image |

An error is JSON ``{"error": "..."}``: 400 for what breaks a rule, 404 for what is not there, 502
where a server behind is away. No answer may load anything from elsewhere (Content-Security-Policy).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tfrec.explore.explorer import Explorer, Unknown

HERE = Path(__file__).parent
MOST_TEXT = 200  # characters of a search
HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class SafeHeaders:
    """Adds ``HEADERS`` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        await self.app(scope, receive, sending if scope["type"] == "http" else send)


def create_app(explorer: Explorer, hosts: Sequence[str] = ("*",)) -> Starlette:
    """The application.

    Args:
        explorer: answers.
        hosts: names under which it may be asked. A page on loopback names its own, so that no other
            site can reach it by pointing a name of theirs at this machine; ``*`` allows any.
    """
    templates = Jinja2Templates(directory=HERE / "templates")

    # Plain functions: the framework runs them in threads, as models and tables block.
    def page(request: Request) -> Response:
        return templates.TemplateResponse(request, "page.html", {"about": explorer.about()})

    def about(request: Request) -> Response:
        return JSONResponse(explorer.about())

    def users(request: Request) -> Response:
        return JSONResponse(explorer.shop.find_users(_text(request, "q", MOST_TEXT)))

    def items(request: Request) -> Response:
        return JSONResponse(explorer.shop.find_items(_text(request, "q", MOST_TEXT)))

    def user(request: Request) -> Response:
        return JSONResponse(explorer.user(_text(request, "user_id", MOST_TEXT)))

    def recommend(request: Request) -> Response:
        wish = explorer.parse(request.query_params.multi_items())
        return JSONResponse(explorer.recommend(wish))

    def item(request: Request) -> Response:
        return JSONResponse(explorer.item(_text(request, "item_id", MOST_TEXT)))

    def image(request: Request) -> Response:
        found = explorer.shop.picture(request.path_params["item"])
        if found is None:
            raise Unknown(f"there is no image of the item {request.path_params['item']!r}")
        data, kind = found
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        headers = {"etag": tag, "cache-control": "private, max-age=3600"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=kind, headers=headers)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/item/{item:path}", page),
            Route("/api/about", about),
            Route("/api/users", users),
            Route("/api/items", items),
            Route("/api/user", user),
            Route("/api/recommend", recommend),
            Route("/api/item", item),
            Route("/image/{item:path}", image),
            Mount("/static", StaticFiles(directory=HERE / "static"), name="static"),
        ],
        middleware=[
            Middleware(SafeHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)),
        ],
        exception_handlers={
            ValueError: _told(400),
            Unknown: _told(404),
            ConnectionError: _told(502),
        },
    )


def _text(request: Request, name: str, most: int) -> str:
    """One parameter as text, '' where it is not given.

    Raises:
        ValueError: longer than ``most`` characters.
    """
    text = request.query_params.get(name, "")
    if len(text) > most:
        raise ValueError(f"{name} has at most {most} characters; got {len(text)}")
    return text


def _told(status: int) -> Any:
    async def handler(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status_code=status)

    return handler
