"""translation: a text in another language.

Models: Marian, T5, and the multilingual mBART, M2M100 and NLLB, which are told the languages by tokens.
Reference: transformers 4.57.6 TranslationPipeline; where they differ, the model's own defaults for lengths and beams
count, and `src_lang` and `tgt_lang` pick the prefix of a T5 model.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from onnxpipe.generation.decoder import Ids
from onnxpipe.generation.pipeline import Writing, WritingPipeline
from onnxpipe.generation.rewriting import (
    RewritingParameters,
    compose,
    finished_as,
    merged,
    require_encoder,
    truncation_of,
)
from onnxpipe.pipeline import Model
from onnxpipe.records import FieldError, parameter, show
from onnxpipe.sections import Translation

_TASK = "translation"
_SHOWN = 12  # languages that a message lists


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(RewritingParameters):
    """How the text is read, and how the translation is written."""

    src_lang: str | None = parameter(
        None, description="The language of the text, by the model's name for it; its default when absent."
    )
    tgt_lang: str | None = parameter(None, description="The language to translate to, in the same way.")


@dataclasses.dataclass(frozen=True)
class Translated:
    """One translation."""

    translation_text: str


class TranslationTask(WritingPipeline[str, Parameters, list[Translated]]):
    """The translations of a text, as many as `num_return_sequences`, best first where there are beams.

    >>> onnxpipe.load("nllb-200-distilled-600M")("Good morning!", src_lang="eng_Latn", tgt_lang="deu_Latn")
    [Translated(translation_text='Guten Morgen!')]
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        require_encoder(self._writer, model.bundle.manifest.id, _TASK)
        self._translation = model.bundle.manifest.translation or Translation()

    def preprocess(self, inputs: str, parameters: Parameters) -> Writing[list[Translated]]:
        """The text with what tells the model its languages. Raises FieldError for one it does not know."""
        parameters = merged(parameters)
        languages = self._translation
        source, target = _languages(languages, parameters)
        prefix = languages.prefixes.get(f"{source}_to_{target}", self._writer.section.prefixes.get(_TASK, ""))
        encoding = self.model.tokenizer.encode(prefix + inputs, truncation=truncation_of(parameters))
        token = languages.languages.get(target or "")
        composition = compose(
            self._writer,
            self._marked(encoding.ids, source, target),
            parameters,
            tasks=(_TASK, f"translation_{source}_to_{target}"),
            prompt=(token,) if token is not None and languages.target == "start" else None,
            forced=token if languages.target == "forced" else None,
        )
        return finished_as(Translated, composition, encoding)

    def _marked(self, ids: Ids, source: str | None, target: str | None) -> Ids:
        """The tokens with those of the languages: the tokenizer writes that of the default source, and no target."""
        section = self._translation
        if "source" in section.template and source != section.default_source:
            ids = ids.copy()
            ids[0 if section.template[0] == "source" else -1] = section.languages[source or ""]
        if "target" in section.template and target is not None:
            ids = np.concatenate([[section.languages[target]], ids])
        return ids


def _languages(section: Translation, parameters: Parameters) -> tuple[str | None, str | None]:
    """The source and the target language. Raises FieldError for unknown ones, and where one has to be said."""
    source = parameters.src_lang or section.default_source
    target = parameters.tgt_lang or section.default_target
    if section.prefixes:
        if f"{source}_to_{target}" not in section.prefixes:
            raise FieldError(
                "tgt_lang", f"expected one of the pairs {_some(section.prefixes)}, given {source}_to_{target}"
            )
    elif section.languages:
        roles = {"src_lang": source} if "source" in section.template else {}
        if section.target != "source" or "target" in section.template:
            roles["tgt_lang"] = target
        for role, language in roles.items():
            if language is None:
                raise FieldError(role, f"required by this model; expected one of {_some(section.languages)}")
            if language not in section.languages:
                raise FieldError(role, f"expected one of {_some(section.languages)}, given {show(language)}")
    else:
        # a model for a single pair: other names for the same languages are nobody's mistake
        return section.default_source, section.default_target
    return source, target


def _some(names: Iterable[str]) -> str:
    """The first of some names."""
    listed = sorted(names)
    return ", ".join(listed[:_SHOWN]) + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")
