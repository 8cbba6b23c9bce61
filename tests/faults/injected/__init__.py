"""Faults on purpose, from outside: a server is killed, or fails, at its Nth system call.

    python -m tests.faults.injected kills|power|errors [--scenario NAME] [--fsync MODE] [--most N]

- `kills`: for N = 1, 2, 3, ... until a run survives, the server dies before its Nth call that
  changes something on the disk, is started again, and the client goes on.
- `power`: one run of each scenario is recorded (strace); at each of its calls the power is cut:
  the disk is what had been synced, or more, and the next server has another boot id.
- `errors`: each call in turn fails with ENOSPC, EDQUOT, EIO or EMFILE, once or from then on.

strace counts `when=N` for each thread and each kind of call by itself, so that most of the calls of
a server with threads are never the Nth. Kills and errors are injected by seccomp's notifications
instead (`watch.py`): exact over all threads, without root, and of all calls only those stop that
are watched.
"""
