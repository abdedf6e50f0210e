"""The chain of cores is at home with the mixnode's tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "mixnode"))
