"""Fresh processes that find the heavy imports done: forks of a server that has imported torch and transformers and run nothing.

    done = run([sys.executable, "-m", "gnomon", "sieve", "mini"], cwd=tmp_path)
    job = start([sys.executable, "-c", code, "word"], env=env)

take a command line of this Python as `subprocess` does, with `-c`, `-m` or the path of a script. Nothing of the process that asks
is in the new one but its import path. `-m torch.distributed.run` is torchrun's own agent, with forks for processes. What is about
the start of Python itself, or about which modules are loaded, belongs to `subprocess`.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

HEAVY = (
    "torch",
    "accelerate",
    "peft",
    "sklearn.linear_model",
    "torch.distributed.run",
    "transformers.models.llama.modeling_llama",
    "transformers.pipelines",
)
TORCHRUN = "torch.distributed.run"

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(list(HEAVY))


class Job:
    """A running process, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, process, output):
        self._process, self._output = process, output
        self.pid = process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired(str(self.pid), timeout)
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        with suppress(ProcessLookupError):
            self.send_signal(signal.SIGKILL)

    def written(self):
        """Its stdout and stderr so far."""
        return tuple((self._output / name).read_text("utf-8") for name in ("stdout", "stderr"))

    def communicate(self, timeout=None):
        self.wait(timeout)
        return self.written()


def start(command, *, cwd=None, env=None):
    """Start a command line of this Python, `[sys.executable, ...]`."""
    assert command[0] == sys.executable
    output = Path(tempfile.mkdtemp(prefix="process-"))
    for name in ("stdout", "stderr"):
        (output / name).touch()
    words = [str(word) for word in command[1:]]
    process = _forks.Process(
        target=_begin, args=(words, str(cwd or Path.cwd()), dict(env or os.environ), str(output))
    )
    process.start()
    return Job(process, output)


def run(command, *, cwd=None, env=None, timeout=300):
    """Start it and wait; returns exit status, stdout and stderr as `subprocess.run` does."""
    job = start(command, cwd=cwd, env=env)
    try:
        out, err = job.communicate(timeout)
    except TimeoutExpired:
        job.kill()
        raise
    return CompletedProcess(command, job.returncode, out, err)


def _begin(words, cwd, env, output):
    """The new process's side."""
    for number, name in (1, "stdout"), (2, "stderr"):
        file = os.open(f"{output}/{name}", os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [folder for folder in env.get("PYTHONPATH", "").split(os.pathsep) if folder]
    try:
        _become(words)
    finally:
        atexit._run_exitfuncs()  # a process of multiprocessing leaves without them
        sys.stdout.flush()
        sys.stderr.flush()


def _become(words):
    """Be `python *words`."""
    first, *rest = words
    if first == "-c":
        code, *rest = rest
        sys.argv = ["-c", *rest]
        sys.path.insert(0, "")
        module = type(sys)("__main__")
        sys.modules["__main__"] = module
        exec(compile(code, "<string>", "exec"), module.__dict__)
    elif first == "-m" and rest[0] == TORCHRUN:
        _launch(rest[1:])
    elif first == "-m":
        module, *rest = rest
        sys.argv = [module, *rest]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        sys.path.insert(0, str(Path(first).parent))
        runpy.run_path(first, run_name="__main__")


def _launch(words):
    """Be torchrun: its agent and its rendezvous, with forks for processes."""
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    args = parse_args(words)
    config, _, _ = config_from_args(args)
    config.start_method = "fork"
    script = [*(["-m"] if args.module else []), args.training_script, *args.training_script_args]
    elastic_launch(config=config, entrypoint=_become)(script)
