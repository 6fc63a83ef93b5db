// Run in the page: what keeps people from seeing, reading or operating it, as sentences; an empty list is good.

const complaints = [];
const seen = (node) => node.checkVisibility() && node.getClientRects().length > 0;
const name = (node) => `${node.tagName.toLowerCase()}${node.id ? `#${node.id}` : ""}`;

function luminance([r, g, b]) {
  const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
}

function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

function colour(text) {
  const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
  return { rgb: [r, g, b], solid: a === 1, clear: a === 0 };
}

function ground(node) {
  for (let at = node; at; at = at.parentElement) {
    const found = colour(getComputedStyle(at).backgroundColor);
    if (found.solid) return found.rgb;
    if (!found.clear) complaints.push(`${name(at)} has a half transparent ground, which this check cannot judge`);
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
}

// Text: 4.5 to 1, or 3 to 1 when it is large (WCAG 2.2, 1.4.3).
for (const node of document.body.querySelectorAll("*")) {
  const own = [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim());
  if (!own || !seen(node)) continue;
  const style = getComputedStyle(node);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const ratio = contrast(colour(style.color).rgb, ground(node));
  if (ratio < (large ? 3 : 4.5)) complaints.push(`${name(node)} "${node.textContent.trim()}" has contrast ${ratio.toFixed(2)}`);
}

// Bounds of what is operated, and bars against their track: 3 to 1 (1.4.11).
for (const node of document.querySelectorAll("#drop")) {
  if (!seen(node)) continue;
  const ratio = contrast(colour(getComputedStyle(node).borderTopColor).rgb, ground(node.parentElement));
  if (ratio < 3) complaints.push(`the border of ${name(node)} has contrast ${ratio.toFixed(2)}`);
}
for (const node of document.querySelectorAll(".track > div")) {
  const ratio = contrast(colour(getComputedStyle(node).backgroundColor).rgb, ground(node.parentElement));
  if (seen(node) && ratio < 3) complaints.push(`a bar has contrast ${ratio.toFixed(2)} against its track`);
}

// Names (4.1.2): fields by their labels, meters and pictures by aria-label, regions by their headings.
for (const node of document.querySelectorAll("input")) {
  if (![...node.labels].some((label) => label.textContent.trim())) complaints.push(`${name(node)} has no label`);
}
for (const node of document.querySelectorAll("[role=meter], [role=img], [role=region]")) {
  if (!node.getAttribute("aria-label")) complaints.push(`${name(node)} has no name`);
}
for (const node of document.querySelectorAll("[role=meter]")) {
  const [least, now, most] = ["min", "now", "max"].map((end) => Number(node.getAttribute(`aria-value${end}`)));
  if (!(least <= now && now <= most)) complaints.push(`a meter stands at ${now} of ${least} to ${most}`);
}
for (const node of document.querySelectorAll("img")) {
  if (node.getAttribute("alt") === null) complaints.push(`${name(node)} has no alt`);
}
for (const node of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) {
  const ids = `${node.getAttribute("aria-labelledby") || ""} ${node.getAttribute("aria-describedby") || ""}`.trim().split(/\s+/);
  for (const id of ids) if (!document.getElementById(id)) complaints.push(`${name(node)} refers to #${id}, which is not there`);
}

// Structure: language, one h1, no skipped heading, landmarks, unequal ids.
if (!document.documentElement.lang) complaints.push("the page names no language");
if (!document.title) complaints.push("the page has no title");
const levels = [...document.querySelectorAll("h1, h2, h3, h4")].filter(seen).map((node) => Number(node.tagName[1]));
if (levels.filter((level) => level === 1).length !== 1) complaints.push("there is not exactly one h1");
levels.forEach((level, i) => { if (i && level > levels[i - 1] + 1) complaints.push(`a heading jumps to h${level}`); });
for (const landmark of ["main", "header", "footer"]) {
  if (document.querySelectorAll(landmark).length !== 1) complaints.push(`there is not exactly one ${landmark}`);
}
const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
if (new Set(ids).size !== ids.length) complaints.push("two elements share an id");

// Nothing reaches over the side (1.4.10).
if (document.documentElement.scrollWidth > document.documentElement.clientWidth) complaints.push("the page scrolls sideways");

return complaints;
