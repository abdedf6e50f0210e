"""What lines show over time, in bins, and what they would show if a client's packets went to an edge."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nymtw.sphinx import SizeClass
from nymtw.testing.attacks.scene import Scene, chosen, sent_by
from nymtw.testing.rows import Direction, Rows

MIX_HOPS = 3
_PER_DELAY = 5  # bins in a mean delay
_LEAST_BIN = 0.002  # seconds
_MOST_BINS = 100_000
_TAIL = 12  # mean delays after which nothing more is expected


@dataclass(frozen=True)
class Evidence:
    """Two observations: data packets that reach each edge, and acks that leave it.

    `expected[k][client]` is what each bin of observation k would hold if all packets of the client went to one edge,
    `suspected[k][client]` the same for those alone that it sent in the time under suspicion; `seen[k][edge]` is what
    was counted. Bins are `width` seconds.
    """

    width: float
    clients: list[str]
    seen: "list[np.ndarray[Any, Any]]"
    expected: "list[np.ndarray[Any, Any]]"
    suspected: "list[np.ndarray[Any, Any]]"


def gather(rows: Rows, scene: Scene, start: float, end: float) -> Evidence:
    """The evidence from `start` until what was sent before `end` has passed."""
    tail = _TAIL * scene.mean_delay + 10 * scene.latency
    width = max(_LEAST_BIN, scene.mean_delay / _PER_DELAY, (end - start) / _MOST_BINS)
    bins = max(1, math.ceil((end + tail - start) / width))
    edges = start - tail + width * np.arange(bins + math.ceil(tail / width) + 1)
    skipped = len(edges) - 1 - bins
    clients = list(scene.home)
    sent = np.array([np.histogram(sent_by(rows, client), edges)[0] for client in clients], dtype=float)
    arriving = [chosen(rows, Direction.OUT, target=edge, size_class=SizeClass.REGULAR) for edge in scene.edges]
    leaving = [chosen(rows, Direction.IN, source=edge, size_class=SizeClass.ACK) for edge in scene.edges]
    inside = [_within(sent_by(rows, client), start, end) for client in clients]
    suspect = np.array([np.histogram(times, edges)[0] for times in inside], dtype=float)
    seen, expected, suspected = [], [], []
    for stages, links, times in ((MIX_HOPS, MIX_HOPS + 1, arriving), (MIX_HOPS + 1, MIX_HOPS + 2, leaving)):
        kernel = _kernel(stages, scene.mean_delay, links * scene.latency, width, math.ceil(tail / width) + 1)
        seen.append(np.array([np.histogram(one, edges)[0][skipped:] for one in times], dtype=float))
        expected.append(_filtered(sent, kernel)[:, skipped:])
        suspected.append(_filtered(suspect, kernel)[:, skipped:])
    return Evidence(width, clients, seen, expected, suspected)


def _within(times: "np.ndarray[Any, Any]", start: float, end: float) -> "np.ndarray[Any, Any]":
    return times[(times >= start) & (times < end)]


def _kernel(stages: int, mean: float, shift: float, width: float, length: int) -> "np.ndarray[Any, Any]":
    """The distribution of the sum of `stages` exponential delays and `shift`, from bin to bin (Erlang)."""
    # Half a bin: within its bin a packet was sent at any time.
    times = np.maximum(0.0, width * (np.arange(length + 1) - 0.5) - shift)
    if mean <= 0:
        reached = (times > 0).astype(float)
    else:
        scaled = times / mean
        terms = [np.power(scaled, stage) / math.factorial(stage) for stage in range(stages)]
        reached = 1 - np.exp(-scaled) * np.sum(terms, axis=0)
    return np.diff(reached)


def _filtered(sent: "np.ndarray[Any, Any]", kernel: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    length = sent.shape[1]
    size = 1 << (length + len(kernel)).bit_length()
    spectrum = np.fft.rfft(sent, size) * np.fft.rfft(kernel, size)
    return np.maximum(np.fft.irfft(spectrum, size)[:, :length], 0.0)
