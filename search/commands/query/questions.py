"""Questions that people ask of results, by name, and the SQL that answers them.

Every statement reads the views of structnet.storage.sql, whose rows may be those of one experiment alone. NaN is the
largest number to DuckDB, so what is compared or averaged is asked to be finite. Names decide what a tie leaves open, so
the same tables give the same rows.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import NamedTuple

from structnet.errors import UserError
from structnet.storage.schemas import SCHEMAS

# What DuckDB takes for a whole statement, though it is one word.
_STATEMENTS = ("show", "describe")


class Question(NamedTuple):
    """What it answers, in a sentence, and how."""

    answers: str
    sql: str


QUESTIONS = {
    "experiments": Question(
        "what there is: commands, data, how they stand and what came of them, the last one first",
        """
SELECT experiment, trial, command, dataset, status, date_trunc('second', started_at) AS started, seconds,
    parameters, accuracy, test_accuracy
FROM experiments
ORDER BY started_at DESC, experiment, trial
""",
    ),
    "growth": Question(
        "round by round: what was decided, and what it made of the network",
        """
SELECT experiment, trial, round, decision, action, site, parameters, accuracy, information, gain, gain_se, score
FROM rounds
ORDER BY experiment, trial, round
""",
    ),
    "champions": Question(
        "the best networks of every experiment by accuracy, by accuracy per parameter, and to be patched",
        """
WITH judged AS (
    SELECT *, CASE best_by
        WHEN 'accuracy' THEN accuracy
        WHEN 'efficiency' THEN efficiency
        WHEN 'patchable' THEN CASE WHEN patchability IS NOT NULL THEN 1 - accuracy END
    END AS amount
    FROM networks, (VALUES ('accuracy'), ('efficiency'), ('patchable')) AS criteria (best_by)
    WHERE status = 'finished'
)
SELECT experiment, best_by, network, density, parameters, bytes, accuracy, efficiency, patchability, test_accuracy,
    snapshot
FROM judged
WHERE isfinite(amount)
QUALIFY row_number() OVER (
    PARTITION BY experiment, best_by ORDER BY amount DESC, loss, parameters, network, trial
) = 1
ORDER BY experiment, best_by
""",
    ),
    "pareto": Question(
        "of all networks of all experiments on a dataset, those than which no smaller one is as accurate",
        """
WITH datasets AS (
    SELECT experiment, min(dataset) AS dataset FROM experiments GROUP BY ALL
), found AS (
    SELECT experiment, trial, 'round ' || round AS network, parameters, bytes, accuracy, test_accuracy, snapshot,
        1 AS place
    FROM fronts
    UNION ALL
    SELECT experiment, trial, network, parameters, bytes, accuracy, test_accuracy, snapshot, 2 FROM networks
    UNION ALL
    SELECT experiment, trial, NULL, parameters, bytes, accuracy, test_accuracy, snapshot, 3 FROM experiments
), named AS (
    SELECT found.*, coalesce(experiments.dataset, datasets.dataset) AS dataset
    FROM found
    LEFT JOIN experiments USING (experiment, trial)
    LEFT JOIN datasets USING (experiment)
    WHERE found.parameters IS NOT NULL AND isfinite(found.accuracy)
)
SELECT dataset, parameters, accuracy, bytes, test_accuracy, experiment, trial, network, snapshot
FROM named
QUALIFY accuracy > coalesce(max(accuracy) OVER (
    PARTITION BY dataset ORDER BY parameters, accuracy DESC, place, experiment, trial, network
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
), -1)
ORDER BY dataset, parameters
""",
    ),
    "front": Question(
        "what every size of a grown network is worth: bits that the last thousand parameters brought",
        """
WITH undominated AS (
    SELECT * FROM fronts
    QUALIFY chosen OR information > coalesce(max(information) OVER (
        PARTITION BY experiment, trial ORDER BY parameters, information DESC, round
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), '-infinity'::DOUBLE)
)
SELECT experiment, trial, parameters, bytes, macs, accuracy, information,
    1000 * (information - lag(information) OVER sizes)
        / greatest(1, parameters - lag(parameters) OVER sizes) AS worth,
    holds, chosen, test_accuracy, snapshot
FROM undominated
WINDOW sizes AS (PARTITION BY experiment, trial ORDER BY parameters, information DESC, round)
ORDER BY experiment, trial, parameters, information DESC, round
""",
    ),
    "actions": Question(
        "which action wins when: in the first, second and last third of the rounds of tournaments",
        """
WITH forks AS (
    SELECT * FROM candidates
    WHERE NOT control AND NOT coalesce(audit, false)
    QUALIFY row_number() OVER (PARTITION BY experiment, trial, round, candidate ORDER BY heat DESC) = 1
), stages AS (
    SELECT *, ntile(3) OVER (PARTITION BY experiment, trial ORDER BY round) AS third
    FROM (SELECT DISTINCT experiment, trial, round FROM forks)
)
SELECT ['early', 'middle', 'late'][third] AS stage, action,
    count(*) FILTER (status <> 'unaffordable') AS tried,
    count(*) FILTER (won) AS won,
    count(*) FILTER (status = 'failed') AS failed,
    count(*) FILTER (status = 'unaffordable') AS too_dear,
    avg(gain) FILTER (isfinite(gain)) AS mean_gain,
    avg(score) FILTER (isfinite(score)) AS mean_score,
    avg(parameters_added) FILTER (status <> 'unaffordable') AS mean_added,
    min(parameters_before) AS from_parameters,
    max(parameters_before) AS to_parameters
FROM forks JOIN stages USING (experiment, trial, round)
GROUP BY third, action
ORDER BY third, won DESC, tried DESC, action
""",
    ),
    "credits": Question(
        "the ledger, round by round: what was earned, paid for parameters and for forks, and left",
        """
SELECT experiment, trial, round, decision, action, credits_earned AS earned, credits_spent AS spent,
    credits_deciding AS spent_on_forks, credits_refunded AS refunded, balance, candidates, forks_afforded,
    share_deciding
FROM rounds
ORDER BY experiment, trial, round
""",
    ),
    "cost": Question(
        "cost against accuracy: parameter-steps of all that was trained, and seconds, the cheapest first",
        """
WITH trained AS (
    SELECT experiment, '' AS trial, sum(parameter_steps) AS cost FROM networks GROUP BY ALL
)
SELECT dataset, experiment, trial, command, parameters, accuracy, test_accuracy, dense_accuracy, rival_accuracy,
    coalesce(parameter_steps_all, cost)::BIGINT AS parameter_steps_all,
    1 - parameter_steps / nullif(parameter_steps_all, 0) AS share_deciding,
    seconds
FROM experiments LEFT JOIN trained USING (experiment, trial)
ORDER BY dataset, coalesce(parameter_steps_all, cost), seconds, experiment, trial
""",
    ),
    "failures": Question(
        "what failed and why: experiments, networks and forks, by their error",
        """
SELECT experiment, kind, what, status, error, count(*) AS times, min(example) AS example
FROM (
    SELECT experiment, 'experiment' AS kind, command AS what, status, error, trial AS example
    FROM experiments
    WHERE status IN ('failed', 'interrupted')
    UNION ALL
    SELECT experiment, 'network', coalesce(array_to_string(architecture, '-'), method), status, error, network
    FROM networks
    WHERE status = 'failed'
    UNION ALL
    SELECT experiment, 'fork', action, status, error, trim(trial || ' round ' || round)
    FROM candidates
    WHERE status = 'failed'
)
GROUP BY ALL
ORDER BY experiment, kind, times DESC, what, error, status
""",
    ),
    "classes": Question(
        "how well every class is known, and what it is mostly taken for, the hardest first",
        """
SELECT experiment, trial, truth, any_value(truth_name) AS name, sum(images)::BIGINT AS images,
    coalesce(sum(images) FILTER (said = truth), 0) / sum(images) AS accuracy,
    max_by(said_name, (images, -said)) FILTER (said <> truth AND images > 0) AS taken_for,
    max(images) FILTER (said <> truth AND images > 0) AS times
FROM confusions
GROUP BY ALL
ORDER BY experiment, trial, accuracy, truth
""",
    ),
    "confusions": Question(
        "which class is taken for which other one, the most frequent first",
        """
SELECT experiment, trial, truth_name AS truth, said_name AS said, images,
    images / sum(images) OVER (PARTITION BY experiment, trial, confusions.truth) AS share
FROM confusions
QUALIFY confusions.truth <> confusions.said AND images > 0
ORDER BY experiment, trial, images DESC, share DESC, confusions.truth, confusions.said
""",
    ),
    "mistakes": Question(
        "the wrong answers that a network was surest of, by the number of the validation image",
        """
SELECT experiment, trial, image, truth_name AS truth, said_name AS said, confidence
FROM mistakes
ORDER BY experiment, trial, confidence DESC, image
""",
    ),
}


def question_of(text: str) -> Question | None:
    """The question of this name; None for SQL, which has more than one word.

    Raises UserError, with the names there are, for a word that is neither.
    """
    word = text.strip()
    if word.lower() in QUESTIONS:
        return QUESTIONS[word.lower()]
    if not re.fullmatch(r"[\w-]*", word) or word.lower() in _STATEMENTS:
        return None
    near = get_close_matches(word.lower(), QUESTIONS, 1, 0.7)
    way_out = f"is it {near[0]}?" if near else f"choose one of {', '.join(QUESTIONS)}"
    if word.lower() in SCHEMAS:
        way_out = (
            f"that is a table, which 'FROM {word.lower()}' reads; the questions are {', '.join(QUESTIONS)}"
        )
    raise UserError(
        f"question is {word!r}, but there is none of that name, and SQL has several words: {way_out}"
    )
