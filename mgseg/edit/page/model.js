// What the page knows: the clip's state from the server, the frame that is shown, the tool in hand.
// Modules listen by `on(name, call)`: "state" (server state), "frame" (another frame or mask is shown),
// "tool" (tool, object or view), "status" (a message).

import * as api from "./api.js";

const calls = new Map();
export const on = (name, call) => calls.set(name, [...(calls.get(name) || []), call]);
export const emit = (name, value) => (calls.get(name) || []).forEach(call => call(value));

export const model = {
  state: null, // see `state` in server.py
  frame: 0, // the number of the frame that is shown
  picture: null, // its ImageBitmap
  map: null, // its mask: {labels, width, height, version}
  full: false, // picture and mask have the clip's own size, so that they can be painted on
  tool: "brush", object: 1, radius: 12, view: "overlay", opacity: .5, plain: false, // plain: the mask is hidden while a key is held
  run: null, // {state, done, total} of the worker
  // Set by the tools: whether the frame that is shown must stay while the user draws, and what ends before it is left.
  holds: number => false, leave: () => {},
};

export const objects = () => model.state.objects.filter(o => !o.deleted);
export const numFrames = () => Math.max(model.state.num_frames, model.state.complete ? 0 : model.state.promised || 0, 1);
export const lockedTable = except => {
  const table = new Uint8Array(256);
  for (const o of objects()) if (o.locked && o.id !== except) table[o.id] = 1;
  return table;
};

export function say(text, problem = false) { emit("status", { text, problem }); }
export function complain(error) { say(error.message + (error.hint ? `: ${error.hint}` : ""), true); }

// Pictures and masks of frames near the one that is shown.
const pictures = new Map(), masks = new Map();
const HELD = { full: 12, preview: 150 };

function hold(cache, key, value, limit) {
  cache.delete(key);
  cache.set(key, value);
  for (const old of cache.keys()) { if (cache.size <= limit) break; cache.delete(old); }
  return value;
}

const key = (number, preview) => `${number}${preview ? "p" : ""}`;

export function picture(number, preview) {
  const k = key(number, preview);
  const got = pictures.get(k) || api.frame(number, preview);
  got.catch(() => pictures.delete(k));
  return hold(pictures, k, got, preview ? HELD.preview : HELD.preview + HELD.full);
}

export function mask(number, preview) {
  const k = key(number, preview);
  const got = masks.get(k) || api.mask(number, preview);
  got.catch(() => masks.delete(k));
  return hold(masks, k, got, HELD.preview + HELD.full);
}

// Load masks anew when they are next shown: one frame's, or all. What the user drew and is being saved is newer.
export function forgetMasks(number) {
  for (const k of [...masks.keys()]) {
    const frame = parseInt(k);
    if ((number === undefined || frame === number) && !unsaved.includes(frame)) masks.delete(k);
  }
}

let wanted = 0;

// Show a frame and its mask, together, once both are there. Previews first where that is quicker.
export async function show(number, { preview = false } = {}) {
  number = Math.max(0, Math.min(numFrames() - 1, number));
  if (number !== model.frame) model.leave();
  const mine = ++wanted;
  model.target = number;
  try {
    for (const small of preview ? [true] : [true, false]) {
      const near = small && !preview && pictures.has(key(number, false));
      if (near) continue; // the full frame is at hand
      const [bitmap, map] = await Promise.all([picture(number, small), mask(number, small)]);
      if (mine !== wanted) return false;
      if (model.holds(number)) { // never exchange a mask under the user's hand
        while (model.holds(number)) await new Promise(again => setTimeout(again, 30));
        return mine === wanted && show(number, { preview });
      }
      Object.assign(model, { frame: number, picture: bitmap, map, full: !small });
      emit("frame");
    }
    for (const next of [number + 1, number - 1]) if (!preview && next >= 0 && next < numFrames()) { picture(next, true); mask(next, true); }
    return true;
  } catch (error) {
    if (mine === wanted) complain(error);
    return false;
  }
}

export const reshow = () => show(model.target ?? model.frame);

// Saves are done one after another, each based on the version that the one before left.
let saving = Promise.resolve();
export const unsaved = []; // frames of saves that are not done

export function save() {
  const number = model.frame, map = model.map, labels = map.labels.slice();
  masks.set(key(number, false), Promise.resolve(map));
  masks.delete(key(number, true));
  unsaved.push(number);
  saving = saving.then(async () => {
    let failed = null;
    try {
      map.version = (await api.putMask(number, labels, map.version)).version;
    } catch (error) {
      failed = error;
    }
    unsaved.splice(unsaved.indexOf(number), 1);
    masks.delete(key(number, true)); // it may have been loaded meanwhile
    if (!failed) return;
    complain(failed);
    forgetMasks(number);
    if (model.frame === number) reshow();
  }).then(refresh);
  return saving;
}

export const settled = () => saving;

let refreshing = null;
// Load the state anew; calls that come meanwhile share one more load.
export function refresh() {
  refreshing ||= Promise.resolve().then(async () => {
    refreshing = null;
    model.state = await api.state();
    if (!objects().some(o => o.id === model.object)) model.object = objects()[0]?.id ?? 1;
    emit("state");
  }).catch(complain);
  return refreshing;
}

export async function act(name, values) {
  await settled();
  const answer = await api.act(name, values);
  await refresh();
  return answer;
}
