// Draws the frame with its mask, and turns what the pointer does into places on the frame. Zoom and pan.

import { model, objects, on } from "./model.js";

export const stage = document.getElementById("stage");
const canvas = document.getElementById("canvas"), context = canvas.getContext("2d");
const badge = document.getElementById("badge");
const layer = document.createElement("canvas"), paint = layer.getContext("2d");
let scale = 1, left = 0, top = 0, fitted = true, waiting = false, colours = new Uint32Array(256), drawn = "";
export const decorations = []; // functions of (context, pixel) that draw over the frame; `pixel` is one screen pixel
export const timing = { frames: 0, dropped: 0, last: 0 }; // of drawing while a stroke is made

function pack(hex) {
  const [r, g, b] = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
  return (255 << 24 | b << 16 | g << 8 | r) >>> 0;
}

function palette() {
  const table = new Uint32Array(256);
  for (const o of objects()) if (!o.hidden) table[o.id] = model.view === "matte" ? 0xffffffff : pack(o.colour);
  if (model.view === "matte") for (let i = 0; i < 256; i++) table[i] ||= 0xff000000;
  return table;
}

// Bring the layer of colours up to date, all of it or one window of the mask.
export function recolour(box = null) {
  const map = model.map;
  if (!map) return;
  if (layer.width !== map.width || layer.height !== map.height) {
    layer.width = map.width;
    layer.height = map.height;
    box = null;
  }
  const edge = model.view === "contour" ? Math.max(1, Math.round(Math.min(map.width, map.height) / 360)) : 0;
  const x0 = Math.max(0, (box ? box.left : 0) - edge), y0 = Math.max(0, (box ? box.top : 0) - edge);
  const x1 = Math.min(map.width, (box ? box.right : map.width) + edge), y1 = Math.min(map.height, (box ? box.bottom : map.height) + edge);
  if (x0 >= x1 || y0 >= y1) return;
  const image = paint.createImageData(x1 - x0, y1 - y0), pixels = new Uint32Array(image.data.buffer);
  for (let y = y0, to = 0; y < y1; y++) {
    for (let x = x0, at = y * map.width + x0; x < x1; x++, at++, to++) {
      const id = map.labels[at];
      if (edge && id && x >= edge && y >= edge && x < map.width - edge && y < map.height - edge
        && map.labels[at - edge] === id && map.labels[at + edge] === id
        && map.labels[at - edge * map.width] === id && map.labels[at + edge * map.width] === id) continue;
      pixels[to] = colours[id];
    }
  }
  paint.putImageData(image, x0, y0);
  redraw();
}

export function redraw() {
  if (!waiting) { waiting = true; requestAnimationFrame(draw); }
}

function draw(now) {
  waiting = false;
  if (timing.last) { timing.frames++; if (now - timing.last > 1000 / 60 * 1.8) timing.dropped++; timing.last = now; }
  const ratio = devicePixelRatio || 1, width = Math.round(stage.clientWidth * ratio), height = Math.round(stage.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; if (fitted) fit(false); }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  if (!model.picture) return;
  context.setTransform(scale * ratio, 0, 0, scale * ratio, left * ratio, top * ratio);
  context.imageSmoothingEnabled = scale * ratio < 3;
  const { width: w, height: h } = model.state;
  const hidden = model.plain || model.view === "none";
  if (hidden || model.view !== "matte") context.drawImage(model.picture, 0, 0, w, h);
  if (!hidden) {
    context.globalAlpha = model.view === "overlay" ? model.opacity : 1;
    context.drawImage(layer, 0, 0, w, h);
    context.globalAlpha = 1;
  }
  for (const decorate of decorations) decorate(context, 1 / scale);
}

export function fit(again = true) {
  if (!model.state) return;
  const { width, height } = model.state;
  scale = Math.min(stage.clientWidth / width, stage.clientHeight / height) * .98 || 1;
  left = (stage.clientWidth - width * scale) / 2;
  top = (stage.clientHeight - height * scale) / 2;
  fitted = true;
  if (again) redraw();
}

// Zoom by a factor; the place under (x, y), in pixels of the page, stays where it is.
export function zoom(factor, x = null, y = null) {
  const box = stage.getBoundingClientRect();
  const px = x === null ? box.width / 2 : x - box.left, py = y === null ? box.height / 2 : y - box.top;
  const next = Math.max(.02, Math.min(40, scale * factor));
  left = px - (px - left) * next / scale;
  top = py - (py - top) * next / scale;
  scale = next;
  fitted = false;
  redraw();
}

export function pan(dx, dy) {
  left += dx;
  top += dy;
  fitted = false;
  redraw();
}

// From pixels of the page to pixels of the frame.
export function place(x, y) {
  const box = stage.getBoundingClientRect();
  return [(x - box.left - left) / scale, (y - box.top - top) / scale];
}

export function update() {
  const now = JSON.stringify([model.view, objects().map(o => [o.id, o.colour, o.hidden])]);
  if (now !== drawn) { drawn = now; colours = palette(); }
  recolour();
}

on("state", update);
on("tool", update);
on("frame", () => {
  colours = palette();
  badge.textContent = model.state.given.includes(model.frame) ? "given" : model.state.predicted.includes(model.frame) ? "predicted" : "";
  recolour();
});
on("state", () => { badge.textContent = model.state.given.includes(model.frame) ? "given" : model.state.predicted.includes(model.frame) ? "predicted" : ""; });
new ResizeObserver(redraw).observe(stage);
