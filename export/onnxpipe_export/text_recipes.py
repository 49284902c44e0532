"""The tasks on text: one row each."""

import dataclasses

from onnxpipe.hub.labels import has_entailment
from onnxpipe.verification.samples import CONTEXTS, MASKED, PAIRS, TABLES, TEXTS
from onnxpipe_export.recipe import CHOICES, COSINE, SCORES, Recipe

_EMBEDDING = Recipe(
    task="feature-extraction",
    other_tasks=("sentence-similarity",),
    architectures=("Model",),
    sections=("text", "embedding"),
    auto_class="AutoModel",
    exporter_task="feature-extraction",
    outputs=("last_hidden_state",),
    judge="cosine",
    verified_as="feature-extraction",
    tolerance=COSINE,
    golden_parameters={"normalize": True},  # of length 1: magnitudes of hidden states differ from model to model
    golden_tolerance={"fp32": 1e-4, "int8": 0.1},
)
_CLASSIFIER = Recipe(
    task="text-classification",
    architectures=("ForSequenceClassification",),
    sections=("text", "classification"),
    auto_class="AutoModelForSequenceClassification",
    exporter_task="text-classification",
    judge="scores",
    verified_as="text-classification",
    samples=(*TEXTS, *PAIRS),
    tolerance=SCORES,
)

TEXT_RECIPES = (
    # the same model under another task of its own: what `/models/{id}` answers first
    dataclasses.replace(
        _EMBEDDING,
        task="sentence-similarity",
        other_tasks=("feature-extraction",),
        architectures=(),
        golden={"source_sentence": TEXTS[0], "sentences": TEXTS[1:5]},
        golden_parameters=None,
    ),
    _EMBEDDING,
    # a classifier too, which the labels of its config tell apart: before all others
    dataclasses.replace(
        _CLASSIFIER,
        task="zero-shot-classification",
        other_tasks=("text-classification",),
        applies=has_entailment,
        golden="Her new book compares the railways of India, Japan and Switzerland.",
        golden_parameters={"candidate_labels": ("travel",)},  # one label: an order of several may change in int8
    ),
    _CLASSIFIER,
    Recipe(
        task="fill-mask",
        architectures=("ForMaskedLM",),
        auto_class="AutoModelForMaskedLM",
        exporter_task="fill-mask",
        judge="choices",
        samples=MASKED,
        golden="That is a happy {mask}.",
        golden_parameters={"targets": ("person",)},  # one word: the likeliest of all may be others in int8
        tolerance=CHOICES,
    ),
    Recipe(
        task="token-classification",
        architectures=("ForTokenClassification",),
        sections=("text", "classification"),
        auto_class="AutoModelForTokenClassification",
        exporter_task="token-classification",
        judge="choices",
        golden="My name is Sarah Jessica Parker and I live in New York.",
        float_narrowing=True,
        tolerance=CHOICES,
    ),
    # its architecture ends as those of the next row do: before it
    Recipe(
        task="table-question-answering",
        architectures=("TapasForQuestionAnswering",),
        sections=("text", "table"),
        auto_class="AutoModelForTableQuestionAnswering",
        # the words of a table are BERT's; the model's own class is slow, and the runtime does what else it does
        tokenizer_class="BertTokenizerFast",
        exporter_task="token-classification",
        optional_outputs=("logits_aggregation",),
        judge="choices",
        samples=TABLES,
        float_narrowing=True,
        tolerance=CHOICES,
    ),
    Recipe(
        task="question-answering",
        architectures=("ForQuestionAnswering",),
        auto_class="AutoModelForQuestionAnswering",
        exporter_task="question-answering",
        outputs=("start_logits", "end_logits"),
        judge="choices",
        samples=CONTEXTS,
        parameters={"doc_stride": 16},  # the default leaves short models no room beside a question
        golden={"question": "Who wrote the letter?", "context": "Anna wrote the letter on Friday."},
        golden_parameters={},
        float_narrowing=True,
        tolerance=CHOICES,
    ),
)
