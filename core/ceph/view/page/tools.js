// Small things that every part of the page uses: elements, numbers, questions to the server.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/** An HTML element with attributes (or listeners, `onclick: f`) and children. */
export const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** The same for SVG. */
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const known = (value) => value !== null && value !== undefined;
export const mm = (value, digits = 2) => (known(value) ? value.toFixed(digits) : "–");
export const mean = (values) => {
  const there = values.filter(known);
  return there.length ? there.reduce((a, b) => a + b, 0) / there.length : null;
};
export const largest = (values) => {
  const there = values.filter(known);
  return there.length ? Math.max(...there) : null;
};

/** JSON from the server; throws with the server's own words where there is a problem. */
export async function ask(path) {
  let answer;
  try {
    answer = await fetch(path);
  } catch {
    throw new Error("ceph view does not answer: is it still running?");
  }
  if (answer.ok) return answer.json();
  const text = await answer.text();
  let told = text;
  try {
    const { problem, hint } = JSON.parse(text);
    told = hint ? `${problem}\n${hint}` : problem;
  } catch { /* plain words */ }
  throw new Error(told);
}
