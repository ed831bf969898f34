"""/docs: the OpenAPI document as a page, with scripts and styles that are served from here."""

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

PAGE, _ASSETS = "/docs", "docs/parts"  # links are relative: a proxy may serve all of it under a prefix
_SCRIPT, _STYLE, _ICON = (
    f"{_ASSETS}/{name}" for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
)
DOCS_PATHS = frozenset({PAGE, "/openapi.json", f"/{_SCRIPT}", f"/{_STYLE}", f"/{_ICON}"})


def serve_docs(app: FastAPI) -> None:
    """Add the page and its assets to the application."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url=_SCRIPT,
        swagger_css_url=_STYLE,
        swagger_favicon_url=_ICON,
        swagger_ui_parameters={"persistAuthorization": True, "displayRequestDuration": True},
    )

    async def docs() -> HTMLResponse:
        return page

    app.add_api_route(PAGE, docs, include_in_schema=False, response_class=HTMLResponse)
    app.mount(f"/{_ASSETS}", StaticFiles(packages=[("fastapi_swagger", "resources")]))
