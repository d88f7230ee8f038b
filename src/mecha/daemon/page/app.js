// What begins the page: the token, what is asked for now and then, and the events.

import { Api } from "./api.js";
import { Log } from "./log.js";
import { Models } from "./models.js";
import { Nodes } from "./nodes.js";
import { badge, element, write } from "./parts.js";

const STATUS_MS = 3000;
const MODELS_MS = 15000;
const KINDS = "state,stats,inference,swap,error,degrade,model,log";
const at = (id) => document.getElementById(id);

const api = new Api(askToken);
const nodes = new Nodes(api);
const models = new Models(api, askSure);
const log = new Log(api);

function askToken(fault) {
  const dialog = at("token-dialog");
  write(at("token-fault"), fault);
  at("token-fault").hidden = !fault;
  at("token").value = "";
  return new Promise((done) => {
    // Without a token there is nothing to go back to.
    dialog.oncancel = (event) => event.preventDefault();
    dialog.onclose = () => done(at("token").value.trim());
    dialog.showModal();
  });
}

function askSure(title, text, yes) {
  const dialog = at("sure-dialog");
  const button = dialog.querySelector("button.main");
  write(at("sure-title"), title);
  write(at("sure-text"), text);
  write(button, yes);
  dialog.returnValue = "";
  return new Promise((done) => {
    dialog.onclose = () => done(dialog.returnValue === "yes");
    dialog.showModal();
  });
}

async function lookAtStatus() {
  const status = await api.json("/api/status");
  document.title = `${status.ready ? "" : "(not ready) "}mecha ${status.project.split("/").at(-1)}`;
  write(at("project"), `${status.project}${status.environment ? ` (${status.environment})` : ""}, mecha ${status.version}`);
  badge(at("ready"), status.ready ? "ready" : "not ready", status.ready ? "good" : "bad");
  const faults = [
    ["", status.catalog_fault],
    ["warn", status.mirror_fault],
    ["warn", status.ready ? "" : status.why],
  ];
  showFaults(faults.filter(([, text]) => text));
  nodes.take(status.nodes.map((node) => ({ ...node, model: status.models.find((model) => model.wanted_by.includes(node.name))?.name })));
}

// Rewritten only when they change: a screen reader reads them out each time.
function showFaults(faults) {
  const box = at("faults");
  const told = JSON.stringify(faults);
  if (box.dataset.told === told) return;
  box.dataset.told = told;
  box.replaceChildren(...faults.map(([kind, text]) => element("p", { className: `fault ${kind}`, textContent: text })));
}

function lost(reason) {
  badge(at("ready"), "no connection", "bad");
  showFaults([["", `No connection: ${reason}. It is tried again; what you see is from before.`]]);
}

async function every(ms, work) {
  for (;;) {
    if (!document.hidden) await work().catch(() => {});
    await new Promise((done) => setTimeout(done, ms));
  }
}

every(STATUS_MS, lookAtStatus);
every(MODELS_MS, () => models.refresh());
api.follow(`/api/events?kinds=${KINDS}`, {
  lost,
  opened() {
    log.begin().catch(() => {});
    lookAtStatus().catch(() => {});
    models.refresh().catch(() => {});
  },
  event(event) {
    if (event.event === "log") log.take(event.line);
    else if (event.event === "model") models.event(event);
    else nodes.event(event);
  },
});
