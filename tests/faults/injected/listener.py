"""Becomes a command whose system calls of some kinds wait for a word of another process.

    python -I -S listener.py SOCKET NUMBERS COMMAND...

SOCKET is the number of an open Unix socket, over which the notifications' descriptor is sent;
NUMBERS are those of the calls, with commas. See seccomp_unotify(2).
"""

import ctypes
import os
import socket
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
SECCOMP = {"x86_64": 317, "aarch64": 277}
SET_MODE_FILTER, NEW_LISTENER = 1, 8
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000


def program(numbers: list[int]) -> list[bytes]:
    """Notify of these calls, let all others pass (classic BPF over `struct seccomp_data`)."""
    last = len(numbers)
    lines = [(LOAD, 0, 0)]  # the number of the call is its first field
    lines += [(JUMP_IF_EQUAL, last - index, number) for index, number in enumerate(numbers)]
    lines += [(RETURN, 0, ALLOW), (RETURN, 0, NOTIFY)]
    return [struct.pack("HBBI", code, jump, 0, value) for code, jump, value in lines]


def listen(numbers: list[int]) -> int:
    """Installs the filter for this process and all it becomes: the notifications' descriptor."""
    lines = program(numbers)
    code = ctypes.create_string_buffer(b"".join(lines))
    held = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    number = SECCOMP[os.uname().machine]
    descriptor = int(libc.syscall(number, SET_MODE_FILTER, NEW_LISTENER, ctypes.byref(held)))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "no notifications of system calls are to be had here")
    return descriptor


def main() -> None:
    """Hands the descriptor over, and becomes the command."""
    with socket.socket(fileno=int(sys.argv[1])) as told:
        listening = listen([int(number) for number in sys.argv[2].split(",")])
        socket.send_fds(told, [b"x"], [listening])
    os.close(listening)
    os.execv(sys.argv[3], sys.argv[3:])


if __name__ == "__main__":
    main()
