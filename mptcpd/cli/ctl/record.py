"""``record``: watch connections for a time, then write one picture of what they did.

Knows when to look and how it ends; must not know what a picture looks like. The kernel's events are
taken where it tells us (CAP_NET_ADMIN); where not, the looks themselves show what has changed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time

from mptcpd.cli.ctl import happenings, kernel, quantity
from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.connection_filter import wanted
from mptcpd.cli.ctl.ending import Ending
from mptcpd.cli.ctl.rates import ConnectionView
from mptcpd.cli.ctl.recording import Recording
from mptcpd.cli.ctl.top_view import whom
from mptcpd.cli.ctl.watcher import Watcher
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError, Overrun, Unavailable
from mptcpd.nl.mptcp_event import Event
from mptcpd.nl.mptcp_reader import EventReader
from mptcpd.nl.sock import EventSocket

_INTERVAL = 0.1
_BATCHES = 64
_UNTOLD = "Events are told to CAP_NET_ADMIN only: those here are what two looks differed in."


def run(call: Call) -> int:
    """Watch and draw. Errors: OSError, at once, if the file cannot be written."""
    args = call.args
    fd = os.open(args["file"], os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        want = wanted(args, call.settings.family)
        with Ending() as ending:
            watcher = Watcher(kernel.dumps(), kernel.interfaces(), kernel.path_managers(), want)
            recorder = Recorder(watcher, args.get("interval", _INTERVAL), want.token)
            try:
                recorder.run(ending, args.get("seconds"), args["file"])
            finally:  # whatever ended it: what was seen until then is worth a picture
                from mptcpd.cli.ctl.picture import Picture

                picture = Picture(recorder.recording, recorder.when, recorder.note).svg()
                _write(fd, picture.encode("utf-8", "replace"))
    finally:
        os.close(fd)
    return 0


def _write(fd: int, data: bytes) -> None:
    """Replace what the file holds."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        os.ftruncate(fd, 0)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Recorder:
    """Looks every ``interval`` seconds and listens between.

    recording, and when it began in words; note: what could not be seen, for people
    """

    def __init__(self, watcher: Watcher, interval: float, token: int | None) -> None:
        """``token``: of the one connection that is wanted. Errors: NetlinkError, OSError."""
        self._watcher = watcher
        self._token = token
        self._interval = interval
        self._dropped = False
        self._events, self._reader = _subscribed()
        watcher.look()
        self.when = time.strftime("%Y-%m-%d %H:%M:%S")
        self.recording = Recording(watcher.tracker.time)
        self._keep()

    @property
    def note(self) -> str:
        if self._reader is None:
            return _UNTOLD
        return "The kernel has dropped events: some may be missing." if self._dropped else ""

    def run(self, ending: Ending, seconds: float | None, file: str) -> None:
        """Until it is ended, the time is over, or the one connection that is wanted has gone.

        Errors: NetlinkError, OSError.
        """
        began = due = time.monotonic()
        end = None if seconds is None else began + seconds
        if self._events is not None:
            ending.watch(self._events.fileno())
        said = _Progress(file)
        while not ending.came and not self._over():
            pace = self._interval * self.recording.coarse
            due = max(due + self._watcher.pause(pace), time.monotonic())
            due = due if end is None else min(due, end)
            while not ending.came and (left := due - time.monotonic()) > 0:
                if ending.wait(left):
                    self._listen()
            self._watcher.look()
            self._listen()  # what came while it looked: the connections are known by now
            self._keep()
            if end is not None and time.monotonic() >= end:
                break
            said.say(self.recording, self._watcher.views())
        said.done()

    def _over(self) -> bool:
        views = self._watcher.views() if self._token is not None else []
        return bool(views) and all(view.gone is not None for view in views)

    def _listen(self) -> None:
        if self._reader is None:
            return
        try:
            for _batch in range(_BATCHES):  # or who opens many connections would never let us look
                if not self._reader.receive(self._event, _malformed):
                    break
        except Overrun:
            self._dropped = True  # the next call reads on

    def _event(self, event: Event) -> None:
        if self._token is not None and event.token != self._token:
            return
        happening = happenings.of_event(event, time.monotonic() - self.recording.start)
        if happening is not None:
            self.recording.happened(happening)

    def _keep(self) -> None:
        watcher, recording = self._watcher, self.recording
        tracker = watcher.tracker
        views = [(view, whom(view)) for view in watcher.views()]
        recording.look(tracker.time, tracker.seconds, views, watcher.interface)
        now = tracker.time - recording.start
        used = {series.name for series in recording.series.values()}
        for name, running in watcher.interfaces.changes:
            if name in used and now > 0:
                recording.happened(happenings.of_interface(name, running, now))
        for change in watcher.changes():
            # Of what we do to priorities the kernel sends no event; of all else it does.
            if self._reader is None or change.kind in ("backup", "no backup"):
                recording.happened(happenings.of_change(change, recording.start))


def _subscribed() -> tuple[EventSocket | None, EventReader | None]:
    """The kernel's events, None where it tells us none."""
    try:
        family = kernel.mptcp().family
        group = family.groups[u.MPTCP_PM_EV_GRP_NAME]
        socket = EventSocket(u.NETLINK_GENERIC, (group,))
    except (PermissionError, Unavailable, KeyError):
        return None, None
    return socket, EventReader(socket, family.id)


def _malformed(_error: DecodeError) -> None:
    """What cannot be read is no mark on the time line; the events around it are."""


class _Progress:
    """A line that is written over, for who waits at a terminal."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._next = 0.0
        self._width = 0
        try:
            self._shown = os.isatty(2)
        except OSError:
            self._shown = False

    def say(self, recording: Recording, views: list[ConnectionView]) -> None:
        if not self._shown or recording.length < self._next:
            return
        self._next = recording.length + 0.5
        living = [view for view in views if view.gone is None]
        up = quantity.rate(sum(view.up or 0 for view in living))
        down = quantity.rate(sum(view.down or 0 for view in living))
        count = sum(1 for view in living for _subflow in view.living)
        text = f"{recording.length:.1f} s  subflows {count}  up {up}  down {down}"
        self._write(f"{text}  (Ctrl-C ends it and writes {self._file})")

    def done(self) -> None:
        if self._width:
            self._write("")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            text = text[: os.get_terminal_size(2).columns - 1]  # or it would not be one line
            os.write(2, f"\r{text.ljust(self._width)}\r".encode("utf-8", "surrogateescape"))
        self._width = len(text)
