"""Real encoders of every family, tiny and untrained, each with a tokenizer of the kind that it was published with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

SENTENCES = ["it was a very good film", "The Plot was bad", "a good plot the film was bad", "It was very, very bad!"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def word_pieces(*, lower: bool) -> Any:
    """As BERT's, trained on the sentences."""
    from transformers import BertTokenizerFast

    words = {piece for text in SENTENCES for piece in (text.lower() if lower else text).replace(",", " , ").split()}
    letters = {letter for word in words for letter in word} | {f"##{letter}" for word in words for letter in word}
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words | letters)]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    return BertTokenizerFast(vocab=vocabulary, do_lower_case=lower)


def _bytes(specials: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of byte pairs."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def roberta_pieces() -> Any:
    from transformers import RobertaTokenizer

    vocabulary, merges = _bytes(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return RobertaTokenizer(vocab=vocabulary, merges=merges)


def modern_pieces() -> Any:
    """As ModernBERT's: byte pairs between [CLS] and [SEP], no token types."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    vocabulary, merges = _bytes(specials)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    names = dict(zip(["unk_token", "cls_token", "sep_token", "pad_token", "mask_token"], specials, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def sentence_pieces(make: str, specials: list[str]) -> Any:
    """A unigram model over words that begin with a blank."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=[], unk_token="<unk>")
    tokenizer.train_from_iterator(SENTENCES * 20, trainer)
    pieces = [(piece, -float(place)) for place, piece in enumerate(sorted(tokenizer.get_vocab()))]
    vocabulary = [(name, 0.0) for name in specials] + [own for own in pieces if own[0] not in specials]
    return getattr(transformers, make)(vocab=vocabulary)


def _save(folder: Path, model: str, tokenizer: Any, **settings: Any) -> Path:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config = getattr(transformers, f"{model}Config")(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **settings
    )
    torch.manual_seed(0)
    getattr(transformers, f"{model}Model")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _deberta(folder: Path) -> Path:
    tokenizer = sentence_pieces("DebertaV2Tokenizer", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    relative = {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "share_att_key": True,
    }
    return _save(folder, "DebertaV2", tokenizer, max_position_embeddings=64, type_vocab_size=0, **relative, **SIZES)


def _old_deberta(folder: Path) -> Path:
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}
    return _save(folder, "Deberta", roberta_pieces(), max_position_embeddings=64, **relative, **SIZES)


def _multilingual(folder: Path) -> Path:
    tokenizer = sentence_pieces("XLMRobertaTokenizer", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return _save(folder, "XLMRoberta", tokenizer, max_position_embeddings=66, type_vocab_size=1, **SIZES)


def _distilled(folder: Path) -> Path:
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64}
    return _save(folder, "DistilBert", word_pieces(lower=True), **sizes)


def _modern(folder: Path) -> Path:
    tokenizer = modern_pieces()
    ids = {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    ids |= {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    return _save(folder, "ModernBert", tokenizer, max_position_embeddings=64, **ids, **SIZES)


ENCODERS: dict[str, Callable[[Path], Path]] = {
    "BERT, uncased": lambda folder: _save(folder, "Bert", word_pieces(lower=True), max_position_embeddings=64, **SIZES),
    "multilingual BERT, cased": lambda folder: _save(
        folder, "Bert", word_pieces(lower=False), max_position_embeddings=64, **SIZES
    ),
    "DistilBERT": _distilled,
    "RoBERTa": lambda folder: _save(
        folder, "Roberta", roberta_pieces(), max_position_embeddings=66, type_vocab_size=1, **SIZES
    ),
    "XLM-RoBERTa": _multilingual,
    "ELECTRA": lambda folder: _save(
        folder, "Electra", word_pieces(lower=True), max_position_embeddings=64, embedding_size=16, **SIZES
    ),
    "DeBERTa": _old_deberta,
    "DeBERTa v3": _deberta,
    "ModernBERT": _modern,
    "ALBERT": lambda folder: _save(
        folder, "Albert", word_pieces(lower=True), max_position_embeddings=64, embedding_size=16, **SIZES
    ),
}
