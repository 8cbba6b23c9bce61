"""The sender behind `tusd-py upload`: files and folders to any tus 1.0 server.

`command.upload` is the click command; everything else is reached through it.

    command   what the user typed, and the exit status
    options   its syntax: sizes, durations, headers, metadata
    files     what is to be sent, and the reading of it
    source    the bytes of one upload: a stretch of a file, or a pipe
    batch     many files at once
    sending   one file: as one upload, or in parts that are put together
    transfer  one upload: create, ask, send, wait, ask again
    uploads   the three requests of which that consists
    server    what the server announces
    link      one connection: a request out, an answer in
    patience  how long to wait, and when to give up
    resume    the URLs of unfinished uploads, on the disk
    report    what the user sees
    threads   several things at once, which Ctrl-C can leave behind
    errors    everything that can go wrong
"""
