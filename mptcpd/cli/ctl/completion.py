"""completion: scripts that let bash and zsh complete command lines, made from the parser's table.

Knows shells; must not know any command but by its entry. What the scripts offer depends on the
words before: objects, then commands, then the words of the command, or the values of the last word.
"""

from __future__ import annotations

from mptcpd.cli.ctl import options, table, values
from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.event_text import NAMES
from mptcpd.cli.ctl.grammar import Command, Object, Word

# What to offer as a value of each kind, in both shells' language; nothing for other kinds.
_VALUES = {
    "interface": "$(command ls /sys/class/net 2>/dev/null)",
    "netns": "$(command ls /run/netns 2>/dev/null)",
    "pm": "kernel userspace",
    "shell": "bash zsh",
    "events": " ".join(NAMES.values()),
    "file": "FILES",
    "state": " ".join(values.STATES),
    "sort": " ".join(values.SORTS),
}
_SHARED = """\
    _mptcpctl_object='' _mptcpctl_command='' _mptcpctl_words='' _mptcpctl_skip=''
    for _mptcpctl_word in "$@"; do
        if [ -n "$_mptcpctl_skip" ]; then
            _mptcpctl_skip=''
        elif [ -z "$_mptcpctl_object" ]; then
            case $_mptcpctl_word in
                @VALUED@) _mptcpctl_skip=1 ;;
                -*) ;;
                *) _mptcpctl_first "$_mptcpctl_word" help @OBJECTS@
                    _mptcpctl_object=$_mptcpctl_found ;;
            esac
        elif [ -z "$_mptcpctl_command" ]; then
            case $_mptcpctl_object in
@COMMANDS@
                *) _mptcpctl_command=- ;;
            esac
        fi
    done
    if [ -n "$_mptcpctl_skip" ]; then
        _mptcpctl_words="@NETNS@"
        return
    fi
    if [ -z "$_mptcpctl_object" ]; then
        _mptcpctl_words="@OPTIONS@ @OBJECTS@ help"
        return
    fi
    case $_mptcpctl_object/$_mptcpctl_command/$_mptcpctl_before in
        help//*) _mptcpctl_words="@OBJECTS@" ;;
@WORDS@
    esac
"""
_BASH = """\
# bash completion for mptcpctl: eval "$(mptcpctl completion bash)"
_mptcpctl_first() {
    local word=$1
    shift
    for _mptcpctl_found in "$@"; do
        case $_mptcpctl_found in "$word"*) return ;; esac
    done
    _mptcpctl_found=unknown
}
_mptcpctl_offer() {
@SHARED@}
_mptcpctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} _mptcpctl_before=${COMP_WORDS[COMP_CWORD - 1]}
    local _mptcpctl_object _mptcpctl_command _mptcpctl_words _mptcpctl_skip _mptcpctl_word
    local _mptcpctl_found _mptcpctl_list IFS=$' \\t\\n'
    _mptcpctl_offer "${COMP_WORDS[@]:1:COMP_CWORD-1}"
    if [ "$_mptcpctl_words" = FILES ]; then
        COMPREPLY=($(compgen -f -- "$cur"))
    else
        # Not compgen -W, which would run what an interface may be called: $(reboot)
        COMPREPLY=()
        read -r -d '' -a _mptcpctl_list <<<"$_mptcpctl_words"
        for _mptcpctl_word in "${_mptcpctl_list[@]}"; do
            case $_mptcpctl_word in "$cur"*) COMPREPLY+=("$_mptcpctl_word") ;; esac
        done
    fi
}
complete -F _mptcpctl mptcpctl
"""
_ZSH = """\
#compdef mptcpctl
# zsh completion for mptcpctl: eval "$(mptcpctl completion zsh)" behind compinit, or this text as
# _mptcpctl in a folder of fpath
_mptcpctl_first() {
    local word=$1
    shift
    for _mptcpctl_found in "$@"; do
        case $_mptcpctl_found in "$word"*) return ;; esac
    done
    _mptcpctl_found=unknown
}
_mptcpctl_offer() {
@SHARED@}
_mptcpctl() {
    local _mptcpctl_object _mptcpctl_command _mptcpctl_words _mptcpctl_skip _mptcpctl_word
    local _mptcpctl_found _mptcpctl_before=${words[CURRENT - 1]}
    _mptcpctl_offer "${(@)words[2,CURRENT - 1]}"
    if [ "$_mptcpctl_words" = FILES ]; then
        _files
    else
        compadd -- ${=_mptcpctl_words}
    fi
}
if [ "$funcstack[1]" = _mptcpctl ]; then
    _mptcpctl "$@"
else
    compdef _mptcpctl mptcpctl
fi
"""
_SHELLS = {"bash": _BASH, "zsh": _ZSH}


def run(call: Call) -> int:
    """Print the script of a shell."""
    call.out.write(script(call.args["shell"]))
    return 0


def script(shell: str) -> str:
    """The script for "bash" or "zsh"."""
    valued = [option for option in options.TABLE if option.value and not option.optional]
    names = sorted({f"-{name}" for option in options.TABLE for name in (option.name, option.short)})
    parts = {
        "SHARED": _SHARED,
        "OBJECTS": " ".join(entry.name for entry in table.OBJECTS),
        "OPTIONS": " ".join(names),
        "VALUED": "|".join(f"-{o.short}|-{o.name}" for o in valued),
        "NETNS": _VALUES["netns"],
        "COMMANDS": "\n".join(_commands()),
        "WORDS": "\n".join(_words()),
    }
    text = _SHELLS[shell]
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


def _commands() -> list[str]:
    """For each object with commands: the one that the word means."""
    lines = []
    for entry in table.OBJECTS:
        if entry.alone is None:
            names = " ".join(command.name for command in entry.commands)
            lines.append(
                f'                {entry.name}) _mptcpctl_first "$_mptcpctl_word" {names}\n'
                + _bare(entry)
                + "                    _mptcpctl_command=$_mptcpctl_found ;;"
            )
    return lines


def _bare(entry: Object) -> str:
    """Whose words may follow at once has its default command then."""
    if not entry.bare:
        return ""
    blank = " " * 20
    return f"{blank}[ $_mptcpctl_found != unknown ] || _mptcpctl_found={entry.default}\n"


def _words() -> list[str]:
    """For each object, command and last word: what may follow. The first line that fits counts."""
    lines = []
    for entry in table.OBJECTS:
        if entry.alone is None:
            names = " ".join(command.name for command in entry.commands)
            at_once = [c for c in entry.commands if entry.bare and c.name == entry.default]
            for command in at_once:
                names = " ".join([names, *(w.name for w in command.words if w.shown and w.name)])
            lines.append(_case(f"{entry.name}//*", names))
        for command in entry.commands:
            # The place of a command that the object is: nothing yet, or "-" behind its first word.
            place = entry.name + (f"/{command.name}/" if command.name else "/*/")
            shown = [word for word in command.words if word.shown]
            for word in _all(shown):
                if word.name and word.value and not word.optional:
                    lines.append(_case(f"{place}{word.name}", _VALUES.get(word.kind, "")))
            lines.append(_case(f"{place}*", _following(command)))
    return lines


def _all(words: list[Word]) -> list[Word]:
    return [part for word in words for part in (word, *word.within)]


def _following(command: Command) -> str:
    offered: list[str] = []
    for word in _all([word for word in command.words if word.shown]):
        text = word.name or _VALUES.get(word.kind, "")
        if text not in offered:
            offered.append(text)
    return "FILES" if "FILES" in offered else " ".join(filter(None, offered))


def _case(pattern: str, offered: str) -> str:
    return f'        {pattern}) _mptcpctl_words="{offered}" ;;'
