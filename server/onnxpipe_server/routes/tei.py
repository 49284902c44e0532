"""Text embeddings inference's own routes: vectors, similarities, labels and ranks of texts."""

import dataclasses

from starlette.responses import Response
from starlette.routing import BaseRoute

from onnxpipe.labels import Function, Label
from onnxpipe.pipeline import Answer
from onnxpipe.tasks.feature_extraction import Parameters
from onnxpipe.tasks.sentence_similarity import Inputs, SentenceSimilarity
from onnxpipe_server import tei
from onnxpipe_server.calls import Visit, post
from onnxpipe_server.encoders import Embeddings, ScoreParameters, Scores, check_ids
from onnxpipe_server.models import Models
from onnxpipe_server.openapi import Operation
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import TEI, WrongModel
from onnxpipe_server.workers import Workers

EMBEDDING = (
    Operation("/embed", "Vectors of texts", tei.EmbedRequest, list[list[float]], tag="embeddings"),
    Operation("/embed_all", "A vector for each token", tei.TokensRequest, list[list[list[float]]], tag="embeddings"),
    Operation("/similarity", "How alike texts are", tei.SimilarityRequest, list[float], tag="embeddings"),
)
PREDICT = Operation("/predict", "Labels of texts", tei.PredictRequest, list[Label] | list[list[Label]], tag="labels")
RERANK = Operation("/rerank", "Texts by how they answer", tei.RerankRequest, list[tei.Rank], tag="ranks")
TOKENIZE = Operation("/tokenize", "The tokens of texts", tei.TokenizeRequest, list[list[tei.SimpleToken]], tag="tokens")
DECODE = Operation("/decode", "The text of tokens", tei.DecodeRequest, list[str], tag="tokens")


def make_routes(models: Models, settings: Settings, workers: Workers) -> list[BaseRoute]:
    """The routes; /predict only where a model classifies texts, for it is one of the classic routes too."""
    works = {
        "/embed": embed,
        "/embed_all": embed_all,
        "/embed_sparse": embed_sparse,
        "/similarity": compare,
        "/rerank": rerank,
        "/tokenize": tokenize,
        "/decode": decode,
    }
    if any(tei.classifies(served) for served in models.all()):
        works["/predict"] = predict
    return [post(path, work, TEI, models, settings, workers) for path, work in works.items()]


def embed(visit: Visit) -> Response:
    """A vector for each text."""
    asked = visit.read(tei.EmbedRequest)
    return _vectors(visit, asked, normalize=asked.normalize, dimensions=asked.dimensions)


def embed_all(visit: Visit) -> Response:
    """The hidden states of each text's tokens."""
    return _vectors(visit, visit.read(tei.TokensRequest), tokens=True)


def embed_sparse(visit: Visit) -> Response:
    """No bundle says that its logits are weights of words, as those of SPLADE models are. Raises WrongModel."""
    asked = visit.read(tei.TokensRequest)
    served = visit.choose(asked.model, tei.READER)
    raise WrongModel(f"{served.id} gives no sparse embeddings; /embed gives dense ones where a model embeds texts")


def compare(visit: Visit) -> Response:
    """The cosine of a sentence with each of others."""
    asked = visit.read(tei.SimilarityRequest)
    served = visit.choose(asked.model, tei.EMBEDDING)
    inputs = asked.inputs
    tei.check_batch([inputs.source_sentence], 1, "inputs.source_sentence")
    tei.check_batch(inputs.sentences, visit.most, "inputs.sentences")
    given = Inputs(source_sentence=inputs.source_sentence, sentences=inputs.sentences)
    answered = SentenceSimilarity(served.model).run([given], asked.parameters)
    characters = len(inputs.source_sentence) + sum(map(len, inputs.sentences))
    return visit.respond(served, answered.results[0], answered, characters=characters)


def predict(visit: Visit) -> Response:
    """The labels of a text or pair, or of each of several."""
    asked = visit.read(tei.PredictRequest)
    served = visit.choose(asked.model, tei.CLASSIFIER)
    pairs, single = tei.pairs_of(asked.inputs)
    tei.check_batch([pair.text for pair in pairs], visit.most)
    answered = Scores(served.model).run(pairs, _scoring(asked, "none" if asked.raw_scores else None))
    characters = sum(len(pair.text) + len(pair.text_pair or "") for pair in pairs)
    value = answered.results[0] if single else answered.results
    return visit.respond(served, value, answered, characters=characters)


def rerank(visit: Visit) -> Response:
    """The texts by falling score."""
    asked = visit.read(tei.RerankRequest)
    served = visit.choose(asked.model, tei.RERANKER)
    tei.check_batch([asked.query], 1, "query")
    tei.check_batch(asked.texts, visit.most, "texts")
    ranks, answered = tei.rank(
        served, asked.query, asked.texts, _scoring(asked, "none" if asked.raw_scores else "sigmoid")
    )
    told = ranks if asked.return_text else [dataclasses.replace(rank, text=None) for rank in ranks]
    characters = len(asked.query) + sum(map(len, asked.texts))
    return visit.respond(served, told, answered, characters=characters)


def tokenize(visit: Visit) -> Response:
    """The tokens of each text."""
    asked = visit.read(tei.TokenizeRequest)
    served = visit.choose(asked.model, tei.READER)
    texts = [asked.inputs] if isinstance(asked.inputs, str) else list(asked.inputs)
    # one without tokens of its own is an answer here
    tei.check_batch([text or " " for text in texts], visit.most)
    tokens = [tei.tokens_of(served, text, special=asked.add_special_tokens) for text in texts]
    answered = Answer[object](elements=sum(map(len, tokens)))
    return visit.respond(served, tokens, answered, characters=sum(map(len, texts)))


def decode(visit: Visit) -> Response:
    """The text of each list of token ids."""
    asked = visit.read(tei.DecodeRequest)
    served = visit.choose(asked.model, tei.READER)
    tokenizer = served.model.tokenizer
    batch = [one for one in tei.batch_of(asked.ids) if not isinstance(one, str)]
    tei.check_batch(batch, visit.most, "ids")
    for ids in batch:
        check_ids(ids, tokenizer.size, "ids")
    texts = [tokenizer.decode(ids, skip_special_tokens=asked.skip_special_tokens) for ids in batch]
    return visit.respond(served, texts, Answer(elements=sum(map(len, batch))))


def _vectors(
    visit: Visit,
    asked: tei.TokensRequest,
    *,
    tokens: bool = False,
    normalize: bool | None = None,
    dimensions: int | None = None,
) -> Response:
    served = visit.choose(asked.model, tei.EMBEDDING)
    batch = tei.batch_of(asked.inputs)
    tei.check_batch(batch, visit.most)
    parameters = Parameters(
        normalize=normalize,
        dimensions=dimensions,
        truncate=asked.truncate,
        truncation_direction=asked.truncation_direction,
        prompt_name=asked.prompt_name,
    )
    answered = Embeddings(served.model, tokens=tokens).run(batch, parameters)
    characters = sum(len(text) for text in batch if isinstance(text, str))
    return visit.respond(served, answered.results, answered, characters=characters)


def _scoring(asked: tei.PredictRequest | tei.RerankRequest, function: Function | None) -> ScoreParameters:
    return ScoreParameters(
        function_to_apply=function, truncate=asked.truncate, truncation_direction=asked.truncation_direction
    )
