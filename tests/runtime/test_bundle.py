import hashlib
import json

import pytest

from onnxpipe.bundle import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    SUFFIXES,
    check_relative,
    open_bundle,
    parse_manifest,
    sha256,
    write_manifest,
)
from onnxpipe.errors import BundleError, InvalidInput
from onnxpipe.records import FieldError, plain, read
from onnxpipe.sections import Generation, Image, Pad, Resize, Size, Translation

ESCAPES = [
    "",
    ".",
    "/etc/passwd",
    "//host/share",
    "..",
    "../secret",
    "onnx/../../secret",
    "onnx\\model.onnx",
    "..\\secret",
    "C:secret",
    "C:/secret",
    "file:secret",
    "a\0b",
]


def test_an_opened_bundle_knows_its_folder_manifest_and_digest(folder):
    bundle = open_bundle(folder)
    assert bundle.path == folder
    assert bundle.manifest.tasks == ("sentence-similarity", "feature-extraction")
    assert bundle.digest == hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    bundle.verify()


def test_a_bundle_opens_from_a_string_too(folder):
    assert open_bundle(str(folder)).manifest == open_bundle(folder).manifest


def test_a_written_manifest_reads_back_the_same(folder, tmp_path):
    manifest = open_bundle(folder).manifest
    write_manifest(tmp_path, manifest)
    assert parse_manifest((tmp_path / MANIFEST_NAME).read_bytes(), "here") == manifest


def test_a_written_manifest_ends_with_a_newline_and_keeps_other_scripts(folder, tmp_path):
    data = plain(open_bundle(folder).manifest) | {"id": "größe 大"}
    write_manifest(tmp_path, parse_manifest(json.dumps(data).encode(), "here"))
    text = (tmp_path / MANIFEST_NAME).read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert '"größe 大"' in text


def test_each_precision_has_a_suffix_of_its_own():
    assert len(set(SUFFIXES.values())) == len(SUFFIXES)


def test_a_missing_folder_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"not a bundle \(no such folder\)"):
        open_bundle(tmp_path / "absent")


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"not a bundle \(no manifest\.json in it\)"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"nothing"])
def test_a_manifest_that_is_not_json_is_refused(content):
    with pytest.raises(BundleError, match=r"^here: not JSON"):
        parse_manifest(content, "here")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused_with_what_to_do(edit, folder, version):
    edit(lambda data: data.update(format_version=version))
    with pytest.raises(BundleError, match=f"reads version {FORMAT_VERSION}; upgrade onnxpipe or export"):
        open_bundle(folder)


@pytest.mark.parametrize("content", [b"[]", b"1", b"{}"])
def test_json_that_is_no_manifest_is_refused_for_its_version(content):
    with pytest.raises(BundleError, match="bundle format version None"):
        parse_manifest(content, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("source"), "`source`: required, but missing"),
        (lambda data: data.update(extra=1), "`extra`: unknown name"),
        (lambda data: data["embedding"].update(pooling=["middle"]), "`embedding.pooling\\[0\\]`: expected one of"),
        (lambda data: data["files"]["tokenizer.json"].update(size_bytes="1"), "size_bytes`: expected an integer"),
        (lambda data: data["variants"]["fp32"].update(measured={"x": float("nan")}), "measured.x`: expected a number"),
        (lambda data: data.update(format_version=True), "`format_version`: expected an integer"),
        (lambda data: data.update(variants={}), "`variants` is empty"),
        (lambda data: data["variants"]["int8"].update(files={}), "`variants.int8` has no file for graph 'model'"),
    ],
)
def test_a_wrong_manifest_is_refused_saying_where(edit, folder, change, message):
    edit(change)
    with pytest.raises(BundleError, match=message):
        open_bundle(folder)


@pytest.mark.parametrize("name", ESCAPES)
def test_a_path_that_leaves_the_folder_is_refused(name):
    with pytest.raises(BundleError, match="leaves the bundle's folder"):
        check_relative(name, "here")


@pytest.mark.parametrize("name", ["model.onnx", "onnx/model.onnx", "onnx/..model", "a b/c", "./x", "größe.json"])
def test_a_plain_relative_path_is_fine(name):
    check_relative(name, "here")


@pytest.mark.parametrize("name", ESCAPES)
def test_a_listed_path_that_leaves_the_folder_is_refused_before_it_is_looked_at(edit, folder, name):
    edit(lambda data: data["files"].update({name: {"size_bytes": 0, "sha256": ""}}))
    with pytest.raises(BundleError, match="leaves the bundle's folder"):
        open_bundle(folder)


def test_a_link_that_leads_out_of_the_folder_is_refused(folder, tmp_path):
    file = folder / "onnx/model.onnx"
    file.rename(tmp_path / "outside.onnx")
    file.symlink_to(tmp_path / "outside.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx: leads out of the bundle's folder"):
        open_bundle(folder)


def test_a_link_inside_the_folder_is_fine(folder):
    file = folder / "onnx/model.onnx"
    file.rename(folder / "onnx/renamed.onnx")
    file.symlink_to("renamed.onnx")
    open_bundle(folder).verify()


def test_a_bundle_behind_a_link_is_fine(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    open_bundle(tmp_path / "link").verify()


def test_a_missing_file_is_named(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json: missing, though the manifest lists it"):
        open_bundle(folder)


def test_a_truncated_file_is_refused_by_its_size(folder):
    file = folder / "onnx/model.onnx"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(BundleError, match=f"has {len(content) - 1} bytes, the manifest says {len(content)}"):
        open_bundle(folder)


def test_an_altered_file_of_the_same_size_fails_verification_alone(folder):
    file = folder / "onnx/model_int8.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    bundle = open_bundle(folder)
    bundle.verify(["tokenizer.json", "onnx/model.onnx"])
    with pytest.raises(BundleError, match=r"model_int8\.onnx: sha256 is"):
        bundle.verify()


def test_a_file_the_manifest_does_not_list_is_neither_found_nor_verified(folder):
    bundle = open_bundle(folder)
    for ask in (bundle.file, lambda name: bundle.verify([name])):
        with pytest.raises(BundleError, match=r"names 'manifest\.json' but does not list it"):
            ask(MANIFEST_NAME)


def test_the_first_precision_is_the_default(folder):
    bundle = open_bundle(folder)
    assert bundle.variant(None) == ("fp32", bundle.manifest.variants["fp32"])
    assert bundle.variant("int8")[1].files == {"model": "onnx/model_int8.onnx"}


def test_a_precision_that_is_not_there_is_an_error_that_names_the_choices(folder):
    with pytest.raises(InvalidInput, match="tiny has no precision 'q4'; it has: fp32, int8"):
        open_bundle(folder).variant("q4")


def test_an_image_section_reads_back_the_same():
    section = Image(
        resize=Resize(mode="shortest_edge", shortest_edge=800, longest_edge=1333, limit="floor", resample="lanczos"),
        crop=Size(height=3, width=4),
        factor=1 / 255,
        mean=(0.485, 0.456, 0.406),
        channels="bgr",
        pad=Pad(multiple_of=32, centered=True),
    )
    assert read(Image, json.loads(json.dumps(plain(section)))) == section


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"mean": [0.5]}, "`mean`: expected 3 numbers, given 1"),
        ({"std": [1.0, 0.0, 1.0]}, "`std`: expected numbers other than 0"),
        ({"crop": {"height": 0, "width": 3}}, r"`crop\.height`: expected a number >= 1"),
        ({"resize": {"mode": "exact", "resample": "bilinear"}}, r"`resize\.size`: expected at least one"),
        ({"resize": {"mode": "shortest_edge", "resample": "bilinear"}}, r"`resize\.shortest_edge`: expected at least"),
        ({"resize": {"mode": "exact", "size": {"height": 1, "width": 1}, "resample": "best"}}, r"`resize\.resample`"),
    ],
)
def test_an_image_section_that_cannot_be_followed_is_refused(section, problem):
    with pytest.raises(FieldError, match=problem):
        read(Image, section)


def test_sections_of_a_model_that_writes_read_back_the_same():
    generation = Generation(
        defaults={"num_beams": 4, "bad_words_ids": [[7]]},
        task_defaults={"summarization": {"min_length": 5}},
        prefixes={"summarization": "summarize: "},
        decoder_prompt=(0,),
        max_length=512,
    )
    translation = Translation(
        languages={"en_XX": 5, "de_DE": 6}, template=("source", "text", "eos"), target="forced", default_source="en_XX"
    )
    for section in (generation, translation):
        assert read(type(section), json.loads(json.dumps(plain(section)))) == section


def test_a_translation_without_a_text_is_refused():
    with pytest.raises(FieldError, match=r"template.*expected 'text' among its parts"):
        Translation(template=("source", "eos"))


def test_sha256_of_known_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
