# The practical's commands. They need Python 3.11 or newer, make and a plain sh; all of them call
# .venv/bin/python, so nothing has to be activated. `make help` lists them.

PYTHON ?= python3
DATASET ?= $(or $(PRACTICAL_DATASET),shapes)
PY := .venv/bin/python
STAMP := .venv/.installed
BENCH := .venv-bench/bin/python

# Recipes use relative paths (a folder's name may hold spaces), which are right only from here.
ifneq ($(patsubst ./%,%,$(lastword $(MAKEFILE_LIST))),$(notdir $(lastword $(MAKEFILE_LIST))))
$(error Run make in the practical's own folder, or as `make -C FOLDER`)
endif

.DEFAULT_GOAL := help
.PHONY: help env run notebooks lab test lint format cleanup distclean lock FORCE
# BEGIN INSTRUCTOR
.PHONY: solutions grade release bench
# END INSTRUCTOR

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

env: $(STAMP) ## set up .venv with everything at its pinned version (EXTRA=cuda13 for the GPU)
	@echo 'Ready: .venv holds what the practical needs.'

run: $(STAMP) ## execute the notebooks into build/ (DATASET=imagenette|folder:PATH, MODEL=FILE)
	@$(PY) notebooks/build.py run --out build

notebooks: $(STAMP) ## regenerate the top-level notebooks from notebooks/*.py
	@$(PY) notebooks/build.py sync

# BEGIN INSTRUCTOR
solutions: $(STAMP) ## write the notebooks with their solutions into build/
	@$(PY) notebooks/build.py solutions --out build

release: $(STAMP) ## write what students get into build/practical and build/practical.zip
	@$(PY) -m practical.grading release --out build/practical

grade: $(STAMP) ## grade a folder of submissions (SUBMISSIONS=folder) into build/grades
	@$(PY) -m practical.grading grade '$(or $(SUBMISSIONS),$(error Name the folder: make grade \
	    SUBMISSIONS=folder))' --out build/grades

# An environment of its own: PyTorch is large, and its CUDA packages differ from those pinned here.
bench: ## time explanations against PyTorch's and Captum's (ARGS='--rounds 3' and more)
	@wanted=$$(pwd -P; echo 'for $(EXTRA)'; cksum pyproject.toml constraints.txt \
	    benchmarks/requirements.txt); \
	if [ "$$(cat .venv-bench/.installed 2>/dev/null)" != "$$wanted" ]; then \
	    echo 'Installing PyTorch and others into .venv-bench; it takes minutes ...' >&2; \
	    (folder=.venv-bench python='$(PYTHON)'; eval "$$NEW_VENV") && \
	    $(BENCH) -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	        -e '.$(EXTRA:%=[%])' && \
	    $(BENCH) -m pip install --quiet --disable-pip-version-check \
	        -r benchmarks/requirements.txt && \
	    echo "$$wanted" > .venv-bench/.installed && rm .venv-bench/.installing || exit 1; \
	fi
	@$(BENCH) benchmarks/speed.py $(ARGS)

# END INSTRUCTOR
lab: $(STAMP) ## open JupyterLab
	@$(PY) -m jupyter lab

test: $(STAMP) ## run the tests (ARGS='-k cleanup' picks some)
	@$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(STAMP) ## check style, types, and that the notebooks are in sync and without outputs
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY)
	$(PY) -m nbstripout --keep-id --verify *.ipynb
	$(PY) notebooks/build.py sync --check

format: $(STAMP) ## format the sources, and regenerate the notebooks
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(PY) notebooks/build.py sync

cleanup: ## remove downloads, caches, and what make wrote into build/; your own files stay
	@eval "$$CLEANUP"

distclean: cleanup ## the same, and .venv
	@rm -rf .venv .venv-bench

lock: $(STAMP) ## write constraints.txt anew from the newest releases that fit together
	@$(PY) -c 'import sys; sys.exit(sys.version_info[:2] > (3, 11) and "make lock needs a \
	.venv of Python 3.11: a newer one picks releases that 3.11 cannot install. \
	Try: make distclean lock PYTHON=python3.11")'
	@mkdir -p build
	@# appnope is the one package that macOS alone needs. Extras are resolved, not downloaded.
	$(PY) -m pip install --quiet --dry-run --ignore-installed --report build/lock.json \
	    -e '.[dev,cuda12,cuda13]' appnope
	@sed -n '/^#/p' constraints.txt > build/constraints.txt
	@$(PY) -c "$$PINS" < build/lock.json >> build/constraints.txt
	@mv build/constraints.txt constraints.txt && rm build/lock.json

# The notebooks and the package read these; make passes on the rest of the environment as it is.
run: export PRACTICAL_DATASET := $(DATASET)
ifneq ($(MODEL),)
run: export PRACTICAL_MODEL := $(MODEL)
endif

# --- the set-up --------------------------------------------------------------------------------

ifneq ($(filter-out cuda12 cuda13,$(EXTRA)),)
$(error EXTRA must be cuda12 or cuda13, got '$(EXTRA)')
endif

# Installed for this folder and these requirements; by content, so that switching branches there and
# back asks for no network. A copied checkout or a vanished Python makes it stale as well.
WANTED := $(shell pwd -P; cksum pyproject.toml constraints.txt)
INSTALLED := $(shell cat $(STAMP) 2>/dev/null && $(PY) -c '' && echo works)
ifneq ($(INSTALLED),$(WANTED) works)
$(STAMP): FORCE
endif
ifneq ($(EXTRA),)
ifeq ($(wildcard .venv/.extra-$(EXTRA)),)
$(STAMP): FORCE
endif
endif

# While pip works, the stamp is called .installing. Interrupted, it stays that, and the next time
# starts over: pip would take half a package for whole (what it fetched is in its cache). When pip
# itself gives up (no network, say), what was installed before goes on being what it was.
$(STAMP):
	@$(PYTHON) -c '' 2>/dev/null || { echo "No Python called '$(PYTHON)' runs here." \
	    "Install Python 3.11 or newer, or name one: make env PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "The practical needs Python 3.11 or newer, and $(PYTHON) is" \
	        "$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')." >&2; \
	    for p in python3.13 python3.12 python3.11; do if $$p -c '' 2>/dev/null; then \
	        echo "Another is installed here: make env PYTHON=$$p" >&2; exit 1; fi; done; \
	    echo "Install a newer one and name it: make env PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "$(PYTHON) comes without its venv module." \
	        "On Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@if [ -w Makefile ]; then exec 9<>Makefile; fi; $(PYTHON) -c "$$LOCK" || { \
	    echo 'Another make is installing into .venv: wait for it.' >&2; exit 1; }; \
	if [ -e .venv/.installing ] || ! $(PY) -m pip --version >/dev/null 2>&1; then \
	    echo 'Making .venv ...'; (folder=.venv python='$(PYTHON)'; eval "$$NEW_VENV") || exit 1; fi; \
	trap 'exit 130' INT TERM; \
	if [ -e $(STAMP) ]; then mv $(STAMP) .venv/.installing; else : > .venv/.installing; fi; \
	extras=dev; for x in cuda12 cuda13; do \
	    if [ -e .venv/.extra-$$x ] || [ $$x = '$(EXTRA)' ]; then extras=$$extras,$$x; fi; done; \
	echo "Installing the practical with $$extras into .venv; the first time takes minutes ..."; \
	if ! $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$$extras]"; \
	then \
	    if [ -s .venv/.installing ]; then mv .venv/.installing $(STAMP); fi; \
	    echo 'Nothing was installed: pip says above why. Try again: make env' >&2; exit 1; \
	fi; \
	if [ -n '$(EXTRA)' ]; then : > '.venv/.extra-$(EXTRA)'; fi; \
	{ pwd -P; cksum pyproject.toml constraints.txt; } > .venv/.installing; \
	mv .venv/.installing $(STAMP)

# Lock the open file 9, the Makefile, until the recipe and its children end, in whatever way. Where
# files cannot be locked, the installation goes on without a lock.
define lock_script
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(1)
except OSError:
    pass
endef
export LOCK := $(value lock_script)

# Make a new environment in $folder. Only what make has put there before is removed: the folder may
# be a link to a disk with other things on it.
define new_venv_script
if [ -L "$folder" ] && ! [ -e "$folder" ]; then mkdir -p -- "$(readlink "$folder")"; fi
if [ -e "$folder" ] && [ -n "$(ls -A "$folder/")" ] &&
    ! [ -e "$folder/.installed" ] && ! [ -e "$folder/.installing" ]; then
    echo "$folder holds files that make did not put there. Rename it, or let it be a link to an" \
        "empty folder." >&2
    exit 1
fi
mkdir -p "$folder" && : > "$folder/.installing" || exit 1
if [ -L "$folder" ]; then folder=$(cd -P -- "$folder" && pwd -P); fi  # venv refuses a link
find "$folder" -mindepth 1 -maxdepth 1 ! -name .installing -exec rm -rf -- {} + &&
    $python -m venv "$folder" || exit 1
endef
export NEW_VENV := $(value new_venv_script)

# --- the clean-up ------------------------------------------------------------------------------

# Plain sh, so that it works before there is a .venv. A link is removed, never what it points at.
define cleanup_script
set -eu
# In build/, make writes under these names; what else is there is somebody's own. What a person gave
# points in (`make grade`: answers.csv) is nowhere else.
if [ -L build ]; then rm -f -- build; fi
if [ -d build ]; then
    set -- grades practical practical.zip constraints.txt lock.json
    for notebook in ExplanationMethods ModelBias; do
        set -- "$@" "$notebook.ipynb" "$notebook.html" "$notebook.solutions.ipynb"
    done
    for name in "$@"; do
        if ! [ -e "build/$name" ] && ! [ -L "build/$name" ]; then continue; fi
        find "build/$name" ! -type d ! \( -type f -iname '*answers*' \) -exec rm -f -- {} +
        find "build/$name" -depth -type d -exec rmdir -- {} + 2>/dev/null || :
        if [ -d "build/$name" ]; then
            find "build/$name" -type f -exec \
                echo 'Left as it is, with points that somebody gave:' {} ';'
        fi
    done
    rmdir build 2>/dev/null || :
fi
for folder in .pytest_cache .ruff_cache .hypothesis; do
    if [ -L "$folder" ] || [ -d "$folder" ]; then rm -rf -- "$folder"; fi
done
find . \( -path ./.venv -o -path ./.venv-bench -o -path ./.git \) -prune -o \
    -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf -- {} +

# Downloads lie in folders that carry our tag (practical/_files.py), beside which may be anything.
empty() {
    for kind in hub imagenette suspects grading compiled; do
        if grep -q '^# practical' "$1/$kind/CACHEDIR.TAG" 2>/dev/null; then
            rm -rf -- "$1/$kind"
        fi
    done
    rmdir -- "$1" 2>/dev/null || :
}
if [ -L downloads ]; then rm -f -- downloads; fi
empty downloads
for place in build downloads; do
    if [ -d "$place" ] && [ -n "$(find "$place" -mindepth 1 -maxdepth 1 ! -name grades)" ]; then
        echo "Left as it is, with files that make did not write: $place"
    fi
done

# PRACTICAL_HOME is emptied only when it is inside this folder.
home=${PRACTICAL_HOME:-}
case $home in "~"/*) home=$HOME/${home#"~/"} ;; esac
if [ -z "$home" ] || ! [ -d "$home" ]; then exit 0; fi
here=$(pwd -P)
where=$(CDPATH= cd -P -- "$home" && pwd -P)
case $where/ in
    "$here"/*) empty "$where" ;;
    *) echo "Left as it is: PRACTICAL_HOME, $home, is not inside this folder." ;;
esac
endef
export CLEANUP := $(value cleanup_script)

define pins_script
import json, re, sys
found = [package["metadata"] for package in json.load(sys.stdin)["install"]]
pins = {re.sub("[-_.]+", "-", one["name"]).lower(): one["version"] for one in found}
pins.pop("dd2412-practical")
print(*(f"{name}=={pins[name]}" for name in sorted(pins)), sep="\n")
endef
export PINS := $(value pins_script)
