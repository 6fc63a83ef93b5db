# The two commands a newcomer needs: `make demo` and `make test`. Each makes its own environment.
PYTHON ?= python3
DEMO := .venv-demo
DEV := .venv
IMAGES ?=
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check test-browser test-gpu wheel-test starter format clean
.DELETE_ON_ERROR:

demo: $(DEMO)/.installed ## judge generated example images, or your own: make demo IMAGES="a.jpg b.png"
	@mkdir -p demo
ifeq ($(strip $(IMAGES)),)
	@$(DEMO)/bin/python -m safevlm_training.documents demo/images --examples
	@$(DEMO)/bin/safevlm check demo/images/*.jpg --report demo/report.html || test $$? -eq 10
else
	@$(DEMO)/bin/safevlm check $(IMAGES) --report demo/report.html || test $$? -eq 10
endif

test: $(DEV)/.installed ## every test that needs no GPU, in as many processes as there are cores, up to four
	OMP_NUM_THREADS=1 $(DEV)/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile

test-browser: $(DEV)/.installed ## the page, in a real Chromium: apt-get install chromium chromium-driver
	$(DEV)/bin/python -m pytest tests/browser -m browser

test-gpu: $(DEV)/.installed ## the tests that need an NVIDIA GPU
	rm $(DEV)/.installed
	$(DEV)/bin/python -m pip uninstall --quiet --yes onnxruntime
	$(DEV)/bin/python $(PIP_INSTALL) -c constraints.txt -e ".[gpu]"
	$(DEV)/bin/python -m pytest -m gpu

check: $(DEV)/.installed ## style, types, architecture
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/ruff check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports

wheel-test: $(DEV)/.installed ## sdist -> wheel -> clean environment -> the starter judges
	rm -rf dist .venv-wheel
	$(DEV)/bin/python -m build --outdir dist .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python $(PIP_INSTALL) -c constraints.txt "$$(ls dist/*.whl)[cpu]"
	cd dist && ../.venv-wheel/bin/python -I ../tests/installed/starter_from_wheel.py

starter: $(DEV)/.installed data/documents-train/manifest.jsonl data/cards-train/manifest.jsonl data/documents-development/manifest.jsonl ## train and export a starter anew, into build/
	OMP_NUM_THREADS=1 $(DEV)/bin/safevlm train recipes/starter.toml --out build/starter
	$(DEV)/bin/safevlm-export build/starter build/bundle --calibration-data data/clothing

data/documents-train/manifest.jsonl: | $(DEV)/.installed
	$(DEV)/bin/python -m safevlm_training.documents data/documents-train --count 24000 --seed 1 --split train --jobs 2 \
		--fonts data/fonts/train --backgrounds data/clothing/train data/groceries/dataset/train

data/cards-train/manifest.jsonl: | $(DEV)/.installed
	$(DEV)/bin/python -m safevlm_training.documents data/cards-train --count 16000 --seed 2 --split train --jobs 2 \
		--fonts data/fonts/train --backgrounds data/clothing/train data/groceries/dataset/train --only bank_card id_card \
		driving_licence passport badge plain_chip_card specimen_card info_card blank_passport blank_badge loyalty_card \
		business_card ticket slide game_card playing_card team_card book_cover captioned_picture

data/documents-development/manifest.jsonl: | $(DEV)/.installed
	$(DEV)/bin/python -m safevlm_training.documents data/documents-development --count 4000 --seed 1 --split development \
		--jobs 2 --fonts data/fonts/development --backgrounds data/clothing/validation data/groceries/dataset/val

format: $(DEV)/.installed
	$(DEV)/bin/ruff check --fix .
	$(DEV)/bin/ruff format .

clean:
	rm -rf $(DEMO) $(DEV) .venv-wheel dist demo

$(DEMO)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python $(PIP_INSTALL) -c constraints.txt -e ".[cpu]"
	@touch $@

$(DEV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python $(PIP_INSTALL) --upgrade "pip>=25.1"
	$(DEV)/bin/python $(PIP_INSTALL) -c constraints.txt torch
	$(DEV)/bin/python $(PIP_INSTALL) -c constraints.txt -e ".[cpu,train]" --group dev
	@touch $@
