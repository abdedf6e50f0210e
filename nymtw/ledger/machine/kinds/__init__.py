"""Every kind of transaction. Another one is a module beside these, and its name in this table."""

from collections.abc import Mapping
from typing import Final

from nymtw.ledger.machine.kinds import (
    bond,
    new_account,
    notarise_deposit,
    parameters,
    release,
    transfer,
    unbond,
    withdraw,
)
from nymtw.ledger.machine.kinds.kind import Kind

KINDS: Final[Mapping[str, Kind]] = {
    module.KIND.name: module.KIND
    for module in (new_account, transfer, notarise_deposit, withdraw, release, bond, unbond, parameters)
}
