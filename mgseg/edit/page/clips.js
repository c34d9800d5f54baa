// The list of clips, where a folder was opened.

import { clips } from "./api.js";

const list = document.getElementById("clips");
try {
  for (const clip of (await clips()).clips) {
    const link = Object.assign(document.createElement("a"), { href: `c/${clip.id}/` });
    const state = clip.given ? `${clip.given} given, ${clip.masks} predicted` : "not begun";
    link.append(Object.assign(document.createElement("span"), { textContent: clip.name }), Object.assign(document.createElement("small"), { textContent: state }));
    const item = document.createElement("li");
    item.append(link);
    list.append(item);
  }
} catch (error) {
  document.getElementById("status").textContent = error.message;
}
