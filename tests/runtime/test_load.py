import pytest

import onnxpipe
from onnxpipe.bundle import MANIFEST_NAME
from onnxpipe.errors import BundleError, InvalidInput, ProviderUnavailable, UnsupportedModel
from onnxpipe.load import load_model, make_pipeline, pipeline_class, task_names
from onnxpipe.pipeline import Pipeline
from onnxpipe.tasks.feature_extraction import FeatureExtraction
from onnxpipe.tasks.sentence_similarity import SentenceSimilarity


def test_a_bundle_loads_as_its_own_task_and_first_precision(folder):
    pipeline = onnxpipe.load(folder)
    assert isinstance(pipeline, SentenceSimilarity)
    assert pipeline.model.precision == "fp32"


def test_another_task_and_precision_may_be_picked(folder):
    pipeline = onnxpipe.load(str(folder), task="feature-extraction", precision="int8", providers=["CPU"], threads=2)
    assert isinstance(pipeline, FeatureExtraction)
    assert pipeline.model.precision == "int8"
    assert pipeline.model.sessions["model"].threads == 2


def test_pipelines_of_several_tasks_share_one_model(folder):
    model = load_model(folder, threads=1)
    assert make_pipeline(model).model is make_pipeline(model, "feature-extraction").model


@pytest.mark.parametrize("task", ["text-classification", "feature_extraction", "no-such-task", "../load"])
def test_a_task_the_model_does_not_serve_is_invalid(folder, task):
    with pytest.raises(InvalidInput, match=f"tiny does not serve '{task}'; it serves: sentence-similarity, feature"):
        onnxpipe.load(folder, task=task)


@pytest.mark.parametrize("task", ["future-task", "feature_extraction", "..load", ""])
def test_a_task_this_onnxpipe_does_not_have_is_unsupported(edit, folder, task):
    edit(lambda data: data.update(task=task))
    with pytest.raises(UnsupportedModel, match=f"this onnxpipe has no task '{task}'; it has: .*feature-extraction"):
        onnxpipe.load(folder)


def test_every_task_has_one_class_with_its_types_named():
    assert {"feature-extraction", "sentence-similarity", "text-classification"} <= set(task_names())
    for task in task_names():
        cls = pipeline_class(task)
        assert issubclass(cls, Pipeline)
        assert len(cls.types()) == 3


def test_a_precision_that_is_not_there_is_invalid(folder):
    with pytest.raises(InvalidInput, match="tiny has no precision 'fp8'; it has: fp32, int8"):
        onnxpipe.load(folder, precision="fp8")


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_below_one_are_invalid(folder, threads):
    with pytest.raises(InvalidInput, match=f"threads: expected an integer >= 1, given {threads}"):
        onnxpipe.load(folder, threads=threads)


def test_a_provider_that_is_not_available_is_an_error_not_a_fall_back(folder):
    with pytest.raises(ProviderUnavailable, match="provider 'warp' is not available here"):
        onnxpipe.load(folder, providers=["warp", "cpu"])


@pytest.mark.parametrize("path", ["absent", "", "ORG/NAME"])
def test_a_path_that_is_no_bundle_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="not a bundle"):
        onnxpipe.load(path)


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json"])
def test_an_altered_file_is_refused_by_its_digest(folder, name):
    file = folder / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match="the file was altered or damaged"):
        onnxpipe.load(folder)


def test_an_altered_file_of_another_precision_does_not_matter(folder):
    file = folder / "onnx/model_int8.onnx"
    file.write_bytes(bytes(len(file.read_bytes())))
    onnxpipe.load(folder)
    with pytest.raises(BundleError, match="the file was altered or damaged"):
        onnxpipe.load(folder, precision="int8")


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json"])
def test_a_truncated_file_is_refused(folder, name):
    file = folder / name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BundleError, match=r"has 100 bytes, the manifest says .*; it is not whole"):
        onnxpipe.load(folder)


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json", "onnx"])
def test_a_missing_file_is_refused(folder, name):
    (folder / name).rename(folder / "moved")
    with pytest.raises(BundleError, match="missing, though the manifest lists it"):
        onnxpipe.load(folder)


PATHS = ["/etc/passwd", "../secret", "onnx/../../secret", "..\\secret", "onnx\\model.onnx", "C:/secret", "C:secret"]


@pytest.mark.parametrize("path", PATHS)
def test_a_listed_path_that_leaves_the_folder_is_refused(edit, folder, path):
    edit(lambda data: data["files"].update({path: {"size_bytes": 1, "sha256": "0"}}))
    with pytest.raises(BundleError, match="leaves the bundle's folder"):
        onnxpipe.load(folder)


@pytest.mark.parametrize("path", [*PATHS, "config.json"])
def test_a_graph_or_tokenizer_that_is_not_listed_is_refused(edit, folder, path):
    edit(lambda data: data["variants"]["fp32"]["files"].update(model=path))
    edit(lambda data: data["text"].update(tokenizer=path))
    for precision in ("fp32", "int8"):  # the first stumbles over the graph, the second over the tokenizer
        with pytest.raises(BundleError, match="but does not list it under `files`"):
            onnxpipe.load(folder, precision=precision)


def test_external_data_is_checked_against_its_digest(edit, folder):
    (folder / "onnx/weights.bin").write_bytes(b"weights")
    digest = "0" * 64
    edit(lambda data: data["files"].update({"onnx/weights.bin": {"size_bytes": 7, "sha256": digest}}))
    edit(lambda data: data["variants"]["fp32"].update(external_data=["onnx/weights.bin"]))
    with pytest.raises(BundleError, match=rf"weights\.bin: sha256 is .*, the manifest says {digest}"):
        onnxpipe.load(folder)
    onnxpipe.load(folder, precision="int8")


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    file = folder / "tokenizer.json"
    file.rename(tmp_path / "tokenizer.json")
    file.symlink_to(tmp_path / "tokenizer.json")
    with pytest.raises(BundleError, match="leads out of the bundle's folder"):
        onnxpipe.load(folder)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_format_version_is_refused(edit, folder, version):
    edit(lambda data: data.update(format_version=version))
    with pytest.raises(BundleError, match="upgrade onnxpipe or export the model again"):
        onnxpipe.load(folder)


def test_a_graph_onnxruntime_cannot_read_is_refused(edit, folder):
    (folder / "onnx/model.onnx").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    edit(lambda data: data["files"].update({"onnx/model.onnx": {"size_bytes": 3, "sha256": digest}}))
    with pytest.raises(BundleError, match=r"onnxruntime .* cannot load it"):
        onnxpipe.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["graphs"]["model"]["inputs"].pop(), "has the inputs .*, but the manifest says"),
        (lambda data: data["graphs"]["model"]["outputs"][0].update(name="hidden"), "has the outputs .*says hidden"),
        (lambda data: data["variants"]["fp32"]["files"].update(other="onnx/model.onnx"), "does not describe it"),
        (lambda data: data["graphs"]["model"].update(outputs=[]), "outputs`: expected at least one, given none"),
        (lambda data: data.update(graphs={}), "`graphs`: expected at least one, given none"),
        (lambda data: data["embedding"].update(pooling=[]), "`embedding.pooling`: expected at least one"),
        (
            lambda data: data["text"].update(default_prompt="query"),
            "`text.default_prompt`: expected one of the prompts",
        ),
        (lambda data: data["text"].update(max_tokens=0), "`text.max_tokens`: expected a number >= 1"),
    ],
)
def test_a_manifest_that_does_not_fit_its_files_is_a_bundle_error(edit, folder, change, message):
    edit(change)
    with pytest.raises(BundleError, match=message):
        onnxpipe.load(folder)


def test_a_manifest_nested_without_end_is_a_bundle_error(folder):
    (folder / MANIFEST_NAME).write_text("[" * 100_000)
    with pytest.raises(BundleError, match="not JSON"):
        onnxpipe.load(folder)
