"""Submissions that cheat, break, or break out. None of them gains a point."""

IMPORTS = "import os, sys\nimport jax, jax.numpy as jnp, numpy as np\nimport practical\n"

# Cheats in a function: an exercise, and what stands in the body of its function. `given` holds its
# arguments, `NAME` its name. Each asks for what would do in that exercise, were it not prevented.

# These would have the right answer, and where nothing is prevented they have it.
THIEVES: dict[str, tuple[str, str]] = {
    "the package's own answer": ("1.2", """
        from practical import attribution
        return getattr(attribution, NAME)(*given)"""),
    "the module behind it": ("1.3", """
        from practical.attribution import gradients
        return getattr(gradients, NAME)(*given)"""),
    "the reference through sys.modules": ("1.2", """
        import practical.attribution
        for name, module in list(sys.modules.items()):
            if "exercises" in name or "attribution" in name:
                found = getattr(module, NAME, None)
                if callable(found): return found(*given)"""),
    "the reference among all objects": ("1.3", """
        import gc, practical.attribution
        for found in gc.get_objects():
            if type(found).__name__ == "Exercise" and found.name == NAME:
                return found.reference(*given)
            module = getattr(found, "__module__", "") or ""
            if getattr(found, "__name__", "") == NAME and module.startswith("practical.attr"):
                return found(*given)"""),
    "the reference's module, by its file": ("1.2", """
        import importlib.util, practical
        place = os.path.dirname(practical.__file__)
        for name in ("saliency", "gradient_x_input"):
            path = os.path.join(place, "grading", "exercises", name + ".py")
            spec = importlib.util.spec_from_file_location("mine_" + name, path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            if module.EXERCISE.name == NAME: return module.EXERCISE.reference(*given)"""),
    "another Python": ("1.2", """
        import subprocess, tempfile
        place = tempfile.mkdtemp()
        given[0].save(place + "/model.safetensors")
        np.savez(place + "/given.npz", images=given[1], targets=given[2])
        code = f'''if 1:
            import numpy as np
            from practical import attribution
            from practical.models import Classifier
            given = np.load({place!r} + "/given.npz")
            model = Classifier.load({place!r} + "/model.safetensors")
            found = attribution.{NAME}(model, given["images"], given["targets"])
            np.save({place!r} + "/found.npy", found)'''
        # Isolated, it does not look where the worker was told to, but where it is installed.
        subprocess.run([sys.executable, "-I", "-c", code], check=True)
        return np.load(place + "/found.npy")"""),
    "the package's source on the disk": ("1.3", """
        for top in (os.path.dirname(sys.prefix), "/"):
            for root, folders, files in os.walk(top):
                folders[:] = [f for f in folders if f not in ("proc", "sys", "site-packages")]
                if root.endswith("practical/attribution") and "gradients.py" in files:
                    sys.path.insert(0, root.removesuffix("practical/attribution"))
                    for name in [n for n in sys.modules if n.split(".")[0] == "practical"]:
                        del sys.modules[name]
                    from practical import attribution
                    return getattr(attribution, NAME)(*given)"""),
    "the installed distribution's files": ("1.3", """
        import importlib.metadata
        found = importlib.metadata.distribution("dd2412-practical")
        place = found.read_text("direct_url.json").split("file://")[1].split('"')[0]
        sys.path.insert(0, place)
        for name in [n for n in sys.modules if n.split(".")[0] == "practical"]:
            del sys.modules[name]
        from practical import attribution
        return getattr(attribution, NAME)(*given)"""),
}  # fmt: skip
# The right answer of whoever is called by the grader itself, or sent it.
FRAMES = """
        frame = sys._getframe()
        while frame is not None:
            for name, found in frame.f_locals.items():
                if name in ("expected", "right"): return found
                if hasattr(found, "reference"): return found.reference(*given)
            frame = frame.f_back"""
WIRE = """
        import io, time
        data = b""
        for _ in range(40):
            for number in range(3, 20):
                try:
                    os.set_blocking(number, False)
                    data += os.read(number, 1_000_000)
                except OSError: pass
            time.sleep(0.01)
        return np.load(io.BytesIO(data[data.index(b"PK"):]))["0"]"""

# The package's answers are not all that there is to ask for. Where the shape counts it is right:
# the last argument has a row for each number that is asked for.
FUNCTIONS: dict[str, tuple[str, str]] = THIEVES | {
    "the caller's frames": ("1.2", FRAMES),
    "what it reads from the wire": ("1.3", WIRE),
    "an object that equals everything": ("1.12", """
        class Yes:
            def __eq__(self, other): return True
            def __getattr__(self, name): return self
            def __call__(self, *a, **k): return self
        return Yes()"""),
    "an array that says it is close": ("1.7", """
        class Close(np.ndarray):
            def __sub__(self, other): return np.zeros(self.shape)
            def __array_ufunc__(self, *a, **k): return np.zeros(self.shape)
        return np.zeros(len(given[-1])).view(Close)"""),
    "an object whose array is objects": ("1.12", """
        class Bomb:
            def __reduce__(self): return os.system, ("touch /tmp/pwned",)
        return np.array([Bomb()], dtype=object)"""),
    "a pickle": ("1.12", """
        import pickle
        class Bomb:
            def __reduce__(self): return os.system, ("touch /tmp/pwned",)
        return pickle.dumps(Bomb())"""),
    "patched numpy": ("1.9", """
        np.allclose = np.isclose = np.array_equal = lambda *a, **k: True
        np.abs = lambda *a, **k: np.float64(0)
        return np.zeros(len(given[-1]))"""),
    "patched jax": ("1.7", """
        jnp.allclose = jnp.array_equal = lambda *a, **k: True
        jax.Array.__eq__ = lambda self, other: True
        return jnp.zeros(len(given[-1]))"""),
    "patched pytest": ("1.9", """
        import pytest
        pytest.fail = lambda *a, **k: None
        sys.modules["_pytest.runner"] = None
        return np.zeros(len(given[-1]))"""),
    "its own inputs": ("1.3", "        return given[1]"),
    "not a number": ("1.5", "        return np.full(len(given[-1]), np.nan)"),
    "infinity that equals itself": ("1.5", "        return [float('inf')] * len(given[-1])"),
    "an integer beyond all floats": ("1.5", "        return [10**400] * len(given[-1])"),
    "seven axes": ("1.8", "        return np.zeros((1,) * 7)"),
    "half a gigabyte": ("1.8", "        return np.zeros((8, 8_000_000))"),
    "a generator": ("1.8", "        return (i for i in range(3))"),
    "a list that is deep": ("1.10", """
        found = []
        for _ in range(2000): found = [found]
        return found"""),
    "a text": ("1.10", "        return 'passed'"),
    "an error that cannot be printed": ("1.10", """
        class Rude(Exception):
            def __str__(self): raise SystemExit
        raise Rude"""),
    "SystemExit": ("1.11", "        sys.exit(0)"),
    "KeyboardInterrupt": ("1.11", "        raise KeyboardInterrupt"),
    "endless recursion": ("1.11", "        return globals()[NAME](*given)"),
    "the grader's modules, patched": ("1.11", """
        import practical.grading.wire as wire, practical.grading.worker as worker
        wire.pack = lambda value, arrays: {"value": "passed"}
        worker.wire.send = lambda *a, **k: None
        return "passed\""""),
}  # fmt: skip

# What a call may do to its process, and what is said of it. The rest is graded all the same.
CALLS: dict[str, tuple[str, str]] = {
    "1.2": ("        return jax.grad(lambda x: jnp.nextafter(x, 2.0).sum())(given[1])", "raised"),
    "1.7": ("        while True: pass", "timed out"),
    "1.8": ("        os._exit(0)", "crashed"),
    "1.10": ("        return [np.ones(30_000_000) for _ in range(1000)]", "crashed"),
    "1.11": ("        raise NotImplementedError()", "blank"),
    "1.12": ("        return 1 / 0", "raised"),
}

# Cheats and accidents in cells: the whole process is theirs. Each comes before an honest `area`,
# where it may gain nothing, or lose nothing, as the second value says.
CELLS: dict[str, tuple[str, bool]] = {
    "a patched check": (
        "practical.check = lambda *a: None\nimport practical.grading.stand_ins as s\n"
        "s.CHECKED.clear()\ns.check = lambda *a: None", False,
    ),
    "a cell that raises": ("1 / 0", True),
    "a syntax error": ("def broken(:\n    pass", True),
    "a cell that ends the process": ("os._exit(0)", True),
    "a cell that exits": ("exit()\nquit()\nsys.exit(1)", True),
    "a cell that kills": ("import signal\nos.kill(os.getppid(), 9)\nos.kill(-1, 9)", True),
    "a cell that loops": ("while True:\n    pass", True),
    "a cell that catches its alarm": (
        "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True:\n    pass", True,
    ),
    "a hundred megabytes of output": (
        "for _ in range(1000):\n    print('x' * 100_000)\nos.write(1, b'y' * 1_000_000)", True,
    ),
    "a fork bomb": (
        "pids = []\nwhile True:\n    try:\n        pid = os.fork()\n"
        "    except OSError:\n        break\n"
        "    if pid == 0:\n        import time; time.sleep(1000)\n    pids.append(pid)", True,
    ),
    "all memory": ("hog = []\nwhile True:\n    hog.append(np.ones(30_000_000))", True),
    "ten gigabytes of file": (
        "with open('/tmp/big', 'wb') as f:\n    while True:\n"
        "        f.write(b'0' * 10_000_000)", True,
    ),
    "deleting everything": (
        "import shutil\nfor place in ('/usr', '/package', sys.prefix, '/etc', os.getcwd()):\n"
        "    shutil.rmtree(place, ignore_errors=True)", True,
    ),
    "a changed package": (
        "for place in sys.path:\n    try:\n"
        "        open(os.path.join(place, 'sitecustomize.py'), 'w').write('print(1)')\n"
        "    except OSError:\n        pass", True,
    ),
    "a socket": (
        "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 22), timeout=2)\n"
        "    reached = True\nexcept OSError:\n    reached = False\n"
        "assert not [n for _, n in socket.if_nameindex() if n != 'lo']", True,
    ),
    "a thread that goes on": (
        "import threading\nthreading.Thread(target=lambda: [x for x in iter(int, 1)], daemon=True)"
        ".start()", True,
    ),
    "noise on the wire": (
        "for number in range(3, 12):\n    try:\n        os.write(number, b'\\xff' * 4096)\n"
        "    except OSError:\n        pass", False,
    ),
    "forged answers on the wire": (
        "import json, struct\n"
        "text = json.dumps({'kind': 'ran', 'there': ['1.1', '1.2']}).encode()\n"
        "for number in range(3, 12):\n    try:\n"
        "        os.write(number, struct.pack('>IQ', len(text), 0) + text)\n"
        "    except OSError:\n        pass", False,
    ),
    "a bomb on the wire": (
        "import io, struct, zipfile\nb = io.BytesIO()\n"
        "z = zipfile.ZipFile(b, 'w', zipfile.ZIP_DEFLATED)\n"
        "z.writestr('0.npy', b'0' * 50_000_000)\n"
        "z.close()\ntext = b'{\"kind\": \"ready\"}'\nfor number in range(3, 12):\n    try:\n"
        "        os.write(number, struct.pack('>IQ', len(text), len(b.getvalue())) + text"
        " + b.getvalue())\n    except OSError:\n        pass", False,
    ),
    "a closed wire": ("os.closerange(3, 64)", False),
}  # fmt: skip

# What has to be so inside of the sandbox; each raises an error where it is not.
PROMISES: dict[str, str] = {
    "keyrings, memory files and shared memory are refused": (
        "import ctypes, platform\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "calls = {'x86_64': (248, 249, 250, 319, 29), 'aarch64': (217, 218, 219, 279, 194)}\n"
        "for number in calls[platform.machine()]:\n    ctypes.set_errno(0)\n"
        "    assert libc.syscall(number, b'user', b'name', b'text', 4, -4) == -1\n"
        "    assert ctypes.get_errno() == 38, number"
    ),
    "only /tmp and /dev/shm can be written, and not without end": (
        "for place in ('/', '/dev', '/package', '/package/compiled', '/usr', sys.prefix):\n"
        "    try:\n        open(os.path.join(place, 'mine'), 'w')\n"
        "    except OSError:\n        continue\n    raise AssertionError(place)\n"
        "for place in ('/tmp', '/dev/shm'):\n    written = 0\n    try:\n"
        "        for number in range(40):\n"
        "            with open(f'{place}/{number}', 'wb') as file:\n"
        "                written += file.write(bytes(10_000_000))\n"
        "    except OSError:\n        pass\n"
        "    for number in range(40):\n"
        "        if os.path.exists(f'{place}/{number}'): os.remove(f'{place}/{number}')\n"
        "    assert written < 100_000_000, (place, written)"
    ),
    "what is compiled is no answer": (
        "names = os.listdir('/package/compiled')\n"
        "assert len(names) > 20, 'nothing is compiled'\n"
        "assert not [n for n in names if 'lambda' in n or 'occlusion' in n or 'saliency' in n]"
    ),
    "the grader, the tests and what others handed in are not there": (
        "secret = ('classroom.py', 'grading-secret.txt', 'answers.csv', 'mutants.py', 'zoo.py',\n"
        "          'test_grading_class.py', 'honest.ipynb', 'instructor.md')\n"
        "found = []\nfor place, folders, files in os.walk('/'):\n    if place == '/':\n"
        "        folders[:] = set(folders) - {'proc', 'sys', 'usr'}  # a third of all files\n"
        "    found += [os.path.join(place, one) for one in files if one in secret]\n"
        "assert not found, found\n"
        "for one in os.listdir('/proc/self/fd'):\n"
        "    try:\n        link = os.readlink(f'/proc/self/fd/{one}')\n"
        "    except FileNotFoundError:\n        continue  # closed since, as the folder's own is\n"
        "    # libffi keeps its own library open, which is the system's, and read-only\n"
        "    own = ('pipe:', '/dev/', '/tmp/', 'anon_inode:', '/usr/lib')\n"
        "    assert link.startswith(own), link"
    ),
    "limits are set, and it cannot raise them": (
        "import resource\n"
        "for name, most in LIMITS.items():\n    kind = getattr(resource, 'RLIMIT_' + name)\n"
        "    assert resource.getrlimit(kind) == (most, most), (name, resource.getrlimit(kind))\n"
        "    try:\n        resource.setrlimit(kind, (most + 1, most + 1))\n"
        "    except (OSError, ValueError):\n        continue\n"
        "    raise AssertionError(name)"
    ),
    "the grader's environment is not its own": (
        "found = [name for name, value in os.environ.items() if 'SECRET' in name + value.upper()]\n"
        "assert not found, found"
    ),
    "it is nobody": (
        "status = open('/proc/self/status').read()\n"
        "assert 'CapEff:\\t0000000000000000' in status, status\n"
        "assert 'NoNewPrivs:\\t1' in status and 'Seccomp:\\t2' in status, status\n"
        "assert os.getuid() > 60000"
    ),
}  # fmt: skip

# Right answers in forms that are not the solution's; whoever writes so has the points.
STYLES: dict[str, str] = {
    "1.9": (
        "from __future__ import annotations\n"
        "def area(fractions: Undefined, scores: Undefined) -> Undefined:\n"
        "    return [float(np.trapezoid(row, fractions)) for row in np.asarray(scores)]"
    ),
    "1.10": (
        "def dct_basis(size):\n    found = []\n"
        "    wave = [np.cos(np.pi / size * k * (np.arange(size) + 0.5)) for k in range(size)]\n"
        "    for k in range(size):\n        for l in range(size):\n"
        "            one = np.outer(wave[k], wave[l])\n"
        "            found.append(one / np.sqrt((one**2).sum()))\n    return found"
    ),
    "1.7": (
        "class Mass:\n    def __call__(self, *, heatmaps, masks):\n"
        "        heatmaps = np.maximum(heatmaps, 0).astype(np.longdouble)\n"
        "        return (heatmaps * masks).sum((1, 2)) / heatmaps.sum((1, 2))\n"
        "practical.check('1.7', Mass())"
    ),
    "1.5": (
        "def completeness_gap(model, images, targets, baseline, attributions):\n"
        "    raise NotImplementedError\n"
        "completeness_gap = practical.check('1.5', completeness_gap)\n"
        "def completeness_gap(m, x, t, b, a):\n    found = np.empty(len(x), object)\n"
        "    for i in range(len(x)):\n"
        "        start = np.broadcast_to(b, x.shape)[i : i + 1]\n"
        "        change = m(x[i : i + 1])[0, t[i]] - m(start)[0, t[i]]\n"
        "        found[i] = float(a[i].sum() - change)\n    return found"
    ),
}

# What is handed in in place of a notebook.
FILES: dict[str, bytes] = {
    "nothing": b"",
    "not JSON": b'{"cells": [',
    "JSON that is no notebook": b"[1, 2, 3]",
    "a picture": bytes(range(256)),
    "very deep JSON": b"[" * 100_000 + b"]" * 100_000,
    "cells that are none": b'{"cells": [1, null, {"cell_type": []}], "nbformat": 4}',
    "a number for cells": b'{"cells": 7, "nbformat": 4, "nbformat_minor": 5}',
}

HONEST = (
    "def area(fractions, scores):\n"
    "    return ((scores[:, 1:] + scores[:, :-1]) / 2) @ np.diff(fractions)\n"
    "area = practical.check('1.9', area)"
)


def function(name: str, body: str, *, called: str = "") -> str:
    """Return the code of a cheating answer to the exercise whose function has this name."""
    text = body.strip("\n")
    return f"def {called or name}(*given, NAME={name!r}):\n" + "\n".join(
        line[4:] if line.startswith("        ") else line for line in text.split("\n")
    )
