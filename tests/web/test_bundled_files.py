"""The bundled Swagger UI is what its package holds: every file has the hash that is written down for it."""

import hashlib
from importlib.resources import files

FOLDER = files("nymtw.web") / "swagger"
OWN = {"index.html", "start.js", "README.md", "SHA256SUMS"}


def test_every_file_of_others_has_its_known_hash() -> None:
    known = dict(reversed(line.split()) for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in FOLDER.iterdir() if file.name not in OWN
    }
    assert found == known
