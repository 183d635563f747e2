import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gnomon.core.sandbox import Limits, SandboxPool

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork")

HERE = Path(__file__).parent
SOURCE = str(HERE.parents[2] / "src")
spec = importlib.util.spec_from_file_location("attacks", HERE / "attacks.py")
attacks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(attacks)

FAST = {name: case for name, case in attacks.ATTACKS.items() if case[1] != {"timeout"}}
SLOW = {name: case for name, case in attacks.ATTACKS.items() if case[1] == {"timeout"}}

CENSUS = """
import os
for pid in range(2, 4000):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        continue
    except PermissionError:
        pass
    assert pid == os.getpid(), f"{pid} is still there"
"""


@pytest.fixture(scope="module")
def pool():
    with SandboxPool(1, limits=Limits(timeout_s=0.8, memory_mb=128, max_processes=8)) as pool:
        pool.map(["pass"])
        yield pool


@pytest.mark.parametrize("name", FAST)
def test_ends_as_it_should(pool, name):
    code, right = FAST[name]
    outcome = pool.map([code])[0]
    assert outcome.status in right, outcome
    assert outcome.error or outcome.passed


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_is_stopped_in_time(pool, name):
    began = time.monotonic()
    outcome = pool.map([SLOW[name][0]])[0]
    assert outcome.status == "timeout", outcome
    assert 0.8 <= outcome.seconds <= time.monotonic() - began < 3


@pytest.mark.slow
def test_cpu_time_is_limited_for_whoever_ignores_the_warning():
    code = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    with SandboxPool(1, limits=Limits(timeout_s=30, cpu_s=1)) as pool:
        outcome = pool.map([code])[0]
    assert outcome.status == "timeout" and outcome.seconds < 8, outcome


def test_fork_bomb_goes_off_inside(pool):
    if not pool.walls().user:
        pytest.skip("this user's processes cannot be limited")
    began = time.monotonic()
    outcome = pool.map([attacks.FORK_BOMB])[0]
    assert outcome.status in ("failed", "timeout") and time.monotonic() - began < 5
    assert pool.map(["pass"])[0].passed


def test_nothing_outlives_its_program(pool):
    """The daemon would hold the pipe open: the pool answers at once, so it is gone."""
    if not pool.walls().user:
        pytest.skip("forking is refused here")
    began = time.monotonic()
    outcome = pool.map([attacks.LEAVES_DAEMON])[0]
    assert outcome.passed and time.monotonic() - began < 0.7
    if pool.walls().processes:
        assert pool.map([CENSUS])[0].passed


def test_sees_nothing_of_ours(pool, monkeypatch):
    monkeypatch.setenv("SECRET_API_KEY", "hunter2")
    code = (
        "import os, sys\nours = [name for name in sys.modules if 'gnomon' in name]\n"
        "print(dict(os.environ), os.listdir('.'), sys.argv, ours)"
    )
    assert pool.map([code])[0].stdout == "{} ['program.py'] ['program.py'] []\n"
    if pool.walls().files:
        assert pool.map(["import os; assert os.listdir('/proc') == []"])[0].passed


def test_cannot_write_abroad(pool, tmp_path):
    victim = tmp_path / "precious"
    victim.mkdir()
    (victim / "file").write_text("x")
    tmp_path.chmod(0o777), victim.chmod(0o777)
    for attack, path in ((attacks.WRITES_ABROAD, victim / "new"), (attacks.DELETES_ABROAD, victim)):
        assert pool.map([attack.format(path=str(path))])[0].status == "failed"
    assert [path.name for path in victim.iterdir()] == ["file"]


def test_leaves_no_file_behind(pool):
    litter = (
        "import os\nos.makedirs('a/b'); open('a/b/c', 'w')\nfor path in ('a/b', 'a', '.'): os.chmod(path, 0)"
    )
    assert pool.map([litter])[0].passed
    assert pool.map(["import os; assert os.listdir('.') == ['program.py']"])[0].passed
    assert pool.map(["import os; print(len(os.listdir('..')))"])[0].stdout.strip() in ("1", "")


@pytest.mark.slow
def test_many_small_files_fill_its_own_folder_only(pool):
    if not pool.walls().files:
        pytest.skip("the working folder is on disk here")
    code = "import itertools\nfor i in itertools.count():\n    open(str(i), 'w').write('x')"
    outcome = pool.map([code])[0]
    assert (
        outcome.status in ("failed", "timeout") and pool.map(["open('x', 'w').write('x' * 10**6)"])[0].passed
    )


@pytest.mark.skipif(not Path("/proc/self/ns/net").exists(), reason="needs /proc")
def test_the_kernel_itself_keeps_it_from_the_network(pool):
    """Beside the audit hook: the helper lives in a network of its own, where only loopback exists."""
    if not pool.walls().network:
        pytest.skip("network namespaces are not permitted here")
    helper = Path(f"/proc/{pool._helpers[0]._process.pid}")
    assert (helper / "ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    interfaces = (helper / "net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] in (["lo"], [])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare to take walls away")
@pytest.mark.parametrize("who", ["root without namespaces", "ordinary user"])
def test_with_fewer_walls(tmp_path, who):
    """Every attack again where namespaces are forbidden, and for a user who needs a user namespace."""
    victim = tmp_path / "precious"
    victim.mkdir()
    (victim / "file").write_text("x")
    command = [sys.executable, str(HERE / "attacks.py"), str(victim)]
    if who == "ordinary user":
        command = ["unshare", "--user", "--map-user=1000", "--map-group=1000", *command]
    else:
        command = _without_namespaces(command)
    env = {"PYTHONPATH": SOURCE, "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr or "ermission denied" in done.stderr:
        pytest.skip("user namespaces are not permitted here")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["wrong"] == {}
    assert [path.name for path in victim.iterdir()] == ["file"]
    if who != "ordinary user":
        assert not any(result["walls"].values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["all walls", "no namespaces"])
def test_dies_with_its_owner(tmp_path, kind):
    """kill -9 of the owner ends a running program too, and the folder goes with it."""
    if kind != "all walls" and not shutil.which("unshare"):
        pytest.skip("needs unshare to take walls away")
    code = (
        "from gnomon.core.sandbox import SandboxPool, Limits\n"
        "pool = SandboxPool(1, limits=Limits(timeout_s=60, cpu_s=60))\npool.map(['pass'])\n"
        "print(pool._helpers[0]._process.pid, flush=True)\npool.map(['while True: pass'])"
    )
    plain = [sys.executable, "-c", code]
    command = plain if kind == "all walls" else _without_namespaces(plain)
    env = {"PYTHONPATH": SOURCE, "PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    owner = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    helper = int(owner.stdout.readline() or 0)
    if not helper:
        owner.wait()
        owner.stdout.close()
        pytest.skip("user namespaces are not permitted here")
    time.sleep(0.3)
    assert list(tmp_path.iterdir())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and (_alive(helper) or list(tmp_path.iterdir())):
        time.sleep(0.05)
    assert not _alive(helper) and not list(tmp_path.iterdir())


def _without_namespaces(command):
    """The command line that runs `command` where no namespace can be made."""
    kinds = ("user", "net", "mnt", "pid", "ipc")
    forbid = "".join(f"echo 0 > /proc/sys/user/max_{kind}_namespaces && " for kind in kinds)
    return ["unshare", "--user", "--map-root-user", "sh", "-c", f'{forbid} exec "$0" "$@"', *command]


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_threads_of_ours_do_not_disturb(pool):
    stop = threading.Event()
    busy = threading.Thread(target=stop.wait)
    busy.start()
    assert pool.map(["pass"])[0].passed
    stop.set()
    busy.join()
