"""Tests have the fixtures of nymtw; `pytest --seed=random` looks for new cases."""

pytest_plugins = ["nymtw.testing.pytest_plugin"]
