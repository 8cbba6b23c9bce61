"""Faults on purpose between a server and its bucket: at its Nth call to a real S3 store.

    python -m tests.faults.s3 errors|kills|gateway [--scenario NAME] [--kind NAME] [--most N]

- `errors`: for N = 1, 2, 3, ... until a run survives, the Nth call fails, once or from then on
  until the client was refused twice: 500, 503 SlowDown, a connection that is reset before, in or
  after the call, no answer in time, expired credentials, a multipart upload that is gone. What the
  store did is not always what the server is told.
- `kills`: the server dies when its Nth call arrives, or when the store has done it and nobody was
  told; it is started again, and the client goes on.
- `gateway`: the store's gateway is killed with parts on their way, and started again.

The store is Ceph's gateway. Between it and the server stands a proxy (`proxy.py`), and the parts
are small, so that a run takes a fraction of a second (`serve.py`). After each run the client
compares every byte, and after a sweep the bucket must hold finished uploads and nothing else.
"""
