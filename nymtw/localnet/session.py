"""What `nymtw localnet` does, from the first line to the last."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from random import SystemRandom
from typing import Any

from twisted.internet.defer import Deferred

from nymtw.client.sockets.tokens import read_token, remove_token, token_file, write_token
from nymtw.errors import ConfigError, EncodingError, NymtwError
from nymtw.localnet.components import LAYERS
from nymtw.localnet.console import Console
from nymtw.localnet.files import NamedFile, parse_file, save
from nymtw.localnet.layout import CLIENTS, listed, table
from nymtw.localnet.localnet import Localnet, PortTaken
from nymtw.localnet.mail import Mail
from nymtw.localnet.processes import Process
from nymtw.localnet.rates import Rates, explained, measure
from nymtw.localnet.validators import CHAINS, CONSENSUS, Plan, ValidatorSide
from nymtw.node.home import NodeHome
from nymtw.node.networks import LOCALNET, Network, Networks

FIRST_MESSAGE = "Hello bob, this is alice."
ATTEMPTS = 3
TELL_INTERVAL = 15.0  # seconds between two lines about a start, where the output is no terminal


class Session:
    """One run. `file` is what to send, or None; `options` are those of `nymtw localnet`."""

    def __init__(self, reactor: Any, options: Mapping[str, Any], file: NamedFile | None, console: Console) -> None:
        self._reactor = reactor
        self._options = options
        self._file = file
        self._console = console
        self._cleanup = contextlib.ExitStack()
        self._localnet: Localnet | None = None
        self._received: Path | None = None
        self._temporary: Path | None = None  # the folder, where it is to be gone at the end
        self._told = 0.0  # when it was last said what is waited for
        self._interrupted: Deferred[int] = Deferred()
        self._settled = False  # whether all that was asked for has been done, but for running on

    async def run(self) -> int:
        """The exit status. Raises `NymtwError`; whatever happens, no process is left when it returns."""
        work: Deferred[int] = Deferred.fromCoroutine(self._work())
        # What comes first counts; of work that was interrupted nothing more is wanted.
        outcome: Deferred[int] = Deferred()
        for each in (work, self._interrupted):
            each.addBoth(lambda result: None if outcome.called else outcome.callback(result))
        try:
            return await outcome
        finally:
            work.cancel()
            await self._stop()

    def interrupt(self, number: int) -> None:
        """A signal: the first one asks for an orderly end, a second one for a quick one."""
        if not self._interrupted.called:
            # It is how a localnet that runs is stopped; one that has not done its job yet has failed.
            self._interrupted.callback(0 if self._settled else 128 + number)
        elif self._localnet is not None:
            self._localnet.processes.kill()

    async def _work(self) -> int:
        options = self._options
        plan = self._plan()
        layers, providers, gateways = (options[each] for each in ("mixnodes-per-layer", "providers", "gateways"))
        rates = self._rates(2 + len(LAYERS) * layers + providers + gateways + len(CLIENTS))
        timeout, padded = options["timeout"], bool(options["padded"])
        folder = self._folder()
        try:
            localnet = self._localnet = Localnet(
                self._reactor, folder, layers, providers, gateways, rates=rates, padded=padded, timeout=timeout
            )
            await self._complete(localnet)
            side = None if plan is None else await self._start_validators(localnet, plan, timeout)
        except NymtwError:
            self._keep_folder(folder)
            raise
        return await self._use(localnet, side)

    def _plan(self) -> Plan | None:
        """What the validator side is made of, if there is one. Raises `ConfigError` where something is missing."""
        if not self._options["validators"]:
            return None
        plan = Plan(self._options["consensus"] or CONSENSUS[0], self._options["ethereum"] or CHAINS[0])
        plan.check()
        return plan

    async def _start_validators(self, localnet: Localnet, plan: Plan, timeout: float) -> ValidatorSide:
        url = localnet.layout.directory_url
        side = ValidatorSide(self._reactor, localnet.folder, localnet.home, localnet.processes, plan, url, timeout)
        self._console.write_line(f"Starting {len(side.components)} processes of the validator side")
        await side.start(self._show)
        self._console.write_line("The validator side is complete:")
        self._console.write_line(listed(side.components))
        return side

    def _rates(self, processes: int) -> Rates:
        """Those that this machine is good for, or that were asked for; the user is told why."""
        machine, asked = measure(SystemRandom()), self._options["rate"]
        if asked is None:
            rates = Rates.for_machine(machine, len(CLIENTS), processes)
        else:
            rates = Rates(asked, len(CLIENTS), processes)
        self._console.write_line(explained(machine, rates, asked is not None))
        return rates

    def _keep_folder(self, folder: Path) -> None:
        """What went wrong is in there."""
        if self._temporary is not None:
            self._temporary = None
            self._console.write_line(f"Keys and logs are kept in {folder}")

    def _folder(self) -> Path:
        if self._options["dir"] is not None:
            return Path(self._options["dir"])
        folder = Path(tempfile.mkdtemp(prefix="nymtw-localnet-"))
        self._temporary = folder
        self._cleanup.callback(self._remove_folder)
        return folder

    def _remove_folder(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    async def _complete(self, localnet: Localnet) -> None:
        write_line = self._console.write_line
        for attempt in range(1, ATTEMPTS + 1):
            write_line(f"Starting {len(localnet.layout.components)} processes; their logs are in {localnet.logs}")
            try:
                await localnet.start()
                await localnet.complete(self._show)
                break
            except PortTaken as error:
                if attempt == ATTEMPTS or self._interrupted.called:
                    raise
                # Somebody took it after it was chosen: another localnet that is being started, most likely.
                write_line(f"{error}\nTrying other ports.")
                await localnet.restart_elsewhere()
        write_line("The network is complete:")
        write_line(table(localnet.layout))
        write_line(f"Directory {localnet.layout.directory_url}, its key {localnet.layout.directory_key}")
        self._register(localnet)
        localnet.processes.watch(self._died)

    def _register(self, localnet: Localnet) -> None:
        """Let commands find this network by its name, for as long as its keys are kept."""
        networks, network = Networks(), localnet.layout.network()
        try:
            networks.save(LOCALNET, network)
            self._share_tokens(localnet)
        except ConfigError as error:
            self._console.write_line(f"It has no name on this machine: {error}")
            return
        if self._temporary is not None:
            self._cleanup.callback(_forget, networks, network)
        in_use = networks.in_use()
        how = "is in use" if in_use == LOCALNET else f"is not in use, {in_use} is: --network {LOCALNET} chooses it"
        self._console.write_line(f"The network is called {LOCALNET} and {how}; its digest is {network.digest()}")

    def _share_tokens(self, localnet: Localnet) -> None:
        """Let this user's programs use the clients' sockets. Raises `ConfigError`."""
        for port in localnet.layout.client_ports.values():
            token = read_token(token_file(port, localnet.home))
            if token is not None:
                write_token(token_file(port), token)
                self._cleanup.callback(remove_token, token_file(port), token)

    def _show(self, text: str) -> None:
        """Who is waited for: on a terminal a line that changes, elsewhere one now and then."""
        self._console.show(text)
        now = self._reactor.seconds()
        if not self._console.is_terminal and now - self._told >= TELL_INTERVAL:
            self._told = now
            self._console.write_line(text)

    async def _use(self, localnet: Localnet, side: ValidatorSide | None) -> int:
        mail = Mail(self._reactor, localnet, self._keep)
        self._cleanup.callback(mail.close)
        await mail.open()
        first = await mail.deliver(FIRST_MESSAGE.encode())
        if not isinstance(first.kept, bytes):
            raise NymtwError("bob has received another message than alice sent")
        text = first.kept.decode(errors="replace")
        self._console.write_line(f"alice to bob: {text!r} arrived after {first.seconds:.3f} s")
        if side is not None:
            from nymtw.localnet.token_flow import TokenFlow  # it needs nymtw[ethereum]

            home = NodeHome("client", CLIENTS[0], localnet.home)
            await TokenFlow(self._reactor, side, home, self._console.write_line).run()
        agrees = True if self._file is None else await self._send(mail, self._file)
        if self._options["exit"]:
            return 0 if agrees else 1
        mail.close()  # what comes from now on is for the users of these clients
        self._settled = agrees
        self._console.write_line("Running until Ctrl-C.")
        await Deferred()
        return 0

    async def _send(self, mail: "Mail[bytes | Path]", file: NamedFile) -> bool:
        """Send the file, say what became of it, and return whether bob has what alice sent."""
        console = self._console
        try:
            delivered = await mail.deliver(file.encode(), console.progress)
        finally:
            console.end_progress()
        if not isinstance(delivered.kept, Path):
            raise NymtwError("bob has received something that is not a file")
        content = delivered.kept.read_bytes()
        sent, received = hashlib.sha256(file.content).hexdigest(), hashlib.sha256(content).hexdigest()
        console.write_line(f"sent      {sent}  {file.name}")
        console.write_line(f"received  {received}  {delivered.kept}")
        if sent != received:
            console.write_line("The two differ.")
            return False
        console.write_line(
            f"The two agree: {len(content)} bytes in {delivered.fragments} fragments took {delivered.seconds:.1f} s."
        )
        return True

    def _keep(self, message: bytes) -> bytes | Path:
        """A file is written to the folder for them, also one that was sent in an earlier run."""
        try:
            return save(self._received_folder(), parse_file(message))
        except EncodingError:
            return message

    def _received_folder(self) -> Path:
        if self._received is None:
            if self._options["dir"] is None:
                self._received = Path(tempfile.mkdtemp(prefix="nymtw-received-"))
            else:
                self._received = Path(self._options["dir"]).absolute() / "received"
                self._received.mkdir(mode=0o700, exist_ok=True)
        return self._received

    def _died(self, process: Process) -> None:
        self._console.write_line(process.epitaph())

    async def _stop(self) -> None:
        self._console.end_progress()
        with self._cleanup:
            if self._localnet is not None:
                killed = await self._localnet.stop()
                if killed:
                    self._console.write_line(f"Did not stop in time and were killed: {', '.join(killed)}")


def _forget(networks: Networks, network: Network) -> None:
    """Take the name away, unless another localnet has it by now."""
    with contextlib.suppress(ConfigError):
        if networks.load(LOCALNET) == network:
            networks.remove(LOCALNET)
