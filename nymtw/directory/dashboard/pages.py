"""Routes for the files of the dashboard and of the API's page."""

from typing import Final

from nymtw.web.http import Route
from nymtw.web.pages import page, swagger_routes

_DASHBOARD: Final = ("app.js", "chart.js", "dom.js", "picture.js", "table.js", "style.css", "mark.svg")


def page_routes() -> list[Route]:
    """`/`, `/swagger/index.html`, and their files."""
    return [
        page("/", "nymtw.directory.dashboard", "web/index.html"),
        *(page(f"/assets/{name}", "nymtw.directory.dashboard", f"web/{name}") for name in _DASHBOARD),
        *swagger_routes(),
    ]
