# The two commands a newcomer needs: `make demo` and `make test`. Each makes its own environment.
PYTHON ?= python3
DEMO := .venv-demo
DEV := .venv
TRITON := .venv-triton
DOCS := .venv-docs
IMAGES ?=
GPU_EXTRAS ?= gpu
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' safevlm_sdk/version.py)
# The time of the last commit stands in the archives, and not that of the build.
BUILD = SOURCE_DATE_EPOCH=$(shell git log -1 --format=%ct 2>/dev/null || echo 1580601600) $(CURDIR)/$(DEV)/bin/python -m build --no-isolation
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check

.PHONY: dist sbom demo test check docs test-browser test-nginx test-deploy test-gpu bench-gpu wheel-test starter format clean
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

test-nginx: $(DEV)/.installed ## the proxy behind a real nginx: apt-get install nginx-light
	$(DEV)/bin/python -m pytest tests/deploy -m deploy --ignore tests/deploy/test_triton.py

test-deploy: $(DEV)/.installed $(TRITON)/.installed ## behind a real nginx, and in a real Triton: apt-get install nginx-light
	$(DEV)/bin/python -m pytest tests/deploy -m deploy

test-gpu: $(DEV)/.installed ## the tests that need an NVIDIA GPU
	rm $(DEV)/.installed
	$(DEV)/bin/python -m pip uninstall --quiet --yes onnxruntime
	$(DEV)/bin/python $(PIP_INSTALL) -c constraints.txt -e ".[gpu]"
	$(DEV)/bin/python -m pytest -m gpu

bench-gpu: $(DEV)/.installed ## a gate on an NVIDIA GPU, into benchmarks/results/; with TensorRT: make bench-gpu GPU_EXTRAS=gpu,trt
	rm $(DEV)/.installed
	$(DEV)/bin/python -m pip uninstall --quiet --yes onnxruntime
	$(DEV)/bin/python $(PIP_INSTALL) -c constraints.txt -e ".[$(GPU_EXTRAS)]"
	$(DEV)/bin/python benchmarks/gpu.py --out benchmarks/results

check: $(DEV)/.installed ## style, types, architecture
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/ruff check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports
	$(DEV)/bin/pyright --pythonpath $(DEV)/bin/python

docs: $(DOCS)/.installed ## the documentation site, into build/site; a warning is an error
	$(DOCS)/bin/python docs/tools/stage.py build/docs
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict
	$(DOCS)/bin/python docs/tools/self_contained.py build/site

dist: $(DEV)/.installed ## sdist and wheel; built again from the sdist, elsewhere and by another umask, they are the same bytes
	rm -rf dist build/again
	$(BUILD) --outdir dist .
	mkdir -p build/again
	tar -xzf dist/*.tar.gz -C build/again --strip-components 1
	umask 077 && cd build/again && TZ=Pacific/Kiritimati $(BUILD) --outdir out .
	cd dist && sha256sum *.tar.gz *.whl > SHA256SUMS
	cd build/again/out && sha256sum --check $(CURDIR)/dist/SHA256SUMS

wheel-test: dist ## sdist -> wheel -> clean environment -> the starter judges
	rm -rf .venv-wheel
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python $(PIP_INSTALL) -c constraints.txt "$$(ls dist/*.whl)[cpu]"
	cd dist && ../.venv-wheel/bin/python -I ../tests/installed/starter_from_wheel.py

sbom: dist ## what the wheel with the extra `cpu` brings along, as CycloneDX, beside it
	rm -rf build/sbom && mkdir -p build/sbom
	$(PYTHON) -m venv --without-pip build/sbom/wheel
	$(DEV)/bin/python -m pip --python build/sbom/wheel/bin/python install --quiet -c constraints.txt "$$(ls dist/*.whl)[cpu]"
	$(PYTHON) -m venv build/sbom/tool
	build/sbom/tool/bin/python $(PIP_INSTALL) -c constraints.txt cyclonedx-bom
	sed 's/^dynamic = .*/version = "$(VERSION)"/' pyproject.toml > build/sbom/pyproject.toml
	build/sbom/tool/bin/cyclonedx-py environment --pyproject build/sbom/pyproject.toml --mc-type library \
		--output-reproducible --validate --of JSON -o dist/safevlm_sdk-$(VERSION).cdx.json build/sbom/wheel/bin/python

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
	rm -rf $(DEMO) $(DEV) $(DOCS) $(TRITON) .venv-wheel dist demo

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

$(DOCS)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python $(PIP_INSTALL) --upgrade "pip>=25.1"
	$(DOCS)/bin/python $(PIP_INSTALL) -c constraints.txt --group docs
	@touch $@

$(TRITON)/.installed: tests/deploy/triton-requirements.txt
	$(PYTHON) -m venv $(TRITON)
	$(TRITON)/bin/python $(PIP_INSTALL) -r tests/deploy/triton-requirements.txt
	@touch $@
