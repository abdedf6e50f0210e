"""The dashboard's files, and those of the API's description."""

from typing import Final

from nymtw.web.http import Route
from nymtw.web.pages import page, swagger_routes

_DASHBOARD: Final = ("app.js", "chart.js", "dom.js", "picture.js", "table.js", "style.css", "mark.svg")


def page_routes() -> list[Route]:
    """`/`, `/swagger/index.html`, and what they load."""
    return [
        page("/", "nymtw.directory.dashboard", "web/index.html"),
        *(page(f"/assets/{name}", "nymtw.directory.dashboard", f"web/{name}") for name in _DASHBOARD),
        *swagger_routes(),
    ]
