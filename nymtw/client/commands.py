"""`nym-client`: make a client, run it in the foreground, and speak to one that runs."""

import sys
from typing import Any

from twisted.logger import LogLevel

from nymtw.client import wallet
from nymtw.client.config import ClientConfig, in_home
from nymtw.client.options import InitOptions, Options, RunOptions, configure, initialise, random_id
from nymtw.client.proxies import broadcast, fetch, socks_command
from nymtw.client.sockets import commands as socket_commands
from nymtw.encoding import key_text
from nymtw.errors import ConfigError
from nymtw.node.commands import Command
from nymtw.node.commands import main as run_main
from nymtw.node.home import NodeHome
from nymtw.node.process.log import LineObserver


def _init(options: InitOptions) -> int:
    from random import SystemRandom

    from nymtw.client.edges import edges_text

    name = options["id"]
    if name is None:
        name = random_id()
        print(f"No id was given, so this client is called {name}")
    home, config = initialise(options, name, SystemRandom())
    private, public = in_home(home, config.client.priv_key_file), in_home(home, config.client.pub_key_file)
    print(f"Saved generated private key to {private}")
    print(f"Saved generated public key to {public}")
    print(f"Saved generated config to {home.config_file}")
    print(edges_text(config))
    print("--provider or --gateway chooses one; without them it is drawn from the providers at the first start")
    return 0


def observer_for(home: NodeHome, config: ClientConfig) -> LineObserver | None:
    """Where the log goes by `[logging]`. Raises `ConfigError`."""
    section = config.logging
    if section.disable:
        return None
    level = LogLevel.lookupByName(section.level)
    if not section.file:
        return LineObserver(sys.stdout, level)
    path = in_home(home, section.file)
    try:
        return LineObserver(open(path, "a", encoding="utf-8"), level, coloured=False)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def _run(options: RunOptions) -> int:
    from twisted.internet import reactor as module
    from twisted.logger import globalLogBeginner

    from nymtw.client.service import ClientService, Socket
    from nymtw.node.tap import run_or_exit

    reactor: Any = module
    home, config = configure(options)
    observer = observer_for(home, config)
    socket = None
    if options.get("socket", "none") != "none":
        socket = Socket(options["socket"], options["port"], options["recipient"], bool(options["open-socket"]))

    def build(reactor: object) -> ClientService:
        service = ClientService.from_config(reactor, home, config, socket)
        print(f"Our Public Key is: {key_text(service.public_key)}", flush=True)
        return service

    service: Any = run_or_exit("nym-client", options, build)
    globalLogBeginner.beginLoggingTo([] if observer is None else [observer], redirectStandardIO=False)
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
    return 0


COMMANDS = [
    Command("init", "Make a new client: its keys and its configuration", InitOptions, _init),
    Command("run", "Run a client in the foreground, sending cover traffic", RunOptions, _run),
    Command("socket", "Run a client and serve applications on 127.0.0.1", Options, _run),
    Command(
        "send",
        "Send a file or standard input through a running client",
        socket_commands.SendOptions,
        socket_commands.send,
    ),
    Command(
        "receive", "Print what a running client has received", socket_commands.ReceiveOptions, socket_commands.receive
    ),
    Command("fetch", "Fetch a web page through the mixnet", fetch.FetchOptions, fetch.fetch),
    Command("http-proxy", "Serve browsers on 127.0.0.1, through the mixnet", fetch.ProxyOptions, fetch.proxy),
    Command(
        "socks5",
        "Serve programs on 127.0.0.1 that speak SOCKS, through the mixnet",
        socks_command.SocksOptions,
        socks_command.socks,
    ),
    Command("broadcast", "Hand a signed transaction to a chain", broadcast.BroadcastOptions, broadcast.broadcast),
    Command(
        "wallet",
        "An account of the ledger: new, balance, pipe, send...",
        wallet.WalletOptions,
        wallet.wallet,
    ),
    Command("status", "Show how a running client is doing", socket_commands.StatusOptions, socket_commands.status),
]


def main() -> int:
    """The entry point of `nym-client`."""
    return run_main("nym-client", "client", COMMANDS)
