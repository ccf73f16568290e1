"""The tables of a study, in Markdown, from its rows and the files beside them."""

from pathlib import Path

from studies import paired
from studies.results import METRICS
from studies.summary import BASELINES, PLAIN, Summary, baselines, lag, nll_within, summaries
from tsa_fairseq.evidence.formats import markdown as _table
from tsa_fairseq.evidence.spread import Spread
from tsa_fairseq.evidence.tables import gained, written

NOTES = """\
BLEU and chrF: leaf 0 of the average of the best checkpoints, test_2016_flickr, beam 5; mean and
standard deviation over seeds. nll: leaf 0 on the validation data, bits a token, at its best epoch.
Disagreement: of the leaves, there. Computing: multiply-adds of the training until it ended, in
updates of the plain model. Gains: BLEU of the translations of the seeds that both have, pooled by
sentence, [95 % interval of a paired bootstrap over sentences, 1,000 resamples], p of sacreBLEU's
paired approximate randomisation, 10,000 trials. Both are about the choice of test sentences; what
the seed does is the standard deviation."""


def markdown(file: Path) -> str:
    """All tables.

    Raises:
        StudyError: the file of results, or one beside it, does not fit.
    """
    protocols = summaries(file)
    parts = [_protocol(name, runs) for name, runs in protocols.items()]
    rows = [row for runs in protocols.values() for run in runs for row in run.rows]
    signatures = {(metric, row[f"{metric}_signature"]) for row in rows for metric in METRICS}
    said = "\n".join(f"- {metric}: `{text}`" for metric, text in sorted(signatures))
    return "\n\n".join([*parts, NOTES, said]) + "\n"


def _protocol(name: str, runs: list[Summary]) -> str:
    against = baselines(runs)
    return "\n\n".join(
        [
            f"**Protocol {name}**",
            _table(_scores_heading(against), [_scores(run, against) for run in runs]),
            f"**Protocol {name}: other models of the same run, and equal computing**",
            _table(_more_heading(against), [_more(run, against) for run in runs]),
        ]
    )


def _scores_heading(against: dict[str, Summary]) -> list[str]:
    return [
        *("run", "seeds", "BLEU", "chrF", "BLEU, valid", "nll", "disagreement", "computing"),
        *(f"gain over {name}" for name in against),
    ]


def _scores(run: Summary, against: dict[str, Summary]) -> list[str]:
    return [
        run.label,
        ", ".join(sorted(row["seed"] for row in run.rows)),
        _written(run.spread("bleu_average_test"), 2),
        _written(run.spread("chrf_average_test"), 2),
        _written(run.spread("bleu_average_valid"), 2),
        _written(run.spread("best_nll"), 3),
        _written(run.spread("disagreement"), 3),
        _written(run.spread("madds_total"), 0),
        *(_gain(run, other) for other in against.values()),
    ]


def _gain(run: Summary, other: Summary) -> str:
    found = None if run is other else paired.compare(run.counts, other.counts)
    if found is None:
        return "–"
    return gained(found.gain)


def _more_heading(against: dict[str, Summary]) -> list[str]:
    return [
        *(
            "run",
            "best checkpoint",
            "ensemble",
            "best leaf",
            "step",
            "updates",
            "epoch of the best",
        ),
        *("lag behind plain",) * (BASELINES[PLAIN] in against),
        *(f"nll at {name}'s computing" for name in against),
    ]


def _more(run: Summary, against: dict[str, Summary]) -> list[str]:
    plain = against.get(BASELINES[PLAIN])
    late = lag(run, plain) if plain and plain is not run else None
    return [
        run.label,
        *(_change(run.gained(system)) for system in ("best", "ensemble", "leaf")),
        f"{run.rows[0]['madds_step']} x",
        _written(run.spread("updates"), 0),
        _written(run.spread("best_epoch"), 1),
        *([f"{100 * late.mean:+.0f} %" if late else "–"] if plain else []),
        *(_within(run, other) for other in against.values()),
    ]


def _within(run: Summary, other: Summary) -> str:
    """At what the baseline's seeds cost on average, so that other seeds can be compared too."""
    cost = other.spread("madds_total")
    assert cost is not None
    return _written(nll_within(run, cost.mean), 3)


def _written(spread: Spread | None, digits: int) -> str:
    return written(spread, digits).text


def _change(spread: Spread | None) -> str:
    return "–" if spread is None else f"{spread.mean:+.2f}"
