// The dialog that writes results, and shows the command line that writes the same.

import * as api from "./api.js";
import { complain, model, settled } from "./model.js";

const dialog = document.getElementById("export-dialog");
const CHOICES = [
  ["masks", "Masks", "one indexed PNG for each frame, 0 is background", ["masks"]],
  ["overlay", "Overlay", "the clip with coloured objects", ["overlay.mp4", "overlay.webm", "overlay.gif", "overlay.webp"]],
  ["matte", "Matte", "the clip with an alpha channel, for an editor", ["matte.mov", "matte.webm", "matte.mkv"]],
  ["cut_outs", "Cut-outs", "PNGs of the objects on a transparent background", ["cut_outs"]],
  ["each_object", "Each object", "black and white PNGs, a folder for each object", ["each_object"]],
  ["coco", "COCO", "annotations with run-length masks, lossless", ["coco.json"]],
  ["yolo", "YOLO", "segmentation labels and pictures", ["yolo"]],
  ["labelme", "labelme", "JSON files and pictures", ["labelme"]],
  ["cvat", "CVAT", "tracks (.xml) or masks (.zip)", ["cvat.xml", "cvat.zip"]],
  ["boxes", "Boxes", "a table of boxes, areas and confidence", ["boxes.csv"]],
];

function element(name, values = {}, ...children) {
  const made = Object.assign(document.createElement(name), values);
  made.append(...children);
  return made;
}

const boxes = new Map(), kinds = new Map();
const message = element("p", { role: "status" }), bar = element("progress", { max: 1, value: 0, hidden: true });
const command = element("pre"), start = element("button", { className: "primary", textContent: "Export" });
const close = element("button", { textContent: "Close" });

const wanted = () => Object.fromEntries([...boxes].filter(([, box]) => box.checked).map(([name]) => [name, kinds.get(name).value]));

async function showCommand() {
  start.disabled = !Object.keys(wanted()).length;
  if (start.disabled) { command.textContent = ""; return; }
  try { command.textContent = (await api.act("command", { outputs: wanted() })).command; } catch (error) { complain(error); }
}

const choices = element("div", { className: "choices" }, ...CHOICES.map(([name, title, text, files]) => {
  const box = element("input", { type: "checkbox", checked: name === "masks" });
  const kind = element("select", { hidden: files.length < 2, ariaLabel: `Kind of ${title}` }, ...files.map(file => element("option", { value: file, textContent: `.${file.split(".")[1]}` })));
  boxes.set(name, box);
  kinds.set(name, kind);
  for (const part of [box, kind]) part.addEventListener("change", showCommand);
  return element("label", {}, box, element("span", {}, element("strong", { textContent: title }), ` – ${text} `), kind);
}));

dialog.append(element("h2", { textContent: "Export", tabIndex: -1, autofocus: true }), choices,
  element("h3", { textContent: "The same result from the command line" }), command, bar, message,
  element("div", { className: "end" }, close, start));
close.addEventListener("click", () => dialog.close());
start.addEventListener("click", async () => {
  try {
    await settled();
    start.disabled = true;
    message.className = "";
    message.textContent = "";
    await api.act("export", { outputs: wanted() });
  } catch (error) {
    start.disabled = false;
    message.className = "problem";
    message.textContent = error.message + (error.hint ? `: ${error.hint}` : "");
  }
});

// What the server says of an export that runs.
export function hearExport(event) {
  bar.hidden = event.state !== "running";
  bar.max = Math.max(1, event.total);
  bar.value = event.done;
  start.disabled = event.state === "running";
  message.className = event.state === "failed" ? "problem" : "";
  if (event.state === "done") message.textContent = `written to ${event.folder}`;
  if (event.state === "failed") message.textContent = event.error + (event.hint ? `: ${event.hint}` : "");
}

export function openExport() {
  const missing = model.state.num_frames - new Set([...model.state.given, ...model.state.predicted]).size;
  message.className = "";
  message.textContent = missing > 0 ? `${missing} frames have no mask yet; they count as background.` : "";
  dialog.showModal();
  showCommand();
}
