"""Running programs that nobody has read: each in a process of its own, behind several walls.

What holds what:

- *Kernel namespaces* (Linux, where they are permitted) hold the network, the file system and the process
  tree: no interface but a dead loopback; everything read-only but a small folder in memory; `/proc` hidden;
  and whatever the program starts dies with it, daemons included.
- *Another user and no privileges*: started by root, a program runs as a user that owns nothing.
- *Resource limits* of the kernel hold CPU time, memory, file size, open files and the number of processes.
- *The clock* of the helper outside ends what is still there after `timeout_s`.
- *An audit hook* inside the interpreter refuses sockets, new programs and foreign functions, and what a
  missing wall would have held: writing abroad, forking. It stops Python code that does not fight it; a
  program that corrupts its own memory walks past. Where namespaces are forbidden (many containers, macOS)
  it is the only wall before the network: `sandbox_walls()` says which walls stand here.

A program has *passed* if it ran to its last line: the interpreter then sends a secret that it was given for
this one run, so that `sys.exit(0)`, `os._exit(0)` and a forked twin do not count. A program that searches
the interpreter's own frames can find that secret. Nothing that runs untrusted code and its tests in one
interpreter can prevent this, so treat the result as a measurement and not as a proof where programs have a
motive.
"""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Limits": "outcome",
        "Outcome": "outcome",
        "SandboxPool": "pool",
        "Walls": "outcome",
        "run_program": "pool",
        "sandbox_walls": "pool",
    },
)
