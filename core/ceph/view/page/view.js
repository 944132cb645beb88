// The page: which runs, which film, which landmark; the list, the table of landmarks, and the keys.

import { drawCurves } from "./curves.js";
import { Stage, sign } from "./stage.js";
import { $, ask, html, known, largest, mean, mm, svg } from "./tools.js";

const POLL_MS = 2000, BEYOND_MM = 2;
const LAYERS = { // name -> [what its box says, its signs, whether it is on at first]
  found: ["prediction", ["found"], true],
  truth: ["truth", ["true"], true],
  readers: ["readers", ["reader-0", "reader-1"], false],
  names: ["names", [], true],
  map: ["map", [], true],
  track: ["moved from", ["moved"], true],
  tracing: ["tracing", [], false],
  radius: ["radius", [], true],
};

const state = {
  runs: [], // as the server tells them
  shown: [], // places in `runs`: one, or two side by side
  split: "",
  data: [], // for each shown run: { landmarks, readers, films, at: film id -> its place }
  order: [], // ids of films as the list has them
  film: null, // id
  landmark: null, // symbol
  layers: Object.fromEntries(Object.entries(LAYERS).map(([name, [, , on]]) => [name, on])),
};
const stages = [];
let opening = 0; // how often `open` was called
const maps = new Map(); // address -> promise of a map

// --- what is where -----------------------------------------------------------------------------------------------

const filmOf = (run, id = state.film) => state.data[run]?.films[state.data[run].at.get(id)];
const placeOf = (run, symbol) => state.data[run]?.landmarks.indexOf(symbol) ?? -1;
const filter = () => $("landmark").value || null;
const addressOf = (kind, run) => `${kind}/${state.shown[run]}/${encodeURIComponent(state.split)}/${state.data[run].at.get(state.film)}`;

/** The errors of a film that the filter lets through. */
function errorsOf(run, film) {
  if (!film) return [];
  const only = filter();
  return only === null ? film.errors : [film.errors[placeOf(run, only)] ?? null];
}

const KEYS_OF_SORT = {
  mean: (id) => mean(errorsOf(0, filmOf(0, id))),
  worst: (id) => largest(errorsOf(0, filmOf(0, id))),
  apart: (id) => (filter() === null ? mean(filmOf(0, id).apart) : filmOf(0, id).apart[placeOf(0, filter())]),
  change: (id) => difference(mean(errorsOf(1, filmOf(1, id))), mean(errorsOf(0, filmOf(0, id)))),
};

const difference = (a, b) => (known(a) && known(b) ? a - b : null);

/** The landmarks of a film by their error, the worst first; those without truth last. */
function byError(film) {
  return film.errors.map((error, k) => [k, error ?? -1]).sort((a, b) => b[1] - a[1]).map(([k]) => k);
}

// --- the list ----------------------------------------------------------------------------------------------------

function sortFilms() {
  const kind = $("sort").value, wanted = $("search").value.trim().toLowerCase();
  const ids = state.data[0].films.map((film) => film.id).filter((id) => id.toLowerCase().includes(wanted));
  if (kind === "id") ids.sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  else {
    const key = new Map(ids.map((id) => [id, KEYS_OF_SORT[kind](id) ?? -Infinity]));
    if (kind === "change") for (const id of ids) key.set(id, known(KEYS_OF_SORT.change(id)) ? Math.abs(key.get(id)) : -1);
    ids.sort((a, b) => key.get(b) - key.get(a));
  }
  if ($("reverse").getAttribute("aria-pressed") === "true") ids.reverse();
  state.order = ids;
}

function drawList() {
  if (!state.data.length) return;
  sortFilms();
  const values = new Map(state.order.map((id) => [id, mean(errorsOf(0, filmOf(0, id)))]));
  const longest = largest([...values.values()]) || 1;
  $("list").replaceChildren(...state.order.map((id) => row(id, values.get(id), longest)));
  markList();
  drawSummary();
}

function row(id, value, longest) {
  const film = filmOf(0, id), other = filmOf(1, id);
  const only = filter();
  const k = only === null ? byError(film)[0] : placeOf(0, only);
  const second = state.shown.length > 1 ? ` | ${mm(mean(errorsOf(1, other)))}` : " mm";
  const share = known(value) ? Math.max(0, (100 * value) / longest) : 0;
  const bar = html("span", { class: "bar" });
  bar.style.setProperty("--share", `${share}%`);
  const open = html("button", { class: "film", onclick: () => choose(id, null), title: film.machine },
    html("span", { class: "name" }, id), html("span", { class: "mm" }, `${mm(value)}${second}`), bar);
  const item = html("li", { "data-film": id }, open);
  if (k !== undefined && known(film.errors[k])) {
    const symbol = state.data[0].landmarks[k];
    item.append(html("button", { class: `worst${film.errors[k] > BEYOND_MM ? " beyond" : ""}`,
      onclick: () => choose(id, symbol), title: `to ${symbol}` }, `${symbol} ${mm(film.errors[k])} mm`));
  }
  return item;
}

function markList() {
  for (const item of $("list").children) {
    const here = item.dataset.film === state.film;
    item.setAttribute("aria-current", here);
    if (here) item.scrollIntoView({ block: "nearest" });
  }
}

function drawSummary() {
  const parts = state.shown.map((place, run) => {
    const errors = state.data[run].films.flatMap((film) => errorsOf(run, film)).filter(known);
    if (!errors.length) return `${state.runs[place].name}: no truth`;
    const within = (100 * errors.filter((e) => e <= BEYOND_MM).length) / errors.length;
    return `${state.shown.length > 1 ? `${state.runs[place].name}: ` : ""}MRE ${mm(mean(errors))} mm, ${within.toFixed(1)} % within 2 mm`;
  });
  $("summary").textContent = `${state.order.length} films${filter() ? `, ${filter()}` : ""}; ${parts.join("; ")}`;
}

// --- the film ----------------------------------------------------------------------------------------------------

/** Show a film (by its id) and a landmark of it (by its symbol, or none). */
function choose(id, symbol) {
  const changed = id !== state.film;
  state.film = id;
  state.landmark = symbol;
  if (changed) drawFilm();
  markList();
  drawLandmark(changed);
}

function drawFilm() {
  stages.forEach((stage, run) => {
    const film = filmOf(run);
    stage.title.textContent = film
      ? `${state.runs[state.shown[run]].name}: film ${film.id}, ${mm(mean(film.errors))} mm`
      : `${state.runs[state.shown[run]].name} has not scored this film`;
    stage.root.style.visibility = film ? "" : "hidden";
    if (!film) return;
    stage.show(film, film.shown ? addressOf("film", run) : null, state.data[run].landmarks, lookOf(run), lost);
  });
  stages.find((_, run) => filmOf(run))?.home();
  drawTable();
}

const lookOf = (run) => ({
  layers: state.layers,
  only: filter() === null ? null : placeOf(run, filter()),
  chosen: state.landmark === null ? null : placeOf(run, state.landmark),
});

/** Mark the landmark everywhere, go to it, and lay its map. */
function drawLandmark(fresh = false) {
  say(state.landmark === null ? "" : told());
  stages.forEach((stage, run) => {
    if (!filmOf(run)) return;
    stage.look(lookOf(run));
    const k = state.landmark === null ? -1 : placeOf(run, state.landmark);
    if (run === 0 && k >= 0) stage.seek(k);
    else if (run === 0 && !fresh && state.landmark === null) stage.home();
    drawMap(stage, run, k);
  });
  for (const item of $("points").tBodies[0].rows) item.setAttribute("aria-selected", item.dataset.symbol === state.landmark);
}

async function drawMap(stage, run, k) {
  stage.lay(null);
  if (k < 0 || !state.layers.map || !filmOf(run)?.shown) return;
  const address = `${addressOf("map", run)}/${k}`;
  const asked = stage.asked = address;
  if (!maps.has(address)) maps.set(address, ask(address));
  stage.say("computing the map …");
  try {
    const map = await maps.get(address);
    if (asked === stage.asked) stage.lay(map, `map peak ${map.peak.toPrecision(2)}`);
  } catch (error) {
    maps.delete(address);
    if (asked === stage.asked) stage.say(`no map: ${error.message}`);
  }
}

/** The chosen landmark in a line: its error in each run that is shown, and which stations of decoding moved it. */
function told() {
  const errors = state.shown.map((place, run) => {
    const film = filmOf(run), k = placeOf(run, state.landmark);
    return `${mm(film?.errors[k])} mm${movesOf(film, k)}${state.shown.length > 1 ? ` (${state.runs[place].name})` : ""}`;
  });
  return `${state.landmark}: ${errors.join(", ")}`;
}

/** By how much each station moved a landmark: `, constraint moved it 12.30 mm`. */
function movesOf(film, k) {
  const track = film?.tracks[k] ?? [];
  return track.slice(1).map(([stage, x, y], i) => {
    const px = Math.hypot(x - track[i][1], y - track[i][2]);
    return `, ${stage} moved it ${known(film.mm_per_px) ? `${mm(px * film.mm_per_px)} mm` : `${px.toFixed(1)} px`}`;
  }).join("");
}

async function lost(picture) {
  try {
    await ask(picture);
  } catch (error) {
    warn(error.message);
  }
}

function drawTable() {
  const film = filmOf(0), other = filmOf(1), two = state.shown.length > 1;
  const names = state.shown.map((place) => state.runs[place].name);
  $("film-title").textContent = film ? `Film ${film.id}${film.machine ? `, ${film.machine}` : ""}` : "";
  const columns = ["landmark", two ? names[0] : "error mm", ...(two ? [names[1], "change"] : []), "readers mm", "score",
    ...(film?.presence.length ? ["presence"] : [])];
  const head = columns.map((text) => html("th", { scope: "col", title: text }, text));
  $("points").tHead.replaceChildren(html("tr", {}, ...head));
  const cell = (value, grade = true) => html("td",
    grade && value > BEYOND_MM ? { class: "beyond" } : {}, mm(value) + (grade && value > BEYOND_MM ? " !" : ""));
  const rows = film ? byError(film).map((k) => {
    const symbol = state.data[0].landmarks[k], error = film.errors[k];
    const error2 = other ? other.errors[placeOf(1, symbol)] : null;
    const change = difference(error2, error);
    return html("tr", { "data-symbol": symbol, onclick: () => choose(film.id, symbol) },
      html("td", {}, html("button", {}, symbol)), film.absent[k] ? html("td", {}, "absent") : cell(error),
      ...(two ? [cell(error2), html("td", {}, known(change) ? (change > 0 ? "+" : "") + mm(change) : "–")] : []),
      cell(film.apart[k], false), cell(film.scores[k], false),
      ...(film.presence.length ? [cell(film.presence[k], false)] : []));
  }) : [];
  $("points").tBodies[0].replaceChildren(...rows);
}

const say = (text) => { $("status").textContent = text; };
function warn(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// --- runs and splits ---------------------------------------------------------------------------------------------

/** Show the runs and the split that are chosen. Nothing on the page changes before all of it is there. */
async function open() {
  const turn = ++opening;
  const first = Number($("run-a").value), second = $("run-b").value;
  const shown = second === "" || Number(second) === first ? [first] : [first, Number(second)];
  const here = shown.map((place) => state.runs[place]);
  const splits = here[0].splits.filter((split) => here.every((run) => run.splits.includes(split)));
  const before = $("split").value;
  $("split").replaceChildren(...splits.map((split) => html("option", {}, split)));
  if (splits.includes(before)) $("split").value = before;
  const split = $("split").value;
  const missing = here.filter((run) => run.missing)
    .map((run) => `The films of ${run.name} are not to be seen: ${run.missing}.\nStart again and say where they are: ceph view ${run.folder} --data FOLDER`);
  warn(missing.join("\n"));
  const two = shown.length > 1;
  $("sort").querySelector("[value=change]").hidden = !two;
  if (!two && $("sort").value === "change") $("sort").value = "mean";
  if (!split) {
    Object.assign(state, { shown, split, data: [], order: [], film: null, landmark: null });
    layStages();
    $("points").tBodies[0].replaceChildren();
    $("list").replaceChildren();
    $("summary").textContent = two ? "these runs have scored no split in common" :
      "no predictions yet: they come at the end of the run, or from `ceph evaluate`";
    return;
  }
  let data;
  try {
    data = await Promise.all(shown.map((place) => ask(`films/${place}/${encodeURIComponent(split)}`)));
  } catch (error) {
    return warn(error.message);
  }
  if (turn !== opening) return; // another choice was made meanwhile
  const moves = data.some((one) => one.films.some((film) => film.tracks.some((track) => track.length)));
  $("layer-track").parentNode.style.display = moves ? "" : "none";
  const radii = data.some((one) => one.films.some((film) => film.radii.length));
  $("layer-radius").parentNode.style.display = radii ? "" : "none";
  for (const one of data) one.at = new Map(one.films.map((film, place) => [film.id, place]));
  Object.assign(state, { shown, split, data });
  const chosen = filter();
  $("landmark").replaceChildren(html("option", { value: "" }, "all"), ...state.data[0].landmarks.map((s) => html("option", {}, s)));
  if (chosen && state.data[0].landmarks.includes(chosen)) $("landmark").value = chosen;
  layStages();
  drawList();
  const kept = state.order.includes(state.film) ? state.film : state.order[0];
  const landmark = kept === state.film ? state.landmark : null;
  state.film = null;
  if (kept !== undefined) choose(kept, landmark);
}

function layStages() {
  stages.splice(0);
  $("stages").replaceChildren();
  state.shown.forEach((_, run) => {
    const figure = html("figure", { class: "stage" });
    $("stages").append(figure);
    const together = (box) => stages.forEach((stage, other) => { if (other !== run) stage.see(box, true); });
    stages.push(new Stage(figure, (k) => choose(state.film, state.data[run].landmarks[k]), together));
  });
}

async function poll() {
  if (document.hidden) return;
  let runs;
  try {
    runs = await ask("runs");
  } catch {
    return say("ceph view does not answer any more");
  }
  const grown = runs.some((run, i) => run.splits.join() !== state.runs[i].splits.join());
  state.runs = runs;
  if (!$("curves").hidden) drawCurves(runs);
  if (grown) await open();
}

// --- the rest of the page ----------------------------------------------------------------------------------------

function show(tab) {
  for (const name of ["films", "curves"]) {
    $(name).hidden = name !== tab;
    $(`tab-${name}`).setAttribute("aria-selected", name === tab);
  }
  if (tab === "curves") drawCurves(state.runs);
}

function step(by) {
  const place = state.order.indexOf(state.film) + by;
  if (place >= 0 && place < state.order.length) choose(state.order[place], null);
}

function stepLandmark(by) {
  const film = filmOf(0);
  if (!film) return;
  const order = byError(film), at = state.landmark === null ? -1 : order.indexOf(placeOf(0, state.landmark));
  const next = at + by;
  if (next >= 0 && next < order.length) choose(film.id, state.data[0].landmarks[order[next]]);
}

function toggle(layer, on = !state.layers[layer]) {
  state.layers[layer] = on;
  $(`layer-${layer}`).checked = on;
  stages.forEach((stage, run) => {
    if (!filmOf(run)) return;
    stage.look(lookOf(run));
    if (layer === "map") drawMap(stage, run, state.landmark === null ? -1 : placeOf(run, state.landmark));
  });
}

const KEYS = {
  ArrowDown: () => step(1), j: () => step(1), ArrowUp: () => step(-1), k: () => step(-1),
  n: () => stepLandmark(1), p: () => stepLandmark(-1),
  w: () => filmOf(0) && choose(state.film, state.data[0].landmarks[byError(filmOf(0))[0]]),
  "+": () => stages[0]?.zoom(0.8), "=": () => stages[0]?.zoom(0.8), "-": () => stages[0]?.zoom(1.25), 0: () => stages[0]?.fit(),
  "/": () => $("search").focus(),
  c: () => show($("films").hidden ? "films" : "curves"),
  "?": () => $("keys").showModal(),
  Escape: () => filmOf(0) && choose(state.film, null),
};
const PANS = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] };

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  if (event.target.matches("select, input:not([type=checkbox])")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const layer = Object.keys(LAYERS)[Number(event.key) - 1];
  const act = event.shiftKey && PANS[event.key] ? () => stages[0]?.pan(...PANS[event.key])
    : layer ? () => toggle(layer) : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

function build() {
  for (const [name, [text, signs]] of Object.entries(LAYERS)) {
    const box = html("input", { type: "checkbox", id: `layer-${name}`, onchange: (event) => toggle(name, event.target.checked) });
    box.checked = state.layers[name];
    $("layer-boxes").append(html("label", {}, box, ...signs.map((s) => svg("svg", { viewBox: "-9 -9 18 18" }, sign(s))), text));
  }
  const names = state.runs.map((run, i) => html("option", { value: i }, run.name));
  $("run-a").replaceChildren(...names.map((option) => option.cloneNode(true)));
  $("run-b").replaceChildren(html("option", { value: "" }, "nothing"), ...names);
  $("beside").hidden = state.runs.length < 2;
  if (state.runs.length > 1) $("run-b").value = "1";
  for (const id of ["run-a", "run-b", "split"]) $(id).addEventListener("change", open);
  for (const id of ["sort", "landmark"]) $(id).addEventListener("change", reorder);
  $("search").addEventListener("input", drawList);
  $("reverse").addEventListener("click", () => {
    $("reverse").setAttribute("aria-pressed", $("reverse").getAttribute("aria-pressed") !== "true");
    reorder();
  });
  for (const tab of ["films", "curves"]) $(`tab-${tab}`).addEventListener("click", () => show(tab));
  $("zoom-in").addEventListener("click", () => stages[0]?.zoom(0.8));
  $("zoom-out").addEventListener("click", () => stages[0]?.zoom(1.25));
  $("fit").addEventListener("click", () => stages[0]?.fit());
  $("show-keys").addEventListener("click", () => $("keys").showModal());
  document.addEventListener("keydown", key);
}

/** A new order: its first film is shown, at the landmark of the filter. */
function reorder() {
  if (!state.data.length) return;
  drawList();
  if (state.order.length) {
    state.film = null;
    choose(state.order[0], filter());
  }
}

try {
  state.runs = await ask("runs");
  build();
  await open();
  if (!state.runs.some((run) => run.splits.length)) show("curves");
  setInterval(poll, POLL_MS);
} catch (error) {
  warn(error.message);
}
