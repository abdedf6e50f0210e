"""The validator side of a localnet: a chain of Ethereum, the ledger, and the roles between them, as processes."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred

from nymtw.errors import ConfigError, EthereumError, LedgerError, NymtwError
from nymtw.localnet.components import command
from nymtw.localnet.ports import LOOPBACK, PortPicker
from nymtw.localnet.processes import Component, ComponentDied, Processes, sleep
from nymtw.node.home import NodeHome, write_file
from nymtw.pipe.roles import FAUCET, REDEEMER, WATCHER, Role, load_role_key, require_ethereum

CONSENSUS: Final = ("embedded", "cometbft")
CHAINS: Final = ("evm", "anvil", "geth")
COMETBFT_NODES: Final = 4
WATCHERS: Final = 2  # and as many must agree
REDEEMERS: Final = 3
REDEEMER_THRESHOLD: Final = 2
CONFIRMATIONS: Final = 1  # on a chain that is this machine's alone
_PORTS: Final = {"ethereum": 8545, "ledger": 26657, "p2p": 26667, "cometbft": 26677, "faucet": 4200}
_POLL: Final = 0.2  # seconds
_ROUND: Final = 0.5  # seconds between looks of watchers and redeemers
_ETHER: Final = 10**18


@dataclass(frozen=True, slots=True)
class Plan:
    """Who orders the ledger's transactions, and what computes the chain of Ethereum."""

    consensus: str
    ethereum: str

    def check(self) -> None:
        """Raises `ConfigError` where something that it needs is not installed."""
        require_ethereum()
        if self.consensus == "cometbft":
            from nymtw.ledger.cometbft.files import find_cometbft

            find_cometbft()
        if self.ethereum == "evm":
            try:
                import eth.chains.base  # noqa: F401
            except ModuleNotFoundError:
                raise ConfigError("py-evm is missing: pip install 'nymtw[evm]'") from None
        else:
            from nymtw.pipe.devchain.program import find_program

            find_program(self.ethereum)


class ValidatorSide:
    """Its processes, started in order by `start`."""

    def __init__(
        self,
        reactor: Any,
        folder: Path,
        home: Path,
        processes: Processes,
        plan: Plan,
        directory: str,
        timeout: float,
        usual_ports: bool = True,
    ) -> None:
        """Makes keys and chooses ports; nothing runs yet. `home`: their NYMTW_HOME, `folder`: where it is noted which
        contracts there are. `directory`: URL, or "" for none. Raises `ConfigError`, `KeyFileError`, `ListenError`.
        """
        from nymtw.ethereum.jsonrpc import EthereumRPC
        from nymtw.ethereum.node import EthereumNode

        self._reactor = reactor
        self._folder, self._home, self._processes = folder, home, processes
        self._plan, self._directory, self._timeout = plan, directory, timeout
        picker = PortPicker(usual_ports)
        count = COMETBFT_NODES if plan.consensus == "cometbft" else 1
        [ethereum], [faucet] = picker.pick(_PORTS["ethereum"]), picker.pick(_PORTS["faucet"])
        self._ports = [picker.pick(_PORTS[name], count) for name in ("ledger", "p2p", "cometbft")]
        self.ethereum_url = f"http://{LOOPBACK}:{ethereum}"
        self.faucet_url = f"http://{LOOPBACK}:{faucet}"
        self.ledger_urls = [f"http://{LOOPBACK}:{port}" for port in self._ports[0]]
        self._validators = [self._made("validator", f"validator-{number}") for number in range(1, count + 1)]
        self._watchers = [self._made("watcher", f"watcher-{number}") for number in range(1, WATCHERS + 1)]
        self._redeemers = [self._made("redeemer", f"redeemer-{number}") for number in range(1, REDEEMERS + 1)]
        self._faucet = self._made("faucet", "faucet")
        self.node = EthereumNode(EthereumRPC(reactor, self.ethereum_url))
        self.genesis: Any = None
        self._chain = Component(
            "ethereum",
            command("nym-devchain", id="ethereum", port=ethereum, backend=plan.ethereum),
            f"{self.ethereum_url} ({'py-evm' if plan.ethereum == 'evm' else plan.ethereum})",
        )
        self._roles = [
            *(self._role(WATCHER, home) for home in self._watchers),
            *(self._role(REDEEMER, home) for home in self._redeemers),
            Component(
                "faucet",
                command(FAUCET.program, id="faucet", port=faucet, ethereum=self.ethereum_url, wait_seconds=1),
                f"{self.faucet_url}, gives test tokens",
            ),
        ]

    @property
    def components(self) -> Sequence[Component]:
        """All of them, in the order in which they are started."""
        return [self._chain, *self._validator_components(), *self._roles]

    async def start(self, show: Callable[[str], object] = lambda text: None) -> None:
        """Start everything; `show` is told what is waited for. Raises `NymtwError`."""
        show("starting the chain of Ethereum")
        self._processes.start(self._chain)
        await self._until(lambda: self.node.chain(), [self._chain])
        faucet = load_role_key(self._faucet)
        await self._give(faucet.address, 1000 * _ETHER)
        show("deploying token and pipe")
        await self._contracts(faucet)
        for home in self._redeemers:
            await self._give(load_role_key(home).address, 10 * _ETHER)
        show("starting the ledger")
        validators = self._validator_components()
        for each in [*validators, *self._roles]:
            self._processes.start(each)
        for url in self.ledger_urls:
            await self._until(lambda url=url: self._takes_transactions(url), validators)  # type: ignore[misc]
        show("starting watchers, redeemers and the faucet")
        await self._until(self._faucet_answers, self._roles)

    def ledger(self) -> Any:
        """An `ILedger` over all nodes, which believes what the validators have signed."""
        import time

        from nymtw.ledger.light import LightLedger, Trust
        from nymtw.ledger.rpc.client import HTTPLedger

        return LightLedger(HTTPLedger(self._reactor, self.ledger_urls), Trust(self.genesis, time.time))

    async def _contracts(self, faucet: Any) -> None:
        """Those of an earlier run where the chain still has them, else new ones; and a genesis that names the pipe."""
        from nymtw.ledger.machine.signatures import address_text
        from nymtw.pipe.deploy import deploy
        from nymtw.validator.setup import genesis_file, load_keys, make_genesis, read_genesis, write_genesis

        noted = self._folder / "contracts.json"
        homes = [*self._validators, *self._watchers, *self._redeemers, self._faucet]
        if noted.exists():
            found = json.loads(noted.read_bytes())
            code = await self.node.rpc.call("eth_getCode", found["pipe"], "latest")
            if code == "0x" or await self.node.chain() != found["chain"]:
                raise ConfigError(f"{self._folder}: its ledger belongs to a chain of Ethereum that is gone")
            self.genesis = read_genesis(genesis_file(self._validators[0]))
            if len(self.genesis.parameters.validators) != len(self._validators):
                raise ConfigError(f"{self._folder}: its ledger has begun with another --consensus")
            return
        redeemers = [load_role_key(home).address for home in self._redeemers]
        chain, token, pipe = await deploy(self._reactor, self.node, faucet, redeemers, REDEEMER_THRESHOLD)
        parameters = {
            "watchers": [address_text(load_role_key(home).address) for home in self._watchers],
            "watcher_threshold": WATCHERS,
            "redeemers": [address_text(each) for each in redeemers],
            "redeemer_threshold": REDEEMER_THRESHOLD,
            "ethereum_chain": chain,
            "pipe": address_text(pipe),
        }
        self.genesis = make_genesis("localnet", [load_keys(home).line for home in self._validators], parameters)
        for home in homes:
            write_genesis(genesis_file(home), self.genesis)
        shown = {"chain": chain, "token": address_text(token), "pipe": address_text(pipe)}
        write_file(noted, json.dumps(shown).encode())

    async def _give(self, address: bytes, value: int) -> None:
        """Ether of one of the chain's own rich accounts, where there is less than that."""
        from nymtw.ethereum.node import hex_text, octets

        if await self.node.balance(address) >= value // 2:
            return
        accounts = await self.node.rpc.call("eth_accounts")
        if not isinstance(accounts, list) or not accounts:
            raise EthereumError("the chain of Ethereum has no account with money")
        call = {"from": accounts[0], "to": hex_text(address), "value": hex(value), "gas": hex(21_000)}
        identity = octets(await self.node.rpc.call("eth_sendTransaction", call), 32)

        async def mined() -> bool:
            return await self.node.receipt(identity) is not None

        await self._until(mined, [self._chain])

    async def _takes_transactions(self, url: str) -> bool:
        from nymtw.errors import TransactionRefused
        from nymtw.ledger.rpc.client import HTTPLedger

        ledger = HTTPLedger(self._reactor, [url])
        try:
            await ledger.submit(b"none")
        except TransactionRefused:
            return True
        finally:
            await ledger.close()
        return False

    async def _faucet_answers(self) -> bool:
        from nymtw.ledger.rpc.http import JSONClient

        client = JSONClient(self._reactor, self.faucet_url)
        try:
            code, _ = await client.get("/status", 5.0)
        finally:
            await client.close()
        return code == 200

    async def _until(self, ask: Callable[[], Awaitable[Any]], needed: Sequence[Component]) -> Any:
        """What `ask` gives once it is something. Raises `NymtwError` where a process that it needs has ended."""
        end = self._reactor.seconds() + self._timeout
        while True:
            cause = "it does not answer"
            try:
                if found := await ask():
                    return found
            except (EthereumError, LedgerError) as error:
                cause = str(error)
            for each in needed:
                process = self._processes[each.name]
                if process.status is not None:
                    raise ComponentDied(process.epitaph())
            if self._reactor.seconds() > end:
                raise NymtwError(f"{', '.join(each.name for each in needed)}: {cause}")
            await _pause(self._reactor)

    def _made(self, role: str, name: str) -> NodeHome:
        from nymtw.validator.setup import load_keys

        home = NodeHome(role, name, self._home)
        home.create()
        load_keys(home) if role == "validator" else load_role_key(home)
        return home

    def _validator_components(self) -> list[Component]:
        from nymtw.ledger.cometbft.files import node_id
        from nymtw.validator.setup import load_keys

        clients, p2p, rpc = self._ports
        known = [
            f"{node_id(load_keys(home).node)}@{LOOPBACK}:{port}"
            for home, port in zip(self._validators, p2p, strict=True)
        ]
        found = []
        for place, home in enumerate(self._validators):
            options: dict[str, object] = {"id": home.id, "host": LOOPBACK, "port": clients[place]}
            more: list[str] = []
            if self._plan.consensus == "cometbft":
                options |= {"consensus": "cometbft", "p2p_port": p2p[place], "cometbft_port": rpc[place]}
                more = ["--any-addresses", *(f"--peer={each}" for each in known if each != known[place])]
            if self._directory:
                options["directory"] = self._directory
            words = command("nym-validator", **options)
            found.append(Component(home.id, (*words, *more), f"{self.ledger_urls[place]} (the ledger)"))
        return found

    def _role(self, role: Role, home: NodeHome) -> Component:
        options = {
            "id": home.id,
            "ethereum": self.ethereum_url,
            "confirmations": CONFIRMATIONS,
            "poll_seconds": _ROUND,
        }
        words = command(role.program, **options)
        said = "notarises deposits" if role is WATCHER else "releases withdrawals"
        return Component(home.id, (*words, *(f"--ledger={url}" for url in self.ledger_urls)), said)


def _pause(clock: Any) -> "Deferred[None]":
    return sleep(clock, _POLL)
