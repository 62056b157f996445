"""Node.js for the programs that come from npm."""

import sys
from pathlib import Path


def node() -> str:
    """The program to start: the one that `devhost/setup.py` has installed, otherwise the system's."""
    own = Path(sys.prefix, "bin", "node")
    return str(own) if own.exists() else "node"
