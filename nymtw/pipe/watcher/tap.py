"""`twistd nym-watcher`, and the console script."""

from twisted.application.service import IService

from nymtw.pipe.roles import WATCHER, make_role_service, role_main
from nymtw.pipe.roles import WatcherOptions as Options


def makeService(options: Options) -> IService:
    """The service, or the end of the process with one line."""
    return make_role_service(WATCHER, options)


def main() -> int:
    """The console script."""
    return role_main(WATCHER, Options)
