import pytest

from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub import download

pytest.importorskip("huggingface_hub", reason="only export and pull need the hub")


@pytest.mark.parametrize("name", ["./absent", "a/b/c", "no such model", "..", "-/x"])
def test_a_name_that_is_no_hub_id_is_refused_without_asking_the_network(name):
    with pytest.raises(UnsupportedModel, match="is neither a folder nor a hub id"):
        download(name, None, ["*.json"])
