"""How a command line is made of words: the types of the table, and the one parser that reads it.

Knows words, their order and their prefixes; must not know what a command does. Help, completion and
the manual page's synopsis are made from the same table (``table.OBJECTS``).

Precedence is that of iproute2: the first entry of a table that begins with the word typed is meant,
so ``e`` is ``endpoint`` and ``s`` after it ``show``. Entries marked ``exact`` must be spelled out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mptcpd.cli.ctl import values
from mptcpd.cli.ctl.errors import (
    Failure,
    required,
    unknown_command,
    unknown_word,
    wrong,
)

Args = dict[str, Any]  # what was said: Word.key -> its value, or True, or the list of its group


class Word(NamedTuple):
    """A keyword of a command, or (``name`` empty) an argument that stands by itself.

    name      as typed; "--wait=5" gives one that begins with "-" a value
    value     what follows it, as usage shows it ("ID"); "" for a word without
    kind      how that is read: a key of ``values.KINDS``
    key       of the result in Args; "" for the name, or the value's in lower case
    required  whether usage shows it without brackets, and leaving it out is refused
    exact     must be spelled out
    optional  the value may be left out ("--wait[=SECONDS]"): then True
    group     Args[group] lists the words of one group that were said, in their order; whether there
              must be one is for the command to say
    wrong     what is said of a bad value, instead of the kind's own words
    bars      names of the words that may not be said before this one; ``why`` says so
    refused   the word is known, and only to be refused with these words
    shown     whether usage, completion and the manual page tell of it
    within    words that may follow it and belong to it; their keys get ``KEY_`` in front
    many      a free argument that may be repeated: its value is a list; a group of which more than
              one word may be said
    last      a free argument that may be repeated: the last counts. Others are filled in their
              order, and one too many is refused
    """

    name: str
    value: str = ""
    kind: str = ""
    key: str = ""
    required: bool = False
    exact: bool = False
    optional: bool = False
    group: str = ""
    wrong: str = ""
    bars: tuple[str, ...] = ()
    why: str = ""
    refused: str = ""
    shown: bool = True
    within: tuple[Word, ...] = ()
    many: bool = False
    last: bool = False

    @property
    def place(self) -> str:
        """Its key in Args."""
        return self.key or self.name.lstrip("-") or self.value.lower()


class Command(NamedTuple):
    """One thing to do.

    name     as typed; "" where the object is the command (``monitor``)
    run      "module:function" below mptcpd.cli.ctl; the function takes a Call and returns the exit
             status (see ``main``)
    words    what may be said after it, in iproute2's order of precedence
    help     one line
    unknown  what is said of a word that it does not know: "" for ``Error: argument "X" is wrong:
             unknown argument``, COMMAND for ``Command "X" is unknown``, else these words
    loose    what follows is not read at all, as iproute2 does with ``endpoint flush``
    """

    name: str
    run: str
    words: tuple[Word, ...] = ()
    help: str = ""
    unknown: str = ""
    loose: bool = False


COMMAND = "command"


class Object(NamedTuple):
    """What the first word names.

    default  the command that no word at all stands for
    bare     its words may also follow at once: "connection token 1" is "connection show token 1"
    """

    name: str
    help: str
    commands: tuple[Command, ...]
    default: str | None = None
    bare: bool = False

    @property
    def alone(self) -> Command | None:
        """The command of an object that is one."""
        return self.commands[0] if self.commands[0].name == "" else None


def first(word: str, names: Sequence[str]) -> int | None:
    """The index of the first name that begins with ``word``, as iproute2 takes it; "" fits none."""
    for index, name in enumerate(names):
        if word and name.startswith(word):
            return index
    return None


def find(objects: Sequence[Object], argv: Sequence[str]) -> tuple[Object, Command, list[str]]:
    """The command that a line begins with, and the words after it. Errors: Failure."""
    word, *rest = argv
    index = first(word, [entry.name for entry in objects])
    if index is None:
        raise unknown_command(word)
    entry = objects[index]
    if entry.alone is not None:
        return entry, entry.alone, rest
    names = [command.name for command in entry.commands]
    if not rest and entry.default is not None:
        return entry, entry.commands[names.index(entry.default)], rest
    if not rest:
        raise Failure('Command line is not complete. Try option "help"')
    chosen = first(rest[0], names)
    if chosen is None and entry.bare and entry.default is not None:
        return entry, entry.commands[names.index(entry.default)], rest
    if chosen is None:
        raise unknown_command(rest[0])
    return entry, entry.commands[chosen], rest[1:]


def read(command: Command, argv: Sequence[str]) -> Args:
    """What the words after a command say. Errors: Failure, naming the word."""
    args: Args = {}
    if command.loose:
        return args
    rest = list(reversed(argv))
    said: set[str] = set()
    section: Word | None = None
    while rest:
        text = rest.pop()
        found, inner, attached = _match(command, section, text, args)
        if found is None:
            raise _unknown(command, text)
        if found.refused:
            raise wrong(text, found.refused)
        if said.intersection(found.bars):
            raise wrong(text, found.why)
        said.add(found.name)
        prefix = f"{section.place}_" if inner and section else ""
        if found.within and not inner:
            section = found
        _take(args, found, prefix, text, attached, rest)
    for word in command.words:
        if word.required and not word.group and word.place not in args:
            raise required(word.value if not word.name or word.kind == "id" else word.name)
        if word.place in args:
            for part in word.within:
                if part.required and f"{word.place}_{part.place}" not in args:
                    raise required(f"{word.name} {part.name}")
    return args


def _match(
    command: Command, section: Word | None, text: str, args: Args
) -> tuple[Word | None, bool, str | None]:
    """The word that ``text`` is, whether it belongs to the section, and a value attached to it."""
    if text.startswith("-") and len(text) > 1 and any(w.name[:1] == "-" for w in command.words):
        name, equals, attached = text.partition("=")
        dashed = [word for word in command.words if word.name[:1] == "-"]
        exact = [word for word in dashed if word.name == name]
        near = [word for word in dashed if len(name) > 2 and word.name.startswith(name)]
        for word in exact or near:
            if not equals or word.value:
                return word, False, attached if equals else None
        return None, False, None
    for words, inner in ((section.within if section else (), True), (command.words, False)):
        for word in words:
            if word.exact and word.name == text:
                return word, inner, None
        for word in words:
            if not word.exact and word.name and text and word.name.startswith(text):
                return word, inner, None
    for word in command.words:
        if not word.name and (word.many or word.last or word.place not in args):
            return word, False, None
    return None, False, None


def _take(
    args: Args, word: Word, prefix: str, text: str, attached: str | None, rest: list[str]
) -> None:
    """Put what a word says into ``args``, with the value that follows it."""
    place = prefix + word.place
    if word.group:
        args.setdefault(prefix + word.group, []).append(word.name)
        return
    value: object = True
    if not word.name:
        value = values.read(word.kind, text, word.wrong)
    elif attached is not None:
        value = values.read(word.kind, attached, word.wrong)
    elif word.value and not word.optional:
        if not rest:
            raise Failure('Command line is not complete. Try option "help"')
        value = values.read(word.kind, rest.pop(), word.wrong)
    if word.many:
        args.setdefault(place, []).append(value)
    else:
        args[place] = value


def _unknown(command: Command, text: str) -> Failure:
    if command.unknown == COMMAND:
        return unknown_command(text)
    return unknown_word(text, command.unknown or "unknown argument")


def usage(entry: Object) -> Iterator[str]:
    """The synopsis of each command of an object, without the program's name."""
    for command in entry.commands:
        name = f"[{command.name}]" if command.name == entry.default else command.name
        yield " ".join(part for part in (entry.name, name, *spelled(command.words)) if part)


def spelled(words: Sequence[Word]) -> Iterator[str]:
    """The words of a command as usage shows them."""
    groups: set[str] = set()
    for word in words:
        if not word.shown or word.group in groups:
            continue
        if word.group:
            groups.add(word.group)
            names = " | ".join(w.name for w in words if w.group == word.group and w.shown)
            yield (f"({names})" if word.required else f"[{names}]") + "..." * word.many
            continue
        equals = f"{word.name}[={word.value}]" if word.optional else f"{word.name} {word.value}"
        text = " ".join([equals.strip(), *spelled(word.within)])
        text += "..." if word.many else ""
        yield text if word.required else f"[{text}]"
