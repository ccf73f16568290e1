"""Small models that translate four made-up sentences, with every kind of dictionary and subwords.

Source and target have letters of their own, so that a model of the wrong side is told.
"""

import contextlib
import io
from types import SimpleNamespace

import sentencepiece
import torch
from fairseq.data import Dictionary
from helpers import save_tree
from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe

PAIRS = [
    ("das haus ist alt", "куче је старо"),
    ("das kleine haus", "мало куче"),
    ("die maus ist klein", "миш је мали"),
    ("ein alter baum , ein haus", "старо дрво , куче"),
]
SOURCES, TARGETS = (list(side) for side in zip(*PAIRS, strict=True))
SUBWORDS = ("sentencepiece", "two", "subword_nmt", "none")


def learn_pieces(path, lines, size):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 5), model_prefix=str(path), vocab_size=size,
        model_type="bpe", minloglevel=2, hard_vocab_limit=False, character_coverage=1.0,
    )  # fmt: skip
    return path.with_name(f"{path.name}.model")


def learn_codes(path, lines, merges=30):
    silent = contextlib.redirect_stderr(io.StringIO())
    with open(path, "w", encoding="utf-8") as out, silent:
        learn_bpe(io.StringIO("\n".join(lines * 5) + "\n"), out, merges)
    return path


def learn(folder, kind):
    """The files of a kind of subwords, and what cuts text of source and target by them."""
    if kind == "none":
        return [], [str.split, str.split]
    if kind == "subword_nmt":
        file = learn_codes(folder / "codes", SOURCES + TARGETS)
        with open(file, encoding="utf-8") as codes:
            cut = BPE(codes).segment
        return [file], [lambda text: cut(text).split()] * 2
    if kind == "sentencepiece":
        files = [learn_pieces(folder / "joint", SOURCES + TARGETS, 70)]
    else:
        files = [learn_pieces(folder / "of", SOURCES, 45), learn_pieces(folder / "to", TARGETS, 45)]
    models = [sentencepiece.SentencePieceProcessor(model_file=str(file)) for file in files]
    cuts = [lambda text, model=model: model.encode(text, out_type=str) for model in models]
    return files, cuts * (2 // len(cuts))


def make(folder, kind, joined):
    """A tree's checkpoint whose leaf 0 knows the sentences; its data lie in ``folder/bin``."""
    folder.mkdir(parents=True, exist_ok=True)
    files, cuts = learn(folder, kind)
    texts = [
        [cut(line) for line in side] for cut, side in zip(cuts, (SOURCES, TARGETS), strict=True)
    ]
    words = [_dictionary(texts[0] + texts[1])] * 2 if joined else [*map(_dictionary, texts)]
    data = folder / "bin"
    data.mkdir()
    for language, dictionary in zip(("de", "sr"), words, strict=True):
        dictionary.save(str(data / f"dict.{language}.txt"))
    task = SimpleNamespace(source_dictionary=words[0], target_dictionary=words[1])
    path = folder / "checkpoint.pt"
    model = save_tree(path, task, data, share_all_embeddings=joined, tree_peers="fresh")
    _learn_by_heart(model, texts, words)
    state = torch.load(path, weights_only=True)
    state["cfg"]["task"].update(source_lang="de", target_lang="sr")
    torch.save({**state, "model": model.state_dict()}, path)
    return SimpleNamespace(path=path, data=data, files=files, words=words, model=model)


def _dictionary(lines):
    dictionary = Dictionary()
    for word in sorted({word for line in lines for word in line}):
        dictionary.add_symbol(word)
    return dictionary


def _learn_by_heart(model, texts, words):
    pad, eos = words[0].pad(), words[0].eos()

    def rows(side, left):
        lines = [[*map(words[side].index, line), eos] for line in texts[side]]
        width = max(map(len, lines))
        padded = [([pad] * (width - len(r)) + r) if left else r + [pad] * (width - len(r))
                  for r in lines]  # fmt: skip
        return torch.tensor(padded)

    source, target = rows(0, left=True), rows(1, left=False)
    first = torch.full((len(target), 1), eos)
    net = {
        "src_tokens": source,
        "src_lengths": source.ne(pad).sum(1),
        "prev_output_tokens": torch.cat([first, target[:, :-1]], 1).masked_fill(
            target.roll(1, 1).eq(pad), pad
        ),
    }
    net["prev_output_tokens"][:, 0] = eos
    model.train()
    model.decoder.inference = 0
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(1000):
        logits = model(**net, leaves=[0]).features[0]
        logits = model.decoder.output_layer(logits)
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), target.flatten(), ignore_index=pad
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    assert loss < 0.02, loss
    model.eval()
