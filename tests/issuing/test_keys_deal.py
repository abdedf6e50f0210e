"""`nymtw keys deal`, and the files it writes."""

import subprocess
import sys

import pytest

from nymtw.commands import main
from nymtw.credentials.keys import check_one_sharing, combine, deal
from nymtw.errors import KeyFileError
from nymtw.issuing.key_files import (
    VERIFICATION_KEY_FILE,
    load_issuer_key,
    load_secret_key,
    load_verification_key,
    public_key_file,
    save_dealt,
    save_secret_key,
    secret_key_file,
)

pytestmark = pytest.mark.pythons


@pytest.fixture
def folder(tmp_path, capsys):
    where = tmp_path / "made" / "keys"
    assert main(["keys", "deal", "--attributes", "2", "-n", "3", "-t", "2", "-f", str(where)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[:7] == [str(where / name) for name in NAMES]
    return where


NAMES = [*map(secret_key_file, (1, 2, 3)), *map(public_key_file, (1, 2, 3)), VERIFICATION_KEY_FILE]


def test_it_writes_a_key_for_each_issuer(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    secrets = [load_secret_key(folder / secret_key_file(index)) for index in (1, 2, 3)]
    issuers = [load_issuer_key(folder / public_key_file(index)) for index in (1, 2, 3)]
    assert [secret.public() for secret in secrets] == issuers
    assert {(key.index, key.threshold, len(key.ys)) for key in secrets} == {(1, 2, 2), (2, 2, 2), (3, 2, 2)}
    check_one_sharing(issuers)
    assert combine(issuers[1:]) == load_verification_key(folder / VERIFICATION_KEY_FILE)


def test_keys_are_not_overwritten(folder, capsys):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(["keys", "deal", "-f", str(folder)]) == 1
    assert "is there already, and keys are not overwritten" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_private_key_that_others_can_read_is_refused(folder):
    path = folder / secret_key_file(1)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600 it"):
        load_secret_key(path)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_named(folder, name):
    load = {"private": load_secret_key, "public": load_issuer_key}.get(name.split("_")[1], load_verification_key)
    path = folder / name
    text = path.read_text()
    begin, body, end = text.splitlines()
    damaged = body[:40] + ("A" if body[40] != "A" else "B") * 30 + body[70:-8] + end
    for content in ("", text[:-40], f"{begin}\n{body[:-8]}\n{end}\n", f"{begin}\n{damaged}\n", text + "x"):
        path.write_text(content)
        with pytest.raises(KeyFileError, match=name):
            load(path)
    path.write_text(text)
    wrong = load_verification_key if load is not load_verification_key else load_issuer_key
    with pytest.raises(KeyFileError, match=r"where .* is wanted"):
        wrong(path)


def test_the_largest_key_fits_its_file(tmp_path):
    dealt = deal(32, 1, 1)
    save_dealt(tmp_path, dealt)
    assert load_issuer_key(tmp_path / public_key_file(1)) == dealt.issuers[0]
    assert load_verification_key(tmp_path / VERIFICATION_KEY_FILE) == dealt.key
    save_secret_key(tmp_path / "again.pem", dealt.secrets[0])
    assert load_secret_key(tmp_path / "again.pem") == dealt.secrets[0]


@pytest.mark.parametrize(
    ("words", "logged"),
    [
        ([], "a command is missing"),
        (["deal"], "-f DIR says where the key files go"),
        (["deal", "-f", "x", "-t", "4", "-n", "3"], "a threshold of 4 cannot be met by 3 issuers"),
        (["deal", "-f", "x", "-n", "256"], "-n: "),
        (["deal", "-f", "x", "--attributes", "0"], "this is a number from 1 to 32"),
        (["deal", "-f", "/dev/null/x"], "/dev/null"),
    ],
)
def test_what_cannot_be_done_is_one_line(words, logged, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["keys", *words]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("nymtw keys: ")
    assert printed.count("\n") == 1
    if logged != "-n: ":
        assert logged in printed
    assert not list(tmp_path.iterdir())


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["keys", "deal", "--help"])
    printed = capsys.readouterr().out
    for option in ("--attributes=", "-n, --issuers=", "-t, --threshold=", "-f, --folder="):
        assert option in printed


def test_without_the_extra_it_says_what_is_missing_and_all_else_works(tmp_path):
    program = (
        "import sys; sys.modules['py_arkworks_bls12381'] = None; import nymtw.issuing.main as issuing, nymtw.commands;"
        f"sys.exit(nymtw.commands.main(['keys', 'deal', '-f', {str(tmp_path / 'keys')!r}]))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "nymtw keys: credentials need a library: pip install 'nymtw[credentials]'\n"
    assert not (tmp_path / "keys").exists()


def test_nothing_but_the_package_itself_needs_the_extra():
    """Every module outside of credentials and issuing is imported without the library."""
    program = (
        "import sys, pkgutil, importlib, nymtw; sys.modules['py_arkworks_bls12381'] = None\n"
        "skipped = ('nymtw.credentials', 'nymtw.issuing.key_files', 'nymtw.storage.postgresql')\n"
        "skipped += ('nymtw.ethereum.evm', 'nymtw.pipe.devchain')\n"
        "for found in pkgutil.walk_packages(nymtw.__path__, 'nymtw.', onerror=lambda name: None):\n"
        "    if not found.name.startswith(skipped) and not found.name.startswith('nymtw.testing'):\n"
        "        importlib.import_module(found.name)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
