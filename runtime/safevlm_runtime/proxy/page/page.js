"use strict";

// Everything that is shown is set as text, never as markup: a server's answer cannot become part of the page.

const LEVELS = ["none", "low", "medium", "high"];
const STEPS = ["decode", "preprocess", "infer", "decide"];
const LONGER_SIDE = 1024; // of the canvas, in its own pixels
const HEAT = [255, 60, 0];

const SAID = {
  allow: ["Allowed", "Nothing that this gate looks for was found in a degree that the policy acts on."],
  caution: ["Caution", "The picture may go on, with a safety note behind the question."],
  block: ["Blocked", "The picture must not reach the model."],
};

const FAILURES = {
  image_corrupt: "The file is damaged or cut off.",
  image_dimensions: "The picture is too small, too large or too narrow.",
  image_empty: "The file is empty.",
  image_format: "The gate does not read files of this kind.",
  image_mode: "The colours of this file cannot be read without doubt.",
  image_multi_frame: "The file holds several pictures, and the policy judges one.",
  image_too_large: "The file is too large.",
  image_too_many_pixels: "The picture has too many pixels.",
  decode_timeout: "Reading the file took too long.",
  engine_timeout: "Judging took too long.",
};

const REFUSALS = {
  400: "The server did not take the picture.",
  401: "The server does not let this page ask.",
  403: "The server does not let this page ask.",
  408: "Sending the picture took too long.",
  413: "The file is larger than the server takes.",
  415: "The server does not take files of this kind.",
  429: "The server is busy; try again in a moment.",
  503: "The server is busy; try again in a moment.",
};

const at = (id) => document.getElementById(id);
const show = (id, shown) => { at(id).hidden = !shown; };
const write = (id, text) => { at(id).textContent = text; };

let asked = 0; // tells the newest request from older ones
let picture = null; // decoded by the browser
let source = null; // its file and media type
let answer = null;
let chosen = null; // of the answer's views; null where it has none
let shown = null; // the frame of the chosen view; null where the browser cannot give it

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/* Asking */

async function mediaType(file) {
  // By its first bytes, as the gate does: a file's name promises nothing.
  const bytes = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  const text = String.fromCharCode(...bytes);
  if (text.startsWith("\xff\xd8\xff")) return "image/jpeg";
  if (text.startsWith("\x89PNG\r\n\x1a\n")) return "image/png";
  if (text.startsWith("GIF8")) return "image/gif";
  if (text.startsWith("RIFF") && text.slice(8) === "WEBP") return "image/webp";
  return null;
}

function dataUrl(file, type) {
  return new Promise((done, fail) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => fail(reader.error);
    reader.readAsDataURL(new Blob([file], { type }));
  });
}

async function judge(file) {
  const mine = ++asked;
  answer = null;
  picture = null;
  only("busy");
  write("status", "Judging the picture.");
  show("figure", false);
  show("no-picture", false);
  const unread = () => null; // a folder that was dropped, a file that is gone
  const [type, decoded] = await Promise.all([mediaType(file).catch(unread), createImageBitmap(file).catch(unread)]);
  if (mine !== asked) return;
  if (type === null) {
    problem("This is no JPEG, PNG, WebP or GIF picture.", "It was not sent to the server.");
    return;
  }
  picture = shown = decoded;
  source = { file, type };
  chosen = null;
  show("no-picture", picture === null);
  draw();
  let response, body;
  try {
    response = await fetch("v1/check", {
      method: "POST",
      body: JSON.stringify({ image: await dataUrl(file, type), heatmap: true }),
      headers: { "content-type": "application/json" },
      credentials: "omit",
      cache: "no-store",
      redirect: "error",
    });
    body = await response.json();
  } catch {
    if (mine === asked) problem("The server could not be reached, or its answer could not be read.", "Is it running?");
    return;
  }
  if (mine !== asked) return;
  if (response.ok) {
    answer = body;
    result();
  } else {
    const said = body.error && typeof body.error.message === "string" ? body.error.message : "";
    problem(REFUSALS[response.status] || `The server answered with status ${response.status}.`, said);
  }
}

/* Showing */

function only(id) {
  for (const other of ["idle", "busy", "problem", "result"]) show(other, other === id);
}

function problem(text, detail) {
  write("problem-text", text);
  write("problem-detail", detail);
  only("problem");
  write("status", `Not judged. ${text}`);
}

function result() {
  const failed = answer.error !== null;
  const [said, meaning] = failed
    ? ["The gate failed", `${FAILURES[answer.error] || "The picture could not be judged."} ${afterFailure()}`]
    : SAID[answer.action];
  at("result").className = `card ${answer.action}${failed ? " failed" : ""}`;
  write("said", failed ? said : `${said}${answer.category === "safe" ? "" : `: ${words(answer.category)}`}`);
  write("meaning", meaning);
  show("observes", answer.observed !== null);
  write("observes", `The policy only observes. Were it enforced, it would say: ${SAID[answer.observed || "allow"][0].toLowerCase()}.`);
  show("level-block", !failed);
  for (const step of at("level").children) {
    const level = Number(step.dataset.level);
    step.classList.toggle("reached", level > 0 && level <= answer.level);
    if (level === answer.level) step.setAttribute("aria-current", "true");
    else step.removeAttribute("aria-current");
  }
  show("category-block", !failed);
  at("categories").replaceChildren(...Object.entries(answer.categories).map((entry) => bar(...entry)));
  show("uncovered", answer.uncovered.length > 0);
  write("uncovered", `The policy also wants ${answer.uncovered.map(words).join(", ")}. No loaded bundle looks for that.`);
  write("reason", answer.reason);
  write("policy", answer.policy);
  write("prompt", answer.safety_prompt || (answer.action === "block" ? "Nothing: it would not be asked." : "Nothing beyond the question itself."));
  times(answer.timings_ms);
  write("json", JSON.stringify({ ...answer, heatmap: undefined }, null, 2));
  only("result");
  listViews(answer.views, answer.views_judged, choose);
  choose(answer.views.find((view) => view.decides) || null);
  const level = failed ? "" : ` Level ${LEVELS[answer.level]}.`;
  write("status", `${at("said").textContent}.${level} ${meaning}`);
}

async function choose(view) {
  const mine = asked;
  chosen = view;
  shown = picture;
  if (picture !== null && view !== null && view.frame > 1) {
    const frame = await frameOf(source.file, source.type, view.frame);
    if (mine !== asked || chosen !== view) return;
    shown = frame;
  }
  draw();
}

function afterFailure() {
  if (answer.action === "block") return "What cannot be judged is blocked.";
  return answer.action === "caution" ? "The policy lets it go on with caution." : "The policy only observes, so it goes on.";
}

function words(category) {
  return category.replaceAll("_", " ");
}

function bar(category, value) {
  const percent = `${(100 * value).toFixed(1)} %`;
  const chosen = category.split("/").pop() === answer.category;
  const item = element("li", undefined, chosen ? "chosen" : "");
  const track = element("div", undefined, "track");
  track.setAttribute("role", "meter");
  track.setAttribute("aria-label", words(category));
  track.setAttribute("aria-valuemin", "0");
  track.setAttribute("aria-valuemax", "100");
  track.setAttribute("aria-valuenow", (100 * value).toFixed(1));
  track.setAttribute("aria-valuetext", percent);
  const fill = element("div");
  fill.style.width = `${100 * value}%`;
  track.append(fill);
  item.append(element("span", words(category)), element("span", percent, "number"), track);
  return item;
}

function times(timings) {
  const known = STEPS.filter((step) => step in timings);
  at("bar").replaceChildren(
    ...known.map((step) => {
      const part = element("div");
      part.style.flexGrow = String(timings[step]);
      return part;
    }),
  );
  at("times").replaceChildren(
    ...[...known, "total"].filter((step) => step in timings).map((step) => {
      const pair = element("div", undefined, step === "total" ? "total" : "");
      pair.append(element("dt", step), element("dd", `${timings[step].toFixed(1)} ms`));
      return pair;
    }),
  );
}

/* Choosing, dropping, pasting */

function take(files) {
  if (files && files.length > 0) judge(files[0]);
}

at("file").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
});
at("heat").addEventListener("change", draw);
document.addEventListener("paste", (event) => take(event.clipboardData.files));
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault(); // else the browser would leave the page to open the file
    at("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) at("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  take(event.dataTransfer.files);
});
