// One film with what is drawn on it: zoom, pan, marks that keep their size on the screen, a map, a scale bar.

import { html, known, mm, svg } from "./tools.js";

const HIT = 11, CLICK_PX = 4;
const SHAPES = { // drawn around (0, 0), in px of the screen; each layer has a shape of its own
  found: () => [svg("path", { d: "M-5.5 -5.5L5.5 5.5M-5.5 5.5L5.5 -5.5" })],
  true: () => [svg("circle", { r: 6.5 })],
  moved: () => [svg("path", { d: "M0 -5L5 0L0 5L-5 0Z" })],
  "reader-0": () => [svg("path", { d: "M0 -7L6.5 5H-6.5Z" })],
  "reader-1": () => [svg("path", { d: "M0 7L6.5 -5H-6.5Z" })],
};

/** The sign of a layer, with a dark edge. */
export function sign(layer) {
  const shape = SHAPES[layer] || (() => [svg("rect", { x: -5, y: -5, width: 10, height: 10 })]);
  return svg("g", {}, svg("g", { class: "halo" }, ...shape()), svg("g", { class: `mark ${layer}` }, ...shape()));
}

export class Stage {
  /** `chosen(k)` is told of a landmark that was clicked, `moved(box)` of a new part of the film. */
  constructor(figure, chosen, moved) {
    this.chosen = chosen;
    this.moved = moved;
    const caption = figure.appendChild(html("figcaption"));
    this.title = caption.appendChild(html("span"));
    this.note = caption.appendChild(html("span", { class: "note", "aria-live": "polite" }));
    this.root = figure.appendChild(svg("svg", { role: "img", tabindex: 0, preserveAspectRatio: "xMidYMid meet" }));
    this.box = [0, 0, 1, 1];
    this.pointers = new Map();
    this.root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.root.addEventListener("pointerdown", (event) => this.#down(event));
    this.root.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) this.root.addEventListener(end, (event) => this.#up(event));
    new ResizeObserver(() => this.#sized()).observe(this.root);
  }

  /** Draw a film: `film` as the server tells it, the address of its picture, and what is to be seen. */
  show(film, picture, landmarks, look, lost) {
    this.film = film;
    this.frame = frameOf(film);
    const [x, y, width, height] = this.frame;
    this.root.replaceChildren();
    if (picture) {
      // The centre of the first pixel is (0, 0), so the film begins half a pixel before it.
      this.image = svg("image", { href: picture, x: -0.5, y: -0.5, width, height, preserveAspectRatio: "none" });
      this.image.addEventListener("error", () => lost(picture));
      this.root.append(this.image);
    } else {
      const text = svg("text", { class: "lost", "text-anchor": "middle" }, "this film is not to be seen");
      this.root.append(svg("g", { class: "fixed", "data-x": x + width / 2, "data-y": y + height * 0.06 }, text));
    }
    this.glow = this.root.appendChild(svg("g", { class: "glow" }));
    const lines = film.tracing.map((points) => svg("polyline", { points: points.map((point) => point.join()).join(" ") }));
    this.lines = this.root.appendChild(svg("g", { class: "tracing" }, ...lines));
    this.marks = landmarks.map((symbol, k) => this.#landmark(film, symbol, k));
    this.root.append(...this.marks);
    this.bar = this.root.appendChild(svg("g", { class: "bar" }));
    this.root.setAttribute("aria-label", `film ${film.id}`);
    this.placedAt = null;
    this.look(look);
  }

  #landmark(film, symbol, k) {
    const group = svg("g", { class: "landmark", "data-k": k, "data-symbol": symbol });
    const found = film.points[k], truth = film.truth[k];
    if (found && truth) {
      const line = { x1: found[0], y1: found[1], x2: truth[0], y2: truth[1] };
      group.append(svg("line", { ...line, class: "between", "data-layer": "between" }));
    }
    if (found && known(film.radii[k])) group.append(svg("circle", { class: "radius", "data-layer": "radius", cx: found[0], cy: found[1], r: film.radii[k] }));
    const at = (point, layer, ...inner) => {
      if (!point) return;
      group.append(svg("g", { class: "fixed", "data-layer": layer, "data-x": point[0], "data-y": point[1] }, ...inner));
    };
    const track = film.tracks[k];
    if (track.length) group.append(svg("polyline", { class: "track", "data-layer": "track", points: track.map(([, x, y]) => `${x},${y}`).join(" ") }));
    for (const [stage, x, y] of track.slice(0, -1)) at([x, y], "track", sign("moved"), svg("title", {}, `${symbol}: ${stage}`));
    Object.values(film.readers).forEach((points, r) => at(points[k], "readers", sign(`reader-${r}`)));
    at(truth, "truth", sign("true"));
    at(found, "found", sign("found"));
    const anchor = found || truth;
    const error = known(film.errors[k]) ? ` ${mm(film.errors[k])} mm` : "";
    at(anchor, "names", svg("text", { class: "name-of" }, symbol));
    at(anchor, "always", svg("circle", { class: "ring", r: 16 }), svg("circle", { r: HIT, fill: "transparent" }),
      svg("title", {}, `${symbol}${error}`));
    group.addEventListener("click", () => { if (!this.dragged) this.chosen(k); });
    return group;
  }

  /** What is to be seen: `layers` that are on, the landmark `only` that the others are hidden for, the `chosen` one. */
  look({ layers, only, chosen }) {
    this.marks.forEach((group, k) => {
      group.classList.toggle("chosen", k === chosen);
      group.style.display = known(only) && k !== only ? "none" : "";
      for (const part of group.querySelectorAll("[data-layer]")) {
        const layer = part.dataset.layer;
        const on = layer === "between" ? layers.found && layers.truth : layer === "always" || layers[layer];
        part.style.display = on ? "" : "none";
      }
    });
    if (known(chosen) && this.marks[chosen]) this.bar.before(this.marks[chosen]); // above the others
    this.glow.style.display = layers.map ? "" : "none";
    this.lines.style.display = layers.tracing ? "" : "none";
  }

  /** A few words beside the film's name. */
  say(text) {
    this.note.textContent = text;
  }

  /** Lay a map on the film, or none, and say `text`. */
  lay(map, text = "") {
    this.glow.replaceChildren();
    this.say(text);
    if (!map) return;
    const place = { x: -0.5, y: -0.5, width: map.width, height: map.height, preserveAspectRatio: "none" };
    this.glow.append(svg("image", { href: map.png, transform: `matrix(${map.matrix.join(" ")})`, ...place }));
  }

  /** Px of the screen for a px of the film. */
  get scale() {
    const { clientWidth, clientHeight } = this.root;
    return Math.min(clientWidth / this.box[2], clientHeight / this.box[3]) || 1;
  }

  /** Show the part [x, y, width, height] of the film; `quiet` where another stage says so. */
  see(box, quiet = false) {
    this.box = box;
    this.root.setAttribute("viewBox", box.join(" "));
    this.#sized();
    if (!quiet) this.moved(box);
  }

  fit(quiet = false) {
    this.see(this.frame, quiet);
  }

  /** Show the part of the film that holds all its points. */
  home(quiet = false) {
    const box = boxOf(this.film), [left, top, width, height] = this.frame;
    if (!box) return this.fit(quiet);
    const low = [Math.max(box[0], left), Math.max(box[1], top)];
    const high = [Math.min(box[0] + box[2], left + width), Math.min(box[1] + box[3], top + height)];
    this.see([...low, Math.max(high[0] - low[0], 1), Math.max(high[1] - low[1], 1)], quiet);
  }

  zoom(factor, centre = [this.box[0] + this.box[2] / 2, this.box[1] + this.box[3] / 2]) {
    const [x, y, width, height] = this.box;
    const limit = this.frame[2];
    const f = Math.min(Math.max(factor, (0.01 * limit) / width), (4 * limit) / width);
    this.see([centre[0] + (x - centre[0]) * f, centre[1] + (y - centre[1]) * f, width * f, height * f]);
  }

  pan(right, down) {
    const [x, y, width, height] = this.box;
    this.see([x + right * width, y + down * height, width, height]);
  }

  /** Show where landmark k was found, where it was before, and where it is. */
  seek(k) {
    const track = this.film.tracks[k].map(([, x, y]) => [x, y]);
    const points = [this.film.points[k], this.film.truth[k], ...track, ...Object.values(this.film.readers).map((of) => of[k])];
    const there = points.filter(known);
    if (!there.length) return;
    const [low, high] = [Math.min, Math.max].map((end) => [0, 1].map((axis) => end(...there.map((p) => p[axis]))));
    const wanted = Math.max(2.5 * (high[0] - low[0]), 2.5 * (high[1] - low[1]), 0.16 * this.frame[3]);
    const side = Math.min(wanted, Math.max(this.frame[2], this.frame[3]));
    this.see([(low[0] + high[0] - side) / 2, (low[1] + high[1] - side) / 2, side, side]);
  }

  #sized() {
    if (!this.film) return;
    const scale = this.scale;
    for (const part of this.root.querySelectorAll(".fixed")) {
      part.setAttribute("transform", `translate(${part.dataset.x} ${part.dataset.y}) scale(${1 / scale})`);
    }
    if (scale !== this.placedAt) this.#placeNames(scale);
    this.placedAt = scale;
    this.#scaleBar(scale);
  }

  /** Put each name where it covers least of the marks and of the names before it, in px of the screen. */
  #placeNames(scale) {
    const boxAt = (x, y, width, height) => [x, y, x + width, y + height];
    const names = [...this.root.querySelectorAll(".name-of")];
    const at = names.map((name) => [name.parentNode.dataset.x * scale, name.parentNode.dataset.y * scale]);
    const taken = at.map(([x, y]) => boxAt(x - 6, y - 6, 12, 12));
    names.forEach((name, i) => {
      const width = 8 * name.textContent.length, [x, y] = at[i];
      const places = [[9, -7], [9, 13], [-9 - width, -7], [-9 - width, 13], [-width / 2, -13], [-width / 2, 22]];
      const boxes = places.map(([dx, dy]) => boxAt(x + dx, y + dy - 10, width, 12));
      const costs = boxes.map((box) => taken.reduce((sum, other) => sum + shared(box, other), 0));
      const best = costs.indexOf(Math.min(...costs));
      taken.push(boxes[best]);
      name.setAttribute("x", places[best][0]);
      name.setAttribute("y", places[best][1]);
    });
  }

  #scaleBar(scale) {
    this.bar.replaceChildren();
    const { clientWidth, clientHeight } = this.root;
    if (!known(this.film.mm_per_px) || !clientWidth) return;
    const mmPerScreen = this.film.mm_per_px / scale;
    const length = [50, 20, 10, 5, 2, 1, 0.5, 0.2].find((l) => l / mmPerScreen <= clientWidth / 4) || 0.1;
    // In px of the screen, from the lower left corner of the element.
    const left = this.box[0] + this.box[2] / 2 - clientWidth / 2 / scale;
    const bottom = this.box[1] + this.box[3] / 2 + clientHeight / 2 / scale;
    this.bar.setAttribute("transform", `translate(${left} ${bottom}) scale(${1 / scale})`);
    this.bar.append(
      svg("line", { class: "scale-bar", x1: 12, y1: -12, x2: 12 + length / mmPerScreen, y2: -12 }),
      svg("text", { class: "scale-text", x: 12, y: -19 }, `${length} mm`),
    );
  }

  #at(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.root.getScreenCTM().inverse());
    return [point.x, point.y];
  }

  #wheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(Math.max(-240, Math.min(240, event.deltaY)) * 0.0025), this.#at(event));
  }

  #down(event) {
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.start = [event.clientX, event.clientY];
    this.dragged = false;
  }

  #move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    if (!this.dragged && Math.hypot(now[0] - this.start[0], now[1] - this.start[1]) < CLICK_PX) return;
    if (!this.dragged) this.root.setPointerCapture(event.pointerId);
    this.dragged = true;
    this.root.classList.add("held");
    const scale = this.scale;
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) { // two fingers: zoom about the one that rests
      const spread = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      this.zoom(spread(before) / Math.max(spread(now), 1), this.#at({ clientX: other[0], clientY: other[1] }));
    } else {
      const [x, y, width, height] = this.box;
      this.see([x - (now[0] - before[0]) / scale, y - (now[1] - before[1]) / scale, width, height]);
    }
    this.pointers.set(event.pointerId, now);
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    this.root.classList.remove("held");
  }
}

/** The area that two boxes [left, top, right, bottom] share. */
function shared(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return Math.max(width, 0) * Math.max(height, 0);
}

/** The whole film [x, y, width, height]; where it is not to be seen, what holds all its points. */
function frameOf(film) {
  return film.width ? [-0.5, -0.5, film.width, film.height] : boxOf(film) ?? [0, 0, 1, 1];
}

/** What holds all points of a film, with a margin; null where it has none. */
function boxOf(film) {
  const every = [...film.points, ...film.truth].filter(known);
  if (!every.length) return null;
  const [x, y] = [0, 1].map((axis) => every.map((p) => p[axis]));
  const [left, top] = [Math.min(...x), Math.min(...y)];
  const [width, height] = [Math.max(...x) - left + 1, Math.max(...y) - top + 1];
  return [left - 0.15 * width, top - 0.15 * height, 1.3 * width, 1.3 * height];
}
