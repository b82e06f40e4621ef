# Makes .venv and installs hanok into it; sourced by ./quickstart and ./test from the repository's root.
# Python >= 3.11 is all it needs. A stamp over what was installed makes the next call instant; an install that was
# interrupted is started over. Settings: PYTHON (interpreter), HANOK_TORCH (requirement), HANOK_CPU_INDEX (wheel index).
V=.venv
TORCH=${HANOK_TORCH:-torch==2.13.0}
WANT="$(cat pyproject.toml scripts/setup.sh | cksum) $TORCH $EXTRA"

unset PYTHONDONTWRITEBYTECODE  # what is started many times is compiled once

die() { echo "setup: $*" >&2; exit 1; }

find_python() {
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"; return
    fi
  done
  die "no Python >= 3.11 found; install one, or name it: PYTHON=/path/to/python3.12 $0"
}

pip() { "$V/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

# On Linux without an NVIDIA driver, and where the machine supplies no wheel of its own, look at PyTorch's CPU index
# too: its 2.13.0+cpu sorts above 2.13.0, and nobody downloads gigabytes of CUDA in vain.
cpu_index() {
  [ "$(uname -s)" = Linux ] || return 0
  [ ! -e /proc/driver/nvidia/version ] || return 0
  [ -z "${PIP_FIND_LINKS:-}$(pip config get global.find-links 2>/dev/null || true)" ] || return 0
  echo "--extra-index-url ${HANOK_CPU_INDEX:-https://download.pytorch.org/whl/cpu}"
}

install() {
  echo "setup: installing into $V (once; a few minutes)" >&2
  [ ! -e "$V/.installing" ] || rm -rf "$V"   # interrupted: a half-unpacked package looks installed to pip
  if ! "$V/bin/python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$V"
    python=$(find_python)
    "$python" -m venv "$V" ||
      die "$python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"
  fi
  : > "$V/.installing"
  # torch first and pinned, so that nothing after it moves it to a CUDA build
  # shellcheck disable=SC2046
  pip install -q $(cpu_index) "$TORCH"
  pip install -q -e ".[$EXTRA]"
  printf %s "$WANT" > "$V/.stamp.$EXTRA"
  rm -f "$V/.installing"
}

[ "$(cat "$V/.stamp.$EXTRA" 2>/dev/null || true)" = "$WANT" ] && [ ! -e "$V/.installing" ] || install
