// The page: a list of photographs, the options of each, and its result.

import * as api from "./api.js";
import { cancel, forgetResult, isActive, items, limitUploads, onChange, pause, start } from "./queue.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);

let chosen = null;

const viewer = new Viewer($("stage"), {
  onZoom: (percent) => ($("zoom").value = `${Math.round(percent)} %`),
  onRegion: (region) => {
    setDrawing(false);
    $("region").value = region ? region.join(",") : "";
    readOptions();
  },
});

// ---- options ----

/** The options in the form. */
function formOptions() {
  return {
    source: $("source").value,
    region: $("region").value.trim(),
    kernelFile: $("kernel-file").files[0] ?? null,
    length: $("length").value,
    angle: $("angle").value,
    scale: $("scale").value,
    strength: $("strength").value,
    denoise: $("denoise").value,
  };
}

/** Show the options of a photograph in the form. */
function fillForm(options) {
  for (const name of ["source", "region", "length", "angle", "scale", "strength", "denoise"]) $(name).value = options[name];
  const files = new DataTransfer();
  if (options.kernelFile) files.items.add(options.kernelFile);
  $("kernel-file").files = files.files;
  showOptions();
}

/** Take over the options in the form for the chosen photograph. */
function readOptions(event) {
  if (chosen) {
    chosen.options = formOptions();
    if (event?.target.id === "scale") chosen.insisted = false;
  }
  showOptions();
}

function showOptions() {
  const source = $("source").value;
  for (const part of document.querySelectorAll(".source")) part.hidden = part.dataset.source !== source;
  $("strength-value").value = `${Math.round(100 * $("strength").value)} %`;
  $("denoise-value").value = `${Math.round(100 * $("denoise").value)} %`;
  if (source === "line" && $("length").checkValidity() && $("angle").checkValidity()) {
    const picture = api.linePicture($("length").value, $("angle").value);
    if (!$("line").src.endsWith(picture)) $("line").src = picture;
  }
  const region = $("region").checkValidity() && $("region").value.trim();
  viewer.setRegion(source === "estimate" && region ? region.split(",").map(Number) : null);
  if (source !== "estimate") setDrawing(false);
  $("choose-region").disabled = !chosen;
  $("deblur").disabled = !chosen || isActive(chosen) || (source === "file" && !$("kernel-file").files.length);
}

// ---- the list of photographs ----

function add(files) {
  for (const file of files) {
    // A region belongs to its photograph; all other options apply to the next one too.
    const options = { ...formOptions(), region: "" };
    // "Deblur anyway" applies to one photograph only.
    if (chosen?.insisted) options.scale = "auto";
    const item = { file, name: file.name, options, state: "waiting", status: null, result: null, message: "" };
    item.original = URL.createObjectURL(file);
    items.push(item);
    start(item);
    if (file === files[0]) choose(item);
  }
  refresh();
}

function remove(item) {
  cancel(item);
  forgetResult(item);
  URL.revokeObjectURL(item.original);
  items.splice(items.indexOf(item), 1);
  if (chosen === item) choose(items[0] ?? null);
  refresh();
}

function choose(item) {
  chosen = item;
  setDrawing(false);
  if (item) fillForm(item.options);
  refresh();
}

// ---- display ----

/** Texts on the state of a photograph: in the list, and below it. */
function textsOf(item) {
  const { state, status } = item;
  // Most messages of the server begin with the photograph's name.
  const named = item.message.startsWith(item.name) ? item.message : `${item.name} could not be deblurred: ${item.message}`;
  if (state === "failed") return ["failed", named];
  if (state === "cancelled") return ["cancelled", "Cancelled."];
  if (state === "done") {
    const { status: found } = status.result;
    if (found === "sharp") return ["no blur", "This photograph shows no blur and is left unchanged."];
    if (found === "unclear") return ["unclear", "The blur cannot be estimated reliably. The photograph is left unchanged."];
    return ["done", "Deblurred."];
  }
  if (!status) return ["waiting", "Waiting."];
  if (status.state === "waiting") {
    const before = status.position === 1 ? "1 photograph" : `${status.position} photographs`;
    return ["waiting", status.position ? `Waiting, ${before} ahead.` : "Waiting."];
  }
  if (status.stage === "restoring") {
    const percent = Math.round(100 * status.share);
    return [`${percent} %`, `Restoring: ${percent} % done.`];
  }
  return ["estimating", status.stage === "estimating" ? "Estimating the blur." : "Reading the photograph."];
}

let shownUrls = "";

function refresh() {
  showList();
  const item = chosen;
  $("drop").hidden = Boolean(item);
  $("tools").hidden = $("state").hidden = !item;
  if (!item) {
    shownUrls = "";
    viewer.clear();
    $("unshown").hidden = true;
    $("kernel-section").hidden = true;
    showOptions();
    return;
  }
  // If the photograph is left unchanged, there is nothing to compare.
  const compared = item.result && item.status.result.status === "blurred";
  const urls = item.result ? [item.result.before, compared ? item.result.after : null] : [item.original, null];
  if (shownUrls !== urls.join()) {
    shownUrls = urls.join();
    $("unshown").hidden = true;
    viewer.show(...urls).then((visible) => {
      if (chosen !== item) return;
      $("unshown").hidden = visible;
      if (!visible) $("zoom").value = "";
      showOptions();
    });
  }
  $("unshown").textContent = isActive(item)
    ? "The browser cannot show this format. The photograph appears once it is deblurred."
    : "There is no picture to show.";
  showState(item);
  showKernel(item);
  showOptions();
}

function showState(item) {
  const active = isActive(item);
  const result = item.state === "done" ? item.status.result : null;
  const message = textsOf(item)[1];
  // Setting it again would make screen readers read it again.
  if ($("message").textContent !== message) $("message").textContent = message;
  $("state").className = item.state;
  $("progress").hidden = $("cancel").hidden = !active;
  if (item.status?.stage === "restoring" && item.status.share > 0) $("progress").value = item.status.share;
  else $("progress").removeAttribute("value");
  $("anyway").hidden = !result || result.status === "blurred";
  $("notes").replaceChildren(...(result?.notes ?? []).map((note) => Object.assign(document.createElement("li"), { textContent: note })));
  $("save").hidden = !item.result;
  if (item.result) link($("save"), item.result.result, resultName(item));
  const done = items.filter((other) => other.result);
  $("save-all").hidden = done.length < 2;
}

function showKernel(item) {
  const result = item.state === "done" ? item.status.result : null;
  const shown = result?.status === "blurred";
  $("kernel-section").hidden = !shown;
  if (!shown) return;
  const picture = item.result["kernel-view.png"];
  if ($("kernel").src !== picture) $("kernel").src = picture;
  const size = `${result.kernel_extent} × ${result.kernel_extent} pixels`;
  $("kernel-caption").textContent = result.scale > 1 ? `${size}, removed at 1/${result.scale} of the size` : size;
  link($("save-kernel-png"), item.result["kernel.png"], `${stem(item.name)}-kernel.png`);
  link($("save-kernel-npy"), item.result["kernel.npy"], `${stem(item.name)}-kernel.npy`);
}

function link(element, url, name) {
  element.href = url;
  element.download = name;
}

const stem = (name) => name.replace(/\.[^.]*$/, "");
const resultName = (item) => item.status.result.result_name.replace(/(\.[^.]*)$/, "-deblurred$1");

function showList() {
  const list = $("list");
  $("list-section").hidden = !items.length;
  $("cancel-all").hidden = items.filter(isActive).length < 2;
  for (const item of items) item.row ??= listRow(item);
  const rows = items.map((item) => item.row);
  if (rows.length !== list.children.length || rows.some((row, index) => row !== list.children[index])) list.replaceChildren(...rows);
  for (const item of items) {
    item.row.className = item.state;
    item.row.querySelector(".choose").setAttribute("aria-current", String(item === chosen));
    item.row.querySelector(".how").textContent = textsOf(item)[0];
  }
}

function listRow(item) {
  const make = (tag, className, text, parent) => {
    const element = Object.assign(document.createElement(tag), { className, textContent: text });
    parent.append(element);
    return element;
  };
  const row = document.createElement("li");
  const button = make("button", "choose", "", row);
  make("span", "name", item.name, button);
  make("span", "how", "", button);
  button.type = "button";
  button.title = item.name;
  button.addEventListener("click", () => {
    choose(item);
    reveal();
  });
  const cross = make("button", "remove", "×", row);
  cross.type = "button";
  cross.setAttribute("aria-label", `Remove ${item.name}`);
  cross.addEventListener("click", () => remove(item));
  return row;
}

function setDrawing(drawing) {
  viewer.setDrawing(drawing);
  $("hint").hidden = !drawing;
  if (drawing) reveal();
  $("choose-region").setAttribute("aria-pressed", String(drawing));
}

/** Scroll to the photograph: in a narrow window it is above the options. */
function reveal() {
  const smooth = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  $("view").scrollIntoView({ block: "nearest", behavior: smooth ? "smooth" : "instant" });
}

function say(problem) {
  $("problem").textContent = problem;
  $("problem").hidden = !problem;
}

// ---- events ----

$("photographs").addEventListener("change", (event) => {
  add([...event.target.files]);
  event.target.value = "";
});
for (const type of ["input", "change"]) $("options").addEventListener(type, readOptions);
$("options").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!chosen || isActive(chosen)) return;
  start(chosen);
  reveal();
});
$("choose-region").addEventListener("click", () => setDrawing(!viewer.drawing));
$("clear-region").addEventListener("click", () => {
  $("region").value = "";
  readOptions();
});
$("anyway").addEventListener("click", () => {
  $("scale").value = String(chosen.status.result.scale);
  readOptions();
  chosen.insisted = true;
  start(chosen);
});
$("cancel").addEventListener("click", () => cancel(chosen));
$("cancel-all").addEventListener("click", () => items.forEach(cancel));
$("save-all").addEventListener("click", async () => {
  for (const item of items.filter((other) => other.result)) {
    const anchor = document.createElement("a");
    link(anchor, item.result.result, resultName(item));
    anchor.click();
    await pause(200); // Browsers drop simultaneous downloads.
  }
});
$("fit").addEventListener("click", () => viewer.fit());
$("actual").addEventListener("click", () => viewer.actual());
$("smaller").addEventListener("click", () => viewer.zoomBy(0.8));
$("larger").addEventListener("click", () => viewer.zoomBy(1.25));

addEventListener("keydown", (event) => {
  if (event.key === "Escape") setDrawing(false);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("stage").classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("stage").classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  $("stage").classList.remove("dropping");
  add([...event.dataTransfer.files]);
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) add([...event.clipboardData.files]);
});
addEventListener("pagehide", () => items.filter(isActive).forEach(cancel));

onChange(refresh);
showOptions();
api.limits().then(({ upload_bytes: bytes }) => limitUploads(bytes)).catch((error) => say(error.message));
