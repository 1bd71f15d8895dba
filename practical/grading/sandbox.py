"""A place where a stranger's code can do no harm, and can see no answers.

The worker gets a copy of the package in which every answer is absent (`stage`), and runs under
bubblewrap: no network, no processes but its own, a read-only system, a small private /tmp, and
nothing of the grader's folders, and none of the system calls that leave something with the kernel.
Limits on memory, file size and processes are set inside. Where the grader is root, each worker is a
user of its own.
"""

import os
import platform
import shutil
import struct
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from practical.grading.exercise import ABSENT

LEVELS = ("bwrap", "none")
COMPILED = "compiled"  # in the staged folder: JAX's compilation cache

_PACKAGE = Path(__file__).resolve().parents[1]
# The private modules are tools that answer no exercise, and the others import them.
_PRESENT = (
    *sorted(path.name for path in _PACKAGE.glob("_[!_]*.py")), "__init__.py", "augmentation.py",
    "baselines.py", "data", "models", "grading/asking.py", "grading/stand_ins.py",
    "grading/unused.py", "grading/wire.py", "grading/worker.py",
)  # fmt: skip
_FILTER = "seccomp.bpf"  # in the staged folder
# Keyrings outlive a process and are its user's; the rest is memory that no limit sees, or a large
# and seldom used part of the kernel. By machine: the number of its kind in audit.h, the calls.
_REFUSED = {
    "x86_64": (
        0xC000003E,
        {"add_key": 248, "request_key": 249, "keyctl": 250, "memfd_create": 319, "shmget": 29,
         "memfd_secret": 447, "bpf": 321, "userfaultfd": 323, "perf_event_open": 298,
         "io_uring_setup": 425},
    ),
    "aarch64": (
        0xC00000B7,
        {"add_key": 217, "request_key": 218, "keyctl": 219, "memfd_create": 279, "shmget": 194,
         "memfd_secret": 447, "bpf": 280, "userfaultfd": 282, "perf_event_open": 241,
         "io_uring_setup": 425},
    ),
}  # fmt: skip
_FIRST_USER = 61000  # who a root grader's workers are: this one and the next
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/fonts")


class SandboxError(RuntimeError):
    """There is no sandbox on this machine, or it does not work."""


@dataclass(frozen=True)
class Limits:
    """What a worker may use."""

    address_space: int = 16 << 30  # bytes a process: JAX reserves much more than it uses
    memory: int = 3 << 30  # bytes that all its processes use together
    file: int = 64 << 20  # bytes a file
    disk: int = 256 << 20  # bytes in /tmp
    processes: int = 256
    open_files: int = 512
    cell: float = 60.0  # seconds
    call: float = 60.0  # seconds of an answer's call
    submission: float = 900.0  # seconds, of all that is run and called
    start: float = 120.0  # seconds until the worker answers at all


def stage(folder: Path) -> Path:
    """Write the package without its answers into a folder, and return it."""
    (folder / COMPILED).mkdir()
    (folder / _FILTER).write_bytes(_filter())
    target = folder / "practical"
    for name in _PRESENT:
        source, copy = _PACKAGE / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, copy)
    for name in ABSENT:
        (target / name).mkdir()
        (target / name / "__init__.py").write_text(
            '"""Absent here: answers have to do without it."""\n\n'
            "from practical.grading.stand_ins import absent\n\n"
            f'__getattr__ = absent("practical.{name}")\n'
        )
    (target / "grading" / "__init__.py").write_text(
        '"""In the sandbox, a check only notes what it was given."""\n\n'
        "from practical.grading.stand_ins import check\n\n"
        '__all__ = ["check"]\n'
    )
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def problem(level: str, staged: Path) -> str:
    """Return why workers cannot be started at this level, or nothing."""
    if level not in LEVELS:
        raise ValueError(f"--sandbox must be one of {', '.join(LEVELS)}, got {level!r}")
    if level == "none":
        return ""
    if sys.platform != "linux":
        return f"bubblewrap is for Linux alone, and this is {sys.platform}"
    if platform.machine() not in _REFUSED:
        return (
            f"which system calls to refuse is known for {' and '.join(_REFUSED)}, and this is "
            f"{platform.machine()}"
        )
    missing = [name for name in _programs() if shutil.which(name) is None]
    if missing:
        return (
            f"{' and '.join(missing)} cannot be found. On Debian and Ubuntu: "
            "sudo apt install bubblewrap util-linux"
        )
    here = str(Path(__file__).resolve())
    look = f"import os, practical.grading; print(os.path.exists({here!r}))"
    tried = start(
        [sys.executable, "-c", look], level, staged, Limits(), 0,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    said, errors = (text.decode(errors="replace").strip() for text in tried.communicate())
    if tried.returncode:
        return (
            f"bubblewrap does not work here ({errors[-500:] or tried.returncode}). Containers "
            "often forbid the namespaces that it needs: allow them, or grade outside of one"
        )
    if said != "False":
        return (
            f"the answers in {_PACKAGE} can be read inside, since Python's own folder "
            f"({sys.prefix}) is around them; make a virtual environment beside the package"
        )
    return ""


def describe(level: str) -> str:
    """Return what protects the grader, in a line."""
    if level == "none":
        return "none: a submission's code runs as you, and can do and read what you can"
    user = "an unprivileged user of its own" if os.geteuid() == 0 else "you, in its own namespaces"
    return (
        "bubblewrap: no network, read-only system, private /tmp, own processes; limits on memory, "
        f"disk, processes and time; as {user}"
    )


def start(
    program: list[str],
    level: str,
    staged: Path,
    limits: Limits,
    slot: int,
    *,
    home: str = "/",
    keep_compiled: bool = False,
    pass_fds: tuple[int, ...] = (),
    stdout: int,
    stderr: int,
) -> subprocess.Popen[bytes]:
    """Start a program in the sandbox.

    Args:
        program: What to run.
        level: One of LEVELS.
        staged: What `stage` was given.
        limits: What it may use.
        slot: Which of the workers that run at once this is.
        home: The folder that is its own, at the level "none".
        keep_compiled: Whether it may write into `COMPILED`: never somebody else's code.
        pass_fds: The descriptors that it has.
        stdout: Of `subprocess.Popen`.
        stderr: The same.
    """
    about = environment(level, staged)
    if level == "none":
        about |= {"HOME": home, "TMPDIR": home}
        return subprocess.Popen(
            [*_prlimit(limits, everything=False), *program], env=about, cwd=home,
            pass_fds=pass_fds, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            start_new_session=True,
        )  # fmt: skip
    with open(staged / _FILTER, "rb") as calls:
        return subprocess.Popen(
            [*_sandboxed(staged, limits, slot, calls.fileno(), keep_compiled), *program],
            env=about, cwd="/", pass_fds=(*pass_fds, calls.fileno()), stdin=subprocess.DEVNULL,
            stdout=stdout, stderr=stderr, start_new_session=True,
        )  # fmt: skip


def _sandboxed(
    staged: Path, limits: Limits, slot: int, calls: int, keep_compiled: bool
) -> list[str]:
    """Return the command line before a program."""
    binds = [(staged, Path("/package"))] + [(place, place) for place in _python_folders()]
    # Where the package was installed and not linked, its answers are among the packages.
    installed = [place / "practical" for place in _site_packages()]
    binds += [(staged / "practical", place) for place in installed if place.is_dir()]
    inside = []
    for source, place in binds:
        # bubblewrap would make them for their owner alone.
        for parent in reversed(place.parents[:-1]):
            inside += ["--perms", "0755", "--dir", str(parent)]
        inside += ["--ro-bind", str(source), str(place)]
    if keep_compiled:
        inside += ["--bind", str(staged / COMPILED), f"/package/{COMPILED}"]
    inside += ["--remount-ro", "/", "--seccomp", str(calls), "--chdir", "/tmp"]
    return [*_bwrap(limits), *inside, *_user(slot), *_prlimit(limits)]


def environment(level: str, staged: Path) -> dict[str, str]:
    """Return a worker's environment: nothing of the grader's own."""
    home = "/tmp" if level == "bwrap" else str(staged.parent)
    package = "/package" if level == "bwrap" else str(staged)
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "USER": "student",
        "IPYTHONDIR": f"{home}/ipython",
        "MPLCONFIGDIR": f"{home}/matplotlib",
        "MPLBACKEND": "Agg",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": f"{package}/{COMPILED}",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "LANG": "C.UTF-8",
        "PRACTICAL_DATASET": "shapes",
        "PRACTICAL_HOME": f"{home}/downloads",
        "PYTHONPATH": package,
        "PYTHONNOUSERSITE": "1",
        # A pool of threads for each core of a large machine is memory, and as many processes.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    }


def _bwrap(limits: Limits) -> list[str]:
    # By its whole path: the worker's own PATH is another one.
    arguments = [
        shutil.which("bwrap") or "bwrap",
        "--die-with-parent",
        "--new-session",
        "--hostname",
        "sandbox",
    ]
    arguments += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    arguments += ["--unshare-cgroup-try", "--cap-drop", "ALL"]
    if os.geteuid():
        arguments += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    else:  # what it takes to become somebody else, who then has none of it
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            arguments += ["--cap-add", capability]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    for place in ("/tmp", "/dev/shm"):
        arguments += ["--perms", "1777", "--size", str(limits.disk), "--tmpfs", place]
    arguments += ["--remount-ro", "/dev"]
    for place in _SYSTEM:
        if os.path.islink(place):
            arguments += ["--symlink", os.readlink(place), place]
        elif os.path.exists(place):
            arguments += ["--ro-bind", place, place]
    return arguments


def _user(slot: int) -> list[str]:
    """Return what makes a root grader's worker somebody else, whose processes can be counted.

    It does so inside: somebody else could not enter the folders that only root may enter.
    """
    if os.geteuid():
        return []
    number = str(_FIRST_USER + slot)
    return [
        "setpriv", "--reuid", number, "--regid", number, "--clear-groups", "--no-new-privs",
        "--bounding-set", "-all", "--inh-caps", "-all", "--",
    ]  # fmt: skip


def _prlimit(limits: Limits, *, everything: bool = True) -> list[str]:
    if shutil.which("prlimit") is None:
        return []
    arguments = [
        "prlimit", f"--as={limits.address_space}", f"--fsize={limits.file}", "--core=0",
        f"--nofile={limits.open_files}",
    ]  # fmt: skip
    if everything:  # without namespaces it would count what else the user runs
        arguments.append(f"--nproc={limits.processes}")
    return [*arguments, "--"]


def _filter() -> bytes:
    """Return the program that the kernel runs for each system call (seccomp, classic BPF).

    A refused call fails as one that the kernel does not have, and so does every call of another
    machine's kind (32 bits), by whose numbers the refused ones could be reached.
    """
    kind, calls = _REFUSED.get(platform.machine(), (0, {}))
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | 38  # ENOSYS
    numbers = list(calls.values())
    # (operation, jump if true, jump if false, operand); jumps count the lines between.
    lines = [(load, 0, 0, 4), (equal, 0, len(numbers) + 3, kind), (load, 0, 0, 0)]
    lines.append((at_least, len(numbers) + 1, 0, 0x40000000))  # x86's third kind, x32
    lines += [(equal, len(numbers) - n, 0, number) for n, number in enumerate(numbers)]
    lines += [(answer, 0, 0, allow), (answer, 0, 0, refuse)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _programs() -> list[str]:
    return ["bwrap", "prlimit", *(["setpriv"] if os.geteuid() == 0 else [])]


def _python_folders() -> list[Path]:
    """Return where this Python and its packages are, but for what the system's folders have."""
    found: list[Path] = []
    for place in (sys.prefix, sys.base_prefix, *_site_packages()):
        path = Path(place).resolve()
        inside = [Path(one) for one in (*_SYSTEM, *found)]
        if not any(path.is_relative_to(one) for one in inside):
            found.append(path)
    return found


def _site_packages() -> list[Path]:
    return [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
