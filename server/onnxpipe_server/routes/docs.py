"""The OpenAPI document and a page to read and try it, from this machine alone: no CDN."""

from collections.abc import Callable
from pathlib import Path

import orjson
import swagger_ui_bundle
from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from onnxpipe_server.openapi import Json

_ASSETS = "/docs/assets"


def make_router(make_document: Callable[[], Json]) -> APIRouter:
    """The page, the files it loads, and the document under the two names clients know; made when it is asked for."""
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json")
    @router.get("/api-doc/openapi.json")
    def openapi() -> Response:
        return Response(orjson.dumps(make_document()), media_type="application/json")

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="onnxpipe",
            swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{_ASSETS}/favicon-32x32.png",
        )

    router.mount(_ASSETS, StaticFiles(directory=Path(swagger_ui_bundle.swagger_ui_path)))
    return router
