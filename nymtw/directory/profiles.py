"""Recommendations by name: how much is paid for how much anonymity."""

from collections.abc import Mapping

# What `--profile` stands for: the values that differ from the defaults.
PROFILES: Mapping[str, Mapping[str, float]] = {
    "default": {},
    "safer": {"average_packet_delay": 0.2, "loop_cover_traffic_rate": 10.0, "line_headroom": 1.5},
    "faster": {"average_packet_delay": 0.02, "line_wait": 0.005},
}


def profile(text: str) -> str:
    """A name of `PROFILES`. `usage.Options` turns the `ValueError` into a usage error."""
    if text not in PROFILES:
        raise ValueError(f"one of {', '.join(PROFILES)}")
    return text
