"use strict";

// All frames, backgrounds and tiles that were judged: as a list, and the chosen one in the picture.

const BACKGROUNDS = { white: "over white", black: "over black", grey: "over grey", "alpha-dropped": "without transparency" };

function viewName(view, views) {
  const parts = [];
  if (views.some((other) => other.bundle !== view.bundle)) parts.push(view.bundle);
  if (views.some((other) => other.frame !== view.frame)) parts.push(`frame ${view.frame}`);
  if (view.background !== null) parts.push(BACKGROUNDS[view.background] || view.background);
  parts.push(view.box === null ? "whole picture" : `part from ${view.box.slice(0, 2).join(", ")} to ${view.box.slice(2).join(", ")}`);
  const name = parts.join(", ");
  return name[0].toUpperCase() + name.slice(1);
}

function viewSays(view) {
  if (view.error !== null) return `Failed (${view.error})`;
  const said = SAID[view.action][0];
  return view.category === "safe" ? said : `${said}: ${words(view.category)}, ${LEVELS[view.level]}`;
}

function viewRow(view, views, choose) {
  const row = element("tr", undefined, view.decides ? "decides" : "");
  const label = element("label");
  const radio = element("input");
  radio.type = "radio";
  radio.name = "view";
  radio.checked = view.decides;
  radio.addEventListener("change", () => choose(view));
  label.append(radio, element("span", viewName(view, views)));
  const head = element("th");
  head.scope = "row";
  head.append(label);
  if (view.decides) head.append(element("span", "decides", "mark"));
  row.append(head, element("td", viewSays(view), view.error === null ? view.action : "failed"));
  row.append(element("td", view.score === null ? "–" : `${(100 * view.score).toFixed(1)} %`, "number"));
  return row;
}

function listViews(views, judged, choose) {
  show("views-block", views.length > 1);
  const left = judged > views.length ? ` ${judged} were judged; these are the worst ${views.length}.` : "";
  write("views-help", `The worst decides. Choose one to see it in the picture.${left}`);
  at("views").tBodies[0].replaceChildren(...views.map((view) => viewRow(view, views, choose)));
  const [rows, decisive] = [at("views").parentElement, at("views").querySelector(".decides")];
  rows.scrollTop = decisive === null ? 0 : decisive.offsetTop - rows.clientHeight / 2;
}

async function frameOf(file, type, number) {
  // A picture of one frame of an animation; null where the browser cannot give it.
  if (typeof ImageDecoder === "undefined") return null;
  try {
    const decoder = new ImageDecoder({ data: await file.arrayBuffer(), type });
    try {
      const { image } = await decoder.decode({ frameIndex: number - 1 });
      const bitmap = await createImageBitmap(image);
      image.close();
      return bitmap;
    } finally {
      decoder.close();
    }
  } catch {
    return null;
  }
}

/* The picture, as it was judged: over white, with what the gate looked at */

function draw() {
  show("figure", picture !== null);
  if (picture === null) return;
  const raster = (answer && answer.raster) || { width: picture.width, height: picture.height };
  const scale = Math.min(1, LONGER_SIDE / Math.max(raster.width, raster.height));
  const canvas = at("canvas");
  canvas.width = Math.max(1, Math.round(raster.width * scale));
  canvas.height = Math.max(1, Math.round(raster.height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(shown || picture, 0, 0, canvas.width, canvas.height);
  const [rows, region] = lookedAt();
  const looked = rows !== null || region !== null;
  show("heat-label", looked);
  const size = `${raster.width} × ${raster.height} pixels`;
  const named = chosen !== null && answer.views.length > 1 ? `; ${viewName(chosen, answer.views)}` : "";
  const unseen = shown === null ? "; this browser shows the first frame only" : "";
  write("size", answer === null ? size : `${size}, as judged${named}${unseen}`);
  canvas.setAttribute("aria-label", `The picture, ${size}${named}${unseen}${looked && at("heat").checked ? ", with where the gate looked in red" : ""}`);
  if (looked && at("heat").checked) overlay(pen, scale, raster, rows, region);
}

function lookedAt() {
  // The heatmap is of the view that decided alone; of any other, and of a frame that is not shown, there is none.
  if (answer === null || shown === null) return [null, null];
  return chosen === null || chosen.decides ? [answer.heatmap, answer.region] : [null, chosen.box];
}

function overlay(pen, scale, raster, rows, region) {
  const [left, top, right, bottom] = (region || [0, 0, raster.width, raster.height]).map((side) => side * scale);
  if (rows !== null) {
    pen.imageSmoothingQuality = "high";
    pen.drawImage(heat(rows), left, top, right - left, bottom - top);
  }
  if (region) {
    pen.lineWidth = 5;
    pen.strokeStyle = "#fff";
    pen.strokeRect(left, top, right - left, bottom - top);
    pen.lineWidth = 2.5;
    pen.strokeStyle = `rgb(${HEAT.join(" ")})`;
    pen.strokeRect(left, top, right - left, bottom - top);
  }
}

function heat(rows) {
  const small = document.createElement("canvas");
  small.width = rows[0].length;
  small.height = rows.length;
  const pen = small.getContext("2d");
  const pixels = pen.createImageData(small.width, small.height);
  const most = Math.max(...rows.flat(), 1e-12);
  rows.flat().forEach((value, i) => pixels.data.set([...HEAT, Math.round((180 * value) / most)], 4 * i));
  pen.putImageData(pixels, 0, 0);
  return small;
}
