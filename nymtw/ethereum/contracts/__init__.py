"""The token and the pipe: how they are called, and what their logs say. `nym.sol` is the source, `nym.json` what it
was compiled to by `tools/build-contracts`.
"""

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from eth_abi import encode
from sha3 import keccak_256

from nymtw.errors import EthereumError
from nymtw.ethereum.node import Log

WORD: Final = 32  # bytes of a value, as contracts take and return them


def keccak(data: bytes) -> bytes:
    """Keccak-256 as Ethereum has it: 32 bytes."""
    digest: bytes = keccak_256(data).digest()
    return digest


TRANSFER: Final = keccak(b"Transfer(address,address,uint256)")
PIPED: Final = keccak(b"Piped(address,address,uint256)")
RELEASED: Final = keccak(b"Released(uint256,address,uint256)")


class PipeDeposit(NamedTuple):
    """Tokens that came to the pipe. `log_index`: the place of the log among those of its transaction, from 0."""

    log_index: int
    account: bytes
    amount: int


@cache
def artefact() -> dict[str, Any]:
    """What was compiled: compiler, settings, and for each contract `abi` and `bytecode`."""
    found: dict[str, Any] = json.loads((files(__name__) / "nym.json").read_bytes())
    return found


def bytecode(name: str) -> bytes:
    """What a transaction holds that deploys the contract "NymToken" or "NymPipe"; its arguments follow."""
    return bytes.fromhex(artefact()["contracts"][name]["bytecode"][2:])


def address_word(address: bytes) -> bytes:
    """An address as a word."""
    return address.rjust(WORD, b"\0")


def number_word(number: int) -> bytes:
    """A number from 0 to 2**256 - 1 as a word."""
    return number.to_bytes(WORD)


def call_data(signature: str, *words: bytes) -> bytes:
    """A call of a function whose arguments are words, such as "balanceOf(address)"."""
    return keccak(signature.encode())[:4] + b"".join(words)


def deploy_token(supply: int) -> bytes:
    """The data of a transaction that makes a token."""
    return bytecode("NymToken") + encode(["uint256"], [supply])


def deploy_pipe(token: bytes, redeemers: Sequence[bytes], threshold: int) -> bytes:
    """The data of a transaction that makes a pipe for `token`, with these redeemers."""
    return bytecode("NymPipe") + encode(["address", "address[]", "uint256"], [token, list(redeemers), threshold])


def release_call(number: int, recipient: bytes, amount: int, approvals: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The call that pays withdrawal `number` out. `approvals`: redeemer and signature (65 bytes), in any order; the
    contract wants them by ascending address.
    """
    kinds = ["uint256", "address", "uint256", "bytes[]"]
    signatures = [signature for _, signature in sorted(approvals)]
    selector = keccak(f"release({','.join(kinds)})".encode())[:4]
    return selector + encode(kinds, [number, recipient, amount, signatures])


def read_address(answer: bytes) -> bytes:
    """The address that a contract answered with. Raises `EthereumError`."""
    if len(answer) != WORD or any(answer[:12]):
        raise EthereumError("the contract answers with no address: is it there, and is it the right one?")
    return answer[12:]


def read_number(answer: bytes) -> int:
    """The number that a contract answered with. Raises `EthereumError`."""
    if len(answer) != WORD:
        raise EthereumError("the contract answers with no number: is it there, and is it the right one?")
    return int.from_bytes(answer)


def pipe_deposits(logs: Sequence[Log], pipe: bytes, token: bytes) -> list[PipeDeposit]:
    """What one transaction brought to the pipe. `logs`: all of the transaction's, in their order.

    `pipe(account, amount)` leaves the token's Transfer log and then the pipe's Piped log, which is the deposit then:
    the account is the one it names. A Transfer to the pipe without a Piped right behind it is a plain transfer, for its
    sender's account. Nothing, and what comes from nobody or from the pipe itself, is no deposit.
    """
    found: list[PipeDeposit] = []
    for place, log in enumerate(logs):
        if not _is_event(log, token, TRANSFER) or log.topics[2] != address_word(pipe):
            continue
        sender, amount = log.topics[1][12:], int.from_bytes(log.data)
        after = logs[place + 1] if place + 1 < len(logs) else None
        if after is not None and _is_event(after, pipe, PIPED) and after.topics[1] == log.topics[1]:
            deposit = PipeDeposit(place + 1, after.topics[2][12:], int.from_bytes(after.data))
        else:
            deposit = PipeDeposit(place, sender, amount)
        if deposit.amount and sender != pipe and any(sender) and deposit.amount == amount:
            found.append(deposit)
    return found


def may_hold(bloom: bytes, *values: bytes) -> bool:
    """Whether a block whose header has this bloom filter may have logs with all of `values` (addresses, topics).

    Yellow paper, section 4.3.1: of the Keccak-256 of each value, three times the low 11 bits of a pair of bytes.
    """
    for value in values:
        digest = keccak(value)
        for pair in (0, 2, 4):
            bit = int.from_bytes(digest[pair : pair + 2]) & 2047
            if not bloom[255 - bit // 8] >> (bit % 8) & 1:
                return False
    return True


def _is_event(log: Log, address: bytes, topic: bytes) -> bool:
    return log.address == address and len(log.topics) == 3 and log.topics[0] == topic and len(log.data) == WORD
