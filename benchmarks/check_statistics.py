"""Do the intervals cover, and are false alarms rare? `python benchmarks/check_statistics.py [--draws 2000]`.

Simulated runs of two configs, with the code that `ceph compare` uses: how often the 95 % interval covers a known
effect; and, where there is none, how often Holm's correction over ten correlated landmarks, or four SDRs, shows one.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import time

import numpy as np

from ceph.evaluation.statistics import estimate_many, holm, t_quantile

MM, SPREAD = 1.2, 0.5  # median error of a film of average difficulty; log-scale spread of its errors
POINTS = 19  # of a film, behind a count
FIGURES = ("lognormal", "t", "ties", "paired", "SDR", "few", "gross")  # MRE of such errors, or a success rate
BATCH = 250  # draws in memory together
ALARMS = ("lognormal", "ties", "paired", "SDR", "few")
FILMS = ((20, 4), (128, 19))  # and how many of them are repeats
LUCK = (0.0, 0.1)  # standard deviation in mm (of MRE 1.5) of the shift that a seed gives to all films
REACH = {"SDR": 0.9, "few": 2.7}  # the limit of success, in standard deviations of the log of a film's errors


def relative(rng, law, shape, own):
    """Relative errors [draws, seeds, films, ...] of a config; `own`: the share of the spread that all seeds repeat."""
    once = shape[0], 1, *shape[2:]
    if law == "t":
        return 1 + 0.3 * (own**0.5 * rng.standard_t(3, once) + (1 - own) ** 0.5 * rng.standard_t(3, shape))
    return np.exp(SPREAD * (own**0.5 * rng.standard_normal(once) + (1 - own) ** 0.5 * rng.standard_normal(shape)))


def simulate(rng, figure, *, draws, seeds, films, twins, luck, own=0.5, effect=-0.1, rows=()):
    """The two terms of a difference, [draws, seeds, films, *rows] each, the films' units, and the step of counts.

    Both configs share each film's difficulty; the last `twins` films are repeats of the first ones. Of `rows`, such as
    landmarks, a half of the spread is common; limits of success differ by row.
    """
    shape = draws, seeds, films
    difficulty = MM * np.exp(0.4 * rng.standard_normal((draws, 1, films)))[(..., *[None] * len(rows))]
    both = relative(rng, "lognormal", shape, own)[(..., *[None] * len(rows))]
    terms, units = [], np.r_[np.arange(films - twins), np.arange(twins)]
    for sign in (-1, 1):
        shift = luck * rng.standard_normal((draws, seeds, 1, *[1] * len(rows)))
        law = "t" if figure == "t" else "lognormal"
        errors = relative(rng, law, (*shape, *rows), own)
        if rows:
            errors = np.sqrt(np.maximum(errors * relative(rng, law, shape, own)[..., None], 0))  # t falls below 0
        errors = difficulty * (both**0.5 * errors if figure == "paired" else errors)
        errors = errors * (1 + effect if sign > 0 else 1) + shift
        if figure == "gross" and sign < 0:  # one film in twenty goes wrong, and only with the baseline
            errors += 10 * rng.random((draws, 1, films)) * (rng.random((draws, 1, films)) < 0.05)
        if figure == "ties":
            errors = np.round(errors)
        elif figure in REACH:
            errors = successes(rng, errors, REACH[figure], rows)
        if twins:
            errors[:, :, -twins:] = errors[:, :, :twins]
        terms.append(sign * errors)
    return terms, units, 100 / (POINTS * films) if figure in REACH else 0.0


def successes(rng, errors_mm, reach, rows):
    """Percent of the points of films, with these errors, that lie within a limit (of each row its own, growing)."""
    spread, last, percent = math.hypot(0.4, SPREAD), 1.0, []
    logs = np.log(np.maximum(errors_mm[..., 0] if rows else errors_mm, 0.01) / MM)
    count = np.full(logs.shape, POINTS)
    for row in reversed(range(rows[0] if rows else 1)):
        chance = 1 / (1 + np.exp((logs - spread * (reach + 0.35 * row)) / 0.2))
        count = rng.binomial(count, chance / last)  # of the points within the wider limit
        percent.insert(0, 100 * count / POINTS)
        last = chance
    return np.stack(percent, axis=-1) if rows else percent[0]


def terms_of(figure, terms):
    """As `share_seeds` has them: runs of one training are subtracted seed by seed."""
    return [terms[0] + terms[1]] if figure == "paired" else terms


@functools.lru_cache
def mean_of(figure, luck):
    """The true difference."""
    terms, *_ = simulate(np.random.default_rng(9), figure, draws=2000, seeds=8, films=40, twins=0, luck=luck)
    return sum(float(term.mean()) for term in terms)


def coverage(rng, figure, *, resamples=999, **scenario):
    """How many of the draws have an interval that holds the truth."""
    terms, units, step = simulate(rng, figure, **scenario)
    truth = mean_of(figure, scenario["luck"])
    found = estimate_many(terms_of(figure, terms), np.ones(len(units)), units, step=step, resamples=resamples)
    return sum(e.low <= truth <= e.high for e in found)


def false_alarms(rng, figure, *, rows=None, resamples=999, **scenario):
    """How many of the draws show a difference of some row where there is none."""
    rows = rows or (4 if figure in REACH else 10)
    terms, units, step = simulate(rng, figure, effect=0.0, rows=(rows,), **scenario)
    flat = [np.moveaxis(term, 3, 1).reshape(-1, *term.shape[1:3]) for term in terms_of(figure, terms)]
    found = estimate_many(flat, np.ones(len(units)), units, step=step, resamples=resamples)
    p = np.array([e.p if not e.low <= 0 <= e.high else 1.0 for e in found]).reshape(-1, rows)
    return sum(min(holm(row)) <= 0.05 for row in p.tolist())


def scenarios(seeds):
    """Films, repeats and luck that a cell of the tables is measured on."""
    for (films, twins), luck in itertools.product(FILMS, LUCK[:1] if seeds == 1 else LUCK):
        yield {"seeds": seeds, "films": films, "twins": twins, "luck": luck}


def rule(rng, power, seeds, own, luck):
    """Coverage, in percent, of the quantile that goes with the seeds' share of the variance to this power.

    With very many films; of the variance of the mean, `own` comes from the films, 1 - `own` from films x seeds, and
    `luck` is added by the seeds, a fifth of it by those of the one config.
    """
    means, seen, squares = own**0.5 * rng.standard_normal(20_000), 0.0, 0.0
    for part in (0.2, 0.8):
        runs = math.sqrt(seeds * ((1 - own) / 2 + part * luck)) * rng.standard_normal((20_000, seeds))
        means, found = means + runs.mean(axis=1), runs.var(axis=1, ddof=1) / seeds
        seen, squares = seen + found, squares + found**2 / (seeds - 1)
    t = np.array([t_quantile(freedom, 0.95) for freedom in seen**2 / squares])
    variance = max(own, 0.5) + seen
    half = (1.959964 + (t - 1.959964) * (seen / variance) ** power) * np.sqrt(variance)
    return 100 * float((np.abs(means) <= half).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000, help=f"a multiple of {BATCH}")
    parser.add_argument("--only", choices=("coverage", "alarms", "rule"))
    parser.add_argument("--figure", choices=FIGURES)
    parser.add_argument("--resamples", type=int, default=499)
    parser.add_argument("--own", type=float, default=0.5)
    parser.add_argument("--all", action="store_true", help="each scenario, too")
    args = parser.parse_args()
    began = time.monotonic()
    for name, count in (("coverage", coverage), ("alarms", false_alarms)):
        if args.only not in (None, name):
            continue
        figures = [args.figure] if args.figure else (FIGURES if name == "coverage" else ALARMS)
        print(f"| {name} % | 1 seed | " + " | ".join(map(str, range(2, 9))) + " |\n" + "|---" * 9 + "|")
        for figure in figures:
            cells = []
            for seeds in range(1, 9):
                found = []
                for i, s in enumerate(scenarios(seeds)):
                    rng = np.random.default_rng((seeds, i))
                    more = {"draws": BATCH, "own": args.own, "resamples": args.resamples}
                    hits = sum(count(rng, figure, **more, **s) for _ in range(args.draws // BATCH))
                    found.append(100 * hits / args.draws)
                    if args.all:
                        print(name, figure, s, found[-1], flush=True)
                cells.append(f"{min(found):.1f}-{max(found):.1f}" if name == "coverage" else f"{max(found):.1f}")
            print(f"| {figure} | " + " | ".join(cells) + " |", flush=True)
        print()
    if args.only in (None, "rule"):
        print("| power of the share | seeds | covered %, least | most |\n|---|---|---|---|")
        for power, seeds in itertools.product((1, 1.5, 2), (2, 3, 5, 8)):
            parts = itertools.product((0.1, 0.3, 0.6, 0.9), (0, 0.3, 1, 3, 10))
            found = [rule(np.random.default_rng(3), power, seeds, own, luck) for own, luck in parts]
            print(f"| {power} | {seeds} | {min(found):.1f} | {max(found):.1f} |", flush=True)
    print(f"\n{args.draws} draws each, {args.resamples} resamples, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
