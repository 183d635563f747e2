"""Programs that misbehave, each with the outcomes that are right for it.

Runs as a script too, in a subprocess that was denied some walls: prints what went wrong as JSON.
"""

import json
import sys

ATTACKS = {
    "early exit": ("import sys; sys.exit(0)\nassert False", {"exited"}),
    "hard exit": ("import os; os._exit(0)", {"exited"}),
    "exit in a thread": (
        "import threading, os; threading.Thread(target=os._exit, args=(0,)).start()\nwhile 1: pass",
        {"exited"},
    ),
    "forked twin": ("import os\nif os.fork(): os._exit(1)", {"exited", "failed"}),
    "endless loop": ("while True: pass", {"timeout"}),
    "endless sleep": ("import time; time.sleep(1000)", {"timeout"}),
    "swallows everything": (
        "while True:\n  try:\n    while True: pass\n  except BaseException: pass",
        {"timeout"},
    ),
    "ignores signals": (
        "import signal\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n"
        "  except (OSError, ValueError): pass\nwhile True: pass",
        {"timeout"},
    ),
    "stops itself": ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", {"timeout"}),
    "kills itself": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", {"crashed"}),
    "kills its parent": (
        "import os, signal; os.kill(os.getppid(), signal.SIGKILL); assert False",
        {"failed"},
    ),
    "kills everybody": ("import os, signal; os.kill(-1, signal.SIGKILL); assert False", {"failed"}),
    "memory at once": ("x = bytearray(10**11)", {"memory"}),
    "memory bit by bit": ("x = []\nwhile True: x.append(b' ' * 10**7)", {"memory"}),
    "deep recursion": ("def f(): return f()\nf()", {"failed"}),
    "unlimited recursion": (
        "import sys; sys.setrecursionlimit(10**9)\nx = []\nfor _ in range(3 * 10**5): x = [x]\nrepr(x)",
        {"crashed", "memory", "failed", "timeout"},
    ),
    "broken pointer": ("import ctypes; ctypes.string_at(0)", {"crashed"}),
    "floods stdout": ("while True: print('x' * 1000)", {"output"}),
    "floods stderr": ("import os\nwhile True: os.write(2, b'x' * 65536)", {"output"}),
    "one big file": ("f = open('big', 'wb')\nwhile True: f.write(b'x' * 10**6)", {"failed"}),
    "opens everything": ("x = []\nwhile True: x.append(open('program.py'))", {"failed"}),
    "connects": ("import socket; socket.create_connection(('127.0.0.1', 9))", {"failed"}),
    "asks for a name": ("import socket; socket.gethostbyname('localhost')", {"failed"}),
    "sends a datagram": ("import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", {"failed"}),
    "listens": ("import socket; socket.socket(socket.AF_UNIX).bind('x')", {"failed"}),
    "fetches": ("import urllib.request; urllib.request.urlopen('http://localhost:9')", {"failed"}),
    "starts a program": ("import subprocess; subprocess.run(['true'])", {"failed"}),
    "starts a shell": ("import os; os.system('true'); assert False", {"failed"}),
    "becomes a program": ("import os; os.execv('/bin/true', ['true'])", {"failed"}),
    "calls C": ("import ctypes; ctypes.CDLL(None).getpid()", {"failed"}),
    "raises its limits": (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))",
        {"failed"},
    ),
    "closes every file": ("import os; os.closerange(0, 256)", {"exited", "crashed", "failed"}),
    "lies in its note": (
        "import os\nfor fd in range(3, 9):\n  try: os.write(fd, b'passed ' + b'0' * 32)\n"
        "  except OSError: pass\nos._exit(0)",
        {"exited"},
    ),
    "raises what cannot be shown": (
        "class E(Exception):\n  def __str__(self): raise SystemExit(0)\nraise E",
        {"failed"},
    ),
    "breaks the streams": ("import sys; sys.stdout = sys.stderr = None; raise ValueError", {"failed"}),
    "does not compile": ("def f(:", {"failed"}),
    "null byte": ("x = 1\0", {"failed"}),
    "lone surrogate": ("x = '\ud800'\nassert len(x) == 1", {"passed", "failed"}),
}

LEAVES_DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            time.sleep(0.01)
    os._exit(0)
"""
FORK_BOMB = "import os\nwhile True: os.fork()"
WRITES_ABROAD = "open({path!r}, 'w').write('x')"
DELETES_ABROAD = "import shutil; shutil.rmtree({path!r})"


def wrong(pool, attacks=ATTACKS):
    """Attack -> outcome, where the outcome is not among the right ones."""
    outcomes = pool.map([code for code, _ in attacks.values()])
    return {
        name: f"{outcome.status}: {outcome.error}"
        for (name, (_, right)), outcome in zip(attacks.items(), outcomes, strict=True)
        if outcome.status not in right
    }


def main():
    from dataclasses import asdict

    from gnomon.core.sandbox import Limits, SandboxPool

    victim = sys.argv[1]
    abroad = {
        "writes abroad": (WRITES_ABROAD.format(path=victim + "/new"), {"failed"}),
        "deletes abroad": (DELETES_ABROAD.format(path=victim), {"failed"}),
        "works at home": (
            "import tempfile\nwith tempfile.TemporaryDirectory(dir='.') as d: open(d + '/x', 'w')",
            {"passed"},
        ),
        "renames at home": (
            "import os\nopen('a', 'w'); os.rename('a', 'b'); os.remove('b'); open('/dev/null', 'w')",
            {"passed"},
        ),
        "links out": (f"import os; os.symlink({victim!r}, 'l'); open('l/new', 'w')", {"failed"}),
    }
    with SandboxPool(2, limits=Limits(timeout_s=1.5, memory_mb=128)) as pool:
        print(json.dumps({"wrong": wrong(pool, ATTACKS | abroad), "walls": asdict(pool.walls())}))


if __name__ == "__main__":
    main()
