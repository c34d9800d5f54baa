// Puts the page together.

import * as api from "./api.js";
import { act, complain, emit, forgetMasks, model, numFrames, objects, on, refresh, reshow, say, settled, show, unsaved } from "./model.js";
import { fit, timing } from "./stage.js";
import { choose } from "./tools.js";
import { nextDoubtful } from "./timeline.js";
import "./panels.js";
import { makeKeys } from "./keys.js";
import { hearExport, openExport } from "./export.js";

const byId = id => document.getElementById(id);
const VIEWS = ["overlay", "contour", "matte", "none"];

async function run(values) {
  try {
    await settled();
    await api.act("run", values);
  } catch (error) { complain(error); }
}

const stop = () => api.stop().catch(complain);

async function step(redo) {
  try {
    const { frame } = await act("undo", { redo });
    if (frame === null) return say(redo ? "there is nothing to redo" : "there is nothing to undo");
    forgetMasks();
    await (frame >= 0 ? show(frame) : reshow());
  } catch (error) { complain(error); }
}

let playing = null;
function play() {
  byId("play").textContent = playing ? "▶" : "❚❚";
  byId("play").setAttribute("aria-label", playing ? "Play" : "Pause");
  if (playing) { playing = null; reshow(); return; }
  const mine = playing = {};
  const rate = Math.min(25, model.state.rate), start = performance.now(), first = model.frame;
  const next = async () => {
    if (playing !== mine) return;
    const due = first + Math.floor((performance.now() - start) / 1000 * rate);
    const number = Math.max(model.frame + 1, due);
    if (model.frame >= numFrames() - 1) return play();
    await show(Math.min(number, numFrames() - 1), { preview: true });
    const wait = start + (model.frame + 1 - first) / rate * 1000 - performance.now();
    setTimeout(next, Math.max(0, wait));
  };
  next();
}

async function forget() {
  try {
    await act("forget", { frame: model.frame });
    forgetMasks(model.frame);
    await reshow();
  } catch (error) { complain(error); }
}

function cycleView() {
  model.view = VIEWS[(VIEWS.indexOf(model.view) + 1) % VIEWS.length];
  byId("view").value = model.view;
  emit("tool");
}

let refreshed = 0; // when the state was last loaded during a run

function hear(event) {
  if (event.type === "lost") return say("the server does not respond; trying again", true);
  if (!model.state) return; // not loaded yet
  if (event.type === "mask") {
    forgetMasks(event.frame);
    const { state } = model;
    if (!state.predicted.includes(event.frame)) state.predicted.push(event.frame);
    if (event.frame === model.frame && !state.given.includes(event.frame)) reshow(); else emit("state");
    return;
  }
  if (event.type === "export") return hearExport(event);
  if (event.type === "frames") {
    Object.assign(model.state, { num_frames: event.num_frames, complete: event.complete });
    emit("state");
    if (event.complete) refresh();
    return;
  }
  if (event.type === "run") {
    model.run = isBusy(event) ? event : null;
    showRun(event);
    if (!isBusy(event)) { forgetMasks(); refresh().then(reshow); }
    else if (performance.now() - refreshed > 3000) { refreshed = performance.now(); refresh(); }
    return;
  }
  forgetMasks();
  refresh().then(reshow);
}

const isBusy = event => ["adapting", "running"].includes(event.state);

function showRun(event) {
  const running = isBusy(event);
  byId("progress").hidden = !running;
  byId("progress").max = Math.max(1, event.total);
  byId("progress").value = event.done;
  byId("stop").disabled = !running;
  if (event.state === "running") say(event.total ? `${event.done} of ${event.total} frames` : "");
  if (event.state === "adapting") say(`learning the first mask: ${event.done} of ${event.total} steps`);
  if (event.state === "done") say(event.made ? `done: ${event.made} frames` : "nothing to do: all masks are up to date");
  if (event.state === "stopped") say(`stopped${event.total ? ` after ${event.done} of ${event.total} frames` : ""}; Enter goes on`);
  if (event.state === "failed") say(event.error + (event.hint ? `: ${event.hint}` : ""), true);
}

on("status", ({ text, problem }) => {
  byId("status").textContent = text;
  byId("status").classList.toggle("problem", problem);
});
on("state", () => {
  const empty = !model.state.given.length;
  byId("hint").textContent = empty ? "Paint an object (B), or draw a box around it (S). Then press Enter." : "";
  byId("run").disabled = empty;
  byId("next-doubtful").disabled = !(model.state.doubtful || []).length;
});

byId("run").addEventListener("click", () => run({ direction: "both" }));
for (const button of document.querySelectorAll("[data-run]")) {
  button.addEventListener("click", () => {
    button.closest("details").open = false;
    run(button.dataset.run === "gap" ? { direction: "both", up_to: model.frame } : { direction: button.dataset.run });
  });
}
byId("stop").addEventListener("click", stop);
byId("undo").addEventListener("click", () => step(false));
byId("redo").addEventListener("click", () => step(true));
byId("play").addEventListener("click", play);
byId("forget").addEventListener("click", forget);
byId("next-doubtful").addEventListener("click", () => nextDoubtful(1));
byId("view").addEventListener("change", event => { model.view = event.target.value; event.target.blur(); emit("tool"); });
byId("opacity").addEventListener("input", event => { model.opacity = event.target.value / 100; emit("tool"); });
byId("export").addEventListener("click", openExport);
byId("help").addEventListener("click", () => byId("keys").showModal());
window.addEventListener("beforeunload", event => { if (unsaved.length) event.preventDefault(); });
makeKeys({ run, stop, play, undo: () => step(false), redo: () => step(true), cycleView, openExport });

async function begin() {
  await api.listen(hear); // first: what happens while the state is loaded must be heard
  await refresh();
  if (!model.state) return;
  document.title = `${model.state.name} – mgseg edit`;
  byId("clip-name").textContent = model.state.name;
  byId("clip-name").title = model.state.path;
  byId("home").hidden = (await api.clips()).clips.length < 2;
  if (model.state.running) say("running …");
  if (model.state.problem) say(model.state.problem, true);
  fit(false);
  choose("brush");
  await show(model.state.given[0] ?? 0);
}

// For tests, which measure what a user would feel.
window.mgseg = { model, timing, show, settled, objects };
begin();
