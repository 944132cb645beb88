// The curves of runs, also while they train: one dash pattern a run, its name at the end of its line.

import { $, html, known, mm, svg } from "./tools.js";

const WIDTH = 460, HEIGHT = 230, LEFT = 46, RIGHT = 90, TOP = 12, BOTTOM = 26;
const DASHES = ["", "7 4", "2 3", "9 3 2 3", "14 4", "1 5"];
const CHARTS = [
  { key: "mre_mm", title: "Validation MRE, mm", log: true, best: "min" },
  { key: "sdr_2mm", title: "Validation SDR at 2 mm, %", best: "max" },
  { key: "loss", title: "Training loss", log: true },
  { key: "lr", title: "Learning rate" },
];

export function drawCurves(runs) {
  $("progress").replaceChildren(progress(runs));
  $("charts").replaceChildren(...CHARTS.map((chart) => figure(chart, runs)));
}

function progress(runs) {
  const rows = runs.map((run, i) => {
    const last = run.records.at(-1);
    const scored = run.records.filter((r) => known(r.mre_mm));
    const best = scored.length ? scored.reduce((a, b) => (b.mre_mm < a.mre_mm ? b : a)) : null;
    const state = run.state !== "running" ? run.state : last ? `last epoch ${ago(run.age_s)} ago` : "no epoch is done yet";
    return html("tr", {},
      html("td", {}, svg("svg", { viewBox: "0 0 44 10" }, svg("line", { class: "curve", x1: 0, x2: 44, y1: 5, y2: 5,
        stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": DASHES[i % DASHES.length] })), ` ${run.name}`),
      html("td", {}, `${last ? last.epoch : 0} of ${run.epochs ?? "?"}`),
      html("td", {}, best ? `${mm(best.mre_mm)} mm, epoch ${best.epoch}` : "–"),
      html("td", {}, last ? `${mm(last.mre_mm)} mm` : "–"),
      html("td", {}, state));
  });
  const head = ["run", "epochs", "best validation MRE", "last", "state"].map((text) => html("th", { scope: "col" }, text));
  return html("table", {}, html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...rows));
}

function ago(seconds) {
  if (!known(seconds)) return "some time";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function figure(chart, runs) {
  const lines = runs.map((run) => run.records.filter((r) => known(r[chart.key]) && (!chart.log || r[chart.key] > 0))
    .map((r) => [r.epoch, r[chart.key]]));
  const every = lines.flat();
  const caption = html("figcaption", {}, chart.title + (chart.log ? " (logarithmic)" : ""));
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": chart.title });
  if (!every.length) {
    picture.append(svg("text", { x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "nothing yet"));
    return html("figure", { "data-chart": chart.key }, caption, picture);
  }
  const right = Math.max(2, ...runs.map((run) => run.epochs ?? 0), ...every.map(([epoch]) => epoch));
  const values = every.map(([, value]) => value);
  const ticks = ticksOf(Math.min(...values), Math.max(...values), chart.log);
  const warp = chart.log ? Math.log : (v) => v;
  const [low, high] = [warp(ticks[0]), warp(ticks.at(-1))];
  const x = (epoch) => LEFT + ((epoch - 1) / (right - 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((warp(value) - low) / (high - low || 1)) * (HEIGHT - TOP - BOTTOM);
  for (const tick of ticks) {
    picture.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }),
      svg("text", { x: LEFT - 5, y: y(tick) + 4, "text-anchor": "end" }, short(tick)));
  }
  for (const epoch of new Set([1, Math.round(right / 2), right])) {
    picture.append(svg("text", { x: x(epoch), y: HEIGHT - 8, "text-anchor": "middle" }, epoch === 1 ? "epoch 1" : epoch));
  }
  const taken = [];
  lines.forEach((line, i) => {
    if (!line.length) return;
    const d = line.map(([epoch, value], n) => `${n ? "L" : "M"}${x(epoch).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    picture.append(svg("path", { class: "curve", d, "stroke-dasharray": DASHES[i % DASHES.length], "data-points": line.length },
      svg("title", {}, runs[i].name)));
    if (chart.best) {
      const [epoch, value] = line.reduce((a, b) => ((chart.best === "min" ? b[1] < a[1] : b[1] > a[1]) ? b : a));
      picture.append(svg("circle", { class: "best", r: 3.5, cx: x(epoch), cy: y(value) },
        svg("title", {}, `${runs[i].name}: best ${short(value)} at epoch ${epoch}`)));
    }
    const [epoch, value] = line.at(-1);
    let place = y(value) + 4;
    while (taken.some(([left, top]) => Math.abs(left - x(epoch)) < RIGHT && Math.abs(top - place) < 11)) place -= 11;
    taken.push([x(epoch), place]);
    const name = runs[i].name.length > 14 ? `${runs[i].name.slice(0, 13)}…` : runs[i].name;
    picture.append(svg("text", { x: x(epoch) + 5, y: place }, runs.length > 1 ? `${short(value)} ${name}` : short(value)));
  });
  return html("figure", { "data-chart": chart.key }, caption, picture);
}

/** Round numbers that hold low and high between them. */
export function ticksOf(low, high, log) {
  if (log) {
    const found = [];
    for (let e = Math.floor(Math.log10(low)) - 1; e <= Math.ceil(Math.log10(high)); e++) {
      for (const m of [1, 2, 5]) found.push(m * 10 ** e);
    }
    const from = found.findLastIndex((t) => t <= low * 1.0001), to = found.findIndex((t) => t >= high * 0.9999);
    const held = found.slice(from, Math.max(to, from + 1) + 1);
    const step = Math.ceil(held.length / 7);
    return held.filter((_, i) => i % step === 0 || i === held.length - 1);
  }
  const rough = (high - low || Math.abs(high) || 1) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const first = Math.floor(low / step) * step;
  const count = Math.max(1, Math.ceil((high - first) / step - 1e-9));
  return Array.from({ length: count + 1 }, (_, i) => first + i * step);
}

const short = (value) => (value && Math.abs(value) < 0.01 ? value.toExponential(1).replace(".0e", "e") : String(+value.toPrecision(3)));
