"""Do the intervals cover, and are false alarms rare? `python benchmarks/check_statistics.py [--draws 1000]`.

Simulated runs with a known effect: how often the 95 % interval covers it; and runs with none: how often Holm's
correction over 29 correlated landmarks still shows a difference. Both with the code that `ceph compare` uses.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time

import numpy as np

from ceph.evaluation.statistics import RESAMPLES, estimate_many, holm, t_quantile

MM, SPREAD = 1.2, 0.5  # median error of a film of average difficulty; log-scale spread of its errors
LAWS = ("lognormal", "t")


def errors(rng, law, shape, own):
    """Relative errors [draws, seeds, films] of one config; `own`: the share of the spread that all seeds repeat."""
    draws, seeds, films = shape
    if law != "t":
        noise = own**0.5 * rng.standard_normal((draws, 1, films)) + (1 - own) ** 0.5 * rng.standard_normal(
            (draws, seeds, films)
        )
        return np.exp(SPREAD * noise)
    fixed, fresh = rng.standard_t(3, (draws, 1, films)), rng.standard_t(3, (draws, seeds, films))
    return 1 + 0.3 * (own**0.5 * fixed + (1 - own) ** 0.5 * fresh)


def simulate(rng, *, law, draws, seeds, films, twins, luck, own=0.5, effect=-0.1):
    """Differences [draws, seeds, films] in mm, their units, and the true mean.

    Both configs share each film's difficulty; `luck` is the deviation in mm of the shift that a seed gives to all
    films; the last `twins` films are repeats of the first ones.
    """
    shape = draws, seeds, films
    difficulty = MM * np.exp(0.4 * rng.standard_normal((draws, 1, films)))
    base, other = (difficulty * errors(rng, law, shape, own) for _ in range(2))
    if law == "failures":  # one film in twenty goes wrong, and only with the baseline
        base += 10 * rng.random((draws, 1, films)) * (rng.random((draws, 1, films)) < 0.05)
    differences = (1 + effect) * other - base + luck * 2**0.5 * rng.standard_normal((draws, seeds, 1))
    units = np.arange(films)
    if twins:
        differences[:, :, -twins:] = differences[:, :, :twins] + 0.02 * rng.standard_normal((draws, seeds, twins))
        units[-twins:] = units[:twins]
    mean = MM * math.exp(0.4**2 / 2) * (1 if law == "t" else math.exp(SPREAD**2 / 2))
    return differences, units, effect * mean - (0.25 if law == "failures" else 0)


def coverage(rng, *, resamples=RESAMPLES, **scenario):
    """How many of the draws have an interval that holds the truth."""
    differences, units, truth = simulate(rng, **scenario)
    found = estimate_many(differences, np.ones(len(units)), units, resamples=resamples)
    return sum(e.low <= truth <= e.high for e in found)


def false_alarms(rng, *, draws, seeds, films, twins, luck, own, landmarks=29, resamples=RESAMPLES):
    """How many of the draws show a difference of some landmark where there is none; `own` as in `errors`.

    A film's difficulty and half of each config's deviation on it are common to the landmarks, as is half of the luck.
    """
    shape = landmarks, seeds, films
    quantities, units = [], np.arange(films)
    if twins:
        units[-twins:] = units[:twins]
    for _ in range(draws):
        difficulty = MM * np.exp(0.4 * rng.standard_normal((1, 1, films)))
        difference = np.zeros(shape)
        for sign in (-1, 1):
            together, alone = errors(rng, "lognormal", (1, seeds, films), own), errors(rng, "lognormal", shape, own)
            shift = rng.standard_normal((1, seeds, 1)) + rng.standard_normal((landmarks, seeds, 1))
            difference += sign * (difficulty * np.sqrt(together * alone) + luck / 2**0.5 * shift)
        if twins:
            difference[:, :, -twins:] = difference[:, :, :twins]
        quantities.append(difference)
    found = estimate_many(np.concatenate(quantities), np.ones(films), units, resamples=resamples)
    p = np.array([e.p for e in found]).reshape(draws, landmarks)
    return sum(min(holm(row)) <= 0.05 for row in p.tolist())


def wilson(hits, n, z=1.96):
    """The 95 % interval of a share, in percent (Wilson 1927)."""
    middle, half = hits + z * z / 2, z * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return 100 * (middle - half) / (n + z * z), 100 * (middle + half) / (n + z * z)


def scenarios():
    """What the coverage is measured on."""
    for law, seeds, (films, twins) in itertools.product(LAWS, (1, 3, 5), ((20, 0), (20, 4), (128, 0), (128, 19))):
        for luck in (0.0,) if seeds == 1 else (0.0, 0.03, 0.1, 0.3):
            yield {"law": law, "seeds": seeds, "films": films, "twins": twins, "luck": luck}


def null_scenarios():
    """What the false alarms are measured on."""
    for seeds, (films, twins) in itertools.product((1, 3, 5), ((20, 4), (128, 19))):
        for luck, own in ((0.0, 0.5),) if seeds == 1 else ((0.0, 0.5), (0.05, 0.5), (0.3, 0.5), (0.05, 0.0)):
            yield {"seeds": seeds, "films": films, "twins": twins, "luck": luck, "own": own}


def skewed_scenarios():
    """Where the differences are so skewed that few films are not enough."""
    for films in (20, 50, 128):
        yield {"law": "failures", "seeds": 1, "films": films, "twins": 0, "luck": 0.0}


def rule(rng, power, seeds, own, luck):
    """Coverage, in percent, of the quantile that goes with the seeds' share of the variance to this power.

    With very many films; of the variance of the mean, `own` comes from the films, 1 - `own` from films x seeds,
    and `luck` is added by the seeds.
    """
    seen = (1 - own + luck) * rng.chisquare(seeds - 1, 20_000) / (seeds - 1)
    normal, t = 1.959964, t_quantile(seeds - 1, 0.95)
    half = (normal + (t - normal) * (seen / (own + seen)) ** power) * np.sqrt(own + seen)
    return 100 * float(np.mean(np.vectorize(math.erf)(half / math.sqrt(2 * (1 + luck)))))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", choices=("coverage", "alarms", "skewed", "rule"))
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    args = parser.parse_args()
    began = time.monotonic()

    def line(hits, *cells):
        low, high = wilson(hits, args.draws)
        cells = [*cells, f"{100 * hits / args.draws:.1f}", f"{low:.1f}-{high:.1f}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)

    def wanted(what):
        return args.only in (None, what)

    for what, cases in (("coverage", scenarios()), ("skewed", skewed_scenarios())):
        if wanted(what):
            print("| errors | seeds | films | repeats | luck of a seed, mm | covered % | 95 % interval |")
            print("|---|---|---|---|---|---|---|")
            for i, s in enumerate(cases):
                hits = coverage(np.random.default_rng((1, i)), draws=args.draws, resamples=args.resamples, **s)
                line(hits, *s.values())
            print()
    if wanted("alarms"):
        print(
            "| seeds | films | repeats | luck of a seed, mm | share the seeds repeat | false alarm % | 95 % interval |"
        )
        print("|---|---|---|---|---|---|---|")
        for i, s in enumerate(null_scenarios()):
            hits = false_alarms(np.random.default_rng((2, i)), draws=args.draws, resamples=args.resamples, **s)
            line(hits, *s.values())
        print()
    if wanted("rule"):
        print("| power of the share | seeds | covered %, least | most |")
        print("|---|---|---|---|")
        for power, seeds in itertools.product((1, 1.5, 2), (3, 5)):
            parts = itertools.product((0.1, 0.3, 0.6, 0.9), (0, 0.3, 1, 3, 10))
            found = [rule(np.random.default_rng(3), power, seeds, own, luck) for own, luck in parts]
            print(f"| {power} | {seeds} | {min(found):.1f} | {max(found):.1f} |")
    print(f"\n{args.draws} draws each, {args.resamples} resamples, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
