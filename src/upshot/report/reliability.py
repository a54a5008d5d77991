"""A reliability plot as one self-contained page: predicted against observed, before and after
calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jinja2

if TYPE_CHECKING:
    from upshot.hindsight.trust.lake_trust import Calibration
    from upshot.stats.calibration import Bin

_SIDE = 320

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Reliability of verdicts</title>
<style>
:root{color-scheme:light dark;--ink:#1c2024;--quiet:#697077;--line:#c9ced3;--back:#fff;--mark:#2f6fde}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--quiet:#9aa3ab;--line:#3a4147;--back:#15181b;--mark:#7aa7ff}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);max-width:46rem;margin:2rem auto;padding:0 1rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(280px,1fr));gap:1.5rem}
figure{margin:0}figcaption{color:var(--quiet)}svg{width:100%;height:auto;overflow:visible}
text{font-size:12px;fill:var(--quiet)}.axis{stroke:var(--line)}.even{stroke:var(--line);stroke-dasharray:4 4}
.reach{stroke:var(--mark);stroke-opacity:.45;stroke-width:2}.point{fill:var(--mark)}
</style></head><body>
<h1>Reliability of verdicts</h1>
<p>{{ found.labels }} labels. Each point is a tenth of them: what the judge said against what people said, with the 95&nbsp;% interval
of the latter. On the dashed line a score is a probability.</p>
<div class="plots">
{% for name, bins, error in (("Before", found.before, found.ece_before), ("After calibration (" ~ found.kind ~ ", cross-fitted)", found.after, found.ece_after)) %}
<figure><svg viewBox="-36 -8 {{ side + 48 }} {{ side + 44 }}" role="img" aria-label="{{ name }}: reliability plot">
<line class="axis" x1="0" y1="{{ side }}" x2="{{ side }}" y2="{{ side }}"/><line class="axis" x1="0" y1="0" x2="0" y2="{{ side }}"/>
<line class="even" x1="0" y1="{{ side }}" x2="{{ side }}" y2="0"/>
{% for v in (0, 0.5, 1) %}<text x="{{ v * side - 6 }}" y="{{ side + 16 }}">{{ v }}</text><text x="-26" y="{{ side - v * side + 4 }}">{{ v }}</text>{% endfor %}
<text x="{{ side / 2 - 30 }}" y="{{ side + 32 }}">judge said</text><text x="6" y="6">people said</text>
{% for x, low, high, y, title in points(bins) %}<line class="reach" x1="{{ x }}" y1="{{ low }}" x2="{{ x }}" y2="{{ high }}"/><circle class="point" cx="{{ x }}" cy="{{ y }}" r="5"><title>{{ title }}</title></circle>
{% endfor %}</svg><figcaption>{{ name }}: expected calibration error {{ "%.3f" | format(error) }}</figcaption></figure>
{% endfor %}</div>
<p>To be wrong in at most {{ "%.0f" | format(100 * found.abstention.error) }}&nbsp;% of cases of either kind, say &ldquo;helped&rdquo; from
{{ "%.2f" | format(found.abstention.helped) }} up, &ldquo;did not help&rdquo; up to {{ "%.2f" | format(found.abstention.harmed) }}, and nothing where both
or neither hold: that decides {{ "%.0f" | format(100 * found.decided) }}&nbsp;%.</p>
<p>Judge and people: Krippendorff&rsquo;s alpha {{ "%.2f" | format(found.judge_and_people.value) }}
[{{ "%.2f" | format(found.judge_and_people.low) }} to {{ "%.2f" | format(found.judge_and_people.high) }}].
{% for pair, kappa in found.raters.items() %}{{ pair }}: kappa {{ "%.2f" | format(kappa.value) }} [{{ "%.2f" | format(kappa.low) }} to {{ "%.2f" | format(kappa.high) }}]. {% endfor %}</p>
</body></html>
"""


def reliability_page(found: Calibration) -> str:
    """The page of a calibration."""
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        _PAGE
    )
    return template.render(found=found, side=_SIDE, points=_points)


def _points(bins: Sequence[Bin]) -> list[tuple[float, float, float, float, str]]:
    place = lambda share: round(_SIDE - share * _SIDE, 1)  # noqa: E731  # a formula
    return [
        (
            round(b.predicted * _SIDE, 1),
            place(b.low),
            place(b.high),
            place(b.observed),
            f"{b.size} responses: said {b.predicted:.2f}, was {b.observed:.2f}",
        )
        for b in bins
    ]
