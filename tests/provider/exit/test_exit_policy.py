"""The policy of an exit: Tor's syntax, what decides, and what is wrong with a wrong line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nymtw.errors import ConfigError
from nymtw.provider.exit.policy import DEFAULT_POLICY, ExitPolicy

pytestmark = pytest.mark.pythons


@pytest.mark.parametrize(
    ("policy", "address", "port", "accepted"),
    [
        ("accept *:80\nreject *:*", "198.51.100.1", 80, True),
        ("accept *:80\nreject *:*", "2001:db8::1", 80, True),
        ("accept *:80\nreject *:*", "198.51.100.1", 81, False),
        ("accept *4:80\nreject *:*", "198.51.100.1", 80, True),
        ("accept *4:80\nreject *:*", "2001:db8::1", 80, False),
        ("accept *6:80\nreject *:*", "2001:db8::1", 80, True),
        ("accept *6:80\nreject *:*", "198.51.100.1", 80, False),
        ("accept6 *:80\nreject *:*", "198.51.100.1", 80, False),
        ("accept6 *:80\nreject *:*", "2001:db8::1", 80, True),
        ("reject6 *:80\naccept *:*", "198.51.100.1", 80, True),
        ("reject6 *:80\naccept *:*", "2001:db8::1", 80, False),
        ("reject 10.0.0.0/8:*\naccept *:*", "10.255.0.1", 80, False),
        ("reject 10.0.0.0/8:*\naccept *:*", "11.0.0.1", 80, True),
        ("reject 10.0.0.0/255.0.0.0\naccept *:*", "10.255.0.1", 80, False),
        ("reject 10.1.2.3/8:*\naccept *:*", "10.255.0.1", 80, False),
        ("reject 198.51.100.1\naccept *:*", "198.51.100.1", 1, False),
        ("reject 198.51.100.1\naccept *:*", "198.51.100.2", 65535, True),
        ("reject [2001:db8::]/32:443\naccept *:*", "2001:db8:1::", 443, False),
        ("reject [2001:db8::]/32:443\naccept *:*", "2001:db9::", 443, True),
        ("reject6 [FC00::1]:*\naccept *:*", "fc00::1", 443, False),
        ("reject *:1000-2000\naccept *:*", "198.51.100.1", 1000, False),
        ("reject *:1000-2000\naccept *:*", "198.51.100.1", 2000, False),
        ("reject *:1000-2000\naccept *:*", "198.51.100.1", 999, True),
        ("reject *:1000-2000\naccept *:*", "198.51.100.1", 2001, True),
        ("reject private:*\naccept *:*", "192.168.3.4", 80, False),
        ("reject6 private:*\naccept *:*", "192.168.3.4", 80, False),
        ("reject private:*\naccept *:*", "fe80::1", 80, False),
        ("reject private:*\naccept *:*", "198.51.100.1", 80, True),
        ("accept *:80, reject *:*", "198.51.100.1", 80, True),
        ("ExitPolicy accept *:80,reject *:*", "198.51.100.1", 81, False),
        ("  ACCEPT   *:80   # the web\n\n# the end\nReject *:*", "198.51.100.1", 80, True),
        # the first match decides
        ("accept 10.1.0.0/16:*\nreject 10.0.0.0/8:*\naccept *:*", "10.1.0.1", 80, True),
        ("reject *:*\naccept *:*", "198.51.100.1", 80, False),
        # an address in another's clothes
        ("reject 10.0.0.0/8:*\naccept *:*", "::ffff:10.0.0.1", 80, False),
        ("reject 10.0.0.0/8:*\naccept *:*", "64:ff9b::a00:1", 80, False),
        ("reject 10.0.0.0/8:*\naccept *:*", "2002:a00:1::1", 80, False),
        ("accept *4:*\nreject *:*", "::ffff:198.51.100.1", 80, True),
        ("accept *4:*\nreject *:*", "64:ff9b::c633:6401", 80, False),
        # what is not said is as in the default policy
        ("", "198.51.100.1", 25, False),
        ("", "198.51.100.1", 443, True),
        ("accept 198.51.100.1:25", "198.51.100.1", 25, True),
        ("accept 198.51.100.1:25", "198.51.100.2", 25, False),
        ("reject *4:*", "2001:db8::1", 80, True),
    ],
)
def test_what_is_accepted(policy: str, address: str, port: int, accepted: bool) -> None:
    assert ExitPolicy.parse(policy).accepts(address, port) is accepted


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("allow *:80", "is not 'accept' or 'reject'"),
        ("accept", "is not 'accept' or 'reject'"),
        ("accept *:80 reject *:*", "is not 'accept' or 'reject'"),
        ("accept example.org:80", "is not 'accept' or 'reject'"),
        ("accept 10.0.0:80", "'10.0.0' is not an address or a network"),
        ("accept 10.0.0.0/33:80", "is not an address or a network"),
        ("accept 256.0.0.0:80", "is not an address or a network"),
        ("accept [10.0.0.0/8]x:80", "is not 'accept' or 'reject'"),
        ("accept 2001:db8::1:80", "'db8::1:80' is not a port"),
        ("accept [2001:db8::1]/129:80", "is not an address or a network"),
        ("accept6 10.0.0.0/8:80", "accept6 is for IPv6, but 10.0.0.0/8 is not IPv6"),
        ("reject6 *4:80", "reject6 is for IPv6"),
        ("accept *:0", "'0' is not a port"),
        ("accept *:65536", "is not a port"),
        ("accept *:90-80", "is not a port"),
        ("accept *:http", "is not a port"),
        ("accept *:80,", "'' is not 'accept'"),
        ("accept *5:80", "is not 'accept' or 'reject'"),
    ],
)
def test_a_wrong_line_is_told_with_file_and_line(line: str, error: str) -> None:
    with pytest.raises(ConfigError, match=f"policy.txt, line 3: .*({error})"):
        ExitPolicy.parse(f"accept *:80\n\n{line}\nreject *:*", "policy.txt")


@given(st.text(max_size=60))
def test_any_text_is_a_policy_or_a_configuration_error(text: str) -> None:
    try:
        policy = ExitPolicy.parse(text)
    except ConfigError as error:
        logged = str(error)
    else:
        logged = f"line that accepts: {policy.accepts('198.51.100.1', 80)}"
    assert "line" in logged


@pytest.mark.parametrize(
    ("policy", "port", "some"),
    [
        ("", 25, False),
        ("", 80, True),
        ("accept 198.51.100.1:25", 25, True),
        ("reject *:*", 80, False),
        ("reject *4:*\nreject *6:*\nreject *:*", 80, False),
        ("reject 10.0.0.0/8:*\naccept *:*", 80, True),
    ],
)
def test_ports_to_which_nothing_is_accepted(policy: str, port: int, some: bool) -> None:
    assert ExitPolicy.parse(policy).accepts_some(port) is some


def test_a_policy_from_a_file(tmp_path) -> None:
    file = tmp_path / "policy"
    file.write_text("accept *:7\nreject *:*\n")
    assert ExitPolicy.load(str(file)).accepts("198.51.100.1", 7)
    assert ExitPolicy.load("").rules == ExitPolicy.parse(DEFAULT_POLICY).rules
    file.write_text("reject\n")
    with pytest.raises(ConfigError, match=f"{file}, line 1"):
        ExitPolicy.load(str(file))
    file.write_bytes(b"\xff")
    for path in (str(file), str(tmp_path / "none")):
        with pytest.raises(ConfigError, match="cannot be read"):
            ExitPolicy.load(path)
