"""Routes for packaged files, among them Swagger UI. A browser loads nothing from other servers."""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from nymtw.web.http import Answer, Call, Route

# No inline scripts or styles, no other servers, no frame around the page, no forms.
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


def swagger_routes(prefix: str = "") -> list[Route]:
    """`PREFIX/swagger/index.html` and its files. It shows the document of `description_route`."""
    return [page(f"{prefix}/swagger/{name}", "nymtw.web", f"swagger/{name}") for name in _SWAGGER]


def page(path: str, package: str, name: str) -> Route:
    """A route for the packaged file `name` of `package`."""
    body = files(package).joinpath(*name.split("/")).read_bytes()
    headers: Mapping[str, str] = {"Content-Security-Policy": POLICY, "Cross-Origin-Opener-Policy": "same-origin"}
    kind = _KINDS[name.rpartition(".")[2]]
    answer = Answer(body, content_type=kind, headers=headers, tag=hashlib.blake2b(body, digest_size=12).hexdigest())

    def serve(call: Call) -> Answer:
        return answer

    return Route("GET", path, serve)
