# Two commands do everything: `make grow` and `make test`. Both install into .venv first if needed.
PYTHON ?= python3
BIN := .venv/bin

# Tests start hundreds of processes: with this set, each would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install grow test test-slow test-faults test-deprecations soak lint types docs browser wheel clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps trackio
	$(BIN)/python -m structnet.training.warm
	touch $@

grow: install
	$(BIN)/structnet grow --target-accuracy 0.9

# By two processes, of which each has a Ray of its own: half of the time is waiting for processes of Ray.
test: install
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test-slow: install
	HYPOTHESIS_PROFILE=thorough $(BIN)/pytest -m "not soak" --timeout 3600

test-faults: install
	$(BIN)/pytest -m faults -s --durations=0

# What Ray will drop, also where it blames itself for our call. Ray Data, which we do not use, copies its old options.
test-deprecations: install
	$(BIN)/pytest -W error::DeprecationWarning -W ignore::DeprecationWarning:ray.data.context \
		-k "any_number_of_workers or where_nothing_was_started or leaves_its_rows" \
		tests/tournament/test_pool.py tests/search/test_tuning.py tests/search/test_train_command.py

# Of the two lower floors, by their own tests: workers of Ray, which do the rest, are not measured.
coverage: install
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile --cov structnet --cov tournament --cov-report term:skip-covered \
		tests/structnet tests/tournament

soak: install
	$(BIN)/pytest -m soak -s --timeout 7200

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# The site of the pages, in build/docs: a warning is an error, a link that leads nowhere too.
docs: install
	$(BIN)/sphinx-build --nitpicky --fail-on-warning --keep-going --quiet docs build/docs

# Tests of pages look at them in Chromium, and are skipped where there is none. This gets Debian's.
browser:
	command -v chromium || command -v google-chrome || \
		(apt-get update --quiet --quiet && apt-get install --yes --quiet --quiet chromium)

# Builds the wheel, and goes the way of a new user in an environment that has nothing else.
wheel: install
	rm -rf build dist
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv build/empty
	build/empty/bin/pip install --quiet --constraint constraints.txt dist/*.whl
	cd build/empty && bin/structnet demo && bin/structnet report && bin/structnet query --list

clean:
	rm -rf .venv results build dist *.egg-info
