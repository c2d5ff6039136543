# Sourced by the test scripts: where the repository is, and a Python environment to find tools in.
# shellcheck shell=bash

# The repository, wherever the script is called from.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The folder for tools that tests install: ignored by git, gone with `cargo clean`.
tools=$root/target/tools

# Prints the folder of programs of a Python environment that has what tests/requirements.txt names. It is
# made on first use, and anew when that file or the Python changes; callers at the same time wait for one.
venv() {
    local dir=$tools/venv wanted
    mkdir -p "$tools"
    (
        flock 9
        wanted=$(python3 --version && sha256sum <"$root/tests/requirements.txt") || exit
        [[ -f $dir/installed && $(<"$dir/installed") == "$wanted" ]] && exit
        echo "installing tests/requirements.txt" >&2
        python3 -m venv --clear "$dir" >&2 &&
            "$dir/bin/pip" install --quiet --disable-pip-version-check \
                --requirement "$root/tests/requirements.txt" >&2 &&
            echo "$wanted" >"$dir/installed"
    ) 9>"$tools/venv.lock" || return
    echo "$dir/bin"
}
