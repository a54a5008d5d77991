"""The LLM judge: a whole thread in one pass, every quote checked, confidence from votes.

A thread's messages are numbered and shown once (`transcript`), and all its responses are judged in
one request with several samples. The majority of the samples becomes the verdict; a tie abstains. A
quote that is not in the log, or not after the response, is void. Text written for the judge is
removed from the prompt; a second prompt that contains it shows whether it would have changed the
verdict. Foresight is requested separately, with a prompt that ends at the response.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from upshot.errors import UnansweredError
from upshot.hindsight.embedded.judge import STEERING, Judged
from upshot.hindsight.embedded.timeline import ASSISTANT, Timeline
from upshot.hindsight.llm import rubric, transcript
from upshot.hindsight.llm.transcript import Transcript, Window
from upshot.hindsight.trust import hostile
from upshot.llm import Client, Replies, Request, ask_cached, make_response_format
from upshot.llm.client import make_prompt
from upshot.records.verdicts import SURE, side_of

_MIN_CONTRADICTION = 0.3
"""Difference between the two judges from which a verdict must follow from its quotes alone."""
_MAX_UNSUPPORTED = 0.1
"""Largest confidence of a verdict without a valid quote."""
_RIGHT_REFUSAL, _WRONG_REFUSAL = 0.7, 0.4
"""Lowest score of a refusal of a harmful request, highest of a refusal of a harmless one."""
_MAX_EVIDENCE = 8
"""Quotes per verdict, as of the embedded judge."""
_MAX_QUOTE = 400
"""Characters of a quote that are stored."""


class Quote(msgspec.Struct, frozen=True):
    """Evidence, as the model returns it."""

    message: int
    quote: str
    good: bool


class Judgement(msgspec.Struct, frozen=True):
    """One response in one sample."""

    response: int
    goal: str
    happened: str
    label: str
    score: float
    """In [0, 10]."""
    refusal: Literal["no", "right", "wrong"]
    evidence: list[Quote]


class Judgements(msgspec.Struct, frozen=True):
    """One sample."""

    verdicts: list[Judgement]


class Guess(msgspec.Struct, frozen=True):
    """A foresight score, in [0, 10]."""

    score: float


class Options(NamedTuple):
    """Settings of the LLM judge."""

    rubric: rubric.Rubric
    votes: int = 3
    temperature: float = 0.7
    foresight: Literal["llm", "embedded"] = "llm"
    horizon: int = 20
    window_tokens: int = 32_000
    tolerance: float = 0.1

    def version(self, model: str) -> str:
        """Name of the judge: the model and a hash of its instructions."""
        instructions = self.rubric.prompt() + rubric.foresight_prompt()
        return f"llm/{model}/{hashlib.blake2b(instructions.encode(), digest_size=3).hexdigest()}"


class Span(NamedTuple):
    """A quote that was located in the log."""

    position: int
    start: int
    end: int
    kind: str
    polarity: int
    weight: float


class Finding(NamedTuple):
    """The LLM's verdict on one response."""

    response: int
    """Position."""
    score: float
    """In [0, 1]."""
    confidence: float
    foresight: float | None
    label: str
    reason: str
    evidence: tuple[Span, ...]


class Tally(msgspec.Struct):
    """Counts of what happened while judging."""

    threads: int = 0
    responses: int = 0
    from_cache: int = 0
    """Requests whose reply was in the cache."""
    repaired: int = 0
    """Samples that did not fit the schema and were requested once more."""
    unreadable: int = 0
    """Responses without a readable judgement, which get no verdict of the LLM."""
    unanswered: int = 0
    """Requests that got no usable answer in all attempts, or that the endpoint refused."""
    first_problem: str = ""
    """Why the first of them was not answered."""
    quotes: int = 0
    void: int = 0
    """Quotes that are not in the log, or not after the response."""
    abstained: int = 0
    """Responses whose votes tie."""
    unsupported: int = 0
    """Verdicts that did not follow from their quotes alone; the control's replaced them."""
    suspects: int = 0
    """Messages with text written for the judge."""
    steered: int = 0
    """Responses whose score that text would have moved beyond the tolerance."""


class _Vote(NamedTuple):
    judgement: Judgement
    spans: tuple[Span, ...]
    void: int
    seen: int
    """Messages after the response that its window shows."""


def make_requests(
    line: Timeline, first: int, last: int, options: Options, model: str
) -> list[Request]:
    """Every request that judging a thread begins with; repairs come on top."""
    requests: list[Request] = []
    for window in transcript.split_windows(
        line, first, last, options.horizon, options.window_tokens
    ):
        suspects = _find_suspects(line, window)
        requests.append(
            _hindsight_request(
                line, transcript.render_window(line, window, suspects), window, options, model
            )
        )
        if suspects:
            requests.append(
                _hindsight_request(
                    line, transcript.render_window(line, window), window, options, model, votes=1
                )
            )
    if options.foresight == "llm":
        responses = [p for p in line.responses.tolist() if first <= p < last]
        requests += [make_foresight_request(line, p, model) for p in responses]
    return requests


def _hindsight_request(
    line: Timeline,
    shown: Transcript,
    window: Window,
    options: Options,
    model: str,
    *,
    votes: int | None = None,
) -> Request:
    question = f"{shown.text}\n\n{transcript.closing_line(line, shown, window.responses)}"
    return Request(
        model,
        make_prompt(("system", options.rubric.prompt()), ("user", question)),
        200 + 160 * len(window.responses),
        options.temperature if options.votes > 1 else 0.0,
        votes or options.votes,
        None,
        make_response_format(Judgements, "verdicts"),
    )


def make_foresight_request(line: Timeline, response: int, model: str) -> Request:
    window = transcript.make_foresight_window(line, response)
    shown = transcript.render_window(line, window, _find_suspects(line, window))
    question = f"{shown.text}\n\nPredict for message {shown.number(response)}."
    return Request(
        model,
        make_prompt(("system", rubric.foresight_prompt()), ("user", question)),
        60,
        0.0,
        1,
        None,
        make_response_format(Guess, "foresight"),
    )


def _find_suspects(line: Timeline, window: Window) -> dict[int, tuple[hostile.Suspect, ...]]:
    positions = range(window.first, window.last)
    roles = {p: "assistant" if line.role[p] == ASSISTANT else "user" for p in positions}
    return {p: spans for p in positions if (spans := hostile.scan(line.text[p], roles[p]))}


class Judge:
    """Judges threads of a timeline with one client; safe for concurrent use."""

    def __init__(self, client: Client, replies: Replies, options: Options) -> None:
        self.client, self.replies, self.options = client, replies, options
        self.tally = Tally()

    async def thread(
        self, line: Timeline, first: int, last: int, embedded: Judged
    ) -> list[Finding]:
        """The findings on a thread's responses; `embedded`: verdicts on the whole timeline.

        Raises:
            BudgetError, EndpointError: earlier answers are in `replies`.
        """
        parts = transcript.split_windows(
            line, first, last, self.options.horizon, self.options.window_tokens
        )
        responses = [p for p in line.responses.tolist() if first <= p < last]
        row = {p: i for i, p in enumerate(line.responses.tolist())}
        judged, guesses = await asyncio.gather(
            _gather_in_order(self._window(line, window, embedded, row) for window in parts),
            _gather_in_order(
                self._foresight(line, p) for p in responses if self.options.foresight == "llm"
            ),
        )
        votes: dict[int, list[_Vote]] = defaultdict(list)
        steered: dict[int, list[Span]] = defaultdict(list)
        for by_response, moved in judged:
            for position, samples in by_response.items():
                votes[position] += samples
            for position, spans in moved.items():
                steered[position] += spans
        foresight = dict(zip(responses, guesses, strict=True)) if guesses else {}
        self.tally.threads += 1
        self.tally.responses += len(responses)
        self.tally.unreadable += sum(p not in votes for p in responses)
        return [
            self._finding(
                p, votes[p], embedded, row[p], foresight=foresight.get(p), steering=steered[p]
            )
            for p in responses
            if p in votes
        ]

    async def _window(
        self, line: Timeline, window: Window, embedded: Judged, row: Mapping[int, int]
    ) -> tuple[dict[int, list[_Vote]], dict[int, list[Span]]]:
        """Votes by response, and spans that tried to steer them."""
        suspects = _find_suspects(line, window)
        self.tally.suspects += len(suspects)
        shown = transcript.render_window(line, window, suspects)
        request = _hindsight_request(line, shown, window, self.options, self.client.endpoint.model)
        user = str(line.user[window.first])
        samples = await self._ask(request, user, Judgements, self._checks(shown, window))
        votes = self._votes(line, window, shown, suspects, samples)
        votes = await self._control(line, window, votes, embedded, row=row, user=user)
        return votes, await self._steering(line, window, suspects, votes, user) if suspects else {}

    async def _control(
        self,
        line: Timeline,
        window: Window,
        votes: dict[int, list[_Vote]],
        embedded: Judged,
        *,
        row: Mapping[int, int],
        user: str,
    ) -> dict[int, list[_Vote]]:
        """Where the two judges contradict each other, judge again from the quotes alone.

        A verdict must follow from its quotes. Where it does not, something else in the log
        influenced the judge, and the control's verdicts stand for the whole window.
        """

        def contradicts(p: int, ballots: Sequence[_Vote], score: float) -> bool:
            return (
                abs(float(np.mean([_score(v.judgement) for v in ballots])) - score)
                > _MIN_CONTRADICTION
            )

        doubtful = {
            p
            for p, ballots in votes.items()
            if contradicts(p, ballots, float(embedded.score[row[p]]))
            and any(v.spans for v in ballots)
        }
        if not doubtful:
            return votes
        quoted: dict[int, list[hostile.Suspect]] = defaultdict(list)
        for span in {span for ballots in votes.values() for vote in ballots for span in vote.spans}:
            quoted[span.position].append(hostile.Suspect("quoted", span.start, span.end))
        bare = transcript.render_quotes_only(line, window, quoted)
        request = _hindsight_request(
            line, bare, window, self.options, self.client.endpoint.model, votes=1
        )
        samples = await self._ask(request, user, Judgements, self._checks(bare, window))
        controls = self._votes(line, window, bare, _find_suspects(line, window), samples)
        unsupported = {
            p
            for p in doubtful & controls.keys()
            if contradicts(p, votes[p], _score(controls[p][0].judgement))
        }
        self.tally.unsupported += len(unsupported)
        return {**votes, **controls} if unsupported else votes

    async def _steering(
        self,
        line: Timeline,
        window: Window,
        suspects: Mapping[int, Sequence[hostile.Suspect]],
        votes: Mapping[int, Sequence[_Vote]],
        user: str,
    ) -> dict[int, list[Span]]:
        """Judge once more with the suspect text in place, to see whether it moves a score.

        Returns the suspect spans as evidence, by response.
        """
        raw = transcript.render_window(line, window)
        request = _hindsight_request(
            line, raw, window, self.options, self.client.endpoint.model, votes=1
        )
        samples = await self._ask(request, user, Judgements, self._checks(raw, window))
        moved: dict[int, list[Span]] = {}
        for position, ballots in self._votes(line, window, raw, {}, samples).items():
            if position not in votes:
                continue
            clean = float(np.mean([vote.judgement.score for vote in votes[position]]))
            self.tally.steered += (
                abs(ballots[0].judgement.score - clean) > 10 * self.options.tolerance
            )
            later = {p: spans for p, spans in suspects.items() if p >= position}
            moved[position] = [
                Span(p, s.start, min(s.end, s.start + _MAX_QUOTE), STEERING, 0, 0.0)
                for p, spans in later.items()
                for s in spans
            ]
        return moved

    async def _foresight(self, line: Timeline, response: int) -> float | None:
        request = make_foresight_request(line, response, self.client.endpoint.model)
        (guess,) = await self._ask(
            request,
            str(line.user[response]),
            Guess,
            lambda g: "" if 0 <= g.score <= 10 else "score must be 0 to 10",
        )
        return float(np.clip(guess.score / 10, 0.02, 0.98)) if guess else None

    async def _ask(
        self, request: Request, user: str, kind: type[Any], check: Callable[[Any], str]
    ) -> list[Any]:
        try:
            samples, was_cached, repairs = await ask_cached(
                self.client, self.replies, request, kind, check, user=user
            )
        except UnansweredError as error:  # this request is left out, and the others go on
            self.tally.unanswered += 1
            self.tally.first_problem = self.tally.first_problem or str(error)
            return [None] * request.n
        self.tally.from_cache += was_cached
        self.tally.repaired += repairs
        return samples

    def _checks(self, shown: Transcript, window: Window) -> Callable[[Judgements], str]:
        """A check of a sample as a whole; quotes are checked one by one, later."""
        expected = {shown.number(p) for p in window.responses}
        labels = self.options.rubric.labels

        def check(sample: Judgements) -> str:
            answered = {judgement.response for judgement in sample.verdicts}
            if missing := sorted(expected - answered):
                return f"no verdict for response {', '.join(map(str, missing[:20]))}"
            for judgement in sample.verdicts:
                if not 0 <= judgement.score <= 10:
                    return f"response {judgement.response}: score must be 0 to 10"
                if judgement.label not in labels:
                    return (
                        f"response {judgement.response}: label must be one of {', '.join(labels)}"
                    )
            return ""

        return check

    def _votes(
        self,
        line: Timeline,
        window: Window,
        shown: Transcript,
        suspects: Mapping[int, Sequence[hostile.Suspect]],
        samples: Sequence[Judgements | None],
    ) -> dict[int, list[_Vote]]:
        expected = set(window.responses)
        votes: dict[int, list[_Vote]] = defaultdict(list)
        for sample in samples:
            judgements: dict[int, Judgement] = {}
            for judgement in sample.verdicts if sample else ():
                position = shown.position(judgement.response)
                if (
                    position in expected
                    and 0 <= judgement.score <= 10
                    and judgement.label in self.options.rubric.labels
                ):
                    judgements.setdefault(position, judgement)
            for position, judgement in judgements.items():
                spans = [
                    _locate_quote(
                        line,
                        window,
                        shown,
                        suspects,
                        response=position,
                        quote=quote,
                        label=judgement.label,
                    )
                    for quote in judgement.evidence
                ]
                valid = tuple(span for span in spans if span is not None)
                self.tally.quotes += len(spans)
                self.tally.void += len(spans) - len(valid)
                votes[position].append(
                    _Vote(judgement, valid, len(spans) - len(valid), window.last - position - 1)
                )
        return votes

    def _finding(
        self,
        position: int,
        votes: Sequence[_Vote],
        embedded: Judged,
        row: int,
        *,
        foresight: float | None,
        steering: Sequence[Span],
    ) -> Finding:
        """One verdict from votes.

        Of two windows, the one that shows more of what followed (up to the horizon) counts.
        """
        max_shown = max(min(vote.seen, self.options.horizon) for vote in votes)
        votes = [vote for vote in votes if min(vote.seen, self.options.horizon) == max_shown]
        before = float(embedded.foresight[row]) if foresight is None else foresight
        scores = [_score(vote.judgement) for vote in votes]
        sides = [side_of(score) for score in scores]
        counts = Counter(sides)
        if float(embedded.confidence[row]) > SURE:
            counts[side_of(float(embedded.score[row]))] += 1
        (side, most_votes), *others = counts.most_common()
        rest = sum(count for _, count in others)
        tie = bool(others) and others[0][1] == most_votes
        void, valid = sum(vote.void for vote in votes), sum(len(vote.spans) for vote in votes)
        agreement = 0.0 if tie else (most_votes - rest) / (most_votes + rest + 1)
        confidence = max(0.0, agreement) * (1.0 - 0.5 * void / max(1, void + valid))
        score = float(
            np.mean(
                [score for score, its in zip(scores, sides, strict=True) if tie or its == side]
                or scores
            )
        )
        refused = Counter(vote.judgement.refusal for vote in votes).most_common(1)[0][0]
        if not valid and refused == "no":
            score, confidence = before, min(confidence, _MAX_UNSUPPORTED)
        self.tally.abstained += tie
        label = Counter(vote.judgement.label for vote in votes).most_common(1)[0][0]
        best = max(votes, key=lambda vote: -abs(_score(vote.judgement) - score))
        reason = (
            f"Wanted: {best.judgement.goal.strip()[:200]}. Then:"
            f" {best.judgement.happened.strip()[:200]}."
        )
        return Finding(
            position,
            float(np.clip(score, 0.02, 0.98)),
            confidence,
            foresight,
            rubric.NO_FEEDBACK if tie or not valid else label,
            reason,
            (*_merge_evidence(votes), *steering)[:_MAX_EVIDENCE],
        )


async def _gather_in_order(calls: Any) -> list[Any]:
    """Results in order.

    If one call fails, the others are awaited first, so that their answers are kept.
    """
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _score(judgement: Judgement) -> float:
    """The score in [0, 1]; that of a refusal depends on whether the request was harmful."""
    score = judgement.score / 10
    if judgement.refusal == "right":
        return max(score, _RIGHT_REFUSAL)
    return min(score, _WRONG_REFUSAL) if judgement.refusal == "wrong" else score


def _locate_quote(
    line: Timeline,
    window: Window,
    shown: Transcript,
    suspects: Mapping[int, Sequence[hostile.Suspect]],
    *,
    response: int,
    quote: Quote,
    label: str,
) -> Span | None:
    """The place of a quote in the log; None where it is void.

    It is void if it is not in the log after the response, or was written for the judge. A quote
    with a wrong message number is valid if exactly one later message contains it.
    """
    later = range(response + 1, window.last)
    position = shown.position(quote.message)
    place = transcript.find_quote(line.text[position], quote.quote) if position in later else None
    if place is None and len(quote.quote) >= 12:
        candidates = [
            (p, match) for p in later if (match := transcript.find_quote(line.text[p], quote.quote))
        ]
        if len(candidates) == 1:
            position, place = candidates[0]
    if place is None or line.role[position] == ASSISTANT:
        return None
    start, end = place[0], min(place[1], place[0] + _MAX_QUOTE)
    if any(start < s.end and s.start < end for s in suspects.get(position, ())):
        return None
    return Span(position, start, end, label, 1 if quote.good else -1, 1.0)


def _merge_evidence(votes: Sequence[_Vote]) -> list[Span]:
    """Each quoted span once, weighted by the share of votes that quote it."""
    spans: dict[tuple[int, int, int], list[Span]] = defaultdict(list)
    for vote in votes:
        for span in set(vote.spans):
            spans[(span.position, span.start, span.end)].append(span)
    merged = [
        same[0]._replace(
            polarity=1 if sum(s.polarity for s in same) > 0 else -1,
            weight=min(1.0, len(same) / len(votes)),
        )
        for same in spans.values()
    ]
    return sorted(merged, key=lambda span: (-span.weight, span.position, span.start))
