"""Whether tuning the head on a few marked films gains beside their offsets: `python benchmarks/adapt_head.py FOLDS`.

FOLDS is a folder of `ceph folds`. Of the films that a fold held out, k are drawn and teach; the others are scored as
they are, with offsets, and with the last layer tuned on the k films besides, on points without the offsets, which stand
after it as before. The backbone runs once: features of each scale are kept. `left out` is the gain in mm that the k
films see in the tuning by themselves, in five parts, each scored by what the others taught; `shown`, how often the
interval of that gain lies above 0.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

import ceph
from ceph import runfolder
from ceph.data.dataset import to_batch
from ceph.data.geometry import inverse, transform
from ceph.data.loader import Loader, in_order
from ceph.data.truth import combine
from ceph.evaluation.means import Seen, mean_of
from ceph.evaluation.offsets import learn, mean_shape, turned, turns
from ceph.evaluation.statistics import t_quantile
from ceph.model.codec import GaussianDecoder, activate, gaussians
from ceph.run.films import make_films, read_data
from ceph.training.loss import cross_entropy
from ceph.training.runtime import flushed_denormals

STEPS, LR, PARTS, BATCH = (10, 30), 1e-3, 5, 5


class Kept:
    """The films that a run held out, as its head sees them."""

    def __init__(self, run):
        trained = ceph.load(run)
        self.net, sizes = trained.model, trained.ensemble.sizes
        data = read_data(trained.config, trained.hooks)
        films = make_films(data, "validation", trained.config)
        self.samples, self.readers = films.samples, data.readers
        seen, levels = defaultdict(list), []
        handle = self.net.pyramid.register_forward_hook(lambda _module, _given, found: levels.append(found[0]))
        for i, item in enumerate(Loader(films, 0).load(in_order(len(films), BATCH, sizes))):
            self.net(to_batch(item, torch.device("cpu")).image)
            seen[i % len(sizes)].append((levels.pop().half(), item.film_to_network.double()))
        handle.remove()
        self.scales = [tuple(map(torch.cat, zip(*parts, strict=True))) for parts in seen.values()]
        self.size, config = sizes[0], trained.config
        self.kind, self.sigma, self.stride = config.target_kind, config.sigma_px, config.model.stride
        self.decoder = GaussianDecoder(self.kind, self.sigma, self.stride, config.decoder)

    def found(self, head, films):
        """The points [N, K, 2] in film px of the mean of all scales' maps."""
        points = []
        for few in np.array_split(films, -(-len(films) // BATCH)):
            of = [(activate(head(x[few].float()), self.kind), frame[few]) for x, frame in self.scales]
            maps = mean_of(Seen(*each, self.stride, normalised=self.kind == "distribution") for each in of)
            on_network = self.decoder.decode(maps, self.size)[0].double().numpy()
            points += [transform(inverse(m.numpy()), p) for m, p in zip(of[0][1], on_network, strict=True)]
        return np.stack(points)

    def tuned(self, truth_px, films):
        """The head after each of STEPS steps on the films, by their points [N, K, 2] in film px."""
        x, frame = self.scales[0]
        points = np.stack([transform(frame[n].numpy(), truth_px[n]) for n in films])
        target = gaussians(torch.from_numpy(points), x.shape[-2:], self.kind, self.sigma, self.stride)
        x = x[films].float()
        head = deepcopy(self.net.head)
        optimizer = torch.optim.Adam(head.parameters(), lr=LR, betas=(0.9, 0.99))
        for step in range(1, max(STEPS) + 1):
            with torch.enable_grad():
                cross_entropy(head(x), target, None).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            if step in STEPS:
                yield step, deepcopy(head)


def draw(kept, plain, truth, mm, shape, few, rest):
    """Errors in mm of the films of `rest`, by what was done; what the `few` say of the tuning by themselves."""

    def moved(found, offsets, films):
        turn = turns(found * mm[films], shape)
        return found + turned(np.broadcast_to(offsets, found.shape), 1 / turn) / mm[films]

    def learned(films):
        turn = turns(plain[films] * mm[films], shape)
        moves = turned((truth - plain)[films] * mm[films], turn)
        return learn(moves, np.ones(moves.shape[:2], dtype=bool)).offsets_mm

    def errors(found, films):
        return (np.linalg.norm(found - truth[films], axis=-1) * mm[films][..., 0]).mean(axis=1)

    def both(taught, scored):
        """Errors of each scored film with offsets, and with the head tuned after each of STEPS."""
        offsets = learned(taught)
        start = moved(plain, offsets, np.arange(len(plain)))
        heads = kept.tuned(truth - (start - plain), taught)
        found = {step: moved(kept.found(head, scored), offsets, scored) for step, head in heads}
        return errors(start[scored], scored), {step: errors(points, scored) for step, points in found.items()}

    start, tuned = both(few, rest)
    told = {"as they are": errors(plain[rest], rest).mean(), "offsets": start.mean()}
    told |= {f"and {step} steps": each.mean() for step, each in tuned.items()}
    parts = [both(np.setdiff1d(few, part), part) for part in np.array_split(few, PARTS)]
    gain = np.concatenate([start - tuned[STEPS[0]] for start, tuned in parts])
    half = t_quantile(len(gain) - 1, 0.95) * gain.std(ddof=1) / np.sqrt(len(gain))
    return told | {"left out": gain.mean(), "shown": float(gain.mean() > half)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folds", type=Path)
    parser.add_argument("--truth", nargs="+", required=True, help="readers who are adapted to")
    parser.add_argument("--films", type=int, nargs="+", default=(5, 20))
    args = parser.parse_args()
    rows = defaultdict(list)
    for fold, run in enumerate(runfolder.read_members(args.folds)):
        kept = Kept(run)
        mm = np.array([s.mm_per_px for s in kept.samples])[:, None, None]
        plain = kept.found(kept.net.head, np.arange(len(mm)))
        for reader in args.truth:
            truth = np.stack([combine(s.points, s.valid, reader, kept.readers)[0] for s in kept.samples])
            for k in args.films:
                films = np.random.default_rng(1000 * fold + k).permutation(len(mm))
                rows[k].append(draw(kept, plain, truth, mm, mean_shape(plain * mm), films[:k], films[k:]))
    for k, draws in rows.items():
        print(f"{k} films, {len(draws)} draws")
        start = np.array([each["offsets"] for each in draws])
        for name in draws[0]:
            of = np.array([each[name] for each in draws])
            told = f" {100 * (of / start - 1).mean():+.2f} %, better in {(of < start).sum()}" if "steps" in name else ""
            print(f"  {name:12} {of.mean():.3f}{told}")


if __name__ == "__main__":
    with torch.no_grad(), flushed_denormals():
        main()
