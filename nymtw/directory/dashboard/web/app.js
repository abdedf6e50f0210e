// The dashboard: a list of nodes, a frame a second, and what is drawn of both.

import { $, age, country, element, number, setText, short } from "./dom.js";
import { Chart } from "./chart.js";
import { Picture } from "./picture.js";
import { Table } from "./table.js";

const STALE = 3; // seconds without a heartbeat; one comes every two
const REMEMBERED = 60; // seconds for which a node that is gone stays in sight
const HOUR = 3600;
const SPANS = { hour: HOUR, day: 86400, year: 366 * 86400 };

const nodes = new Map();
let validators = [];
let revision = null; // of `order`
let order = [];
let fetching = false;
let lastFrame = 0;
let directory = null;
let opened = null; // the node whose page is shown
let span = "hour";

const picture = new Picture($("picture"), $("tip"), (key) => { location.hash = link(key); });
const chart = new Chart($("chart"), $("chart-text"));
const nodeChart = new Chart($("node-chart"), $("node-chart-text"));
const link = (key) => `#/node/${key}`;

const seen = { name: "Seen", value: (row) => row.age, text: (row) => (row.gone ? `gone ${age(row.age)}` : age(row.age)), state: true };
const key = { name: "Public key", value: (row) => row.identityKey, text: (row) => short(row.identityKey), link: (row) => link(row.identityKey) };
const host = { name: "Host", value: (row) => row.host, text: (row) => `${row.host}:${row.port}`, narrow: true, class: "mono" };
const land = { name: "Country", value: (row) => row.country, narrow: true };
const said = { name: "About", value: (row) => row.description, narrow: true, class: "wide said" };

const tables = {
  mixnodes: new Table($("mixnodes"), "Mixnodes", [
    { name: "Layer", value: (row) => row.layer },
    key,
    { name: "Received", value: (row) => row.received, text: (row) => number(row.received), number: true },
    { name: "Sent", value: (row) => row.sent, text: (row) => number(row.sent), number: true },
    seen, land, host, said,
  ], "No mixnode has announced itself yet.", [0, false]),
  providers: new Table($("providers"), "Providers and gateways", [
    { name: "Role", value: (row) => row.role },
    key,
    { name: "Clients", value: (row) => row.clients, text: (row) => number(row.clients), number: true },
    seen,
    { name: "Services", value: (row) => row.services.join(", "), narrow: true },
    land, host, said,
  ], "No provider or gateway has announced itself yet.", [0, false]),
  validators: new Table($("validators"), "Validators", [
    { name: "Type", value: (row) => row.type },
    { name: "Public key", value: (row) => row.identityKey, text: (row) => short(row.identityKey), class: "mono" },
    { name: "Height", value: (row) => row.height ?? -1, text: (row) => (row.height == null ? "–" : number(row.height)), number: true },
    { name: "Last block", value: (row) => row.blockTime, text: (row) => (row.blockTime ? age(Math.max(0, Date.now() / 1000 - row.blockTime / 1e9)) : "–") },
    seen, { ...host, text: (row) => row.host, link: (row) => (row.type === "nym-validator" ? `http://${row.host}/` : null) },
  ], "No validator has announced itself. This network needs none.", [0, false]),
};

async function json(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function fetchNodes() {
  if (fetching) return;
  fetching = true;
  try {
    const listed = await json("/api/v1/nodes");
    const now = Date.now() / 1000;
    const there = new Set();
    order = listed.nodes.map((node) => {
      const before = nodes.get(node.identityKey);
      there.add(node.identityKey);
      const kept = { age: 0, sent: 0, received: 0, at: now, ...before, ...node, gone: false };
      kept.search = [node.pubKey, node.description, node.country && country(node.country), node.version, ...node.services].join(" ").toLowerCase();
      nodes.set(node.identityKey, kept);
      return kept;
    });
    for (const [name, node] of nodes) {
      if (!there.has(name)) [node.gone, node.sent, node.received] = [true, 0, 0];
    }
    validators = (listed.validators ?? []).map((each) => ({ ...each, search: "", identityKey: each.pubKey, port: 0, age: 0, at: each.lastSeen / 1000, gone: false }));
    revision = listed.revision;
    if (!directory) {
      directory = listed.directory;
      showCommands();
    }
    draw();
  } finally {
    fetching = false;
  }
}

function receive(frame) {
  lastFrame = Date.now();
  if (frame.revision !== revision) fetchNodes().catch(() => {});
  if (frame.revision === revision && frame.rows.length === order.length) {
    const now = Date.now() / 1000;
    frame.rows.forEach(([old, sent = 0, received = 0], place) => Object.assign(order[place], { at: now - old, sent, received }));
    if (frame.validators?.length === validators.length) {
      frame.validators.forEach(([old, height, blockTime], place) => Object.assign(validators[place], { at: now - old, height, blockTime }));
    }
    const packets = order.reduce((sum, node) => sum + node.sent, 0);
    chart.push(Math.floor(frame.time / 1000), packets);
    if (opened && span === "hour" && nodes.has(opened)) nodeChart.push(Math.floor(frame.time / 1000), nodes.get(opened).sent);
  }
  draw();
}

function draw() {
  const now = Date.now() / 1000;
  for (const [name, node] of nodes) {
    node.age = Math.max(0, now - node.at);
    node.stale = !node.gone && node.age > STALE;
    if (node.gone && node.age > REMEMBERED) nodes.delete(name);
  }
  for (const each of validators) each.age = Math.max(0, now - each.at);
  const all = [...nodes.values()];
  const mixnodes = all.filter((node) => node.role === "mixnode");
  const edges = all.filter((node) => node.role !== "mixnode");
  const live = (list) => list.filter((node) => !node.gone).length;
  setText($("fig-packets"), number(mixnodes.reduce((sum, node) => sum + node.sent, 0)));
  setText($("fig-mixnodes"), number(live(mixnodes)));
  setText($("fig-edges"), number(live(edges)));
  setText($("fig-clients"), number(edges.reduce((sum, node) => sum + (node.gone ? 0 : node.clients), 0)));
  if (opened === null) {
    tables.mixnodes.update(mixnodes);
    tables.providers.update(edges);
    tables.validators.update(validators);
    picture.update(all);
  } else drawNode();
  const connected = Date.now() - lastFrame < 3500;
  $("status").classList.toggle("live", connected);
  setText($("status-text"), connected ? "Live" : "Reconnecting");
}

function connect(wait = 500) {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/live`);
  let next = wait;
  socket.onmessage = (event) => {
    next = 500;
    receive(JSON.parse(event.data));
  };
  socket.onclose = () => setTimeout(() => connect(Math.min(next * 1.6, 10000)), next * (0.7 + 0.6 * Math.random()));
}

async function fetchHistory() {
  const { points } = await json("/api/v1/history?window=hour");
  chart.show(points.map(([start, sent]) => [start, sent]), 1, HOUR);
}

function signatures() {
  const count = directory.identityKeys.length;
  return count > 1 ? ` · the newest topology is signed by ${directory.signers.length} of ${count}, ${directory.threshold} are needed` : "";
}

function showCommands() {
  const where = location.origin;
  // One URL of several is enough to begin with; the keys of all are needed to check their signatures.
  const trust = `--directory ${where} ${directory.identityKeys.map((key) => `--directory-key ${key}`).join(" ")}`;
  const run = ".venv/bin/twistd -n --pidfile=";
  const list = [
    ["A client", "with a socket for your programs, on this machine alone.", `${run} nym-client --id me --socket tcp --port 1977 ${trust}`],
    ["A mixnode", "in the thinnest layer. Others must reach its port.", `${run} nym-mixnode --id mix --port 1789 ${trust}`],
    ["A provider", "where clients have their mailboxes.", `${run} nym-provider --id depot --port 1789 --client-port 9000 ${trust}`],
    ["A gateway", "which sends clients their mail as it comes.", `${run} nym-gateway --id door --port 1789 --client-port 9000 ${trust}`],
  ];
  $("commands").replaceChildren(...list.map(([name, about, command]) => {
    const copy = element("button", { type: "button", class: "quiet", "aria-label": `Copy the command for ${name.toLowerCase()}`, onclick: async () => {
      try {
        await navigator.clipboard.writeText(command);
        copy.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(text);
        copy.textContent = "Selected";
      }
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    } }, "Copy");
    const text = element("pre", {}, command);
    return element("div", { class: "command" }, element("header", {}, element("h3", {}, name), copy), element("span", { class: "hint" }, about), text);
  }));
  setText($("foot"), `nymtw ${directory.version} · directory ${directory.identityKeys.map(short).join(", ")}${signatures()} · a new signed topology every ${directory.refresh} s`);
}

// A node's page

function drawNode() {
  const node = nodes.get(opened);
  setText($("node-title"), opened);
  setText($("node-description"), node ? node.description : "This node is not announced now.");
  const facts = node ? [
    ["State", node.gone ? `gone for ${age(node.age)}` : node.stale ? `silent for ${age(node.age)}` : `seen ${age(node.age)} ago`],
    ["Role", node.role === "mixnode" ? `mixnode, layer ${node.layer}` : node.role],
    ["Address", `${node.host}:${node.port}`],
    ["Past second", node.role === "mixnode" ? `${number(node.received)} in, ${number(node.sent)} out` : "not counted for this role"],
    ...(node.role === "mixnode" ? [] : [
      ["Clients connect to", node.clientPort ? `${node.host}:${node.clientPort}` : "no port"],
      ["Registered clients", number(node.clients)],
      ["Services", node.services.join(", ") || "none"],
    ]),
    ["Country", node.country ? country(node.country) : "not said"],
    ["Software", node.version || "not said"],
    ["Key epochs", node.keyEpochs.join(", ")],
    ["Here since", new Date(node.since).toLocaleString()],
    ["Clock", node.clockSkew === undefined ? "…" : `${Math.abs(node.clockSkew).toFixed(1)} s ${node.clockSkew > 0 ? "ahead" : "behind"}`],
  ] : [];
  const list = $("node-facts");
  if (list.children.length !== facts.length) {
    list.replaceChildren(...facts.map(() => element("div", {}, element("dt"), element("dd"))));
  }
  facts.forEach(([name, value], place) => {
    setText(list.children[place].children[0], name);
    setText(list.children[place].children[1], value);
  });
}

async function fetchNode() {
  const wanted = opened;
  const path = `identity=${encodeURIComponent(wanted)}`;
  const [detail, history] = await Promise.all([json(`/api/v1/node?${path}`), json(`/api/v1/history?${path}&window=${span}`)]);
  if (wanted !== opened) return;
  if (detail.node && nodes.has(wanted)) nodes.get(wanted).clockSkew = detail.node.clockSkew;
  const names = { 3600: "hour", 86400: "day", 2592000: "30 days" };
  $("node-standing").replaceChildren(...detail.standing.map(({ seconds, watched, up, loopsSent, loopsReturned }) => {
    const percent = (part, whole) => (whole ? `${Math.min(100, (100 * part) / whole).toFixed(1)} %` : "–");
    const lost = Math.max(0, loopsSent - loopsReturned);
    return element("tr", {}, element("th", { scope: "row" }, names[seconds]), element("td", {}, percent(up, watched)),
      element("td", {}, loopsSent ? number(loopsSent) : "none reported"), element("td", {}, percent(lost, loopsSent)));
  }));
  nodeChart.show(history.points.map(([start, sent]) => [start, sent]), history.seconds, SPANS[span]);
  drawNode();
}

function route() {
  const found = location.hash.match(/^#\/node\/([\w=-]{44})$/);
  const before = opened;
  opened = found ? found[1] : null;
  $("overview").hidden = opened !== null;
  $("node").hidden = opened === null;
  document.title = opened === null ? "nymtw: the network, live" : `${short(opened)} · nymtw`;
  if (opened !== null && opened !== before) {
    $("node-standing").replaceChildren();
    nodeChart.show([], 1, HOUR);
    window.scrollTo(0, 0);
    $("node").focus();
    fetchNode().catch(() => setText($("node-description"), "No node with this key is known."));
  }
  draw();
  chart.draw();
  if (opened === null && location.hash.length > 2) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

function showSpans() {
  $("node-window").replaceChildren(...Object.keys(SPANS).map((name) => element("button", {
    type: "button", "aria-pressed": String(name === span),
    onclick: () => { span = name; showSpans(); fetchNode().catch(() => {}); },
  }, name)));
}

// Light, dark, or what the system says

const THEMES = ["auto", "light", "dark"];
function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  setText($("theme"), `◐ ${name}`);
  $("theme").setAttribute("aria-label", `Theme: ${name}`);
  draw();
  chart.draw();
}
let chosen = THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto";
$("theme").addEventListener("click", () => {
  chosen = THEMES[(THEMES.indexOf(chosen) + 1) % 3];
  localStorage.setItem("theme", chosen);
  theme(chosen);
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(chosen));

theme(chosen);
showSpans();
window.addEventListener("hashchange", route);
fetchNodes().then(route, route);
fetchHistory().catch(() => {});
connect();
setInterval(() => { if (Date.now() - lastFrame > 1500) draw(); }, 1000); // ages grow while nothing comes
setInterval(() => { fetchNodes().catch(() => {}); if (opened) fetchNode().catch(() => {}); }, 20000);
