"""Starts one program so that it cannot outlive its supervisor. Run by path, with the standard library only.

`python launch.py PARENT_PID SIGNAL USER SEARCH COMMAND…` becomes COMMAND (same pid), first giving up root for USER
("-": stays as it is), and asking the kernel to send SIGNAL when the parent's thread ends, however it ends.
SEARCH is "search" where USER must pass through directories that are closed to it, such as a checkout below a private
home: the program then keeps the one capability to do so, rather than have the directories opened for everyone.
The order matters: the kernel forgets the death signal when the user changes.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import struct
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2  # without it, access(2) ignores the kept capability
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522
_ORPHANED = 75


def main(arguments: list[str]) -> None:
    """Prepare this process and become the command."""
    parent, signal_number, user, search, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if user != "-":
        _become(user, libc, keep_search=search == "search")
    if libc is not None:
        _checked(libc.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0))
    if os.getppid() != int(parent):
        sys.exit(_ORPHANED)  # the supervisor ended before the death signal was in place
    os.execvp(command[0], command)  # noqa: S606  # becoming the command is the purpose


def _become(user: str, libc: ctypes.CDLL | None, *, keep_search: bool) -> None:
    entry = pwd.getpwnam(user)
    if keep_search and libc is not None:
        _checked(libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    os.setgroups([entry.pw_gid])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ["HOME"] = "/"
    if keep_search and libc is not None:
        kept = 1 << _CAP_DAC_READ_SEARCH
        header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
        _checked(libc.capset(header, struct.pack("6I", kept, kept, kept, 0, 0, 0)))
        _checked(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_READ_SEARCH, 0, 0))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(sys.argv[1:])
