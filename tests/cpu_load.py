"""`python -m tests.cpu_load COMMAND...`: run a command while four busy processes compete with it for the processor.

It shows on a fast machine what depends on the machine's speed.
"""

import subprocess
import sys

BUSY_PROCESSES = 4
# Each ends with this process, however that ends.
_LOOP = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


def main(command: list[str]) -> int:
    """The exit code of the command."""
    busy = [subprocess.Popen([sys.executable, "-c", _LOOP]) for _ in range(BUSY_PROCESSES)]
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
