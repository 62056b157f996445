"""`python -m release.package`: the zip that is deployed, and its SBOM. Same files, same bytes."""

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "dist/license-manager.zip"
SBOM = REPOSITORY / "dist/sbom.cdx.json"

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can tell
_MODE = 0o100644  # a plain file that everybody may read
_ON_UNIX = 3


def main() -> int:
    """The exit code: 1 where this is no clone of the repository."""
    try:
        write_package(REPOSITORY, PACKAGE)
    except subprocess.CalledProcessError as error:
        print(f"The package holds what Git tracks, and Git says: {error.stderr.decode().strip()}", file=sys.stderr)
        return 1
    write_sbom(SBOM)
    for path in (PACKAGE, SBOM):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path.relative_to(REPOSITORY)}: {path.stat().st_size / 1e3:,.0f} kB, SHA-256 {digest}")
    return 0


def write_package(folder: Path, package: Path) -> None:
    """Write the zip of what is deployed of a repository.

    It holds sources and requirements.txt, not what that names: Azure installs it (a remote build). Nothing is
    compressed, since zlib's output differs from one build of it to the next. Raises CalledProcessError where the
    folder is no clone.
    """
    package.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(package, "w") as archive:
        for name in files_deployed(folder):
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.create_system = _ON_UNIX
            entry.external_attr = _MODE << 16
            archive.writestr(entry, (folder / name).read_bytes())


def files_deployed(folder: Path) -> Iterator[str]:
    """What Git tracks and .funcignore lets through, in order. Its patterns are those of .gitignore."""
    listed = subprocess.run(["git", "-C", str(folder), "ls-files", "-z"], check=True, capture_output=True).stdout
    stays_at_home = GitIgnoreSpec.from_lines((folder / ".funcignore").read_text("utf-8").splitlines())
    return stays_at_home.match_files(sorted(listed.decode().split("\0")[:-1]), negate=True)


def write_sbom(sbom: Path) -> None:
    """Write which packages requirements.txt pins, with their hashes, as CycloneDX. It is checked against its schema."""
    sbom.parent.mkdir(parents=True, exist_ok=True)
    command = ["-m", "cyclonedx_py", "requirements", "requirements.txt", "--pyproject", "pyproject.toml"]
    # -W: it says that requirements.txt does not tell which package asks for which.
    command = [sys.executable, "-W", "ignore", *command, "--output-reproducible", "--output-file", str(sbom)]
    subprocess.run(command, cwd=REPOSITORY, check=True)


if __name__ == "__main__":
    sys.exit(main())
