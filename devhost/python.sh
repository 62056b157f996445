#!/bin/sh
# Run Python 3.13 with the arguments given. Looks at $PYTHON alone where it is set, otherwise at the virtual environment, the PATH, pyenv and uv.

try() { # PYTHON ARGUMENT...: run it if it is Python 3.13
  "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2> /dev/null && exec "$@"
}

if [ -n "$PYTHON" ]; then
  try "$PYTHON" "$@"
  echo "PYTHON=$PYTHON is not Python 3.13. Set it to the path of a Python 3.13, or leave it out." >&2
  exit 1
fi

for python in "$(dirname "$0")/../.venv/bin/python" python3.13 python3 python; do
  try "$python" "$@"
done
if command -v pyenv > /dev/null; then
  for python in "$(pyenv root)"/versions/3.13*/bin/python; do
    try "$python" "$@"
  done
fi
if command -v uv > /dev/null; then
  # uv downloads it, where it has none: about 30 MB into its own folder.
  python=$(uv python find 3.13 2> /dev/null) || { uv python install 3.13 && python=$(uv python find 3.13); }
  [ -n "$python" ] && try "$python" "$@"
fi

cat >&2 << 'END'
Python 3.13 was not found: not as python3.13, python3 or python, not in pyenv, not through uv.
Install it (apt-get install python3.13-venv, brew install python@3.13, pyenv install 3.13 or uv python install 3.13),
or name it: make PYTHON=/path/to/python3.13 run
END
exit 1
