"""The networks in memory are at home with the provider's tests."""

import sys
from pathlib import Path

for room in ("provider", "mixnode"):
    sys.path.insert(0, str(Path(__file__).parent.parent / room))
