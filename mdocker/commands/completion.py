"""`completion`: what makes a shell ask us at each TAB (`mdocker/completing.py` answers)."""

from __future__ import annotations

import sys
from typing import Annotated

from mdocker.client import Engine
from mdocker.errors import FAILED, UsageError
from mdocker.options import injected

_BASH = """\
# TAB for mdocker in bash. Now: source <(mdocker completion bash)
# From now on: mdocker completion bash >/etc/bash_completion.d/mdocker
_mdocker() {
    local program=${COMP_WORDS[0]} mode line
    type -P -- "$program" >/dev/null || program=mdocker
    COMPREPLY=()
    {
        IFS= read -r mode
        while IFS= read -r line; do COMPREPLY+=("$line"); done
    } < <("$program" __complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)
    case $mode in
        files) compopt -o default ;;
        open) compopt -o nospace ;;
    esac
}
complete -F _mdocker mdocker
"""

_ZSH = """\
#compdef mdocker
# TAB for mdocker in zsh. Now, behind compinit: source <(mdocker completion zsh)
# From now on: mdocker completion zsh >"${fpath[1]}/_mdocker"
_mdocker() {
    local program=${(Q)words[1]} mode
    local -a typed offered
    whence -p -- "$program" >/dev/null || program=mdocker
    typed=("${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}")
    offered=("${(@f)$("$program" __complete zsh "$typed[@]" 2>/dev/null)}")
    mode=$offered[1]
    shift offered
    case $mode in
        files) compset -P '*='; _files ;;
        open) _describe mdocker offered -S '' ;;
        words) _describe mdocker offered ;;
    esac
}
if [ "$funcstack[1]" = _mdocker ]; then _mdocker "$@"; else compdef _mdocker mdocker; fi
"""

_FISH = """\
# TAB for mdocker in fish. Now: mdocker completion fish | source
# From now on: mdocker completion fish >~/.config/fish/completions/mdocker.fish
function __mdocker_complete
    set -l words (commandline -opc)
    set -l offered ($words[1] __complete fish $words[2..-1] (commandline -ct) 2>/dev/null)
    if test "$offered[1]" = files
        __fish_complete_path (string replace -r -- '^--[^=]*=' '' (commandline -ct))
    else
        printf '%s\\n' $offered[2..-1]
    end
end
complete -c mdocker -f -a '(__mdocker_complete)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(shell: str, /, *, engine: Annotated[Engine, injected()]) -> int:
    """Print what teaches bash, zsh or fish to complete mdocker's lines at TAB.

    Commands, options, their values, and the names of containers and images that there are.

    bash: source <(mdocker completion bash), or into /etc/bash_completion.d/mdocker.

    zsh: mdocker completion zsh >"${fpath[1]}/_mdocker", then a new shell.

    fish: mdocker completion fish >~/.config/fish/completions/mdocker.fish
    """
    script = _SCRIPTS.get(shell)
    if script is None:
        known = ", ".join(_SCRIPTS)
        raise UsageError(f'unable to complete in "{shell}": the shells are {known}', FAILED)
    sys.stdout.write(script)
    return 0
