"""Models that read texts, one of each kind, alone and together behind a server."""

import pytest

from fake_encoder import make_encoder


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module")
def vectors(encoder_folder):
    return make_encoder(encoder_folder, "acme/vectors")


@pytest.fixture(scope="module")
def moods(encoder_folder):
    return make_encoder(encoder_folder, "acme/moods", labels=("calm", "loud"))


@pytest.fixture(scope="module")
def judge(encoder_folder):
    return make_encoder(encoder_folder, "acme/judge", labels=("relevance",), activation="sigmoid")


@pytest.fixture(scope="module")
def vector_client(make_client, vectors):
    return make_client(vectors)


@pytest.fixture(scope="module")
def classifier(make_client, moods):
    return make_client(moods)


@pytest.fixture(scope="module")
def reranker(make_client, judge):
    return make_client(judge)


@pytest.fixture(scope="module")
def several(make_client, vectors, moods, judge):
    return make_client(vectors, moods, judge)
