"""The dashboard's files, out of the package, each at a path of its own; a browser may load nothing from elsewhere."""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from nymtw.directory.http import Answer, Call, Route

# No inline script or style, no other address, no frame around it, no form.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SWAGGER: Final = ("index.html", "start.js", "swagger-ui-bundle.js", "swagger-ui.css")
_KINDS: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_DASHBOARD: Final = ("app.js", "chart.js", "dom.js", "picture.js", "table.js", "style.css", "mark.svg")


def page_routes() -> list[Route]:
    """`/`, `/swagger/index.html`, and what they load."""
    return [
        page("/", "index.html"),
        *(page(f"/assets/{name}", name) for name in _DASHBOARD),
        *(page(f"/swagger/{name}", f"swagger/{name}") for name in _SWAGGER),
    ]


def page(path: str, name: str) -> Route:
    """The packaged file `web/NAME` at `path`."""
    body = files("nymtw.directory").joinpath("web", *name.split("/")).read_bytes()
    headers: Mapping[str, str] = {"Content-Security-Policy": POLICY, "Cross-Origin-Opener-Policy": "same-origin"}
    kind = _KINDS[name.rpartition(".")[2]]
    answer = Answer(body, content_type=kind, headers=headers, tag=hashlib.blake2b(body, digest_size=12).hexdigest())

    def serve(call: Call) -> Answer:
        return answer

    return Route("GET", path, serve)
